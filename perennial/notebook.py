"""A standing cluster as a cluster object of Dask's, for notebooks; exported as `perennial.Cluster`.

It owns nothing: closing it, or the end of its Python process, leaves the cluster as it is. What
it asks for goes to the cluster's scaler.
"""

from __future__ import annotations

import asyncio
import html
from collections.abc import Awaitable, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import dask.config
from dask.utils import parse_timedelta
from distributed.core import Status, rpc
from distributed.deploy.cluster import Cluster as DaskCluster
from distributed.objects import SchedulerInfo
from distributed.utils import Log, Logs
from tornado.ioloop import PeriodicCallback

from perennial import connect, placement, scheduler_connection, tunnel
from perennial.connect import Connection
from perennial.errors import PerennialError
from perennial.scaler import explaining, scaler_client
from perennial.scaler.scaler_client import Report

#: Seconds between two looks at what the scaler says, and two attempts to find a lost scheduler.
INTERVAL = 5.0
#: Seconds in which the scheduler must answer at the start.
TIMEOUT = 30.0


@dataclass(slots=True)
class Bounds:
    """Bounds of a group that were asked for; can be awaited in asynchronous code.

    Parameters
    ----------
    minimum, maximum : int or None
        Members; None for what the cluster file says.
    asked : awaitable or None
        The request, where it is still under way.
    """

    minimum: int | None
    maximum: int | None
    asked: Awaitable[Any] | None = field(default=None, repr=False)

    def __await__(self) -> Generator[Any, None, Bounds]:
        if self.asked is not None:
            yield from self.asked.__await__()
        return self


class Cluster(DaskCluster):  # type: ignore[misc]
    """A standing cluster, as an object that `distributed.Client` and Jupyter know.

    Parameters
    ----------
    name : str or None
        Name of the cluster, as `perennial list` shows it. Without it, the cluster that a plain
        ``Client()`` reaches, or else the only one there is.
    group : str or None
        The group that `scale` and `adapt` are about when they name none; not needed where the
        scaler sizes only one.
    asynchronous : bool
        Whether it is used from within an event loop, with ``await``.
    loop : tornado.ioloop.IOLoop or None
        The event loop.
    quiet : bool
        Whether to say nothing.
    timeout : str or float
        How long the scheduler may take to answer at the start.
    wait : bool
        Whether to wait for the scheduler at all; if not, it is connected to once it is there.
    dashboard_link : str or None
        Where the dashboard is, if not where the connection says.

    Raises
    ------
    PerennialError
        There is no such cluster, or its scheduler does not answer.

    Examples
    --------
    >>> cluster = perennial.Cluster()  # doctest: +SKIP
    >>> client = cluster.get_client()  # doctest: +SKIP
    >>> cluster.scale(cpu=4)  # doctest: +SKIP
    >>> cluster.adapt(0, 12, group="cpu")  # doctest: +SKIP
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        group: str | None = None,
        asynchronous: bool = False,
        loop: Any = None,
        quiet: bool = False,
        timeout: str | float = TIMEOUT,
        wait: bool = True,
        dashboard_link: str | None = None,
    ) -> None:
        self._connection = _reached(name)
        self._timeout = parse_timedelta(timeout, default="s")
        self._group, self._wait = group, wait
        self._link = dashboard_link
        self._report: Report | None = None
        # Without a certificate of its own, that of Dask's configuration.
        self.security = scheduler_connection.security(self._connection.tls)
        super().__init__(
            asynchronous=asynchronous, loop=loop, quiet=quiet, name=self._connection.cluster
        )
        look = PeriodicCallback(self._look, INTERVAL * 1000)
        self.periodic_callbacks["scaler"] = look
        if not self.called_from_running_loop:
            self._loop_runner.start()
            self.sync(self._start)

    # Life: connect, stay connected, disconnect

    def __await__(self) -> Generator[Any, None, Cluster]:
        async def started() -> Cluster:
            if self.status == Status.created:
                await self._start()
            return self

        return started().__await__()

    async def _start(self) -> None:
        arguments = self.security.get_connection_args("client")
        address = self._connection.scheduler_address
        self.scheduler_comm = rpc(address, connection_args=arguments, timeout=self._timeout)
        try:
            if self._wait:
                async with asyncio.timeout(self._timeout):
                    await super()._start()
            else:
                self._watch_worker_status_task: Any = asyncio.ensure_future(self._watch())
                for callback in self.periodic_callbacks.values():
                    callback.start()
                self.status = Status.running
            await self._look()
        except (OSError, TimeoutError) as error:
            await self._close()
            raise scaler_client.away(address, self._timeout, error) from None

    async def _sync_cluster_info(self) -> None:
        """Leave nothing at the scheduler: the cluster is nobody's."""

    async def _watch_worker_status(self, comm: Any) -> None:
        """Follow the workers, also over a restart of the scheduler."""
        await super()._watch_worker_status(comm)
        await self._watch()

    async def _watch(self) -> None:
        while self.status not in (Status.closing, Status.closed):
            try:
                comm = await self.scheduler_comm.live_comm()
                comm.name = "Cluster worker status"
                await comm.write({"op": "subscribe_worker_status"})
                self.scheduler_info = SchedulerInfo(await comm.read())
            except OSError:
                self.scheduler_info = {"workers": {}}
                await asyncio.sleep(INTERVAL)
                continue
            self._watch_worker_status_comm = comm
            await super()._watch_worker_status(comm)

    async def _close(self) -> None:
        if self.status == Status.closed:
            return
        self.status = Status.closing
        if self._watch_worker_status_task is not None:
            self._watch_worker_status_task.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch_worker_status_task
            self._watch_worker_status_task = None
        await super()._close()

    def close(self, timeout: float | None = None) -> Any:
        """Disconnect; the cluster stays as it is.

        Parameters
        ----------
        timeout : float or None
            Seconds that it may take.
        """
        done = super().close(timeout)
        if not self.asynchronous:
            self._loop_runner.stop()
        return done

    # What is asked of the scaler

    def scale(
        self,
        n: int | Mapping[str, int] | None = None,
        *,
        last: str | float | None = None,
        force: bool = False,
        **groups: int,
    ) -> Any:
        """Give groups a size whatever the demand, until `adapt` or for a time.

        Parameters
        ----------
        n : int, mapping of str to int, or None
            Members of the one group, or of each group that is named.
        last : str, float or None
            For how long, such as ``"2h"``; until `adapt` is called when None.
        force : bool
            Whether sizes are meant beyond the group's max and what the platform holds.
        **groups : int
            Members of each group that is named.

        Returns
        -------
        awaitable or None
            Something to wait for, in asynchronous code.

        Raises
        ------
        PerennialError
            There is no such group, or no scaler.
        """
        wanted = {**(n if isinstance(n, Mapping) else {}), **groups}
        seconds = None if last is None else float(parse_timedelta(last, default="s"))

        async def scaled() -> None:
            await self._look()
            sizes = wanted if not isinstance(n, int) else {self._only(None): n}
            for group, size in sizes.items():
                scaler_client.check_size(self._heard(), group, size, self.name, force)
            await self._request(
                *(scaler_client.pin(group, size, seconds, force) for group, size in sizes.items())
            )

        return self.sync(scaled)

    def adapt(
        self,
        minimum: int | None = None,
        maximum: int | None = None,
        *,
        group: str | None = None,
    ) -> Bounds:
        """Let a group follow its demand, between bounds.

        Parameters
        ----------
        minimum, maximum : int or None
            Smallest and largest number of members; None for what the cluster file says.
        group : str or None
            The group; not needed where there is only one.

        Returns
        -------
        Bounds
            What was asked for.

        Raises
        ------
        PerennialError
            There is no such group, or no scaler.
        """

        async def adapted() -> None:
            await self._look()
            name = self._only(group)
            own = minimum is None and maximum is None
            bounds = (
                scaler_client.unbound(name) if own else scaler_client.bounds(name, minimum, maximum)
            )
            await self._request(scaler_client.unpin(name), bounds)

        asked = self.sync(adapted)
        if asked is not None:
            asked = asyncio.ensure_future(asked)
        return Bounds(minimum, maximum, asked)

    async def _request(self, *requests: Mapping[str, Any]) -> None:
        for request in requests:
            scaler_client.check_group(self._heard(), request["group"], self.name)
        await scaler_client.request(self.scheduler_comm, *requests)
        if silence := self._heard().silence:
            self._log(f"{self.name}: the scheduler keeps the request, but {silence}")

    def _heard(self) -> Report:
        if self._report is None or self._report.age is None:
            raise PerennialError(
                f"{self.name}: no scaler answers; `perennial status` says whether there is one, and"
                " a group without `scale` in the cluster file is sized by `perennial scale`"
            )
        return self._report

    def _only(self, group: str | None) -> str:
        found = self._heard()
        groups = sorted(found.groups.keys() - found.fixed)
        if chosen := group or self._group:
            return chosen
        if len(groups) == 1:
            return groups[0]
        raise PerennialError(
            f"{self.name}: found {len(groups)} groups ({', '.join(groups)}); name the one that is"
            " meant, such as scale(cpu=4) or adapt(0, 4, group='cpu')"
        )

    async def _look(self) -> None:
        """Read what the scaler says; what does not answer is not known."""
        try:
            self._report = await scaler_client.report(self.scheduler_comm)
        except (OSError, PerennialError):
            self._report = None

    # What is shown

    @property
    def dashboard_link(self) -> str:
        """Where a browser finds Dask's dashboard."""
        return self._link or self._connection.dashboard_link or str(super().dashboard_link)

    def explain(self, group: str | None = None) -> str:
        """Say why groups have their sizes.

        Parameters
        ----------
        group : str or None
            The group; all when None.
        """
        from time import time

        from perennial.scaler.policy import RULES

        report = self._report
        if report is None:
            return "no scaler has reported"
        chosen = [each for name, each in report.groups.items() if group in (None, name)]
        said = list(report.wrong)
        said += ["\n".join(explaining.explain(each, time(), RULES)) for each in chosen]
        return "\n\n".join(said)

    def logs(self, scheduler: bool = True, workers: Any = True, scaler: bool = True) -> Any:
        """Read the latest log lines of the cluster's processes.

        Parameters
        ----------
        scheduler, scaler : bool
            Whether those of the scheduler, and what the scaler says of itself.
        workers : bool or iterable of str
            Whether those of the workers, or of which, by address.

        Returns
        -------
        distributed.utils.Logs
            By process; something to wait for in asynchronous code.
        """
        return self.get_logs(cluster=scaler, scheduler=scheduler, workers=workers)

    async def _get_logs(
        self, cluster: bool = True, scheduler: bool = True, workers: Any = True
    ) -> Any:
        logs = Logs()
        if cluster:
            logs["Scaler"] = Log(self.explain())
        logs.update(await super()._get_logs(cluster=False, scheduler=scheduler, workers=workers))
        return logs

    def _repr_html_(self, cluster_status: str | None = None) -> str:
        return str(super()._repr_html_(cluster_status or self._scaling_status()))

    def _scaling_status(self) -> str:
        report = self._report
        if report is None or report.age is None:
            return "<p>No scaler answers.</p>"
        said = list(report.wrong)
        head = "".join(f"<p><b>{html.escape(text)}</b></p>" for text in said)
        rows = ""
        for name, record in report.groups.items():
            cells = (name, *(record.get(key) for key in ("seen", "to", "rule", "reason")))
            shown = (html.escape("-" if cell is None else str(cell)) for cell in cells)
            rows += "<tr>" + "".join(f"<td>{cell}</td>" for cell in shown) + "</tr>"
        heads = "".join(f"<th>{word}</th>" for word in ("group", "seen", "wanted", "rule", "why"))
        return f'{head}<table style="text-align:left"><tr>{heads}</tr>{rows}</table>'


def _reached(name: str | None) -> Connection:
    """Find how the cluster is reached: as asked, as a plain Client() would, or the only one."""
    configured = dask.config.get("scheduler-address", None)
    own = dask.config.get("perennial.cluster", None)
    if configured and name in (None, own) and not (name and name in connect.known()):
        if own:
            placement.require_reach(Connection(own, configured))
        return Connection(own or configured, configured)
    connection = connect.find(name)
    placement.require_reach(connection)
    return tunnel.through(connection)

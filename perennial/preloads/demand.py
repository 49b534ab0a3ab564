"""Count what the scheduler's work asks of each worker group. Given with ``--preload``.

A plugin counts the tasks as they change their state (`perennial.preloads.counting`), so that
the scaler's question is answered without a look at any task. Operations of the scheduler, over
its own connections and so under its own TLS:

``perennial_demand``
    The numbers; what people have asked of the scaler; each member's state for groups that are
    named. Takes the scaler's report along.
``perennial_news``
    Wait for something that the scaler should see at once: work for which there is no worker, a
    client, a request.
``perennial_members``, ``perennial_left``
    What a drain asks, see `perennial.preloads.leaving`.
``perennial_move``
    Move away what workers hold that leave, see `perennial.preloads.retiring`.
``perennial_wish``
    Ask something of the scaler.
``perennial_report``
    What the scaler has reported.

Nothing here may harm the scheduler: what fails is logged once, the answers say that they are
not complete, and the tasks are counted anew when they are few enough.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, wraps
from importlib.metadata import PackageNotFoundError, version
from time import monotonic
from typing import Any

from distributed import Scheduler, SchedulerPlugin
from distributed import __version__ as distributed_version
from distributed.core import Status
from tornado.ioloop import PeriodicCallback

from perennial.preloads.answering import details, group_totals, work
from perennial.preloads.channel import Channel
from perennial.preloads.clients import is_user_client, user_clients
from perennial.preloads.counting import LIVE, Counts
from perennial.preloads.leaving import found, left, needed_where_they_are
from perennial.preloads.members import Group, Workers
from perennial.preloads.messages import Answer, Counted, Reports
from perennial.preloads.notifier import Notifier
from perennial.preloads.parking import DEMAND
from perennial.preloads.retiring import move_all
from perennial.preloads.scattering import Scatters

logger = logging.getLogger("distributed.perennial.demand")

#: Changes when a reader of the one version would misunderstand an answer of another.
PROTOCOL = 1

#: Seconds between two looks at those whose turn it is.
TURN = 0.1
#: Seconds without a question after which nobody looks any more.
SILENCE = 60.0
#: Tasks that are counted anew at once after a failure; half a microsecond each.
RECOUNT = 100_000
#: Seconds between two attempts to do so.
RETRY = 60.0

#: Messages on which a task changes its worker, or secedes, without a transition.
SILENT = ("steal-response", "long-running")


def dask_setup(scheduler: Any) -> None:
    """Begin to count."""
    if isinstance(scheduler, Scheduler):
        DemandPlugin(scheduler).install()


def _guarded(method: Callable[..., None]) -> Callable[..., None]:
    """Keep errors of a hook from the scheduler."""

    @wraps(method)
    def hook(self: DemandPlugin, *args: Any, **kwargs: Any) -> None:
        if self.fault:
            return
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self.fail(error)

    return hook


class DemandPlugin(SchedulerPlugin):  # type: ignore[misc]
    """Counts tasks and workers, and answers the scaler."""

    name = DEMAND

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.channel = Channel()
        self.workers = Workers()
        self.notifier = Notifier()
        self.counts = Counts(self.workers, self.notifier.notify)
        #: Why the counts cannot be trusted; empty when they can.
        self.fault = ""
        self.scatters = Scatters(scheduler, self.notifier.notify, self._scaled)
        self._logged = self._logged_move = False
        self._asked = -SILENCE
        self._recounted = -RETRY
        self._started = monotonic()

    def install(self) -> None:
        """Count what there is, and listen to the scheduler from now on."""
        scheduler = self.scheduler
        scheduler.handlers["perennial_demand"] = self.demand
        scheduler.handlers["perennial_news"] = self.wait_for_change
        scheduler.handlers["perennial_members"] = self.members
        scheduler.handlers["perennial_left"] = self.left
        scheduler.handlers["perennial_move"] = self.move
        scheduler.handlers["perennial_wish"] = self.take_request
        scheduler.handlers["perennial_report"] = self.report
        self.scatters.install()
        for operation in SILENT:
            if operation in scheduler.stream_handlers:
                handler = scheduler.stream_handlers[operation]
                scheduler.stream_handlers[operation] = self._followed(handler)
        self.restart(scheduler)
        scheduler.add_plugin(self)
        # Dask starts and stops it with the scheduler.
        turns = PeriodicCallback(self.look, TURN * 1000)
        scheduler.periodic_callbacks[self.name] = turns
        if scheduler.status == Status.running:
            turns.start()

    # Hooks of the scheduler's

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """Count a task where it is now."""
        if self.fault:
            return
        try:
            if start in LIVE:
                self.counts.leave(key)
            if finish in LIVE:
                self.counts.enter(key, self.scheduler.tasks[key], finish)
        except Exception as error:
            self.fail(error)

    @_guarded
    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Add a worker."""
        state, known = scheduler.workers[worker], self.workers.processes.get(worker)
        if known is None or known.worker is not state:
            self.workers.remove(worker)
            self.workers.add(state)

    @_guarded
    def remove_worker(self, scheduler: Any, worker: str, **kwargs: Any) -> None:
        """Remove a worker."""
        self.workers.remove(worker)

    @_guarded
    def add_client(self, scheduler: Any, client: str) -> None:
        """Notify of a user's client."""
        if is_user_client(client):
            self.notifier.notify()

    @_guarded
    def log_event(self, topic: str, msg: Any) -> None:
        """Notice that a worker is parked, or not any more; Dask has no other event for it."""
        if isinstance(msg, Mapping) and msg.get("action") == "worker-status-change":
            process = self.workers.processes.get(topic)
            if process is not None:
                process.member.settle()

    @_guarded
    def restart(self, scheduler: Any) -> None:
        """Count everything anew."""
        self._count_all()

    def fail(self, error: Exception) -> None:
        """Stop counting after something that should not have happened."""
        self.fault = f"the scheduler's counters have stopped: {type(error).__name__}: {error}"
        if not self._logged:
            self._logged = True
            logger.error("Demand is not known any more: %s", self.fault, exc_info=error)

    def look(self) -> None:
        """Look at some workers' memory and some tasks' durations, as long as anybody asks."""
        if self._scaled():
            try:
                self.workers.look()
                self.counts.look()
            except Exception as error:
                self.fail(error)

    # Questions of the scaler and of clients

    def demand(
        self,
        detail: Collection[str] = (),
        report: Mapping[str, Any] | None = None,
        acknowledged: Collection[str] = (),
        groups: Mapping[str, int] | None = None,
        since: tuple[str, int] | None = None,
    ) -> Answer:
        """Answer the scaler."""
        self.channel.acknowledge(acknowledged)
        if report is not None:
            self.channel.take_report(report)
        uptime, news = monotonic() - self._started, self.notifier.count
        self._heal()
        counted: Counted = {}
        if not self.fault:
            try:
                counted = self._counted(detail, groups, since)
            except Exception as error:
                self.fail(error)
        return {
            "protocol": PROTOCOL,
            "versions": versions(),
            "scheduler": str(self.scheduler.id),
            "uptime": uptime,
            "clients": user_clients(self.scheduler.clients),
            "scatters": self.scatters.waiting,
            "wishes": self.channel.offered(is_new=report is None),
            "news": news,
            **counted,
            "fault": self.fault,
        }

    def take_request(self, wish: Mapping[str, Any]) -> str:
        """Take a request for the scaler; raise ValueError for what is none."""
        name = self.channel.take_request(wish)
        self.notifier.notify()
        return name

    async def wait_for_change(self, known: int, seconds: float) -> int:
        """Wait for news."""
        return await self.notifier.wait(known, min(seconds, SILENCE))

    def members(self, who: Collection[Sequence[str]]) -> list[list[Any]] | None:
        """Say where members are; None when the counters have stopped."""
        return None if self.fault else found(self.workers, who)

    def left(
        self, addresses: Collection[str], leaving: Collection[str]
    ) -> dict[str, list[Any]] | None:
        """Say what is left on workers; None when the counters have stopped."""
        if self.fault:
            return None
        needed = needed_where_they_are(self.scheduler, self.counts, addresses)
        return left(self.workers, addresses, leaving, needed)

    async def move(self, addresses: Collection[str]) -> list[str] | None:
        """Move away what workers hold; give those for which that worked. None: it cannot."""
        try:
            return await move_all(addresses, self.scheduler)
        except Exception as error:
            if not self._logged_move:
                logger.exception("cannot move data as usual: %r", error)
            self._logged_move = True
            return None

    def report(self, since: float | None = None) -> Reports:
        """Give the scaler's latest report, its age, and the records newer than a time."""
        return self.channel.latest(since)

    # How it is done

    def _scaled(self) -> bool:
        """Whether a scaler asks."""
        return monotonic() - self._asked < SILENCE

    def _followed(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """Count the task of a message anew after the handler of the message."""

        @wraps(handler)
        def followed(*args: Any, **kwargs: Any) -> Any:
            result = handler(*args, **kwargs)
            self._moved(kwargs.get("key"))
            return result

        return followed

    @_guarded
    def _moved(self, key: Any) -> None:
        self.counts.move(key, self.scheduler.tasks.get(key))

    def _count_all(self) -> None:
        known, change = self.workers.known, self.workers.change
        self.workers = Workers()
        self.workers.known, self.workers.change = known, change + 1
        self.counts = Counts(self.workers, self.notifier.notify)
        for worker in self.scheduler.workers.values():
            self.workers.add(worker)
        begun = self.scheduler.unrunnable
        for key, task in self.scheduler.tasks.items():
            if task.state in LIVE:
                self.counts.enter(key, task, task.state, begun.get(task))
                if task.state == "processing" and task in task.processing_on.long_running:
                    self.counts.move(key, task)

    def _heal(self) -> None:
        """Count anew after a failure, from time to time and where that is quickly done."""
        due = monotonic() - self._recounted >= RETRY
        if self.fault and due and len(self.scheduler.tasks) <= RECOUNT:
            self._recounted, before = monotonic(), self.fault
            self.fault = ""
            self.restart(self.scheduler)
            if not self.fault:
                logger.info("Demand is known again; %s before", before)

    def _counted(
        self,
        detail: Collection[str],
        groups: Mapping[str, int] | None,
        since: tuple[str, int] | None,
    ) -> Counted:
        """Give what is counted."""
        now = monotonic()
        if groups is not None and dict(groups) != self.workers.known:
            self.workers.known = dict(groups)
            self._regroup()
        silent = now - self._asked >= SILENCE
        if silent:
            self.workers.look_at_all()
        if silent or self.counts.few:
            self.counts.look_at_all()
        self._asked = now
        seen = self.workers.groups
        answer: Counted = {
            "work": work(self.counts, now),
            "groups": {name: group_totals(group) for name, group in seen.items()},
            "detail": self._details([seen[name] for name in detail if name in seen], now),
        }
        if since is not None:
            scheduler, change = since
            answer["names"] = self.workers.names(
                change if scheduler == str(self.scheduler.id) else -1
            )
        return answer

    def _details(self, groups: list[Group], now: float) -> dict[str, list[list[Any]]]:
        """Describe each member of some groups."""
        members = [member for group in groups for member in group.members.values()]
        addresses = [at for member in members for at in member.processes]
        return details(groups, now, needed_where_they_are(self.scheduler, self.counts, addresses))

    def _regroup(self) -> None:
        """Find out anew whose the workers are, now that the groups are known."""
        for address, process in list(self.workers.processes.items()):
            worker, member = process.worker, process.member
            if self.workers.belongs(worker) != (member.group.name, member.name):
                self.workers.remove(address)
                self.workers.add(worker)
                for task in list(worker.processing):
                    self.counts.move(task.key, task)


@cache
def versions() -> dict[str, str]:
    """Name the versions of this package and of distributed."""
    try:
        ours = version("dask-perennial")
    except PackageNotFoundError:
        ours = "unknown"
    return {"dask-perennial": ours, "distributed": distributed_version}

"""A cluster on this machine that runs, as the command line asks and changes it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from perennial import contracts
from perennial.contracts import LogLine, Lost, Overview, Resized, Say, Status, WebPage
from perennial.errors import PerennialError
from perennial.paths import ClusterPaths, cluster_state
from perennial.plan import Holder, Plan

if TYPE_CHECKING:
    from datetime import datetime

    from perennial.certificates import Pair
    from perennial.doctor import Finding
    from perennial.pages import Counts
    from perennial.platforms.local.deploy import Deployment
    from perennial.supervision.supervisor import Supervisor


class LocalRuntime(contracts.Runtime):
    """Services under a supervisord on this machine."""

    def _find(self, say: Say = lambda _text: None) -> Deployment:
        from perennial.platforms.local.deploy import find

        return find(self.name, say)

    @cached_property
    def _paths(self) -> ClusterPaths:
        return cluster_state(self.name)

    def overview(self) -> Overview:
        """Ask the scheduler for its numbers."""
        from perennial.platforms.local.deploy import connection

        deployment = self._find()
        counts = deployment.cluster.dashboard.counts()
        address = connection(deployment.spec, deployment.paths).scheduler_address
        return Overview(counts is not None, address, counts.workers if counts else 0)

    def status(self) -> Status:
        """Look at every service, and ask the scheduler for its numbers."""
        from perennial.platforms.local.status import rows

        deployment = self._find()
        return Status(
            supervisord=deployment.cluster.supervisor.pid(),
            sizes=deployment.state.sizes,
            services=rows(deployment),
            scheduler=deployment.cluster.dashboard.counts(),
        )

    def counts(self) -> Counts | None:
        """Ask the scheduler for its numbers."""
        return self._find().cluster.dashboard.counts()

    def holders(self) -> list[Holder]:
        """Read from the scheduler's page which members hold actors."""
        deployment, found = self._find(), dict[str, int]()
        registers = {at: one.name for one in deployment.programs.values() for at in one.registers}
        units = deployment.cluster.units()  # also of members that were removed from the file
        for worker, count in deployment.cluster.dashboard.actors().items():
            fits = (each for each in units if re.fullmatch(rf"{re.escape(each)}(-\d+)?", worker))
            name = registers.get(worker) or next(fits, worker)
            found[name] = found.get(name, 0) + count
        return [Holder("", name.rpartition("-")[0], name, count) for name, count in found.items()]

    def logs(self, service: str | None, lines: int, follow: bool) -> Iterator[LogLine]:
        """Read the logs of services on this machine."""
        from perennial.platforms.local.operate import members
        from perennial.supervision import logs as reading

        folder = self._paths.logs
        if service is not None and (folder / f"{service}.log").is_file():
            paths = [folder / f"{service}.log"]  # also supervisord, and members that have left
        elif service is not None:
            paths = [folder / f"{member}.log" for member in members(self._find(), service)]
        else:
            self._find()
            paths = sorted(folder.glob("*.log"))
        if follow:
            yield from (LogLine(path.stem, line) for path, line in reading.follow(paths, lines))
        for path in paths:
            yield from (LogLine(path.stem, line) for line in reading.tail(path, lines))

    def restart(self, service: str, say: Say, lost: Lost) -> int:
        """Restart a service, or a group's members one after another."""
        from perennial.platforms.local import operate

        deployment = self._find(say)
        members = operate.restart(deployment, service)
        for member in members:
            lost(member, deployment.cluster.abandoned(member))
        return len(members)

    def scale(
        self, wanted: Mapping[str, int], force: bool, say: Say, lost: Lost
    ) -> dict[str, Resized]:
        """Give groups another size."""
        from perennial.platforms.local import operate

        deployment = self._find(say)
        changed = operate.scale(deployment, wanted, force)
        before, now = deployment.state.sizes, changed.state.sizes
        for member, what in changed.abandoned.items():
            lost(member, what)
        return {group: Resized(before[group], now[group]) for group in wanted}

    def checks(self, python: str | None) -> Iterator[Finding]:
        """Run the checks of `doctor`."""
        from perennial.platforms.local.doctor import examine

        return examine(self._find(), python)

    def rotate(self, say: Say) -> datetime:
        """Renew the cluster's certificates."""
        from perennial import authority
        from perennial.platforms.local import operate

        operate.rotate(self._find(say))
        return min(authority.expiry(self._paths.tls).values())

    def rotation(self) -> Plan:
        """Plan the restart of what trusts the authority."""
        from perennial.platforms.local.deployer import planned
        from perennial.platforms.local.operate import under_new_authority

        return planned(under_new_authority(self._find()))

    def rotate_authority(self, say: Say) -> None:
        """Make a new authority and restart what trusts the old one."""
        from perennial.platforms.local import operate

        operate.rotate_authority(operate.under_new_authority(self._find(say)))

    def issue(self, person: str) -> Pair:
        """Issue a client's certificate to one person."""
        from perennial import revocation

        self._find()
        return revocation.issue(self._paths.tls, self.name, person)

    def revoke(self, person: str) -> int:
        """Revoke the certificates of a person."""
        from perennial import revocation

        self._find()
        return revocation.revoke(self._paths.tls, self.name, person)

    def jupyter(self) -> WebPage | None:
        """Find JupyterLab, unless somebody else has its port."""
        from perennial.jupyter import state_directory
        from perennial.platforms.local import deploy
        from perennial.platforms.local.layout import site

        spec, paths = self._find().spec, self._paths
        url = deploy.jupyter_url(spec)
        if url is None or spec.jupyter is None:
            return None
        self._require_listening("jupyter", spec.jupyter.port, "JupyterLab", "its token")
        return WebPage(
            url, deploy.token_file(spec, paths), Path(state_directory(site(spec, paths)))
        )

    def dashboard(self) -> WebPage:
        """Find Dask's dashboard, unless somebody else has its port."""
        from perennial.pages import token_of

        port, folder = self._find().spec.scheduler.dashboard_port, self._paths.pages
        token = Path(token_of(str(folder)))
        self._require_listening(
            "scheduler", port, "the scheduler", "the dashboard's token", token.is_file()
        )
        return WebPage(f"http://127.0.0.1:{port}/status", token, folder)

    def _require_listening(
        self, service: str, port: int, who: str, token: str, there: bool = True
    ) -> None:
        """Refuse to give a token to whoever takes the port while the service is down."""
        from perennial.supervision.listening import is_of

        if not (there and is_of(self._paths.run / f"{service}.lock", port)):
            raise PerennialError(
                f"{self.name}: {who} does not listen on port {port}, so {token} is not given away;"
                f" see `perennial status` and `perennial logs {service}`"
            )

    def enable(self, say: Say) -> str:
        """Bring the cluster back after a reboot, by a systemd unit."""
        from perennial.supervision import boot

        deployment = self._find()
        file = deployment.state.file or str(self._paths.spec)
        longest = max(program.stop_timeout for program in deployment.programs.values())
        return boot.enable(self._paths, deployment.cluster.supervisor, file, longest, say)

    def disable(self) -> str:
        """Remove the systemd unit."""
        from perennial.supervision import boot

        return boot.disable(self.name)

    @cached_property
    def _supervisor(self) -> Supervisor:
        return self._find().cluster.supervisor

    def supervisor(self) -> int:
        """Return the process id of supervisord."""
        return self._supervisor.pid()

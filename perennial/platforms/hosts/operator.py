"""Operate a cluster on machines that are reached over SSH: look, restart, scale, read logs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from perennial.contracts import LogLine, ServiceStatus, Status
from perennial.errors import FleetError, PerennialError
from perennial.pages import COUNTS, ROSTER, Counts, counts_of, parsed, workers_of
from perennial.paths import ClusterPaths, cluster_state
from perennial.plan import Holder
from perennial.platforms.hosts import deploy
from perennial.platforms.hosts.actors import holders, losses
from perennial.platforms.hosts.agent.answers import Manifest, Usage
from perennial.platforms.hosts.machine_services import Target, addresses, services_by_machine
from perennial.platforms.hosts.placed_services import Placed, concerned, placed_on
from perennial.platforms.hosts.remote import Agent, borrowed
from perennial.platforms.hosts.secrets import Secrets, own_certificate
from perennial.services import worker_names
from perennial.spec import ClusterSpec, load
from perennial.state import command

Say = Callable[[str], None]
T = TypeVar("T")

#: Machines that are asked at the same time.
AT_ONCE = 32
#: Seconds between two looks at a log that is followed.
FOLLOW = 0.5


class _Look(NamedTuple):
    """What a machine says of its services, and of the scheduler where that is there."""

    manifest: Manifest
    usage: Mapping[str, Usage]
    counts: Counts | None


class Operator:
    """A deployed cluster on hosts."""

    def __init__(self, spec: ClusterSpec, paths: ClusterPaths) -> None:
        self.spec = spec
        self.paths = paths
        self.assigned = services_by_machine(spec)

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self.spec.name

    def status(self) -> Status:
        """Look at every service on every machine, and ask the scheduler for its numbers."""
        rows: list[ServiceStatus] = []
        sizes = dict.fromkeys(self.spec.workers, 0)
        scheduler: Counts | None = None
        for machine, seen in self.everywhere(self._look).items():
            if isinstance(seen, FleetError):
                rows.append(ServiceStatus(machine, machine, "UNREACHABLE", note=str(seen)))
                continue
            for placed in self.placed(machine, seen.manifest):
                rows.append(_row(placed.name, machine, seen.usage.get(placed.unit)))
                if placed.group:
                    sizes[placed.group] += 1
            scheduler = scheduler or seen.counts
        return Status(None, sizes, rows, scheduler)

    def counts(self) -> Counts | None:
        """Ask the scheduler for its numbers; None where it does not answer."""
        with borrowed(self._place()) as agent:
            return self._counts(agent)

    def _counts(self, agent: Agent) -> Counts | None:
        return counts_of(self._page(agent, COUNTS), self._page(agent, ROSTER))

    def awaited(self) -> set[str]:
        """Return the workers that must register before the cluster is whole.

        systemd counts a worker as started once it has; supervisord as soon as it runs.
        """
        found = self.everywhere(self._manifest)
        manifests = {name: had for name, had in found.items() if not isinstance(had, FleetError)}
        if all(had.get("init", "systemd") == "systemd" for had in manifests.values()):
            return set()
        members = {
            placed.name: self.spec.workers[placed.group]
            for machine, manifest in manifests.items()
            for placed in self.placed(machine, manifest)
            if placed.group and placed.group not in self.spec.scaled
        }
        return {name for member, group in members.items() for name in worker_names(group, member)}

    def registered(self) -> set[str]:
        """Return the workers that the scheduler knows."""
        with borrowed(self._place()) as agent:
            page = self._page(agent, ROSTER)
        return {worker.name for worker in workers_of(page)}

    def _place(self) -> Target:
        """Return the machine of the scheduler."""
        return next(assigned.target for assigned in self.assigned.values() if assigned.pages)

    def _page(self, agent: Agent, path: str) -> dict[str, Any]:
        """Read a page of the scheduler's; empty when it does not answer."""
        (pages,) = (assigned.pages for assigned in self.assigned.values() if assigned.pages)
        body = agent.ask("page", socket=agent.here(pages), path=path)
        return parsed(body)

    def actors(self) -> list[Holder]:
        """List the members that hold actors; none where the scheduler does not answer."""
        try:
            with borrowed(self._place()) as agent:
                return holders(self._page(agent, ROSTER), self.assigned, self.spec.workers)
        except FleetError:
            return []

    def restart(self, word: str, say: Say) -> tuple[dict[str, str], int]:
        """Restart a service or the members of a group, one after another.

        Returns what members abandoned, and how many services were restarted.
        """
        lost: dict[str, str] = {}
        chosen, away = self._named(word)
        if needed := self._needed(word, away):
            raise needed[0]
        _warn(away)
        for placed in chosen:
            assigned = self.assigned[placed.machine]
            with deploy.alone(assigned, at(placed.machine, say)) as agent:
                worker = placed.group is not None
                with losses(agent, assigned, [placed.unit] * worker, lost.__setitem__):
                    if placed.unit.endswith(".service"):
                        agent.ask("systemd_restart", units=[placed.unit])
                    else:
                        named = {"cluster": self.name, "name": placed.unit}
                        agent.ask("supervisord_bounce", **named, worker=worker)
        return lost, len(chosen)

    def logs(self, word: str | None, lines: int) -> Iterator[LogLine]:
        """Yield the last lines of services, each with the service's name."""
        chosen, away = self._named(word)
        for placed in chosen:
            if placed.machine in away:
                continue
            try:
                with borrowed(self.assigned[placed.machine].target) as agent:
                    found = agent.ask("log", cluster=self.name, unit=placed.unit, lines=lines)
            except FleetError as error:
                away[placed.machine] = error
                continue
            for line in found:
                yield LogLine(placed.name, line)
        needed = self._needed(word, away)
        _warn({name: error for name, error in away.items() if error not in needed[:1]})
        if needed:
            raise needed[0]

    def follow(self, word: str | None, lines: int) -> Iterator[LogLine]:
        """Yield the last lines of services and then each new one, for ever."""
        import queue

        found: queue.Queue[LogLine] = queue.Queue()
        chosen, away = self._named(word)
        if not chosen and (needed := self._needed(word, away)):
            raise needed[0]
        _warn(away)
        with ThreadPoolExecutor(max(1, len(chosen))) as pool:
            for placed in chosen:
                pool.submit(self._follow, placed, lines, found.put)
            while True:
                yield found.get()

    def _follow(self, placed: Placed, lines: int, tell: Callable[[LogLine], None]) -> None:
        """Ask again and again for what is new: a lost connection costs no line."""
        cursor: str | None = None
        while True:
            try:
                with borrowed(self.assigned[placed.machine].target) as agent:
                    while True:
                        fresh, cursor = agent.ask(
                            *("log_since",),
                            cluster=self.name,
                            unit=placed.unit,
                            lines=lines,
                            cursor=cursor,
                        )
                        for line in fresh:
                            tell(LogLine(placed.name, line))
                        time.sleep(FOLLOW)
            except FleetError as error:
                tell(LogLine(placed.name, str(error)))
                time.sleep(10 * FOLLOW)

    @property
    def token_file(self) -> Path:
        """File of JupyterLab's token, which `perennial up` writes."""
        return self.paths.secrets / "jupyter-token"

    def token(self) -> str:
        """JupyterLab's token."""
        return self.token_file.read_text().strip()

    def serves_jupyter(self) -> bool:
        """Whether it is JupyterLab that listens on its port, as its machine sees it."""
        (place,) = (
            assigned.target for assigned in self.assigned.values() if assigned.runs("jupyter")
        )
        port = self.spec.jupyter.port if self.spec.jupyter is not None else 0
        with borrowed(place) as agent:
            return bool(agent.ask("serves", cluster=self.name, port=port))

    def jupyter_url(self) -> str | None:
        """Where JupyterLab is, without its token."""
        return addresses(self.spec).jupyter

    def secrets(self) -> Secrets:
        """Read what this machine has of the secrets, without the key: a scale signs nothing."""
        tls = self.paths.tls
        try:
            own = own_certificate(self.spec) or (None, None)
            ca = (tls / "ca.pem").read_text() if self.spec.security.tls else ""
            token = self.token() if self.spec.jupyter is not None else ""
            return Secrets(ca, "", token, *own)
        except FileNotFoundError as error:
            raise PerennialError(
                f"{error.filename} is missing here; {command('up', self.name)} writes it again"
            ) from None

    def _look(self, machine: str) -> _Look:
        assigned = self.assigned[machine]
        with borrowed(assigned.target) as agent:
            counts = self._counts(agent) if assigned.pages else None
            manifest = agent.ask("manifest", cluster=self.name)
            return _Look(manifest, agent.ask("usage", cluster=self.name), counts)

    def everywhere(self, work: Callable[[str], T]) -> dict[str, T | FleetError]:
        """Do something with every machine, many at the same time."""

        def attempt(machine: str) -> T | FleetError:
            try:
                return work(machine)
            except FleetError as error:
                return error

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return dict(zip(self.assigned, pool.map(attempt, self.assigned), strict=True))

    def placed(self, machine: str, manifest: Manifest) -> list[Placed]:
        """List the services that a machine shall run now."""
        return placed_on(self.assigned[machine], self.name, machine, manifest)

    def _named(self, word: str | None) -> tuple[list[Placed], dict[str, FleetError]]:
        """Find services on the machines that answer; and say which ones do not, and why."""
        everything: list[Placed] = []
        away: dict[str, FleetError] = {}
        for machine, seen in self.everywhere(self._manifest).items():
            if isinstance(seen, FleetError):
                away[machine] = seen
            else:
                everything += self.placed(machine, seen)
        chosen = [
            placed
            for placed in everything
            if word is None or word in (placed.name, placed.group, placed.machine)
        ]
        if not chosen and word not in self.spec.workers and not self._needed(word, away):
            known = ", ".join([*self.spec.workers, *(placed.name for placed in everything)])
            raise PerennialError(f"{self.name} has no service or group {word!r}; it has {known}")
        return chosen, away

    def _needed(self, word: str | None, away: Mapping[str, FleetError]) -> list[FleetError]:
        return [error for name, error in away.items() if concerned(self.assigned[name], name, word)]

    def _manifest(self, machine: str) -> Manifest:
        with borrowed(self.assigned[machine].target) as agent:
            found: Manifest = agent.ask("manifest", cluster=self.name)
            return found


def find(name: str) -> Operator:
    """Look up a cluster of this user's that was deployed before."""
    paths = cluster_state(name)
    return Operator(load(Path(paths.spec), remembered=True), paths)


def at(machine: str, say: Say) -> Say:
    """Say also on which machine it happens."""
    return lambda text: say(f"{machine}: {text}")


def _warn(away: Mapping[str, FleetError]) -> None:
    for error in away.values():
        print(f"warning: {error}", file=sys.stderr)


def _row(name: str, machine: str, now: Usage | None) -> ServiceStatus:
    if now is None:
        return ServiceStatus(name, machine, "MISSING")
    state = "RUNNING" if now["state"] == "active" else now["state"].upper()
    return ServiceStatus(
        name, machine, state, now["pid"], now["uptime"], now["restarts"], now["memory"], now["cpu"]
    )

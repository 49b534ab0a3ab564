"""Wait until what was started is there: workers with their scheduler, pages on their ports."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from perennial.errors import PerennialError
from perennial.paths import ClusterPaths
from perennial.services import START_TIMEOUT
from perennial.supervision import listening, processes
from perennial.supervision import supervisor as supervision
from perennial.supervision.dashboard import Dashboard
from perennial.supervision.logs import informative_line
from perennial.supervision.program import HEALTH, SCALER, Program
from perennial.supervision.single_instance import is_ready
from perennial.supervision.supervisor import Process, Supervisor, polls

_TITLES = {"jupyter": "Jupyter", SCALER: "the scaler"}

#: Seconds in which a service that does not stay up is given another chance, before it is an error.
UNSTEADY = 8.0
#: How often a service may run long enough to count as running, and end again.
RUNS = 3


class Steadiness:
    """Which services keep ending, as supervisord has described them while they are waited for."""

    def __init__(self) -> None:
        #: When each was first seen to have ended, of those that do not run.
        self._since: dict[str, float] = {}
        #: When each was started that ran after that.
        self._runs: defaultdict[str, set[float]] = defaultdict(set)

    def keeps_ending(self, process: Process, now: float) -> bool:
        """Record the state of a service; return whether it keeps ending."""
        if process.state == "RUNNING":
            self._since.pop(process.name, None)
            # One that needs more than `startsecs` to end runs in between, and would for ever.
            self._runs[process.name].add(process.started)
        elif process.unsteady:
            return now - self._since.setdefault(process.name, now) > UNSTEADY
        return len(self._runs[process.name]) > RUNS


class Waiting:
    """Waits for services of one cluster on this machine."""

    def __init__(
        self,
        paths: ClusterPaths,
        dashboard: Dashboard | None,
        supervisor: Supervisor,
        say: Callable[[str], None],
    ) -> None:
        self.paths = paths
        self.supervisor = supervisor
        self._dashboard = dashboard
        self._say = say

    def workers(self, programs: Collection[Program]) -> None:
        """Wait until the scheduler answers and the workers of supervisord have registered."""
        if self._dashboard is None:
            self._ready_workers(programs)
            return
        ours = {p.name: p.registers for p in programs if p.registers}
        running = {p.name for p in self.supervisor.processes().values() if p.alive}
        expected = {name for member, names in ours.items() if member in running for name in names}
        seen = Steadiness()
        missing: frozenset[str] | set[str] = frozenset()
        for passed in polls(START_TIMEOUT):
            missing = expected - self._dashboard.worker_names()
            if not missing and (expected or self._dashboard.healthy()):
                return
            there = len(expected) - len(missing)
            of_all = f"{there} of {len(expected)} workers"
            self._say(of_all if expected else "waiting for the scheduler")
            self._check_steady([program.name for program in programs], seen, passed)
        late = sorted(name for name, workers in ours.items() if missing & set(workers))
        log = late[0] if late else "scheduler"
        why = processes.cause_in(self.paths.logs / f"{log}.log")
        raise PerennialError(
            f"{self.paths.root.name}: {', '.join(sorted(missing)[:5]) or 'the scheduler'} not there"
            f" after {START_TIMEOUT:g} s; {why or f'see `perennial logs {log}`'}"
        )

    def _ready_workers(self, programs: Collection[Program]) -> None:
        """Wait until the workers have told that their scheduler knows them; it is elsewhere."""
        names = {program.name for program in programs if program.registers}
        seen = Steadiness()
        late: list[str] = []
        for passed in polls(START_TIMEOUT):
            processes = [p for p in self.supervisor.processes().values() if p.name in names]
            late = [process.name for process in processes if not self._is_ready(process)]
            if not late:
                return
            self._say(f"waiting for {', '.join(late)}")
            self._check_steady(late, seen, passed)
        last = informative_line(self.paths.logs / f"{late[0]}.log")
        raise PerennialError(
            f"{', '.join(late)}: not registered with the scheduler after {START_TIMEOUT:g} s; its"
            f" last line: {last}"
        )

    def _is_ready(self, process: Process) -> bool:
        return process.state == "RUNNING" and is_ready(self.paths.run / f"{process.name}.lock")

    def _check_steady(self, names: Collection[str], seen: Steadiness, now: float) -> None:
        """Raise when a service keeps ending, with its last words."""
        for process in self.supervisor.processes().values():
            if process.name not in names or process.name == HEALTH:
                continue
            if seen.keeps_ending(process, now):
                raise PerennialError(does_not_stay_up(process.name, self.paths.logs))

    def answers(self, names: Collection[str], programs: Mapping[str, Program]) -> None:
        """Wait until services answer on the ports that they have."""
        for name in names:
            self._answer(name, programs[name].ports)

    def _answer(self, name: str, ports: Sequence[int]) -> None:
        seen = Steadiness()
        for passed in polls(START_TIMEOUT):
            if not ports or self._is_there(name, ports[0]):
                return
            self._say(f"waiting for {_TITLES[name]}")
            self._check_steady([name], seen, passed)
        raise PerennialError(
            f"{_TITLES[name]} does not answer after {START_TIMEOUT:g} s;"
            f" see `perennial logs {name}`"
        )

    def _is_there(self, name: str, port: int) -> bool:
        """Whether a service answers, and not somebody who has taken its port."""
        ours = listening.is_of(self.paths.run / f"{name}.lock", port)
        return ours and supervision.speaks_http(port)


def does_not_stay_up(name: str, logs: Path) -> str:
    """Say that a service keeps ending, with the most informative line of its log."""
    log = logs / f"{name}.log"
    why = processes.cause_in(log) or f"see `perennial logs {name}`"
    return f"{name} does not stay up; its last line: {informative_line(log)}; {why}"

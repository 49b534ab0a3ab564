"""A standing cluster on this machine: see what is there, and change it step by step.

Every step can be cut off: the unit text on disk, supervisord's own view and the services'
locks are the truth, and the next run makes its plan from them.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from perennial.errors import PerennialError
from perennial.files import make_private, write_atomic
from perennial.paths import ClusterPaths
from perennial.plan import ABANDONED
from perennial.supervision import boot, leftovers
from perennial.supervision import plan as planning
from perennial.supervision import supervisor as supervision
from perennial.supervision.dashboard import Dashboard
from perennial.supervision.plan import Change, Running
from perennial.supervision.program import SCALER, Program
from perennial.supervision.single_instance import (
    abandoned_mark,
    forget,
    holder,
    ready_mark,
    signal_holder,
    standing_in,
)
from perennial.supervision.supervisor import Supervisor, polls
from perennial.supervision.waiting import Waiting

#: Programs that start once the workers are there, so that they take nothing from them.
LATE = ("jupyter", SCALER)
#: Seconds in which a new supervisord stands in for the services of one that was killed.
ADOPTION_TIMEOUT = 30.0


class Cluster:
    """The services of one cluster on this machine."""

    def __init__(
        self, paths: ClusterPaths, dashboard: Dashboard | None, say: Callable[[str], None]
    ) -> None:
        self.paths = paths
        self._dashboard = dashboard
        self.say = say
        self.supervisor = Supervisor(paths.socket)
        self._await = Waiting(paths, dashboard, self.supervisor, say)

    # What is there

    @property
    def dashboard(self) -> Dashboard:
        """The scheduler's HTTP; only where the scheduler is on this machine."""
        if self._dashboard is None:
            raise ValueError("the scheduler is on another machine")
        return self._dashboard

    def units(self) -> dict[str, str]:
        """Read the unit text on disk, by program."""
        return {path.stem: path.read_text() for path in sorted(self.paths.units.glob("*.conf"))}

    def running(self) -> dict[str, Running] | None:
        """Ask what supervisord has, by program; None when it does not run."""
        if not self.paths.socket.exists() or not self.supervisor.pid():
            return None
        try:
            _, changed, _ = self.supervisor.reload()
        except PerennialError:  # a file was edited or removed, which shows in its text
            changed = frozenset()
        return {
            process.name: Running(process.alive, process.name in changed, process.state)
            for process in self.supervisor.processes().values()
        }

    def pids(self) -> dict[str, int]:
        """Process ids of the services that run, by name, with or without supervisord."""
        found = {path.stem: holder(path)[0] for path in sorted(self.paths.run.glob("*.lock"))}
        return {name: pid for name, pid in found.items() if pid}

    def plan(self, programs: Mapping[str, Program]) -> tuple[Change, ...]:
        """Compare the programs that are asked for with what is there."""
        desired = {name: program.text for name, program in programs.items()}
        running, units = self.running(), self.units()
        orphans = self.pids() if running is None else ()
        if running is not None:
            running = planning.staying(running, units, desired)
        return planning.plan(desired, units, running, orphans)

    def abandoned(self, name: str) -> str:
        """Say what a member lost that was stopped last before its drain was complete."""
        mark = Path(abandoned_mark(self.paths.run / f"{name}.lock"))
        return ", ".join(mark.read_text("utf-8", "replace").splitlines()) if mark.exists() else ""

    # Changes

    def apply(
        self,
        programs: Mapping[str, Program],
        steps: Sequence[Change],
        supervisord_conf: str,
        ready: Callable[[], None],
    ) -> None:
        """Carry a plan out; call ``ready`` once the scheduler answers.

        New members start before old ones leave, so that data has somewhere to go; changed
        members are replaced one after another, each drained; when the scheduler itself is
        replaced its work is lost anyway, and everything goes at once. Jupyter and the scaler
        come last, so that they do not take the processor from the workers while they start.
        """
        for program in programs.values():
            for path, text in program.files:
                write_atomic(Path(path), text)
        self._launch(programs, steps, supervisord_conf)
        self.supervisor.reload()  # asked before anything stops: can it be carried out?
        stopped = [step.name for step in steps if step.stops]
        gone = [step.name for step in steps if step.action == "stop"]
        if SCALER in gone:  # first, so that it begins no drain that nobody will end
            self._stop([SCALER], programs)
        late = [step.name for step in steps if step.action != "stop" and step.name in LATE]
        with ExitStack() as at_the_end:
            # Also when a worker does not come, and nobody is locked out of Jupyter by that.
            at_the_end.callback(self._start, late, programs)
            if "scheduler" in stopped:
                with unbroken():
                    self._stop(["scheduler"], programs)
                    self._stop([name for name in stopped if name != "scheduler"], programs)
                    self._discard(gone)
                    self._start([n for n in stopped if n not in (*gone, *LATE)], programs)
                stopped, gone = [], []
            self._change(programs, steps, stopped, gone, ready)
        self._await.answers([name for name in LATE if name in programs], programs)

    def _change(
        self,
        programs: Mapping[str, Program],
        steps: Sequence[Change],
        stopped: Sequence[str],
        gone: Sequence[str],
        ready: Callable[[], None],
    ) -> None:
        """Start what is new, replace what has changed one after another, stop what has gone."""
        started = [step.name for step in steps if step.action != "stop"]
        self._start([n for n in started if n not in (*stopped, *LATE)], programs)
        # What is about to be replaced may be dying: nobody waits for that.
        settled = [program for program in programs.values() if program.name not in stopped]
        self._await.workers([program for program in settled if program.name == "scheduler"])
        ready()
        self._await.workers(settled)
        for name in stopped:
            if name not in gone:
                self.say(f"replacing {name}")
                self._renew(name, programs)
                settled.append(programs[name])
                self._await.workers(settled)
        self._stop(gone, programs)
        self._discard(gone)
        if SCALER in gone:
            self._bring_back(programs)

    def _renew(self, name: str, programs: Mapping[str, Program]) -> None:
        with unbroken():
            self._stop([name], programs)
            self._start([name], programs)

    def settle(self, programs: Mapping[str, Program]) -> None:
        """Wait until all that is asked for is there, without a change; raise when it is not."""
        self._await.workers(programs.values())
        self._await.answers([name for name in LATE if name in programs], programs)

    def restart(self, names: Sequence[str], programs: Mapping[str, Program]) -> None:
        """Restart services one after another; workers are drained and waited for."""
        self.supervisor.reload()  # asked before anything stops: can it be carried out?
        for name in names:
            self.say(f"restarting {name}")
            self._renew(name, programs)
            self._await.workers(programs.values())
        self._await.answers([name for name in names if name in LATE], programs)

    def _bring_back(self, programs: Mapping[str, Program]) -> None:
        """Restart the members that a scaler was draining when it was removed."""
        parked = self.dashboard.parked()
        names = [p.name for p in programs.values() if parked & set(p.registers)]
        self.restart(names, programs)

    def down(self, programs: Collection[Program]) -> None:
        """Stop everything; afterwards no process of the cluster is left.

        The scaler goes first, so that it replaces nobody. The scheduler is next: with it the
        workers' data has no meaning, and they leave without draining.
        """
        stop_timeout = max(program.stop_timeout for program in programs)
        if not self.supervisor.pid():
            self._end_hung()
        pids, units = self.pids(), self.units()
        groups = [each for pid in pids.values() for each in leftovers.group(pid)]
        for name in (SCALER, "scheduler"):
            if name not in pids and name not in units:
                continue
            self.say(f"stopping the {name}")
            if self.supervisor.pid():
                self.supervisor.signal_stop(name)
                self.supervisor.wait_stopped([name], stop_timeout)
        self.say("stopping everything else")
        self.supervisor.shutdown(timeout=stop_timeout + 30.0)
        self._sweep(self.pids(), stop_timeout)
        leftovers.end(groups, stop_timeout, self.say)
        self._check_gone(programs)
        for folder in (self.paths.units, self.paths.config, self.paths.run):
            shutil.rmtree(folder, ignore_errors=True)
        for path in (self.paths.socket, self.paths.supervisord_conf):
            path.unlink(missing_ok=True)

    # Steps

    def _launch(
        self, programs: Mapping[str, Program], steps: Sequence[Change], supervisord_conf: str
    ) -> None:
        """Make sure that a supervisord runs; it adopts what an earlier one has left."""
        for folder in (self.paths.units, self.paths.logs, self.paths.run, self.paths.scratch):
            make_private(folder)
        if self.supervisor.pid():
            return
        self._end_hung()
        orphans = sorted(self.pids())
        if orphans:
            self.say(f"adopting {', '.join(orphans)}")
        self.paths.socket.unlink(missing_ok=True)
        write_atomic(self.paths.supervisord_conf, supervisord_conf)
        for step in steps:
            # All that is new starts at once with supervisord; some have their turn later.
            if step.action == "adopt" or (step.action == "start" and step.name not in LATE):
                self._write(programs[step.name])
            # What nobody asks for any more is not started, only to be stopped.
            if step.action == "stop" and step.name not in orphans:
                (self.paths.units / f"{step.name}.conf").unlink(missing_ok=True)
        self.say("starting supervisord")
        if boot.enabled(self.paths.root.name):
            boot.start(self.paths.root.name, self.supervisor)
        else:
            supervision.launch(self.paths)
        self._await_adoption(orphans)

    def _end_hung(self) -> None:
        """End a supervisord that does not answer: it would start again whatever is stopped."""
        pid = supervision.running(self.paths.socket, self.paths.supervisord_conf)
        if pid:
            self.say(f"supervisord (pid {pid}) does not answer; ending it")
            supervision.signal_process(pid, signal.SIGKILL)
            supervision.wait_gone(pid, 10.0)

    def _await_adoption(self, names: Collection[str]) -> None:
        """Wait until each orphan has a process of supervisord's that passes signals on to it.

        A signal that comes before is lost: between ``fork`` and ``exec`` supervisord's own
        handler takes it, and after that Python has not set the new one up.
        """
        marks = {name: Path(standing_in(self.paths.run / f"{name}.lock")) for name in names}
        for _ in polls(ADOPTION_TIMEOUT):
            processes = self.supervisor.processes()
            if all(
                mark.exists() and mark.read_text() == str(processes[name].pid)
                for name, mark in marks.items()
                if name in processes and holder(self.paths.run / f"{name}.lock")[0]
            ):
                return
        raise PerennialError(
            f"{self.paths.root.name}: supervisord has not adopted {', '.join(names)} in"
            f" {ADOPTION_TIMEOUT:g} s; see `perennial logs supervisord`"
        )

    def _write(self, program: Program) -> None:
        write_atomic(self.paths.units / f"{program.name}.conf", program.text)

    def _start(self, names: Collection[str], programs: Mapping[str, Program]) -> None:
        if not names:
            return
        fresh = {name for name in names if not (self.paths.units / f"{name}.conf").exists()}
        for name in names:
            self._write(programs[name])
        self.supervisor.reload()
        known = self.supervisor.processes()
        for name in names:
            if name in known and name in fresh and not known[name].alive:
                self.supervisor.remove(name)  # a member that a fleet has stopped
                self.supervisor.add(name)
            elif name not in known:
                self.supervisor.add(name)
            elif known[name].state == "BACKOFF":  # has no process; tried again now
                self.supervisor.signal_stop(name)
                self.supervisor.start(name)
            elif not known[name].alive:
                self.supervisor.start(name)

    def _stop(self, names: Collection[str], programs: Mapping[str, Program]) -> None:
        """Stop programs together, drained, and forget them."""
        if not names:
            return
        pids = self.pids()
        groups = [each for name in names for each in leftovers.group(pids.get(name, 0))]
        for name in names:
            self.say(f"stopping {name}")
            Path(abandoned_mark(self.paths.run / f"{name}.lock")).unlink(missing_ok=True)
            self.supervisor.signal_stop(name)
        known = [programs[name].stop_timeout for name in names if name in programs]
        # What the file no longer names had a deadline that we cannot see: the longest there is.
        longest = max([*known, *(program.stop_timeout for program in programs.values())])
        self.supervisor.wait_stopped(names, longest + 30.0)
        # What was adopted can have lost the signal with the process that stood in for it.
        self._sweep({n: pid for n, pid in self.pids().items() if n in names}, longest)
        leftovers.end(groups, longest, self.say)
        self._check_gone(programs[name] for name in names if name in programs)
        for name in names:
            self.supervisor.remove(name)
            if lost := self.abandoned(name):
                self.say(f"{name}{ABANDONED}{lost}")
            forget(self.paths.run / f"{name}.lock")

    def _check_gone(self, programs: Iterable[Program]) -> None:
        """Raise when a service that was stopped still has a lock or a port."""
        for program in programs:
            pid = self.pids().get(program.name, 0)
            blocker = f"it still runs as process {pid}" if pid else None
            if blocker := blocker or leftovers.held_port(program.ports):
                raise PerennialError(
                    f"{program.name}: its main process has ended, but {blocker}; end that process,"
                    " then run the same command again"
                )

    def _discard(self, names: Collection[str]) -> None:
        for name in names:
            (self.paths.units / f"{name}.conf").unlink(missing_ok=True)
            lock = self.paths.run / f"{name}.lock"
            for path in (lock, Path(standing_in(lock)), Path(ready_mark(lock))):
                path.unlink(missing_ok=True)
        if names:
            self.supervisor.reload()

    def _sweep(self, left: Mapping[str, int], timeout: float) -> None:
        """End services that no supervisord stops, the scheduler first."""
        first = (SCALER, "scheduler")
        for name in sorted(left, key=lambda name: first.index(name) if name in first else 2):
            self.say(f"stopping {name}, which had no supervisord")
            lock = self.paths.run / f"{name}.lock"
            signal_holder(lock, signal.SIGTERM)
            if name == "scheduler" and not supervision.wait_gone(left[name], timeout):
                signal_holder(lock, signal.SIGKILL)
        for name, process in left.items():
            if not supervision.wait_gone(process, timeout):
                signal_holder(self.paths.run / f"{name}.lock", signal.SIGKILL)


@contextmanager
def unbroken() -> Iterator[None]:
    """Put Ctrl-C off until the end: what is stopped inside is started again inside."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

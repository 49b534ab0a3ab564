"""Deploy a cluster with Pulumi's engine, driven from here: no account, no login, one command."""

from __future__ import annotations

import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pulumi.automation import CommandError

from perennial.errors import FleetError, PerennialError
from perennial.paths import ClusterPaths, cluster_state
from perennial.spec import ClusterSpec, plain
from perennial.state import UP

from . import engine, journal
from .engine import MissingEngineError, find_command, install, installable
from .events import DeploymentLog, reason
from .inputs import Inputs
from .program import deploy_and_yield, own
from .provider.servicer import AT_ONCE
from .provider.values import Values
from .watch import Hopeless, Watch

__all__ = [
    "MissingEngineError",
    "Outcome",
    "PartlyError",
    "down",
    "find_command",
    "forget",
    "install",
    "installable",
    "machines",
    "plan",
    "refresh",
    "up",
]

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did."""

    #: What the engine reported.
    log: DeploymentLog
    #: How long it took.
    seconds: float
    #: The stack's outputs, secret ones as well; empty where nothing was changed.
    outputs: Values = field(default_factory=dict, repr=False)
    #: What could not be done, but need not stop anybody.
    warnings: tuple[str, ...] = ()


def up(
    spec: ClusterSpec,
    say: Say,
    fresh: bool = False,
    hopeless: Hopeless | None = None,
    force: bool = False,
) -> Outcome:
    """Deploy a cluster, or change what runs; what was found to be other is mended as well.

    It ends early where ``hopeless`` says that something can never be ready. The caller holds the
    cluster's lock.
    """
    began, folder = time.monotonic(), folder_of(cluster_state(spec.name))
    if not fresh and (same := _unchanged(spec, folder, say)):
        return Outcome(DeploymentLog({"unchanged": same}), time.monotonic() - began)
    stack, log = _open(folder, spec, say, force), DeploymentLog()
    book, had = journal.Journal(folder), _deployed(folder, spec.name)
    wanted: journal.Entries = own(spec, "entries", lambda _spec: {})(spec)
    book.write(wanted)
    act = partial(stack.up, refresh=True, continue_on_error=True, parallel=AT_ONCE)
    with Watch(find_command().interrupt, hopeless) as watch:
        failed = _failure(log, act, spec.name, say)
    failed = "\n".join(watch.lines) or failed
    uncleaned = _sweep(book, engine.state(folder, spec.name), had, set(wanted), say)
    engine.prune(folder)
    with _in_one_line(spec.name):
        outputs = stack.secret_outputs() if fresh or log.steps else {}
    if failed:
        raise PartlyError(failed, outputs, log)
    return Outcome(log, time.monotonic() - began, outputs, uncleaned)


class PartlyError(FleetError):
    """Some of it failed; outputs and events describe the rest."""

    def __init__(self, message: str, outputs: Values, log: DeploymentLog) -> None:
        super().__init__(message)
        self.outputs = outputs
        self.log = log


def plan(spec: ClusterSpec, say: Say) -> Outcome:
    """Say what `up` would do, to the machines as they are now; change nothing.

    The caller holds the cluster's lock, where the cluster was deployed before.
    """
    began, folder = time.monotonic(), folder_of(cluster_state(spec.name))
    if same := _unchanged(spec, folder, say):
        return Outcome(DeploymentLog({"unchanged": same}), time.monotonic() - began)
    with _folder_for_plan(folder, spec.name) as place:
        with _in_one_line(spec.name):
            stack = _stack(place, spec)
            engine.settle(stack, place)
        log = DeploymentLog(preview=True)
        failed = _failure(
            log, partial(stack.preview, refresh=True, parallel=AT_ONCE), spec.name, say
        )
    if failed:
        raise FleetError(failed)
    return Outcome(log, time.monotonic() - began)


def refresh(spec: ClusterSpec, say: Say) -> Outcome:
    """Read the state of the machines into the stack; `up` repairs what differs."""
    began, folder = time.monotonic(), folder_of(cluster_state(spec.name))
    stack, log = _open(folder, spec, say), DeploymentLog()
    log.preview = True
    failed = _failure(log, partial(stack.refresh, parallel=AT_ONCE), spec.name, say)
    if failed:
        raise FleetError(failed)
    return Outcome(log, time.monotonic() - began)


def down(spec: ClusterSpec, say: Say) -> Outcome:
    """Take a cluster down and forget it."""
    began, folder = time.monotonic(), folder_of(cluster_state(spec.name))
    stack, log = _open(folder, spec, say), DeploymentLog()
    had = _deployed(folder, spec.name)
    own(spec, "stop_scheduler", lambda *_: None)(spec, had, say)
    failed = _failure(
        log, partial(stack.destroy, continue_on_error=True, parallel=AT_ONCE), spec.name, say
    )
    book, now = journal.Journal(folder), engine.state(folder, spec.name)
    uncleaned = _sweep(book, now, had, set(), say)
    if failed or uncleaned:
        # The journal stays with the folder: the next `down` knows these machines.
        raise FleetError("\n".join([*filter(None, [failed]), *map(_not_clean, uncleaned)]))
    shutil.rmtree(folder)
    return Outcome(log, time.monotonic() - began)


def _not_clean(line: str) -> str:
    """Say how it goes on with a machine that could not be cleaned."""
    return f"{line}; then `perennial down` removes what was half made there"


def machines(spec: ClusterSpec) -> set[str]:
    """Name the machines of which the engine remembers something."""
    folder = folder_of(cluster_state(spec.name))
    # Of a machine that was only half made, the journal alone knows.
    known = engine.machines(engine.state(folder, spec.name))
    return known | set(journal.Journal(folder).entries())


def forget(spec: ClusterSpec, machine: str, say: Say) -> None:
    """Forget a machine that will never answer again; nothing is done to it."""
    folder = folder_of(cluster_state(spec.name))
    stack = _open(folder, spec, say)
    book, now = journal.Journal(folder), engine.state(folder, spec.name)
    found = [(kind, one["urn"]) for name, kind, one in engine.resources(now) if name == machine]
    # What depends on others goes first.
    for _, urn in sorted(found, key=lambda each: each[0] != "HostServices"):
        with _in_one_line(spec.name):
            stack.workspace.pulumi_command.run(
                ["state", "delete", urn, "--yes", "--force", "--stack", spec.name],
                stack.workspace.work_dir,
                stack.workspace.env_vars,
            )
    book.strike([machine])


def folder_of(paths: ClusterPaths) -> Path:
    """Folder of the engine's own files, in a cluster's state folder."""
    return paths.root / "pulumi"


def _open(folder: Path, spec: ClusterSpec, say: Say, force: bool = True) -> engine.Stack:
    """Open the stack, with nothing of a killed deployment in its way."""
    with _in_one_line(spec.name):
        stack = _stack(folder, spec, force)
        engine.settle(stack, folder)
    if engine.half_made(engine.state(folder, spec.name)):
        # The journal knows these machines; the engine only warns of them for ever.
        say("a deployment was interrupted; looking for what it has left")
        refresh = partial(stack.refresh, clear_pending_creates=True)
        _failure(DeploymentLog(), refresh, spec.name, say)
    return stack


def _stack(folder: Path, spec: ClusterSpec, force: bool = True) -> engine.Stack:
    program = partial(deploy_and_yield, Inputs(spec, plain(spec), UP), force)
    needed: tuple[dict[str, str], ...] = (own(spec, "PLUGINS", {}), own(spec, "VARIABLES", {}))
    return engine.open_stack(folder, spec.name, program, *needed)


def _unchanged(spec: ClusterSpec, folder: Path, say: Say) -> int:
    """Count the resources that are as the cluster file says; 0 when the engine has to look."""
    same: int = own(spec, "unchanged", lambda *_: 0)(spec, folder, say)
    return same


def _deployed(folder: Path, name: str) -> set[str]:
    """Machines whose services were deployed whole."""
    return engine.machines(engine.state(folder, name), ("HostServices",))


def _failure(log: DeploymentLog, act: Callable[..., Any], name: str, say: Say) -> str:
    """Run the engine; return what failed, one line each, empty when nothing did."""

    def on_event(event: Any) -> None:
        text = log.record(event)
        if text:
            say(text)

    # What it says of a stream that was cut off is told below, in one line.
    warnings.filterwarnings("ignore", "Error in event stream")
    try:
        act(on_event=on_event)
    except CommandError as error:
        return "\n".join(log.errors) or f"{name}: {reason(error)}"
    except KeyboardInterrupt:
        raise PerennialError(
            f"{name}: stopped in the middle; the same command goes on from there"
        ) from None
    return ""


@contextmanager
def _in_one_line(name: str) -> Iterator[None]:
    """Raise an error of the engine's command line as one line."""
    try:
        yield
    except CommandError as error:
        raise PerennialError(f"{name}: {reason(error)}") from None


def _sweep(
    book: journal.Journal, now: Mapping[str, Any], had: set[str], wanted: set[str], say: Say
) -> tuple[str, ...]:
    """Clean machines that are in the journal, but neither in the file nor in the stack."""
    gone = set(book.entries()) - wanted - engine.machines(now)
    done, failed = journal.clean({m: book.entries()[m] for m in sorted(gone - had)}, say)
    book.strike([*done, *(gone & had)])
    return tuple(failed)


@contextmanager
def _folder_for_plan(folder: Path, name: str) -> Iterator[Path]:
    """Yield the engine's folder, or a temporary one for a cluster that is not there yet."""
    if engine.state_file(folder, name).exists():
        yield folder
        return
    place = Path(tempfile.mkdtemp(prefix="perennial-"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)

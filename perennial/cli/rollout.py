"""What `up` does on every platform: check, plan, ask, deploy, wait, connect, and print where."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from perennial.cli.files import judge
from perennial.cli.output import Progress, confirm, say_abandoned, show_plan
from perennial.cli.platform import deployer, runtime
from perennial.errors import PerennialError
from perennial.registry import PLATFORMS

if TYPE_CHECKING:
    from perennial.connect import Connection
    from perennial.contracts import Deployed, Deployer, Runtime, Say
    from perennial.plan import Plan
    from perennial.spec import ClusterSpec, Document

#: What a plain Client() does that is connected.
CONNECTED = "reaches it, no argument needed"
#: Seconds between two looks at who has registered.
LOOK = 0.3


@dataclass(frozen=True, slots=True)
class UpOptions:
    """The options of `up`."""

    #: Do not ask.
    yes: bool = False
    #: Make a plain Client() reach the cluster.
    connect: bool = True
    #: Warnings are errors.
    strict: bool = False
    #: Install what is lacking.
    install: bool = False
    #: Start more than the machines hold, and take over what another stack deploys.
    force: bool = False


class _Watcher:
    """Shows what an `up` does, and asks for confirmation."""

    def __init__(self, document: Document, options: UpOptions, progress: Progress, judged: bool):
        from perennial.paths import cluster_state

        self._document, self._options, self._progress = document, options, progress
        self._judged = judged
        self.say: Say = progress
        self.force = options.force
        self.asks = cluster_state(document.spec.name).spec.exists() and not options.yes
        #: What a plain Client() does; empty until it was asked for.
        self.client = "" if options.connect else "not connected"

    def planned(self, plan: Plan | None) -> None:
        """Show the plan, refuse what is not allowed, and ask for confirmation."""
        if plan is not None and not plan.steps:
            return
        if not self._judged:
            judge(self._document, self._options.strict)
        if self.asks and plan is not None:
            with self._progress.paused():
                show_plan(self._document.spec.name, with_actors(self._document.spec, plan))
                confirm("Do this?", "--yes")

    def lost(self, member: str, what: str) -> None:
        """Print what a member abandoned."""
        with self._progress.paused():
            say_abandoned(self._document.spec.name, {member: what})

    def ready(self, connection: Connection) -> None:
        """Connect a plain Client(), once."""
        self.client = self.client or connected(connection)


def rollout(document: Document, file: Path, options: UpOptions) -> None:
    """Create or update a cluster."""
    from perennial.lock import exclusive
    from perennial.paths import cluster_state

    spec, paths = document.spec, cluster_state(document.spec.name)
    part = deployer(spec.platform, "up", spec.name)
    new = not paths.root.exists()
    if new:
        judge(document, options.strict)  # a refused file leaves no state behind
    equip(part, options.install)
    part.log_in(spec.name, spec)
    with Progress(spec.name) as say:
        if new:
            part.check_room(spec, options.force, say)
        with exclusive(paths.lock, say):
            if paths.spec.exists() or not new:
                part.check_room(spec, options.force, say)
            watcher = _Watcher(document, options, say, judged=new)
            done = part.up(spec, str(file.resolve()), watcher)
            if done.changed:
                await_workers(runtime(spec.platform, spec.name), say)
        reached, problem = done.connection, ""
        if options.connect:
            reached, problem = reachable(spec.platform, reached, say)
    watcher.client = problem or watcher.client
    watcher.ready(reached)
    warn_uncleaned(done.uncleaned)
    _summarise(done, tried(reached, watcher.client))


def equip(part: Deployer, install: bool) -> None:
    """Install what a deployment lacks here, if a person agrees."""
    lacking = part.lacking()
    if lacking is None:
        return
    if not install and not (lacking.installable and _may_install(lacking.problem)):
        raise PerennialError(lacking.problem)
    with Progress(lacking.name) as say:
        part.install(say)


def _may_install(problem: str) -> bool:
    """Ask whether to download a program, where somebody can answer."""
    if not sys.stdin.isatty():
        return False
    typer.echo(problem, err=True)
    return typer.confirm("Download it now?", default=False)


def with_actors(spec: ClusterSpec, plan: Plan) -> Plan:
    """Say in a plan which actors it ends."""
    from perennial import plan as plans

    if not plans.drains(plan.steps):
        return plan
    holders = runtime(spec.platform, spec.name).holders()
    return replace(plan, steps=plans.with_actors(plan.steps, holders))


def await_workers(running: Runtime, say: Say) -> None:
    """Wait until the workers have registered for which the platform has not waited."""
    from perennial.services import START_TIMEOUT
    from perennial.supervision.supervisor import polls

    wanted = frozenset(running.awaited())
    missing = sorted(wanted)
    for _ in polls(START_TIMEOUT, LOOK) if wanted else ():
        missing = sorted(wanted.difference(running.registered()))
        if not missing:
            break
        say(f"{len(wanted) - len(missing)} of {len(wanted)} workers")
    if missing:
        raise PerennialError(
            f"{running.name}: {', '.join(missing[:5])} not there after {START_TIMEOUT:g} s;"
            f" see `perennial logs {missing[0]}`"
        )


def reachable(platform: str, connection: Connection, say: Say) -> tuple[Connection, str]:
    """Return how a cluster is reached from here, and why it is not.

    Where its address is not reachable from here, its platform forwards connections to it.
    """
    from perennial import connect, paths

    other = connect.current()
    if other is not None and other.cluster != connection.cluster:
        return connection, ""
    has_tunnel = paths.tunnel(connection.cluster).is_file()
    if not has_tunnel and not PLATFORMS[platform].transport:
        return connection, ""
    from perennial import tunnel

    if not has_tunnel and not tunnel.is_unreachable(connection):
        return connection, ""
    try:
        way = None if has_tunnel else tunnel.by_platform(connection)
        say(f"connecting: {way or 'the tunnel'}")
        return tunnel.open_tunnel(connection, way, say), ""
    except PerennialError as error:
        return connection, f"does not reach it: {error}"


def connected(connection: Connection) -> str:
    """Make a plain Client() reach the cluster, unless it reaches another; say what it does."""
    from perennial import connect

    other = connect.current()
    if other is not None and other.cluster != connection.cluster:
        change = f"`perennial connect {connection.cluster}` changes that"
        return f"reaches {other.cluster}; {change}"
    try:
        if other != connection:
            for notice in connect.write(connection):
                typer.echo(f"warning: {notice}", err=True)
    except PerennialError as error:
        return f"does not reach it: {error}"
    return CONNECTED


def tried(connection: Connection, client: str) -> str:
    """Say what a plain Client() does, as far as that can be tried from here."""
    if client != CONNECTED:
        return client
    from perennial.connect import trial

    return f"in a new Python process {trial.problem(connection) or CONNECTED}"


def warn_uncleaned(lines: Sequence[str]) -> None:
    """Print what could not be cleaned."""
    for line in lines:
        typer.echo(f"warning: could not be cleaned: {line}", err=True)


def token_line(file: Path) -> str:
    """Show a new token to a person; where output is kept, as in a CI's log, only where it is."""
    if not sys.stdout.isatty():
        return f"in {file}"
    return f"{file.read_text(encoding='utf-8').strip()}   (shown this once)"


def _summarise(done: Deployed, client: str) -> None:
    """Print what was done and where everything is."""
    from perennial.spec.words import plural

    connection = done.connection
    workers = "" if done.workers is None else f" with {plural(done.workers, 'worker')}"
    print(f"{connection.cluster} is up{workers}: {done.summary or 'nothing to change'}")
    print(f"  scheduler  {connection.scheduler_address}")
    if connection.dashboard_link is not None:
        print(f"  dashboard  {connection.dashboard_link}")
    if connection.jupyter_url is not None:
        print(f"  Jupyter    {connection.jupyter_url}   (`perennial open` logs you in)")
        if done.token is not None:
            print(f"  token      {token_line(done.token)}")
    print(f"  Client()   {client}")

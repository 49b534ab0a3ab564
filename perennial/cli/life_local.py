"""`plan`, `refresh`, `up`, `down` on this machine."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from perennial.cli.files import judge
from perennial.cli.output import Progress, confirm, say_abandoned, show_plan
from perennial.errors import Fault, PerennialError

if TYPE_CHECKING:
    from perennial.cli.platform import Wishes
    from perennial.connect import Connection
    from perennial.plan import Step
    from perennial.platforms.local.deploy import Deployment
    from perennial.spec import ClusterSpec, Document
    from perennial.templating import Format


#: What a plain Client() does that is connected.
CONNECTED = "reaches it, no argument needed"


def plan(document: Document, file: Path, strict: bool) -> None:
    """Show what `up` would change."""
    spec = document.spec
    refused = _refusal(spec)
    # What nobody gets is not planned either: that takes as long as there are members.
    if refused and _refusal(spec, force=True):
        raise PerennialError(refused)
    with Progress(spec.name) as say:
        from perennial.platforms.local.deploy import prepare

        deployment = prepare(spec, str(file.resolve()), say)
        if deployment.steps:
            judge(document, strict)
    show(deployment)
    if refused:
        raise PerennialError(refused)


def _refusal(spec: ClusterSpec, force: bool = False) -> str:
    """Say why `up` would refuse a cluster file's sizes on this machine; empty if it would not."""
    from perennial.platforms.local.deploy import check_room

    try:
        check_room(spec, force=force)
    except PerennialError as error:
        return f"`perennial up` would refuse this: {error}"
    return ""


def refresh(name: str) -> None:
    """Show what is not as it was deployed."""
    from perennial.platforms.local import deploy

    show(deploy.find(name, lambda _text: None))


def forget(name: str, _machine: str, _force: bool) -> None:
    """Say that there is no other machine."""
    raise PerennialError(f"{name} stands on this machine alone; `perennial down` takes it down")


def faults(document: Document) -> tuple[list[Fault], list[Fault]]:
    """Return errors and warnings of a cluster file on this machine."""
    from perennial.paths import cluster_state
    from perennial.platforms.local.checks import faults_of_machine
    from perennial.supervision.hold import holder

    locks = cluster_state(document.spec.name).run.glob("*.lock")
    own = frozenset(holder(lock)[0] for lock in locks) - {0}
    return faults_of_machine(document.spec, own)


def render(spec: ClusterSpec, form: Format, root: Path) -> tuple[dict[str, str], str]:
    """Render a cluster that has one machine, with what a person needs to know."""
    from perennial import eject

    python = spec.environment.python or sys.executable
    address, temporary = spec.options.address, spec.options.temporary_directory
    if form == "systemd":
        site = eject.systemd_site(spec, python, address, temporary)
    else:
        site = eject.folder_site(spec, str(root), str(Path.home()), python, address, temporary)
    return eject.eject(spec, form, site), f"{root / 'README.txt'} says what to do with them"


def up_and_stay(document: Document, file: Path, wishes: Wishes) -> None:
    """Create or update a cluster; on SIGTERM or Ctrl-C, stop it."""
    from perennial.cli import foreground

    with foreground.until_asked() as stop:
        up(document, file, wishes)
        if foreground.stay(document.spec.name, stop):
            down(document.spec.name, force=True, purge=False)


def up(document: Document, file: Path, wishes: Wishes) -> None:
    """Create or update a cluster."""
    spec = document.spec
    from perennial.lock import exclusive
    from perennial.paths import cluster_state
    from perennial.platforms.local import deploy

    paths = cluster_state(spec.name)
    judged = not paths.root.exists()
    if judged:
        judge(document, wishes.strict)  # refused, it leaves no trace at all
        deploy.check_room(spec, force=wishes.force)
    with Progress(spec.name) as say, exclusive(paths.lock, say):
        deploy.check_room(spec, force=wishes.force)
        deployment = deploy.prepare(spec, str(file.resolve()), say)
        if deployment.steps and not judged:
            judge(document, wishes.strict)
        abandoned: dict[str, str] = {}
        new_token = not deploy.token_file(spec, deployment.paths).exists()
        if deployment.steps and deployment.paths.spec.exists() and not wishes.yes:
            with say.paused():
                show(deployment)
                confirm("Do this?", "--yes")
        link = deploy.connection(spec, deployment.paths)
        outcome = [] if wishes.connect else ["not connected"]
        if deployment.steps or deploy.secrets_missing(spec, deployment.paths):
            deploy.apply(deployment, ready=lambda: outcome.append(connected(link)))
            abandoned = deployment.abandoned
        else:
            deploy.settle(deployment)
    say_abandoned(spec.name, abandoned)
    client = (outcome or [connected(link)])[0]
    if client == CONNECTED:  # found out, as far as that can be done from here
        from perennial.connect import trial

        client = f"in a new Python process {trial.problem(link) or CONNECTED}"
    _summarise(deployment, new_token, client)


def down(name: str, force: bool, purge: bool) -> None:
    """Stop a cluster. Notebooks stay; certificates, token and logs stay unless ``purge``."""
    from perennial.lock import exclusive
    from perennial.platforms.local import deploy
    from perennial.platforms.local.operate import take_down

    deployment = deploy.find(name, lambda _text: None)
    if not force:
        _ask_before_loss(deployment)
    label = deployment.spec.name
    with Progress(label) as say, exclusive(deployment.paths.lock, say):
        take_down(deploy.find(label, say), purge)
    print(f"{label} is down")
    if deployment.spec.jupyter is not None:
        print(f"  notebooks stay in {deployment.spec.jupyter.directory}")
    work = deployment.paths.work
    if not purge and work.is_dir() and any(work.iterdir()):
        print(f"  files that tasks wrote by relative paths stay in {work}; --purge removes them")
    if not purge:
        print(
            f"  certificates, token and logs stay in {deployment.paths.root}; --purge removes them"
        )


def show(deployment: Deployment) -> None:
    """Print a plan."""
    from perennial.plan import drains, with_actors
    from perennial.supervision.plan import steps

    def held(step: Step) -> int:
        own = re.compile(rf"{re.escape(step.resource)}(-\d+)?")  # a process of it has a number
        return sum(count for name, count in actors.items() if own.fullmatch(name))

    planned = steps(deployment.steps)
    if drains(planned):
        actors = deployment.cluster.dashboard.actors()
        planned = with_actors(planned, held)
    changed = sum(step.action not in ("stop", "repair") for step in deployment.steps)
    show_plan(deployment.spec.name, planned, len(deployment.programs) - changed)


def _ask_before_loss(deployment: Deployment) -> None:
    from perennial.spec.words import plural

    counts = deployment.cluster.dashboard.counts()
    if counts is None or not (counts.clients or counts.processing or counts.memory):
        return
    confirm(
        f"{deployment.spec.name} has {plural(counts.clients, 'client')},"
        f" {plural(counts.processing, 'task')} running and {plural(counts.memory, 'result')}"
        " in memory, which are lost. Stop it?",
        "--force",
    )


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


def token_line(file: Path) -> str:
    """Show a new token to a person; where output is kept, as in a CI's log, only where it is."""
    if not sys.stdout.isatty():
        return f"in {file}"
    return f"{file.read_text(encoding='utf-8').strip()}   (shown this once)"


def _summarise(deployment: Deployment, show_token: bool, client: str) -> None:
    """Print where everything is."""
    from perennial.platforms.local import deploy

    spec, paths = deployment.spec, deployment.paths
    connection = deploy.connection(spec, paths)
    members = sum(deployment.state.sizes.values())
    changed = len(deployment.steps)
    print(
        f"{spec.name} is up with {members} worker{'s' if members != 1 else ''}: "
        + (f"{changed} changed" if changed else "nothing to change")
    )
    print(f"  scheduler  {connection.scheduler_address}")
    print(f"  dashboard  {connection.dashboard_link}")
    if spec.jupyter is not None:
        print(f"  Jupyter    {connection.jupyter_url}   (`perennial open` logs you in)")
    if show_token and spec.jupyter is not None:
        print(f"  token      {token_line(deploy.token_file(spec, paths))}")
    print(f"  Client()   {client}")

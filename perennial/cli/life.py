"""`plan`, `up`, `down`: the life of a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.cli.files import DEFAULT_FILE, judge
from perennial.cli.output import Progress, confirm
from perennial.errors import PerennialError

if TYPE_CHECKING:
    from perennial.connect import Connection
    from perennial.local.deploy import Deployment
    from perennial.local.plan import Step
    from perennial.spec import Document

File = Annotated[Path, typer.Option("--file", "-f", help="The cluster file.")]
Strict = Annotated[bool, typer.Option("--strict", help="Warnings are errors.")]
Name = Annotated[str | None, typer.Argument(help="The cluster; the only one needs no name.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(plan)
    app.command()(up)
    app.command()(down)


def plan(file: File = DEFAULT_FILE, strict: Strict = False) -> None:
    """Show what `up` would do; change nothing."""
    document = _read(file)
    spec = document.spec
    with Progress(spec.name) as say:
        from perennial.local.deploy import prepare

        deployment = prepare(spec, str(file.resolve()), say)
        if deployment.steps:
            judge(document, strict)
    _show(deployment)


def up(
    file: File = DEFAULT_FILE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    plan_only: Annotated[bool, typer.Option("--plan", help="Only show what would change.")] = False,
    connect: Annotated[bool, typer.Option(help="Make a plain Client() reach it.")] = True,
    strict: Strict = False,
) -> None:
    """Start a cluster, or change what runs into what the file says."""
    if plan_only:
        plan(file, strict)
        return
    document = _read(file)
    spec = document.spec
    from perennial.local import deploy
    from perennial.local.lock import exclusive
    from perennial.paths import cluster_state

    paths = cluster_state(spec.name)
    judged = not paths.root.exists()
    if judged:
        judge(document, strict)  # refused, it leaves no trace at all
    with Progress(spec.name) as say, exclusive(paths.lock, say):
        deployment = deploy.prepare(spec, str(file.resolve()), say)
        if deployment.steps and not judged:
            judge(document, strict)
        new_token = not deploy.token_file(spec, deployment.paths).exists()
        if deployment.steps and deployment.paths.spec.exists() and not yes:
            with say.paused():
                _show(deployment)
                confirm("Do this?", "--yes")
        link = deploy.connection(spec, deployment.paths)
        outcome = [] if connect else ["not connected"]
        if deployment.steps or deploy.secrets_missing(spec, deployment.paths):
            deploy.apply(deployment, ready=lambda: outcome.append(_connect(link)))
    _summarise(deployment, new_token, (outcome or [_connect(link)])[0])


def down(
    name: Name = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Its cluster file.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Do not ask.")] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Remove certificates, token and logs as well.")
    ] = False,
) -> None:
    """Stop a cluster. Notebooks stay; certificates, token and logs stay unless --purge."""
    from perennial.local import deploy
    from perennial.local.lock import exclusive
    from perennial.local.operate import take_down

    deployment = deploy.find(choose(name, file), lambda _text: None)
    if not force:
        _ask_before_loss(deployment)
    label = deployment.spec.name
    with Progress(label) as say, exclusive(deployment.paths.lock, say):
        take_down(deploy.find(label, say), purge)
    print(f"{label} is down")
    if deployment.spec.jupyter is not None:
        print(f"  notebooks stay in {deployment.spec.jupyter.directory}")
    if not purge:
        print(
            f"  certificates, token and logs stay in {deployment.paths.root}; --purge removes them"
        )


def choose(name: str | None, file: Path | None = None) -> str:
    """Say which cluster is meant: the one named, that of a file, or the only one."""
    if file is not None:
        return _read(file).spec.name
    from perennial.connect import choose as choose_cluster

    return choose_cluster(name)


def _read(file: Path) -> Document:
    from perennial.spec import read

    return read(file)


SIGNS = {"start": "+", "adopt": "=", "replace": "~", "restart": "!", "stop": "-"}


def _show(deployment: Deployment) -> None:
    """Print a plan."""
    name = deployment.spec.name
    if not deployment.steps:
        print(f"{name}: nothing to change")
        return
    drained = not any(step.stops and step.name == "scheduler" for step in deployment.steps)
    for step in deployment.steps:
        cost = _cost(step, drained)
        print(f"  {SIGNS[step.action]} {step.action:8} {step.name:20} {step.reason}{cost}")
    print(f"{name}: {len(deployment.steps)} to change, {_kept(deployment)} unchanged")


def _cost(step: Step, drained: bool) -> str:
    """Say what a step costs the users; ``drained`` unless the scheduler goes as well."""
    if not step.stops or step.name == "health":
        return ""
    if step.name == "scheduler":
        return "; ALL RUNNING WORK AND RESULTS ARE LOST"
    if step.name == "jupyter":
        return "; its kernels end"
    return "; drained first, nothing is lost" if drained else ""


def _kept(deployment: Deployment) -> int:
    return len(deployment.programs) - sum(step.action != "stop" for step in deployment.steps)


def _ask_before_loss(deployment: Deployment) -> None:
    counts = deployment.cluster.dashboard.counts()
    if counts is None or not (counts.clients or counts.processing or counts.memory):
        return
    confirm(
        f"{deployment.spec.name} has {counts.clients} clients, {counts.processing} tasks running"
        f" and {counts.memory} results in memory, which are lost. Stop it?",
        "--force",
    )


def _connect(connection: Connection) -> str:
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
    return "in a new Python process reaches it, no argument needed"


def _summarise(deployment: Deployment, show_token: bool, client: str) -> None:
    """Print where everything is."""
    from perennial.local import deploy

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
        print(
            f"  token      {deploy.token_file(spec, paths).read_text().strip()}   (shown this once)"
        )
    print(f"  Client()   {client}")

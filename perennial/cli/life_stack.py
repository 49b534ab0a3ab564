"""`plan`, `up`, `refresh`, `down` on a platform that Pulumi deploys."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from perennial.cli.files import judge
from perennial.cli.life_local import connected, token_line
from perennial.cli.output import Progress, confirm, say_abandoned, show_plan
from perennial.errors import Fault, PerennialError
from perennial.paths import ClusterPaths, cluster_state

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perennial.cli.platform import Wishes
    from perennial.connect import Connection
    from perennial.plan import Step
    from perennial.spec import ClusterSpec, Document
    from perennial.templating import Format


def plan(document: Document, _file: Path, strict: bool) -> None:
    """Show what `up` would do, to the machines as they are now; change nothing."""
    from perennial.lock import exclusive

    spec, paths = document.spec, cluster_state(document.spec.name)
    judge(document, strict)
    driver = _driver(install=False)
    if paths.spec.exists():
        driver.log_in(spec)
        with Progress(spec.name) as say, exclusive(paths.lock, say):
            steps = _steps(driver.plan(spec, say), spec, paths)
    else:  # never deployed; the plan leaves no trace either
        steps = import_module("perennial.stacks.planning").first(spec)
    show_plan(spec.name, steps)
    try:
        _check_room(spec, paths)
    except PerennialError as error:
        raise PerennialError(f"`perennial up` would refuse this: {error}") from None


def faults(_document: Document) -> tuple[list[Fault], list[Fault]]:
    """Return nothing: the machines are elsewhere."""
    return [], []


def render(spec: ClusterSpec, form: Format, _root: Path) -> tuple[dict[str, str], str]:
    """Render a cluster on machines."""
    from perennial.platforms.hosts.files import files

    return files(spec, form), "a folder for each machine"


def up_and_stay(document: Document, file: Path, _wishes: Wishes) -> None:
    """Refuse to stay with a cluster that stands elsewhere."""
    raise PerennialError(
        f"{file}: --wait is for the platform local, found {document.spec.platform}; its services"
        " are kept by the machines themselves"
    )


def up(document: Document, file: Path, wishes: Wishes) -> None:
    """Deploy a cluster, or change what runs into what the file says."""
    from perennial.lock import exclusive

    spec, paths = document.spec, cluster_state(document.spec.name)
    judge(document, wishes.strict)
    driver = _driver(wishes.install)
    _check_room(spec, paths, wishes.force)  # refused, it leaves no trace at all
    driver.log_in(spec)
    with Progress(spec.name) as say, exclusive(paths.lock, say):
        if paths.spec.exists() and not wishes.yes:
            steps = _steps(driver.plan(spec, say), spec, paths)
            with say.paused():
                show_plan(spec.name, steps)
                if steps:
                    confirm("Do this?", "--yes")
        _remember(spec, str(file.resolve()), paths)
        known = token_file(paths).exists()
        try:
            done = driver.up(spec, say, fresh=not paths.connection.exists())
        except driver.PartlyError as error:
            # Those machines that are as they should be can be used all the same.
            keep(spec, paths, error.outputs)
            say_abandoned(spec.name, error.tale.abandoned)
            raise
        keep(spec, paths, done.outputs)
        if done.tale.steps:
            _await_workers(spec, paths, say)
    say_abandoned(spec.name, done.tale.abandoned)
    _warn(done.warnings)
    _summarise(spec, paths, done, None if known else token_file(paths), wishes.connect)


def refresh(name: str) -> None:
    """Look what became of the machines, and remember it."""
    from perennial.lock import exclusive

    paths, driver = cluster_state(name), _driver(install=False)
    spec = _deployed(paths)
    driver.log_in(spec)
    with Progress(name) as say, exclusive(paths.lock, say):
        driver.refresh(spec, say)
        steps = _steps(driver.plan(spec, say), spec)
    show_plan(name, steps)


def down(name: str, force: bool, purge: bool) -> None:
    """Take a cluster down: nothing of it stays on its machines but notebooks."""
    from perennial.lock import exclusive

    paths, driver = cluster_state(name), _driver(install=False)
    spec = _deployed(paths)
    if not force:
        confirm(f"{name}: running work and results are lost. Take it down?", "--force")
    driver.log_in(spec)
    with Progress(name) as say, exclusive(paths.lock, say):
        done = driver.down(spec, say)
        remove_state(paths, purge)
    _warn(done.warnings)
    print(f"{name} is down")
    for note in done.tale.notes:
        print(f"  {note}")
    if not purge:
        print(
            f"  the client's certificate and the token stay in {paths.root}; --purge removes them"
        )


def forget(name: str, machine: str, force: bool) -> None:
    """Forget a machine that will never answer again, so that nothing waits for it."""
    from perennial.lock import exclusive

    paths, driver = cluster_state(name), _driver(install=False)
    spec = _deployed(paths)
    if not force:
        what = f"services on {machine} keep running if it comes back"
        confirm(f"{name}: {what}. Remove it?", "--force")
    with Progress(name) as say, exclusive(paths.lock, say):
        driver.forget(spec, machine, say)


def _check_room(spec: ClusterSpec, paths: ClusterPaths, force: bool = False) -> None:
    """Refuse members that the machines cannot hold; with ``force``, not even idle."""
    from perennial.platforms.hosts.operator import Operator
    from perennial.platforms.hosts.resizing import check_room
    from perennial.spec import dump

    if paths.spec.exists() and paths.spec.read_text(encoding="utf-8") == dump(spec):
        return  # looked at when it was deployed: an unchanged `up` stays quick
    with Progress(spec.name) as say:
        say("asking the machines what they hold")
        check_room(Operator(spec, paths), _deployed(paths) if paths.spec.exists() else spec, force)


def _await_workers(spec: ClusterSpec, paths: ClusterPaths, say: Callable[[str], None]) -> None:
    from perennial.platforms.hosts.operator import Operator

    Operator(spec, paths).await_workers(say)


def keep(spec: ClusterSpec, paths: ClusterPaths, outputs: dict[str, Any]) -> None:
    """Keep what a client needs: its certificate, Jupyter's token, and where everything is."""
    from perennial import connect

    parts = outputs.get("connection")
    if not parts:
        return
    if parts.get("tls"):
        files = {"ca": "ca.pem", "cert": "client.pem", "key": "client-key.pem"}
        for part, name in files.items():
            _write(paths.tls / name, parts["tls"][part])
    if parts.get("token"):
        _write(token_file(paths), parts["token"])
    connection = connect.Connection(
        cluster=spec.name,
        scheduler_address=parts["scheduler_address"],
        dashboard_link=parts.get("dashboard_link"),
        tls=connect.Tls.in_folder(paths.tls) if parts.get("tls") else None,
        jupyter_url=parts.get("jupyter_url"),
    )
    if not paths.connection.exists() or connect.load(paths) != connection:
        connect.save(paths, connection)


def remove_state(paths: ClusterPaths, purge: bool) -> None:
    """Forget a cluster that is down."""
    import shutil

    from perennial import connect

    current = connect.current()
    if current is not None and current.cluster == paths.root.name:
        connect.remove(paths.root.name)
    for path in (paths.spec, paths.state, paths.connection):
        path.unlink(missing_ok=True)
    if purge:
        shutil.rmtree(paths.root)


def token_file(paths: ClusterPaths) -> Path:
    """File of Jupyter's token on this machine."""
    return paths.secrets / "jupyter-token"


def _driver(install: bool) -> Any:
    """Load the driver of Pulumi's engine by name: nothing else here knows Pulumi."""
    try:
        driver = import_module("perennial.stacks.driver")
    except ModuleNotFoundError as error:
        raise PerennialError(
            f"{error.name} is not installed here; `pip install 'dask-perennial[hosts]'` brings it"
        ) from None
    try:
        driver.find_command()
    except driver.MissingEngineError as error:
        if not install and not (driver.installable() and _may_install(str(error))):
            raise
        with Progress("pulumi") as say:
            say("downloading Pulumi's command line")
            driver.install()
        driver.find_command()
    return driver


def _may_install(problem: str) -> bool:
    """Ask whether to download Pulumi's command line, where somebody can answer."""
    import sys

    if not sys.stdin.isatty():
        return False
    typer.echo(problem, err=True)
    return typer.confirm("Download it now?", default=False)


def _steps(outcome: Any, spec: ClusterSpec, paths: ClusterPaths | None = None) -> Sequence[Step]:
    """List what a deployment would do; with the cluster's paths also which actors that ends."""
    order = [machine.called for machine in spec.options.machines]
    planning = import_module("perennial.stacks.planning")
    steps: Sequence[Step] = planning.planned(outcome.tale, order)
    from perennial.plan import drains

    if paths is None or not drains(steps):
        return steps
    from perennial.platforms.hosts.holding import with_actors
    from perennial.platforms.hosts.operator import Operator

    return with_actors(steps, Operator(_deployed(paths), paths).actors())


def _deployed(paths: ClusterPaths) -> ClusterSpec:
    """Read the cluster as it was deployed."""
    from perennial.spec import load

    return load(paths.spec, remembered=True)


def _remember(spec: ClusterSpec, file: str, paths: ClusterPaths) -> None:
    """Remember a cluster before anything is done to it: cut off, `down` knows it."""
    from perennial.files import make_private
    from perennial.spec import dump
    from perennial.state import State

    make_private(paths.root)
    _write(paths.spec, dump(spec))
    State(file, {name: group.count for name, group in spec.workers.items()}).save(paths)


def _write(path: Path, text: str) -> None:
    from perennial.files import write_atomic

    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text)


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        typer.echo(f"warning: could not be cleaned: {warning}", err=True)


def _summarise(
    spec: ClusterSpec, paths: ClusterPaths, done: Any, token: Path | None, connect: bool
) -> None:
    """Print what was done and where everything is."""
    from perennial.connect import load

    connection: Connection = load(paths)
    summary = import_module("perennial.stacks.events").summary(done.tale, done.seconds)
    print(f"{spec.name} is up: {summary}")
    print(f"  scheduler  {connection.scheduler_address}")
    print(f"  dashboard  {connection.dashboard_link}")
    if connection.jupyter_url is not None:
        print(f"  Jupyter    {connection.jupyter_url}")
        if token is not None and token.exists():
            print(f"  token      {token_line(token)}")
    print(f"  Client()   {connected(connection) if connect else 'not connected'}")

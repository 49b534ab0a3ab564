"""`plan`, `up`, `refresh`, `down`, `forget`: the life of a cluster, on any platform."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perennial.cli.files import DEFAULT_FILE, judge
from perennial.cli.output import Progress, alone, confirm, show_plan
from perennial.cli.platform import deployer, runtime
from perennial.cli.rollout import UpOptions, equip, rollout, warn_uncleaned, with_actors
from perennial.errors import PerennialError, SpecError

if TYPE_CHECKING:
    from perennial.contracts import Deployer, Say
    from perennial.spec import ClusterSpec, Document

File = Annotated[Path, typer.Option("--file", "-f", help="The cluster file.")]
Strict = Annotated[bool, typer.Option("--strict", help="Treat warnings as errors.")]
Cluster = Annotated[
    str | None,
    typer.Option("--cluster", "-c", metavar="NAME", help="The name of the cluster."),
]
ItsFile = Annotated[
    Path | None, typer.Option("--file", "-f", help="The cluster file, instead of the name.")
]
Install = Annotated[
    bool,
    typer.Option(
        "--install", help="Install the Pulumi CLI if it is missing, after checking its digest."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(plan)
    app.command()(up)
    app.command()(refresh)
    app.command()(down)
    app.command()(forget)


def plan(file: File = DEFAULT_FILE, strict: Strict = False) -> None:
    """Show what `up` would change."""
    from perennial.lock import exclusive
    from perennial.paths import cluster_state

    document = _to_deploy(file, "plan")
    spec = document.spec
    _refuse_to_move(spec)
    part, paths = deployer(spec.platform, "plan", spec.name), cluster_state(spec.name)
    equip(part, install=False)
    if paths.spec.exists():
        part.log_in(spec.name, spec)
    with Progress(spec.name) as say:
        refused = _refusal(part, spec, say)
        # Sizes that `up` would refuse are not planned: a plan of very many members takes long.
        if refused and _refusal(part, spec, say, force=True):
            raise PerennialError(refused)
        # Planning a new cluster leaves no files.
        with exclusive(paths.lock, say) if paths.spec.exists() else nullcontext():
            planned = part.plan(spec, str(file.resolve()), say)
            if planned.steps:
                judge(document, strict)
            planned = with_actors(spec, planned)
    show_plan(spec.name, planned)
    if refused:
        raise PerennialError(refused)


def up(
    file: File = DEFAULT_FILE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Skip the confirmation prompt.")] = False,
    plan_only: Annotated[
        bool, typer.Option("--plan", help="Show the plan and exit, as `plan`.")
    ] = False,
    connect: Annotated[
        bool, typer.Option(help="Make Client() without arguments connect to it.")
    ] = True,
    strict: Strict = False,
    install: Install = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Allow more workers than there is room for, and machines of another owner.",
        ),
    ] = False,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait", help="Run in the foreground; on SIGTERM or Ctrl-C, stop the cluster."
        ),
    ] = False,
) -> None:
    """Create or update a cluster."""
    if plan_only:
        plan(file, strict)
        return
    document = _to_deploy(file, "up")
    _refuse_to_move(document.spec)
    options = UpOptions(yes, connect, strict, install, force)
    if not wait:
        rollout(document, file, options)
        return
    from perennial.cli import foreground

    name = document.spec.name
    running = runtime(document.spec.platform, name, "supervisor")
    with foreground.until_asked() as stop:
        rollout(document, file, options)
        if foreground.stay(running, stop):
            take_down(name, purge=False)


def refresh(name: Cluster = None, file: ItsFile = None) -> None:
    """Detect drift: services stopped, edited or removed.

    Nothing on the machines is changed; the next `up` repairs what is found.
    """
    chosen = choose(name, file)
    part = _standing(chosen, "refresh")
    part.log_in(chosen)
    with alone(chosen) as say:
        planned = with_actors(_deployed(chosen), part.refresh(chosen, say))
    show_plan(chosen, planned)


def down(
    name: Cluster = None,
    file: ItsFile = None,
    force: Annotated[bool, typer.Option("--force", help="Skip the confirmation prompt.")] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Delete certificates, the token and logs as well.")
    ] = False,
) -> None:
    """Stop a cluster and remove its services.

    Notebooks are kept. Certificates, the token and logs are kept unless --purge is given.
    """
    left = _left_behind(name, file)
    if left is not None:
        _purge(left, purge)
        return
    chosen = choose(name, file)
    part = _standing(chosen, "down")
    if not force and (losses := part.losses(chosen)):
        confirm(f"{losses}. Stop it?", "--force")
    take_down(chosen, purge)


def forget(
    machine: Annotated[str, typer.Argument(help="Name of the machine, as the plan shows it.")],
    name: Cluster = None,
    file: ItsFile = None,
    force: Annotated[bool, typer.Option("--force", help="Skip the confirmation prompt.")] = False,
) -> None:
    """Remove a lost machine from the state (platform hosts).

    The machine itself is not contacted.
    """
    chosen = choose(name, file)
    part = _standing(chosen, "forget")
    if machine not in (known := sorted(part.machines(chosen))):
        there = ", ".join(known) or "none"
        raise PerennialError(f"{machine}: no machine of {chosen}; it has {there}")
    if not force:
        what = f"services on {machine} keep running if it comes back"
        confirm(f"{chosen}: {what}. Remove it?", "--force")
    with alone(chosen) as say:
        part.forget(chosen, machine, say)
    print(f"{chosen}: {machine} is removed from the state; remove it from the cluster file as well")


def take_down(name: str, purge: bool) -> None:
    """Stop a cluster; print what stays."""
    from perennial.paths import tunnel

    part = deployer(platform_of(name))
    part.log_in(name)
    with alone(name) as say:
        removed = part.down(name, purge, say)
    if tunnel(name).is_file():
        from perennial.tunnel import close_tunnel

        close_tunnel(name)
    warn_uncleaned(removed.uncleaned)
    print(f"{name} is down")
    for note in removed.notes:
        print(f"  {note}")


def _standing(name: str, verb: str) -> Deployer:
    """Return what deploys a cluster that is there, with all that it needs on this machine."""
    part = deployer(platform_of(name), verb, name)
    equip(part, install=False)
    return part


def _refusal(part: Deployer, spec: ClusterSpec, say: Say, force: bool = False) -> str:
    """Say why `up` would refuse a cluster file's sizes; empty if it would not."""
    try:
        part.check_room(spec, force, say)
    except PerennialError as error:
        return f"`perennial up` would refuse this: {error}"
    return ""


def choose(name: str | None, file: Path | None = None) -> str:
    """Say which cluster is meant: the one named, that of a file, or the only one."""
    from perennial.connect import choose as choose_cluster

    name = named(name, file)
    return name if name is not None and file is not None else choose_cluster(name)


def named(name: str | None, file: Path | None) -> str | None:
    """Name the cluster that `--cluster` or `--file` means; None for the only one."""
    if file is None:
        return name
    found = _read(file).spec.name
    if name not in (None, found):
        raise PerennialError(f"--cluster {name} and --file {file}, which names {found}: choose one")
    return found


def _left_behind(name: str | None, file: Path | None) -> str | None:
    """Which cluster is meant, when it is down already and something of it stays."""
    from perennial import paths

    left = paths.left_behind()
    if not left:
        return None
    if name is None and file is None:
        return left[0] if len(left) == 1 and not paths.known_clusters() else None
    chosen = named(name, file)
    return chosen if chosen in left else None


def _purge(name: str, purge: bool) -> None:
    """Remove what stays of a cluster that is down."""
    import shutil

    from perennial.paths import cluster_state
    from perennial.supervision.single_instance import holder

    paths = cluster_state(name)
    if not purge:
        raise PerennialError(
            f"{name} is down already; --purge removes its certificates, token and logs in"
            f" {paths.root}"
        )
    running = [lock.stem for lock in paths.run.glob("*.lock") if holder(lock)[0]]
    if running:
        raise PerennialError(
            f"{name}: {', '.join(running)} still runs; `perennial up -f FILE` adopts it, then"
            " `perennial down --purge` stops it and removes everything"
        )
    with alone(name):
        shutil.rmtree(paths.root)
    print(f"{name}: certificates, token and logs are removed from {paths.root}")


def _to_deploy(file: Path, verb: str) -> Document:
    """Read what is to be deployed; who has no file may mean the cluster of a stack."""
    from perennial.paths import known_clusters

    if file == DEFAULT_FILE and not file.exists() and len(known := known_clusters()) == 1:
        deployer(recorded_platform(known[0]), verb, known[0])
    return _read(file)


def _read(file: Path) -> Document:
    from perennial.spec import read

    return read(file)


def platform_of(name: str) -> str:
    """Where a cluster stands; for one that is not there, wherever that is said best."""
    from perennial.paths import cluster_state
    from perennial.placement import require_here

    require_here(cluster_state(name))
    return recorded_platform(name)


def recorded_platform(name: str) -> str:
    """Return the platform that the state names, wherever the cluster runs."""
    from perennial.paths import cluster_state

    return _deployed(name).platform if cluster_state(name).spec.exists() else "local"


def _deployed(name: str) -> ClusterSpec:
    """Read a cluster as it was deployed."""
    from perennial.paths import cluster_state
    from perennial.spec import load

    return load(cluster_state(name).spec, remembered=True)


def _refuse_to_move(spec: ClusterSpec) -> None:
    """Refuse a cluster that stands on another platform: nobody would take that one down."""
    try:
        platform = platform_of(spec.name)
    except SpecError:
        return
    from perennial.paths import cluster_state

    if cluster_state(spec.name).spec.exists() and platform != spec.platform:
        deployer(platform, "up", spec.name)  # where a stack owns it, that is said instead
        raise PerennialError(
            f"{spec.name} stands on platform {platform}, not {spec.platform}; run `perennial down"
            f" -c {spec.name}` first, or give this one another name"
        )

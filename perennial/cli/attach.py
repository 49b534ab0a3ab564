"""`connect --stack`: a cluster that the user's own Pulumi deploys, remembered and forgotten."""

from __future__ import annotations

from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from perennial.cli.output import Progress, confirm
from perennial.cli.platform import deployer
from perennial.errors import PerennialError

if TYPE_CHECKING:
    from perennial.connect import Connection
    from perennial.stack_outputs import ClusterOutputs
    from perennial.state import Stack

#: What a program has to export, so that its cluster is found.
EXPORT = "`pulumi.export(NAME, component.cluster)` in the program, then `pulumi up`, makes one"


def attach(name: str, folder: Path, cluster: str | None, replace: bool) -> Connection:
    """Remember a cluster of a stack; return how it is reached."""
    from perennial.lock import exclusive
    from perennial.paths import cluster_state
    from perennial.state import Stack

    stack = Stack(name, str(folder.resolve()))
    with Progress(name) as say:
        say("reading the stack's outputs")
        outputs = _chosen(stack, _outputs(stack), cluster)
    spec = outputs.spec
    paths, part = cluster_state(spec.name), deployer(spec.platform, "attach", spec.name)
    _ask(stack, outputs, replace)
    with ExitStack() as context:
        say = context.enter_context(Progress(spec.name))
        if paths.root.exists():  # a refused new cluster leaves no state behind
            context.enter_context(exclusive(paths.lock, say))
        return part.attach(spec, outputs.connection, stack)


def detach(name: str | None) -> bool:
    """Forget a cluster if a stack of the user's own deploys it; say so."""
    from perennial.paths import cluster_state, known_clusters
    from perennial.state import Stack

    if name is None or (stack := Stack.load(cluster_state(name))) is None:
        return False
    if name in known_clusters():
        from perennial.cli.life import recorded_platform

        deployer(recorded_platform(name), "detach", name).detach(name)
    else:  # interrupted while it was remembered
        cluster_state(name).stack.unlink()
    print(f"{name} is forgotten here; the stack {stack} still deploys it")
    return True


def _outputs(stack: Stack) -> dict[str, object]:
    try:
        module = import_module("perennial.stacks.outputs")
    except ModuleNotFoundError as error:
        raise PerennialError(
            f"{error.name} is not installed here; `pip install {error.name}` brings it"
        ) from None
    found: dict[str, object] = module.read(stack.name, Path(stack.folder))
    if not found:
        raise PerennialError(f"{stack.name}: no outputs yet; run {stack.command('up')}")
    return found


def _chosen(stack: Stack, outputs: dict[str, object], cluster: str | None) -> ClusterOutputs:
    """Find the cluster that is meant in a stack's outputs."""
    from perennial.stack_outputs import clusters

    found = clusters(outputs, stack.name)
    names = ", ".join(sorted(found))
    if not found:
        raise PerennialError(f"{stack.name}: no output describes a cluster; {EXPORT}")
    if cluster is None and len(found) > 1:
        raise PerennialError(f"{stack.name}: several clusters; choose one with -c: {names}")
    chosen = cluster or names
    if chosen not in found:
        raise PerennialError(f"{stack.name}: no cluster {chosen}; it has {names}")
    return found[chosen]


def _ask(stack: Stack, outputs: ClusterOutputs, replace: bool) -> None:
    """Ask before another stack, address or authority takes the place of what is known here."""
    from perennial.connect.bundle import known_as, require_agreement
    from perennial.paths import cluster_state, known_clusters
    from perennial.state import Stack

    def agree(change: str) -> None:
        if not replace:
            confirm(f"{change}. Take the stack's?", "--replace")

    name = outputs.spec.name
    before = Stack.load(cluster_state(name))
    if before not in (None, stack):
        agree(f"{name}: known here from another stack: {before} → {stack}")
    # What was deployed from here is no business of a stack's: its deployer refuses that.
    own = before is None and name in known_clusters()
    require_agreement(outputs.connection, stack.name, None if own else known_as(name), agree)

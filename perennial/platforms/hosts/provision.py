"""The Python environment of a machine: found as it is, or made there with uv."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Any

from perennial.errors import FleetError
from perennial.own_wheel import own_wheel
from perennial.platforms.hosts.agent.answers import Environment
from perennial.platforms.hosts.claims import refuse
from perennial.platforms.hosts.environment import EnvironmentSpec, content
from perennial.platforms.hosts.machine_services import Target
from perennial.platforms.hosts.ownership import NOBODY, Owner, refuse_other_stack
from perennial.platforms.hosts.remote import OLDEST, Agent, borrowed
from perennial.spec.named_files import wheels as wheels_in

_PPC64 = 21
#: Number in a program's head (``e_machine`` in elf(5)) → what ``uname -m`` calls it.
_MACHINES = {
    3: "i686",
    _PPC64: "ppc64le",
    22: "s390x",
    40: "armv7l",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}
#: Other machines on which a program runs as well.
RUNS = {"i686": ("i586", "x86_64"), "armv7l": ("armv8l", "aarch64")}


def python_of(environment: EnvironmentSpec) -> str:
    """Interpreter of the environment that is asked for."""
    return str(environment["python"])


def folder_of(environment: EnvironmentSpec) -> str:
    """Folder of an environment that we make; its name changes with what is in it."""
    return str(PurePath(environment["python"]).parents[1])


def make_environment(
    target: Target,
    environment: EnvironmentSpec,
    say: Callable[[str], None] = lambda _text: None,
    claims: Sequence[str] = (),
    owner: Owner = NOBODY,
) -> Environment:
    """Find an environment on a machine, or make it."""
    with borrowed(target, say) as agent:
        cluster = environment["cluster"]
        if owner.stack:
            manifest = agent.ask("manifest", cluster=cluster)
            refuse_other_stack(target.name, cluster, manifest, owner)
        if claims:
            refuse(target.name, cluster, agent.ask("clashes", cluster=cluster, claims=claims))
        if environment["kind"] == "requirements":
            _make(agent, environment)
        return _facts(agent, target, environment)


def look_environment(
    target: Target, environment: EnvironmentSpec, facts: Mapping[str, Any]
) -> Environment | None:
    """Look at an environment; None when it is gone."""
    with borrowed(target) as agent:
        found: Environment | None = agent.ask(
            "environment_look",
            python=agent.here(python_of(environment)),
            needs=[*environment.get("needs", ())],
        )
        return found


def remove_environment(target: Target, environment: EnvironmentSpec) -> None:
    """Remove an environment that we have made; one that was there before stays."""
    if environment["kind"] == "requirements":
        with borrowed(target) as agent:
            folder = agent.here(folder_of(environment))
            agent.ask("environment_remove", cluster=environment["cluster"], folder=folder)


def _facts(agent: Agent, target: Target, environment: EnvironmentSpec) -> Environment:
    python, name = agent.here(python_of(environment)), target.name
    facts: Environment | None = agent.ask(
        "environment_look", python=python, needs=list(environment.get("needs", ()))
    )
    if facts is None:
        raise FleetError(
            f"{name}: environment.python: no {python} there; give the path of an interpreter"
            " that has dask-perennial"
        )
    found = tuple(map(int, facts["version"].split(".")[:2]))
    if found < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise FleetError(
            f"{name}: {python} is Python {facts['version']}; allowed: {oldest} or newer"
        )
    ours, theirs = version("dask-perennial"), facts["packages"].get("dask-perennial")
    if theirs != ours:
        raise FleetError(
            f"{name}: {python} has dask-perennial {theirs or 'not at all'}; allowed: {ours}, which"
            " is here; install it there"
        )
    if facts["missing"]:
        raise FleetError(
            f"{name}: {python} lacks {', '.join(facts['missing'])}, which the cluster file needs;"
            " install it there"
        )
    return {**facts, "machine": agent.ask("machine_id")}


def _make(agent: Agent, environment: EnvironmentSpec) -> None:
    """Bring uv and the wheels there, where they are missing, and make the environment."""
    uv, wheels = Path(_uv()), environment.get("wheelhouse")
    _check_architecture(agent, uv)
    root = agent.here(str(PurePath(folder_of(environment)).parent))
    place = f"{root}/bin/uv-{version('uv')}"
    sources = {}
    if wheels:
        sources = {
            f"{root}/wheelhouse/{path.name}": path
            for path in (Path(wheels, name) for name, _ in wheels_in(Path(wheels)))
        }
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder, own_wheel().name)
        own.write_bytes(own_wheel().data)
        _bring(agent, {place: uv, f"{root}/bin/{own.name}": own, **sources}, program=uv)
    agent.ask(
        "environment_make",
        cluster=environment["cluster"],
        folder=agent.here(folder_of(environment)),
        requirements=agent.here(environment["text"]),
        uv=place,
        wheelhouse=f"{root}/wheelhouse" if wheels else None,
        wheels=[PurePath(path).name for path in sources],
        build=bool(environment.get("build")),
    )


def _bring(agent: Agent, sources: Mapping[str, Path], program: Path) -> None:
    """Send the files that are missing there, or are other ones, by where they belong."""
    there: dict[str, str] = agent.ask("digests", paths=list(sources))
    for path, source in sources.items():
        if there.get(path) != content(source):
            agent.upload(source, path, mode=0o755 if source == program else 0o644)


def _check_architecture(agent: Agent, uv: Path) -> None:
    """Refuse a machine on which the uv that is here cannot run."""
    ours, theirs = built_for(uv), agent.ask("architecture")
    if theirs not in (ours, *RUNS.get(ours, ())):
        raise FleetError(
            f"{agent.name}: its architecture is {theirs}, and uv here is for {ours}; run this on"
            f" a machine of {theirs}, or make the environment there and write"
            " `environment: {python: PATH}`"
        )


def built_for(program: Path) -> str:
    """Name the architecture of a program, as ``uname -m`` does."""
    with program.open("rb") as file:
        head = file.read(20)
    if head[:4] != b"\x7fELF":
        return f"{platform.system()} on {platform.machine()}"
    number = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    known = "ppc64" if head[5] != 1 and number == _PPC64 else _MACHINES.get(number)
    return known or f"ELF machine {number}"


def _uv() -> str:
    from uv import find_uv_bin

    return str(find_uv_bin())

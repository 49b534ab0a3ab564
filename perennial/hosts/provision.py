"""The Python environment of a machine: found as it is, or made there with uv."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Any

from perennial.errors import FleetError
from perennial.hosts.arrange import STATE
from perennial.hosts.claims import Claims, refuse
from perennial.hosts.environment import content
from perennial.hosts.remote import OLDEST, Agent, borrowed
from perennial.hosts.share import Target
from perennial.spec.beside import wheels as wheels_in

Wish = Mapping[str, Any]


def python_of(wish: Wish) -> str:
    """Interpreter of the environment that is wished for.

    Parameters
    ----------
    wish : mapping
        See `perennial.hosts.share.environment`.
    """
    return str(wish["python"])


def folder_of(wish: Wish) -> str:
    """Folder of an environment that we make; its name changes with what is in it."""
    return str(PurePath(wish["python"]).parents[1])


def make_environment(
    target: Target,
    wish: Wish,
    say: Callable[[str], None] = lambda _text: None,
    claims: Claims | None = None,
) -> dict[str, Any]:
    """Find an environment on a machine, or make it.

    Parameters
    ----------
    target : Target
        The machine.
    wish : mapping
        What is wished for.
    say : callable
        Told what happens.
    claims : dict, optional
        Names that the services will have there, see `perennial.hosts.claims`: where another
        cluster has one of them, nothing is made.

    Returns
    -------
    dict
        ``python``, ``version``, ``packages`` and ``digest``.

    Raises
    ------
    FleetError
        When there is none that could run the services; one line that names the machine.
    """
    with borrowed(target, say) as agent:
        if claims:
            cluster = wish["cluster"]
            refuse(target.name, cluster, agent.ask("clashes", cluster=cluster, claims=claims))
        if wish["kind"] == "requirements":
            _make(agent, wish)
        return _facts(agent, target, wish)


def look_environment(target: Target, wish: Wish, facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Look at an environment; None when it is gone.

    Parameters
    ----------
    target : Target
        The machine.
    wish : mapping
        What was wished for.
    facts : mapping
        What `make_environment` returned.
    """
    with borrowed(target) as agent:
        found: dict[str, Any] | None = agent.ask(
            "environment_look", python=python_of(wish), needs=list(wish.get("needs", ()))
        )
        return found


def remove_environment(target: Target, wish: Wish) -> None:
    """Remove an environment that we have made; one that was there before stays.

    Parameters
    ----------
    target : Target
        The machine.
    wish : mapping
        What was wished for.
    """
    if wish["kind"] == "requirements":
        with borrowed(target) as agent:
            agent.ask("environment_remove", cluster=wish["cluster"], folder=folder_of(wish))


def _facts(agent: Agent, target: Target, wish: Wish) -> dict[str, Any]:
    python, name = python_of(wish), target.name
    facts: dict[str, Any] | None = agent.ask(
        "environment_look", python=python, needs=list(wish.get("needs", ()))
    )
    if facts is None:
        raise FleetError(
            f"{name}: environment.python: found no {python} there; give the path of an interpreter"
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
    return facts


def _make(agent: Agent, wish: Wish) -> None:
    """Bring uv and the wheels there, where they are missing, and make the environment."""
    root = f"{STATE}/{wish['cluster']}"
    uv, wheels = Path(_uv()), wish.get("wheelhouse")
    place = f"{root}/bin/uv-{version('uv')}"
    sources = {place: uv}
    if wheels:
        sources |= {
            f"{root}/wheelhouse/{path.name}": path
            for path in (Path(wheels, name) for name, _ in wheels_in(Path(wheels)))
        }
    there: dict[str, str] = agent.ask("digests", paths=list(sources))
    for path, source in sources.items():
        if there.get(path) != content(source):
            agent.upload(source, path, mode=0o755 if source == uv else 0o644)
    agent.ask(
        "environment_make",
        cluster=wish["cluster"],
        folder=folder_of(wish),
        requirements=wish["text"],
        uv=place,
        wheelhouse=f"{root}/wheelhouse" if wheels else None,
        wheels=[PurePath(path).name for path in sources if path != place],
    )


def _uv() -> str:
    from uv import find_uv_bin

    return str(find_uv_bin())

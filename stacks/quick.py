"""Whether there is anything to do at all, without the engine: it needs seconds to say no."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from perennial.errors import PerennialError
from perennial.spec import ClusterSpec
from perennial.spec.words import plural

from . import engine
from .host_resources import ends_soon, environment_drift, packed
from .journal import Journal, entries

#: Machines that are looked at side by side.
AT_ONCE = 16


def unchanged(spec: ClusterSpec, folder: Path, say: Callable[[str], None]) -> int:
    """Count the resources that are as the cluster file says; 0 when the engine has to look."""
    latest = engine.state(folder, spec.name)
    own = spec.jupyter is not None and spec.jupyter.certificate is not None
    # An operator's own certificate is encrypted in the state, and cannot be compared here.
    if own or _cut_off(folder, latest):
        return 0
    resources = {
        resource["urn"].rpartition("::")[2]: resource
        for resource in latest.get("resources") or []
        if "dynamic/perennial:" in resource["type"]
    }
    if not _as_asked(spec, resources):
        return 0
    if not set(Journal(folder).entries()) <= engine.machines(latest):
        return 0
    say(f"looking at {plural(len(engine.machines(latest)), 'machine')}")
    return len(resources) if _as_found(resources) else 0


def _cut_off(folder: Path, latest: Mapping[str, Any]) -> bool:
    """Whether a deployment did not come to its end."""
    return bool(latest.get("pending_operations")) or bool(engine.locks(folder))


def _as_asked(spec: ClusterSpec, resources: Mapping[str, Any]) -> bool:
    """Whether the engine was asked for just this before, and has done it."""
    wanted: dict[str, dict[str, str]] = {"authority": {"cluster": spec.name}}
    for machine, entry in entries(spec).items():
        target, wish = packed(entry["share"]["target"]), packed(entry["wish"])
        wanted[f"{machine}-environment"] = {"target": target, "wish": wish}
        wanted[f"{machine}-services"] = {"share": packed(entry["share"])}
    return set(wanted) == set(resources) and all(
        _holds(resources[name], values) for name, values in wanted.items()
    )


def _holds(resource: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    """Whether a resource was made with these inputs, and nothing about it is pending."""
    inputs, outputs = resource.get("inputs") or {}, resource.get("outputs") or {}
    same = all(inputs.get(key) == outputs.get(key) == text for key, text in values.items())
    return same and not outputs.get("drift") and not ends_soon(outputs.get("ends"))


def _as_found(resources: Mapping[str, Any]) -> bool:
    """Whether every machine is as it was left."""
    machines = [name.removesuffix("-services") for name in resources if name.endswith("-services")]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        looks = pool.map(
            _whole,
            [resources[f"{machine}-services"]["outputs"] for machine in machines],
            [resources[f"{machine}-environment"]["outputs"] for machine in machines],
        )
        return all(looks)


def _whole(services: Mapping[str, Any], environment: Mapping[str, Any]) -> bool:
    from perennial.platforms.hosts import deploy
    from perennial.platforms.hosts.share import from_json

    share, outcome = from_json(json.loads(services["share"])), json.loads(services["outcome"])
    wish, facts = json.loads(environment["wish"]), json.loads(environment["facts"])
    if ends_soon(outcome.get("expires")):
        return False
    try:
        found = deploy.look_environment(share.target, wish, facts)
        if found is None or environment_drift(facts, found):
            return False
        return not deploy.look_services(share, outcome)
    except PerennialError:
        return False  # the engine goes there once more, and says what is in the way

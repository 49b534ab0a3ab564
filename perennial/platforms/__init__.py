"""The platforms that a cluster can stand on: the one registry."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import Any

from perennial.errors import Fault, SpecError
from perennial.platforms.base import Platform

__all__ = ["FLEETS", "PLATFORMS", "Platform", "fleet", "has_fleet", "options"]

PLATFORMS = {
    "local": Platform(
        options="perennial.fleets.local.Options",
        fleet="perennial.local.fleet.LocalFleet",
        deployer="perennial.cli.life_local",
        runtime="perennial.cli.operate_local",
        stack="perennial.stacks.local",
        renews="rotate",
    ),
    "hosts": Platform(
        options="perennial.fleets.hosts.Options",
        fleet="perennial.hosts.fleet.HostsFleet",
        deployer="perennial.cli.life_stack",
        runtime="perennial.cli.operate_stack",
        stack="perennial.stacks.hosts",
        extra="hosts",
    ),
}

#: Fleets of what no cluster file can name: simulations and tests.
FLEETS = {"memory": "perennial.fleets.memory.MemoryFleet"}


def options(platform: str) -> Any:
    """Return the model of what a person writes under a platform's own key."""
    if platform not in PLATFORMS:
        near = get_close_matches(platform, PLATFORMS, n=1)
        fix = f"did you mean {near[0]}?" if near else "write one of these"
        raise SpecError([Fault("platform", repr(platform), ", ".join(sorted(PLATFORMS)), fix)])
    return _loaded(PLATFORMS[platform].options)


def has_fleet(platform: str) -> bool:
    """Whether a scaler can resize groups there."""
    return platform in PLATFORMS or platform in FLEETS


def fleet(platform: str) -> Any:
    """Return the class of a platform's fleets."""
    return _loaded(FLEETS[platform] if platform in FLEETS else PLATFORMS[platform].fleet)


def _loaded(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)

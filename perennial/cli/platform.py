"""Find a platform's part for a command; what the platform cannot do is one line."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from perennial.errors import PerennialError
from perennial.paths import cluster_state
from perennial.registry import PLATFORMS
from perennial.state import PULUMI, Stack

if TYPE_CHECKING:
    from perennial.contracts import Deployer, Runtime


def deployer(platform: str, verb: str = "", name: str = "") -> Deployer:
    """Return what deploys on a platform, if it can do this to a cluster."""
    found = cast("Deployer", _loaded(platform, PLATFORMS[platform].deployer)(platform))
    if verb in PULUMI and (stack := Stack.load(cluster_state(name))) is not None:
        raise PerennialError(
            f"{name}: Pulumi's stack {stack.name} owns it, so nothing is deployed from here; run"
            f" {stack.command(PULUMI[verb])}"
        )
    if verb:
        found.require(verb, name)
    return found


def runtime(platform: str, name: str, verb: str = "") -> Runtime:
    """Return a running cluster, if its platform can do this to it."""
    found = cast("Runtime", _loaded(platform, PLATFORMS[platform].runtime)(platform, name))
    if verb:
        found.require(verb, name)
    return found


def _loaded(platform: str, dotted: str) -> Any:
    module, _, attribute = dotted.rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        extra = PLATFORMS[platform].extra
        if not extra or (error.name or "").startswith("perennial"):
            raise
        raise PerennialError(
            f"{error.name} is not installed here; `pip install 'dask-perennial[{extra}]'` brings it"
        ) from None

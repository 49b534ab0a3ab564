"""Cluster files for tests of the platform hosts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from perennial.platforms.hosts.desired_state import Boot, DesiredState, Home, desired_state
from perennial.platforms.hosts.machine_services import MachineServices, Size
from perennial.services import FOLDER
from perennial.spec import ClusterSpec, loads

PLAIN: dict[str, Any] = {
    "name": "lab",
    "platform": "hosts",
    "environment": {"python": "/opt/dask/bin/python"},
    "workers": {"cpu": {"count": 3}},
    "hosts": {"machines": ["machine-a.example.org", "machine-b.example.org", "10.0.0.3"]},
}


def spec_of(data: dict[str, Any] | None = None, **keys: Any) -> ClusterSpec:
    return loads(yaml.safe_dump({**(data or PLAIN), **keys}))


def user_home(boot: Boot = "unit", root: str = "/home/ada") -> Home:
    """A user's folders on a machine, as its agent names them."""
    folder = f"{root}/.local/state/dask-perennial/machine-b"
    return Home(folder, f"{root}/.config/systemd/user", boot, "0123abcd")


def arranged(
    assigned: MachineServices,
    sizes: Mapping[str, Size] | None = None,
    secrets: Mapping[str, str] | None = None,
    boot: Boot = "unit",
) -> DesiredState:
    """What shall stand on a machine of a share."""
    where = None if assigned.target.needs_root else user_home(boot)
    folder = where.folder if where else FOLDER
    parts = [part.at("10.0.0.9", folder=folder) for part in assigned.services]
    found = {path.replace(FOLDER, folder): text for path, text in (secrets or {}).items()}
    return desired_state(
        assigned.cluster, parts, {**assigned.counts, **(sizes or {})}, found, where
    )


def under(init: str) -> dict[str, Any]:
    """The plain file's machines under a service manager."""
    return {"hosts": {**PLAIN["hosts"], "init": init}}


def machines(*given: Any, **options: Any) -> dict[str, Any]:
    return {**PLAIN, "hosts": {"machines": list(given), **options}}

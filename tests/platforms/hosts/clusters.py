"""Cluster files for tests of the platform hosts."""

from __future__ import annotations

from typing import Any

import yaml

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


def machines(*given: Any, **options: Any) -> dict[str, Any]:
    return {**PLAIN, "hosts": {"machines": list(given), **options}}

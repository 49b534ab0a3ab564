"""How many more pods a namespace's quotas let in. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

#: More than anybody asks for.
UNLIMITED = 10**9

_FACTORS = {
    "n": Decimal("0.000000001"),
    "u": Decimal("0.000001"),
    "m": Decimal("0.001"),
    "": Decimal(1),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", 1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}


def room(quotas: Iterable[Any], pod: Any) -> tuple[int, str]:
    """Return how many pods more there is room for, and the name of the quota that says so."""
    needed = dict(_needed(pod))
    fewest, narrowest = UNLIMITED, ""
    for quota in quotas:
        if quota.spec.scopes or quota.spec.scope_selector:
            continue  # it may not be for such a pod; where it is, the API server says so
        hard, used = quota.status.hard or {}, quota.status.used or {}
        for key, limit in hard.items():
            amount = needed.get(key, Decimal(0))
            if not amount:
                continue
            free = int((quantity(limit) - quantity(used.get(key, "0"))) // amount)
            if free < fewest:
                fewest, narrowest = free, f"{quota.metadata.name} ({key}: {limit})"
    return fewest, narrowest


def quantity(text: str) -> Decimal:
    """Read a quantity of Kubernetes."""
    unit = text.lstrip("0123456789.+-eE") if not text.endswith("E") else "E"
    number = text.removesuffix(unit) if unit else text
    return Decimal(number) * _FACTORS[unit]


def _needed(pod: Any) -> Iterator[tuple[str, Decimal]]:
    """Yield what a pod counts for, under the names that quotas have for it."""
    yield from (("pods", Decimal(1)), ("count/pods", Decimal(1)))
    totals: dict[str, Decimal] = {}
    for container in pod.containers:
        resources = container.resources
        for kind in ("requests", "limits"):
            for name, amount in ((resources and getattr(resources, kind)) or {}).items():
                key = f"{kind}.{name}"
                totals[key] = totals.get(key, Decimal(0)) + quantity(str(amount))
    yield from totals.items()
    # An old name of requests, without the word.
    yield from (
        (key.removeprefix("requests."), n) for key, n in totals.items() if "requests" in key
    )

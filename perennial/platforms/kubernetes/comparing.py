"""What differs between an object as it is rendered and as the API server has it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from perennial.platforms.kubernetes.quotas import quantity

#: What belongs to others: a size to the scaler and to `perennial scale`.
OTHERS = frozenset({"spec.replicas"})
#: Keys of a pod's that no API server adds to a Deployment by itself: somebody has.
ADDED = frozenset(
    {
        *("affinity", "hostIPC", "hostNetwork", "hostPID", "imagePullSecrets", "initContainers"),
        *("nodeSelector", "priorityClassName", "tolerations", "topologySpreadConstraints"),
    }
)


def differences(wanted: Any, found: Any, path: str = "") -> Iterator[str]:
    """Yield the path of each value that is not as rendered; what the server has added is none."""
    if path in OTHERS or wanted == found or (not wanted and not found):
        return
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key, value in wanted.items():
            yield from differences(value, found.get(key), f"{path}.{key}".lstrip("."))
        more = ADDED.intersection(found.keys() - wanted.keys())
        yield from (f"{path}.{key}".lstrip(".") for key in sorted(more) if found[key])
    elif _is_list(wanted) and _is_list(found):
        yield from _of_lists(wanted, found, path)
    elif not _same_amount(wanted, found):
        yield path


def _of_lists(wanted: Sequence[Any], found: Sequence[Any], path: str) -> Iterator[str]:
    if len(wanted) != len(found):
        yield path
        return
    for number, (one, other) in enumerate(zip(wanted, found, strict=True)):
        name = one.get("name", number) if isinstance(one, Mapping) else number
        yield from differences(one, other, f"{path}.{name}")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _same_amount(one: Any, other: Any) -> bool:
    """Whether two values are one quantity: the server writes `0.5` as `500m`."""
    with suppress(ArithmeticError, KeyError, ValueError):
        return quantity(str(one)) == quantity(str(other))
    return False

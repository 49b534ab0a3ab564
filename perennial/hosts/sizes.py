"""How the members of a group are spread over its machines when its size changes. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from perennial.errors import PerennialError


def spread(before: Mapping[str, int], size: int) -> dict[str, int]:
    """Divide a new size among machines, with as few changes as an even spread allows.

    Members are added where there are fewest and taken where there are most; among equals the
    first machine gets one more, the last one gives one up.
    """
    if not before and size:
        raise PerennialError("no machine has the group; give it to one in hosts.machines")
    now, names = dict(before), list(before)
    while sum(now.values()) < size:
        now[min(names, key=lambda name: now[name])] += 1
    while sum(now.values()) > size:
        now[max(reversed(names), key=lambda name: now[name])] -= 1
    return now

"""How the members of a group are spread over its machines when its size changes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heapify, heapreplace

from perennial.errors import PerennialError


def spread(before: Mapping[str, int], size: int) -> dict[str, int]:
    """Divide a new size among machines, with as few changes as an even spread allows.

    Members are added where there are fewest and taken where there are most; among equals the
    first machine gets one more, the last one gives one up.
    """
    if not before and size:
        raise PerennialError("no machine has the group; give it to one in hosts.machines")
    missing = size - sum(before.values())
    step = 1 if missing > 0 else -1
    # Who is next stands first: by members, then by place, both the other way round for leaving.
    queue = [(step * have, step * place, name) for place, (name, have) in enumerate(before.items())]
    heapify(queue)
    for _ in range(abs(missing)):
        have, place, name = queue[0]
        heapreplace(queue, (have + 1, place, name))
    now = {name: step * have for have, _, name in queue}
    return {name: now[name] for name in before}

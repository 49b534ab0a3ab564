"""What members hold that nobody can take: actors; and what they have lost when they left. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from perennial.plan import Holder

#: What a worker's log says of a drain that was not complete, see `perennial.preloads.drain`.
_LEAVES = re.compile(r" leaves after [0-9.]+ s without a complete drain: .*; abandons (.+)$")


def holders(
    page: Mapping[str, Any], machines: Iterable[str], groups: Iterable[str]
) -> list[Holder]:
    """Read from the scheduler's page which members hold actors, see `perennial.preloads.roster`."""
    places = [(machine, group) for machine in machines for group in groups]
    found: dict[tuple[str, str, str], int] = {}
    for worker in page.get("workers", {}).values():
        for machine, group in places:
            whole = rf"({re.escape(group)}-{re.escape(machine)}-[0-9]+)(?:-[0-9]+)?"
            if match := re.fullmatch(whole, str(worker["name"])):
                key = (machine, group, match[1])
                found[key] = found.get(key, 0) + int(worker.get("actors", 0))
    return [Holder(*key, count) for key, count in found.items() if count]


def abandoned(lines: Iterable[str]) -> str:
    """Find in a member's log what it abandoned; empty where its drain was complete."""
    matches = [match[1] for line in lines if (match := _LEAVES.search(line))]
    return ", ".join(lost for lost in matches if lost != "nothing")

"""Policies of a size that IAM takes. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from perennial.aws.rights import Statement, document

#: Characters of a managed policy, of which white space is none.
LIMIT = 6144


def merged(statements: Iterable[Statement]) -> tuple[Statement, ...]:
    """Join what is allowed on the same resources under the same conditions."""
    found: dict[str, Statement] = {}
    for each in statements:
        key = json.dumps([sorted(each.resources), each.to_json().get("Condition")])
        before = found[key].actions if key in found else ()
        actions = tuple(dict.fromkeys((*before, *each.actions)))
        found[key] = Statement(actions, each.resources, each.conditions)
    return tuple(found.values())


def size(policy: str) -> int:
    """Count the characters of a policy as IAM does."""
    return len("".join(policy.split()))


def divided(statements: Iterable[Statement]) -> Iterator[str]:
    """Write policies, each within the limit of IAM."""
    held: list[Statement] = []
    for each in statements:
        if held and size(document([*held, each])) > LIMIT:
            yield document(held)
            held = []
        held.append(each)
    if held:
        yield document(held)

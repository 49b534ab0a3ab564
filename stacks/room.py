"""What a machine cannot hold is refused by `pulumi up` as by `perennial up`, in the same words."""

from __future__ import annotations

import json
from dataclasses import astuple
from typing import Any

from perennial.capacity import Use
from perennial.errors import PerennialError
from perennial.platforms.hosts import room
from perennial.platforms.hosts.share import from_json
from perennial.spec import ClusterSpec

Values = dict[str, Any]

#: How a person says in a Pulumi project that a size is meant.
MEANT = "set `perennial:force` of the stack, or `force` of the component, to true"


def described(spec: ClusterSpec, force: bool) -> Values:
    """Say what members may use, for a resource that knows its own machine's share alone."""
    uses = {group: astuple(use) for group, use in room.uses(spec).items()}
    return {"uses": uses, "force": force}


def refusal(olds: Values, news: Values) -> str:
    """Say why a machine cannot hold its share; empty where it can, or has no new one."""
    if "room" not in news or olds.get("share") == news["share"]:
        return ""
    from perennial.platforms.hosts.resizing import Asked, refuse_share

    now = json.loads(news["room"])
    before = json.loads(olds["room"]) if "room" in olds else now  # an earlier version wrote none
    asked = Asked(_uses(now), _uses(before), meant="" if now["force"] else MEANT)
    try:
        refuse_share(from_json(json.loads(news["share"])), asked)
    except PerennialError as error:
        return str(error)
    return ""


def _uses(values: Values) -> dict[str, Use]:
    return {group: Use(*map(int, use)) for group, use in values["uses"].items()}

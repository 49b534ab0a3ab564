"""Which Pulumi stack has deployed a cluster on a machine, and who may change it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perennial.errors import FleetError
from perennial.state import UP

if TYPE_CHECKING:
    from perennial.platforms.hosts.agent.answers import Manifest


@dataclass(frozen=True, slots=True)
class Owner:
    """Who deploys the services of a machine."""

    #: Name of the resource, drawn by chance: it alone removes them later.
    resource: str = ""
    #: Its stack as ``project/stack``, or `UP`; empty where no other stack is refused.
    stack: str = ""
    #: How a person says that they mean to take over a machine; empty where they have.
    meant: str = ""

    @property
    def remembered(self) -> Manifest:
        """What the machine remembers of it; without a value, the one that is there stays."""
        found: Manifest = {}
        if self.resource:
            found["owner"] = self.resource
        if self.stack:
            found["stack"] = self.stack
        return found

    def other_stack(self, manifest: Manifest) -> str:
        """Return which other stack has deployed what is there; empty for none, or none known.

        A stack that was renamed is known by its resource.
        """
        stack, resource = manifest.get("stack", ""), manifest.get("owner")
        is_own = stack == self.stack or bool(self.resource and resource == self.resource)
        return "" if is_own or not self.stack else stack


#: Whoever changes what is deployed already, such as its size.
NOBODY = Owner()


def refuse_other_stack(machine: str, cluster: str, manifest: Manifest, owner: Owner) -> None:
    """Refuse to change what another stack has deployed on a machine, unless that is meant."""
    stack = owner.other_stack(manifest)
    if not stack or not owner.meant:
        return
    who, end = f"Pulumi's stack {stack}", "`pulumi destroy`"
    if stack == UP:
        who, end = "`perennial up`", "`perennial down`"
    raise FleetError(
        f"{machine}: {who} owns {cluster} there; rename this cluster, take that one down with"
        f" {end}, or, to take it over, {owner.meant}"
    )

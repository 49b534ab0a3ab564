"""What every platform's options share, and what a platform may say about a cluster file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from perennial.errors import Fault
from perennial.spec.ports import PortUse
from perennial.spec.strict import Model
from perennial.spec.units import Refusal

if TYPE_CHECKING:
    from perennial.spec.models import ClusterSpec


class PlatformOptions(Model):
    """What a person writes for a platform. Here for one where everything is on one machine."""

    def refusals(self, spec: ClusterSpec) -> Iterator[Refusal]:
        """Refuse what a cluster cannot have on this platform."""
        yield from ()

    def warnings(self, spec: ClusterSpec) -> Iterator[Fault]:
        """Warn of what is valid but probably not meant."""
        yield from ()

    def port_uses(self, spec: ClusterSpec) -> Iterator[PortUse]:
        """Say what stands on the same machine."""
        services = {path.partition(".")[0] for path in spec.ports()}
        yield PortUse(
            frozenset(services), {name: group.most for name, group in spec.workers.items()}
        )

    def counts(self, spec: ClusterSpec) -> Mapping[str, int]:
        """Sizes of groups that these options say, for groups that do not say them."""
        return {}

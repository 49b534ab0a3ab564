"""The subnets of a VPC that is made. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network


@dataclass(frozen=True, slots=True)
class ZoneSubnets:
    """The subnets of one availability zone."""

    #: Letter of the zone.
    zone: str
    #: Where the services are.
    private: str
    #: Where a NAT gateway is.
    public: str


def subnets(cidr: str, zones: Sequence[str]) -> tuple[ZoneSubnets, ...]:
    """Divide a network: an eighth for each zone's services, and of the last eighth the NAT's.

    The place of a zone's subnets is its letter's, so that another zone moves none of them.
    """
    *services, gateways = IPv4Network(cidr).subnets(prefixlen_diff=3)
    public = list(gateways.subnets(prefixlen_diff=3))
    places = {letter: place for place, letter in enumerate("abcdefg")}
    return tuple(
        ZoneSubnets(zone, str(services[places[zone]]), str(public[places[zone]])) for zone in zones
    )

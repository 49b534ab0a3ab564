"""The command that opens ports in a machine's firewall, for each kind of firewall. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: A range of ports, first and last.
Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Firewall:
    """A machine's own firewall."""

    #: ``ufw``, ``firewalld``, ``nft``, ``iptables``; ``none`` where there is none; empty where
    #: nobody could ask.
    kind: str = ""
    #: For nft: the chains that may refuse what comes in.
    chains: tuple[str, ...] = ()


def advice(machine: str, firewall: Firewall, origin: str, ports: Sequence[Range]) -> str:
    """Say how a machine's firewall lets others in."""
    command = "" if firewall.kind == "none" else rule(firewall, origin, ports)
    if not command:
        has = f"refuses no {'IPv6' if ':' in origin else 'IPv4'} itself"
        if firewall.kind == "none":
            has = "has no firewall of its own"
        listed = ",".join(_range(each, "-") for each in ports)
        return (
            f"{machine} {has}, so one between the two blocks it: allow tcp"
            f" from {origin or 'any'} to port {listed} there, such as in a security group"
        )
    if not firewall.kind:
        return f"allow it in {machine}'s firewall, e.g. `{command}`"
    text = f"allow it in {machine}'s firewall: `{command}`, there, as root"
    if firewall.kind == "nft":
        text += "; that holds until the next boot, so write it to /etc/nftables.conf as well"
    return text


def rule(firewall: Firewall, origin: str, ports: Sequence[Range]) -> str:
    """Write the command that opens ports."""
    six = ":" in origin
    colons = ",".join(_range(each, ":") for each in ports)
    if firewall.kind == "nft":
        dashes = [_range(each, "-") for each in ports]
        listed = dashes[0] if len(dashes) == 1 else f"'{{ {', '.join(dashes)} }}'"
        who = f"{'ip6' if six else 'ip'} saddr {origin} " if origin else ""
        return " && ".join(
            f"nft insert rule {chain} {who}tcp dport {listed} accept"
            for chain in firewall.chains
            if chain.split()[0] in _families(origin)
        )
    if firewall.kind == "iptables":
        who = f"-s {origin} " if origin else ""
        many = "-m multiport --dports" if len(ports) > 1 else "--dport"
        return (
            f"{'ip6tables' if six else 'iptables'} -I INPUT {who}-p tcp {many} {colons} -j ACCEPT"
        )
    if firewall.kind == "firewalld":
        who = f'source address="{origin}" ' if origin else ""
        family = f'family="{"ipv6" if six else "ipv4"}" '
        words = " ".join(
            f'--add-rich-rule=\'rule {family}{who}port port="{_range(each, "-")}"'
            ' protocol="tcp" accept\''
            for each in ports
        )
        return f"firewall-cmd --permanent {words} && firewall-cmd --reload"
    return f"ufw allow from {origin or 'any'} to any port {colons} proto tcp"


def _families(origin: str) -> tuple[str, ...]:
    """Families of nft's tables that see what comes from an address."""
    if not origin:
        return ("ip", "ip6", "inet")
    return ("ip6" if ":" in origin else "ip", "inet")


def _range(ports: Range, dash: str) -> str:
    low, high = ports
    return str(low) if low == high else f"{low}{dash}{high}"

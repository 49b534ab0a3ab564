"""Which firewall a machine has of its own, as far as one can be asked. Changes nothing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perennial.platforms.hosts.agent.answers import FirewallFound

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_REFUSING = ("drop", "reject")


def firewall() -> FirewallFound:
    """Say what keeps others out of this machine."""
    if "Status: active" in _said("ufw", "status"):
        return {"kind": "ufw", "chains": []}
    if _said("firewall-cmd", "--state").strip() == "running":
        return {"kind": "firewalld", "chains": []}
    listed = _said("nft", "-j", "list", "ruleset")
    with suppress(ValueError):
        chains = list(refusing(json.loads(listed)["nftables"]))
        # What iptables wrote is changed by iptables: another tool's rule is gone when it saves.
        if chains and not (set(chains) <= _TABLES and _said("iptables", "--version")):
            return {"kind": "nft", "chains": chains}
    rules = _said("iptables", "-S", "INPUT")
    if "-P INPUT DROP" in rules or "-j DROP" in rules or "-j REJECT" in rules:
        return {"kind": "iptables", "chains": []}
    return {"kind": "none", "chains": []}


_TABLES = {"ip filter INPUT", "ip6 filter INPUT"}


def refusing(ruleset: list[dict[str, Any]]) -> Iterator[str]:
    """Find the chains that may refuse what comes in."""
    chains = [item["chain"] for item in ruleset if "chain" in item]
    bases = {(each["family"], each["table"], each["name"]) for each in chains if each.get("hook")}
    refuses = set()
    for rule in (item["rule"] for item in ruleset if "rule" in item):
        if any(word in part for part in rule["expr"] for word in _REFUSING):
            place = (rule["family"], rule["table"], rule["chain"])
            # A chain without a hook is reached from any other of its table.
            refuses.add(place if place in bases else place[:2])
    for chain in chains:
        place = (chain["family"], chain["table"], chain["name"])
        if chain.get("hook") != "input" or chain.get("type") != "filter":
            continue
        if chain.get("policy") == "drop" or place in refuses or place[:2] in refuses:
            yield " ".join(place)


def _said(*argv: str) -> str:
    """Run a program for what it prints; nothing where it is not there or fails."""
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
            env={"PATH": _PATH, "LC_ALL": "C"},
        )
        return done.stdout if not done.returncode else ""
    return ""

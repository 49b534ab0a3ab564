"""Says what is wrong with a machine's host key, and how it becomes known."""

from __future__ import annotations

import re
import shlex

from perennial.errors import FleetError
from perennial.ssh.attempt import Attempt, last
from perennial.ssh.keys import ACCEPT_NEW, fingerprints

_SHOWN = re.compile(r"^debug1: Server host key: (\S+ \S+)", re.MULTILINE)


def revoked(where: str) -> FleetError:
    """Say that the known hosts say that it must not be used."""
    return FleetError(
        f"{where}: the machine's host key is revoked in the known hosts; do not log in there"
    )


def changed(attempt: Attempt, where: str, hop: bool) -> FleetError:
    """Say that it is another one than is known."""
    if fault := _not_the_given(attempt, where, hop):
        return fault
    if hop:
        return FleetError(f"{where}: its host key has CHANGED: somebody may be in between")
    return FleetError(
        f"{where}: the host key has CHANGED to {_shown(attempt)}: somebody may be in between. If "
        f"the machine was set up anew: {_forget(attempt)}, then `{_introduce(attempt)}`"
    )


def no_type(attempt: Attempt, where: str, said: str, hop: bool) -> FleetError:
    """Say that there is none of the kind that is known."""
    if fault := _not_the_given(attempt, where, hop):
        return fault
    return FleetError(
        f"{where}: the machine has no host key of the type that it is known by ({last([said])}); "
        f"if it was set up anew: {_forget(attempt)}, then `{_introduce(attempt)}`"
    )


def _not_the_given(attempt: Attempt, where: str, hop: bool) -> FleetError | None:
    """Say that a machine shows another key than the cluster file gives; None where it gives none.

    What `ssh` itself would advise is about files that were not looked at.
    """
    key = "jump_host_key" if hop else "host_key"
    given = getattr(attempt.target, key)
    if given is None or given == ACCEPT_NEW:
        return None
    found = "found another host key" if hop else f"found the host key {_shown(attempt)}"
    return FleetError(
        f"{where}: {found}; allowed: that of `{key}`, {fingerprints(given)}. Somebody may be in "
        f"between; if the machine was set up anew, correct `{key}`"
    )


def unknown(attempt: Attempt, where: str, hop: bool) -> FleetError:
    """Say that nothing is known of it."""
    if fault := _not_the_given(attempt, where, hop):
        return fault
    if hop:
        return FleetError(
            f"{where}: its host key is not known; log in there once by `ssh`, and compare the key"
        )
    return FleetError(
        f"{where}: the host key is not known: found {_shown(attempt)}; compare it with the "
        "machine's own (`ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub` there), then "
        f"`{_introduce(attempt)}`"
    )


def _shown(attempt: Attempt) -> str:
    found = _SHOWN.search(attempt.log)
    return found[1] if found else "one of another kind"


def _introduce(attempt: Attempt) -> str:
    """Write the command that makes a machine's key known."""
    file, port = attempt.known_hosts, f"-p {attempt.port} " if attempt.port != "22" else ""
    proxied = attempt.jump or attempt.proxy
    if not proxied and not attempt.settings.get("hostkeyalias"):
        return f"ssh-keyscan {port}{attempt.host} >> {_quoted(file)}"
    # Only ssh itself goes through jump hosts; it asks.
    jump = f"-J {attempt.jump} " if attempt.jump else ""
    return (
        f"ssh -o UserKnownHostsFile={_quoted(file)} {jump}{port}"
        f"{attempt.user}@{attempt.target.address} true"
    )


def _forget(attempt: Attempt) -> str:
    host = attempt.settings.get("hostkeyalias") or attempt.host
    entry = host if attempt.port == "22" else f"'[{host}]:{attempt.port}'"
    return f"`ssh-keygen -R {entry} -f {_quoted(attempt.known_hosts)}`"


def _quoted(file: str) -> str:
    """Quote a file for the shell, which is to expand a leading ``~/``."""
    return f"~/{shlex.quote(file[2:])}" if file.startswith("~/") else shlex.quote(file)

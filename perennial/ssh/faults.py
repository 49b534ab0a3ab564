"""Says in one line why a machine cannot be reached or logged in to, and what to do.

What is known comes from ssh itself: its log of an attempt, what an `ssh` to a jump host has said,
and the settings that ``ssh -G`` prints.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from perennial.errors import FleetError, PerennialError
from perennial.ssh import host_keys
from perennial.ssh.attempt import (
    Attempt,
    DeniedError,
    LoginError,
    UnreachableError,
    last,
    lines_of,
)

#: Exit status of what a signal has ended, as a shell tells it: with the signal's number added,
#: which for a process that no shell waits for gets lost on the way.
KILLED = 128

_FIREWALL = "check whether the machine is up and whether a firewall is in between"
_OFFERED = re.compile(r"^debug1: Offering public key: (.+) \S+ SHA256:\S+( explicit)?( agent)?")
_UNREAD = re.compile(r'^Load key "[^"]*": (.+)', re.MULTILINE)
_ACCEPTED = re.compile(r"^debug1: Server accepts key: (.+) \S+ SHA256:\S+")
_REFUSED_BY_HOP = re.compile(
    r"(?:open failed|forwarding request failed): (?:connect failed: )?(.+)"
)
_CONFIG = re.compile(r"^(\S+?):? line \d+: |terminating, \d+ bad configuration|Bad owner or perm")


def explain(attempt: Attempt) -> PerennialError:
    """Say why a login did not come about."""
    fault = _hop(attempt) if attempt.words.strip() and attempt.jump else None
    lines = lines_of(attempt.words if fault else attempt.log) or lines_of(attempt.words)
    fault = fault or _why(attempt, lines)
    if isinstance(fault, LoginError):
        fault.said = last(lines)
    return fault


def _why(attempt: Attempt, lines: Sequence[str]) -> PerennialError:
    where, log = attempt.where, attempt.log
    if found := next((line for line in lines if _CONFIG.search(line)), ""):
        return PerennialError(
            f"{where}: found something in the SSH configuration that cannot be used ({found}); "
            "correct it there"
        )
    if "jumphost loop" in log:
        return PerennialError(
            f"{where}: found a jump host that is its own ({last(lines)}); check whether ProxyJump"
            " in ~/.ssh/config leads in a circle"
        )
    return _of(lines, attempt, where) or FleetError(
        f"{where}: no SSH connection to {attempt.host} port {attempt.port} "
        f"({last(lines)}); look at sshd's log there"
    )


def lost(where: str) -> UnreachableError:
    """Say that the connection ended in the middle."""
    return UnreachableError(
        f"{where}: the connection was lost; run this again when the machine answers, what was done"
        " stays done"
    )


def silent(where: str, timeout: float) -> UnreachableError:
    """Say that nothing came in time."""
    return UnreachableError(f"{where}: no answer within {timeout:g} s; {_FIREWALL}")


def _hop(attempt: Attempt) -> PerennialError | None:
    """Say what the `ssh` to a jump host has found wrong."""
    lines = lines_of(attempt.words)
    jump = attempt.jump
    nearest = jump.rpartition(",")[2]
    if found := _REFUSED_BY_HOP.search(attempt.words):
        fault = UnreachableError(
            f"{attempt.where}: {nearest} cannot connect to {attempt.host} port {attempt.port} "
            f"({found[1].strip()}); check whether it may (AllowTcpForwarding) and whether sshd"
            " listens"
        )
        fault.passes = "prohibited" not in found[1]
        return fault
    where = f"{attempt.where}: the jump host {jump}"
    return _of(lines, attempt, where, hop=True)


def _of(
    lines: Sequence[str], attempt: Attempt, where: str, hop: bool = False
) -> PerennialError | None:
    """Find what ssh says among the things that are known."""
    said = "\n".join(lines)
    kinds: tuple[tuple[str, Callable[[], PerennialError]], ...] = (
        ("REVOKED HOST KEY|is revoked", lambda: host_keys.revoked(where)),
        ("HOST IDENTIFICATION HAS CHANGED", lambda: host_keys.changed(attempt, where, hop)),
        ("no matching host key type", lambda: host_keys.no_type(attempt, where, said, hop)),
        (
            "Host key verification failed|host key is known",
            lambda: host_keys.unknown(attempt, where, hop),
        ),
        ("Permission denied|Too many authentication", lambda: _denied(attempt, where, said, hop)),
        ("Could not resolve hostname", lambda: _unresolved(where, said)),
        ("Connection refused", lambda: _refused(attempt, where, said, hop)),
        (r"connect to host \S+ port \d+: .*timed out", lambda: _unanswered(attempt, where)),
        ("timed out|Timeout, server", lambda: silent(where, attempt.timeout)),
        ("No route to host|Network is unreachable", lambda: _unrouted(attempt, where)),
        (
            "onnection closed|onnection reset|UNKNOWN port|Broken pipe",
            lambda: _ended(attempt, where, lines),
        ),
    )
    return next((make() for pattern, make in kinds if re.search(pattern, said)), None)


def _denied(attempt: Attempt, where: str, said: str, hop: bool) -> DeniedError:
    """Say as whom and with which keys a login was tried."""
    found = re.search(r"(\S+)@\S+: Permission denied", said)
    user = found[1] if found and hop else attempt.user
    if hop:
        return _late(f"{where}: login as {user} was denied ({last(said.splitlines())})")
    files, agent, locked = _tried(attempt.log)
    if given := attempt.target.private_key is not None:
        files = ["`private_key`" if file == attempt.target.identity else file for file in files]
    unsigned = re.search(r"^sign_and_send_pubkey: (.+)", said, re.MULTILINE)
    if unsigned:
        return DeniedError(f"{where}: login as {user} was denied ({unsigned[1].strip()})")
    tried = [*files, *([f"{agent} of the agent's keys"] if agent else [])]
    if "publickey" not in said and "Too many" not in said:
        return DeniedError(
            f"{where}: login as {user} was denied, and the machine takes no keys "
            f"({last(said.splitlines())}); run this at a terminal to be asked"
        )
    if not tried and not locked:
        unread = _UNREAD.search(attempt.log)
        return DeniedError(
            f"{where}: ssh cannot read `private_key` ({unread[1] if unread else 'no output'})"
            "; write it as ssh-keygen has made it"
            if given
            else f"{where}: no key to log in as {user}; make one with `ssh-keygen`, start an "
            "agent, or set `identity`"
        )
    text = f"{where}: login as {user} was denied"
    if tried:
        text += f", tried {', '.join(tried)}"
    if locked:
        return DeniedError(
            f"{text}; {', '.join(locked)} has a passphrase: `ssh-add {locked[0]}` hands it to the "
            "agent"
        )
    return _late(
        f"{text}; add its public half to authorized_keys there, or set `user` or "
        f"{'`private_key`' if given else '`identity`'}"
    )


def _late(text: str) -> DeniedError:
    """Say that the machine does not know the user or the key, which it may a moment later."""
    fault = DeniedError(text)
    fault.passes = True
    return fault


def _tried(log: str) -> tuple[list[str], int, list[str]]:
    """Name the files of keys that were offered, how many of the agent, and those not opened."""
    files: list[str] = []
    agent, locked = 0, []
    for line in log.splitlines():
        if found := _OFFERED.match(line):
            if found[3] and not found[2]:
                agent += 1
            elif Path(found[1]).is_file():  # else its public half is there alone
                files.append(found[1])
        elif (found := _ACCEPTED.match(line)) and found[1] in files:
            # The machine would take it, and yet the login was denied: nobody could sign with it.
            files.remove(found[1])
            locked.append(found[1])
    return files, agent, locked


def _unresolved(where: str, said: str) -> UnreachableError:
    found = re.search(r"Could not resolve hostname (\S+): (.+)", said)
    name, reason = (found[1], found[2].strip()) if found else ("of the machine", "unknown")
    return UnreachableError(
        f"{where}: the name {name} does not resolve ({reason}); correct `address`, or "
        "add it to DNS, /etc/hosts or ~/.ssh/config"
    )


def _refused(attempt: Attempt, where: str, said: str, hop: bool) -> UnreachableError:
    found = re.search(r"connect to host (\S+) port (\d+): Connection refused", said)
    host, port = (found[1], found[2]) if found else (attempt.host, attempt.port)
    what = "start sshd there" if hop else "start sshd there or correct `port`"
    return UnreachableError(f"{where}: {host} refused the connection to port {port}; {what}")


def _unanswered(attempt: Attempt, where: str) -> UnreachableError:
    return UnreachableError(
        f"{where}: {attempt.host} does not answer at port {attempt.port}; {_FIREWALL}"
    )


def _unrouted(attempt: Attempt, where: str) -> UnreachableError:
    return UnreachableError(
        f"{where}: there is no route to {attempt.host}; look at the network, or name a `jump` host"
    )


def _ended(attempt: Attempt, where: str, lines: Sequence[str]) -> UnreachableError:
    if attempt.proxy:
        said = " ".join(attempt.words.split())[-200:] or last(lines)
        return UnreachableError(
            f"{where}: the ProxyCommand of the SSH configuration ended before the login ({said}); "
            f"try `{attempt.proxy}` by hand"
        )
    return UnreachableError(
        f"{where}: port {attempt.port} of {attempt.host} ended the connection before the login "
        f"({last(lines)}); check whether sshd listens there, and at its log"
    )


def process_fault(where: str, status: int, stderr: str) -> FleetError:
    """Say why a command on a machine failed."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    said = lines[-1] if lines else "no output"
    lower = stderr.lower()
    if "sudo:" in lower and ("password" in lower or "terminal is required" in lower):
        return FleetError(
            f"{where}: sudo asks for a password, and there is no terminal to type it at; allow the"
            " login user `NOPASSWD: ALL` in /etc/sudoers.d, or log in as root (`user: root`)"
        )
    if "not in the sudoers file" in lower or "not allowed to execute" in lower:
        return FleetError(
            f"{where}: the login user may not use sudo ({said}); allow it in /etc/sudoers.d, or "
            "log in as root (`user: root`)"
        )
    if status == 127 or "command not found" in lower:
        return FleetError(
            f"{where}: a command is missing there ({said}); install it (sudo and python3 are "
            "needed), or log in as root where there is no sudo"
        )
    if status == 126:
        return FleetError(f"{where}: a command may not be run there ({said}); look at its mode")
    if status >= KILLED:
        which = f"signal {status - KILLED}" if status > KILLED else "a signal"
        return FleetError(f"{where}: the command was ended by {which} ({said})")
    return FleetError(f"{where}: the command failed with exit status {status} ({said})")

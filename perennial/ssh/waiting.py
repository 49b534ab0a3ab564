"""Waiting for a machine that is starting: a login is tried again until the machine takes it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from perennial.errors import FleetError, PerennialError
from perennial.ssh.attempt import DeniedError, LoginError
from perennial.ssh.stopping import Stop

#: Seconds between two tries: at first, and at most.
_FIRST, _LONGEST = 0.5, 5.0
#: Seconds for each connection while others follow: a packet that was lost is not sent again soon.
_EACH = 10.0

#: Set where nobody waits for anything any more.
_cancelled = threading.Event()


@dataclass(frozen=True, slots=True)
class Wait:
    """How long to wait for a machine."""

    #: Seconds from the first try to the last one.
    seconds: float
    #: Called with what is waited for.
    say: Callable[[str], None]


def cancel() -> None:
    """End all that waits, in every thread of this process; nothing waits after that."""
    _cancelled.set()


def keep_trying(
    attempt: Callable[[float], PerennialError | None], where: str, timeout: float, wait: Wait
) -> PerennialError | None:
    """Try until it works, the time is over, or the reason is none that passes.

    Some machines make their users after their sshd: a denied login is tried again where the
    machine was seen to be starting, and at once final where it answered from the beginning.
    """
    begun, pause, starting = time.monotonic(), _FIRST, False
    stop = Stop.current()
    while True:
        left = wait.seconds - (time.monotonic() - begun)
        fault = attempt(max(1.0, min(timeout, _EACH, left)))
        if fault is None:
            return None
        if _cancelled.is_set() or stop.asked:
            return _end(where)
        if not isinstance(fault, LoginError) or not fault.passes:
            return fault
        if isinstance(fault, DeniedError) and not starting:
            return fault
        starting = True
        passed = time.monotonic() - begun
        if passed + pause >= wait.seconds:
            return type(fault)(f"{fault}; tried for {passed:.0f} s, ssh said last: {fault.said}")
        wait.say(f"waiting for {where}: {_short(fault.said)}, {passed:.0f} s of {wait.seconds:g} s")
        if _cancelled.wait(pause):
            return _end(where)
        pause = min(2 * pause, _LONGEST)


def _end(where: str) -> FleetError:
    return FleetError(f"{where}: cancelled while waiting for an answer; run this again")


def _short(said: str) -> str:
    """Return the reason in what ssh says: ``Connection refused`` of the longer line."""
    reason = said.rpartition(": ")[2]
    return reason[:1].lower() + reason[1:]

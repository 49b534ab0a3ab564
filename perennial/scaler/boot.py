"""Time between two runs of a scaler: by the machine's own clock, as long as it has not booted.

A wall clock can be set; the seconds since a machine's boot cannot. They mean nothing in another
boot.
"""

from __future__ import annotations

import time
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def boot() -> str:
    """Name this boot of the machine; empty where the kernel does not say."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def uptime() -> float:
    """Seconds since the boot, those included for which the machine slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def elapsed(of: object, since: float) -> float | None:
    """Say how long ago something was; None when that was in another boot."""
    passed = uptime() - since
    return passed if of and of == boot() and passed >= 0 else None

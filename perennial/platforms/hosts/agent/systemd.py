"""Units of a cluster under the machine's own systemd."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from perennial.errors import PerennialError

if TYPE_CHECKING:
    from perennial.platforms.hosts.agent.answers import Member

#: Seconds for a call of systemctl that does not wait for a service.
TIMEOUT = 60.0
#: Seconds in which a service must be ready; a worker is when its scheduler knows it.
READY = 180.0
#: Failed starts after which a service is not waited for any longer.
FAILURES = 4
#: Seconds above a unit's own TimeoutStopSec.
GRACE = 30.0

_SHOWN = "Id,ActiveState,SubState,MainPID,NRestarts,Result,UnitFileState,TimeoutStopUSec"


def booted() -> bool:
    """Whether systemd runs this machine (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def version() -> int:
    """Version of systemd, 0 where there is none."""
    with suppress(OSError, ValueError, IndexError):
        return int(_call("systemctl", "--version").split()[1])
    return 0


def states(patterns: Sequence[str]) -> dict[str, dict[str, str]]:
    """Ask systemd about units; properties by name."""
    if not patterns:
        return {}
    names = [pattern.replace("@.", "@*.") for pattern in patterns]
    text = _call("systemctl", "show", "--all", f"--property={_SHOWN}", *names)
    found = {}
    for block in text.split("\n\n"):
        unit = dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line)
        if unit.get("Id"):
            found[unit["Id"]] = unit
    return found


def fingerprint(pid: int) -> str | None:
    """Fingerprint that a process was started with; None when it has none."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    for entry in environment.split(b"\0"):
        name, _, value = entry.partition(b"=")
        if name == b"PERENNIAL_FINGERPRINT":
            return value.decode()
    return None


def members(units: Sequence[str]) -> dict[str, Member]:
    """State of each unit of a cluster that systemd has loaded: state, pid, fingerprint."""
    return {
        name: {
            "state": unit["ActiveState"],
            "pid": int(unit.get("MainPID") or 0),
            "restarts": int(unit.get("NRestarts") or 0),
            "fingerprint": fingerprint(int(unit.get("MainPID") or 0)),
        }
        for name, unit in states(units).items()
        if unit.get("MainPID") is not None
    }


def answers() -> bool:
    """Whether a systemd of the login user's own runs."""
    with suppress(PerennialError):
        _call("systemctl", "show", "--property=Version")
        return True
    return False


def active(unit: str) -> bool:
    """Whether a unit runs."""
    return _call("systemctl", "is-active", unit, check=False) == "active"


def reload() -> None:
    """Have systemd read its units and system users again."""
    if booted():
        _call("systemctl", "daemon-reload", check=os.geteuid() == 0)


def start(
    units: Sequence[str], targets: Sequence[str], wait: bool, say: Callable[[str], None]
) -> None:
    """Start units now and after every boot, together; wait until each is ready."""
    if targets:
        _call("systemctl", "enable", *targets[:1])
        # Their state shows in `systemctl`; they pull in nothing that is not started here.
        _call("systemctl", "start", "--no-block", *targets)
    if not units:
        return
    _call("systemctl", "reset-failed", *units, check=False)
    _call("systemctl", "start", "--no-block", *units)
    if wait:
        _await(units, say)


def restart(units: Sequence[str], say: Callable[[str], None]) -> None:
    """Restart units, drained; returns once each is ready again."""
    before = states(units)
    for unit in units:
        say(f"restarting {unit.removesuffix('.service')}")
    _call("systemctl", "restart", "--no-block", *units)
    # Until it has stopped, the old process is still there and active.
    deadline = time.monotonic() + max(map(_stop_timeout, before.values()), default=0.0) + GRACE
    while any(_same(before[name], unit) for name, unit in states(units).items()):
        if time.monotonic() > deadline:
            raise PerennialError(f"{units[0]}: does not stop; see `journalctl -u {units[0]}`")
        time.sleep(0.2)
    _await(units, say)


def stop(units: Sequence[str], say: Callable[[str], None]) -> None:
    """Stop units together, drained; returns once they have stopped."""
    if not units:
        return
    longest = max(map(_stop_timeout, states(units).values()), default=0.0)
    for unit in units:
        say(f"stopping {unit.removesuffix('.service')}")
    _call("systemctl", "stop", *units, timeout=longest + GRACE, check=False)


def stop_later(units: Sequence[str]) -> None:
    """Have units drain and stop; does not wait."""
    if units:
        _call("systemctl", "stop", "--no-block", *units)


def disable(units: Sequence[str]) -> None:
    """Let units not come back at boot."""
    if units:
        _call("systemctl", "disable", *units, check=False)


def take_down(units: Sequence[str], targets: Sequence[str], say: Callable[[str], None]) -> None:
    """Stop everything of a cluster and let it not come back at boot; workers are drained."""
    slices = [unit for unit in units if unit.endswith(".slice")]
    units = [unit for unit in units if unit not in slices]
    loaded = [name for name, unit in states(units).items() if unit["ActiveState"] != "inactive"]
    if targets:
        disable(targets)
        _call("systemctl", "stop", "--no-block", *targets, check=False)
    stop(loaded, say)
    for target in targets:
        folder = Path("/etc/systemd/system", f"{target}.wants")
        with suppress(OSError):
            folder.rmdir()
    if loaded:
        _call("systemctl", "reset-failed", *loaded, check=False)
    if slices:
        _call("systemctl", "stop", *slices, check=False)
        _stop_parents(slices)


def _stop_parents(slices: Iterable[str]) -> None:
    """Stop the slices that systemd made around ours (``dask.slice``), once nothing is in them."""
    for name in slices:
        parts = name.removesuffix(".slice").split("-")
        for length in range(len(parts) - 1, 0, -1):
            parent = "-".join(parts[:length]) + ".slice"
            within = _call("systemctl", "show", "--value", "-p", "RequiredBy", parent, check=False)
            active = [unit["ActiveState"] != "inactive" for unit in states(within.split()).values()]
            if not any(active):
                _call("systemctl", "stop", parent, check=False)


def enabled(targets: Iterable[str]) -> bool:
    """Whether the cluster's target is started at boot."""
    first = next(iter(targets), None)
    return first is None or _call("systemctl", "is-enabled", first, check=False) == "enabled"


def last_words(unit: str) -> str:
    """Find the last line in a unit's journal that says something."""
    lines = _call("journalctl", "--unit", unit, "-n", "30", "-o", "cat", check=False).splitlines()
    ours = [
        line.strip()
        for line in lines
        if line.strip() and not line.startswith((unit, "Started ", "Starting ", "Stopped "))
    ]
    return repr(ours[-1][-300:]) if ours else "(nothing in the journal)"


def _await(units: Sequence[str], say: Callable[[str], None]) -> None:
    begun = time.monotonic()
    first = {name: int(unit.get("NRestarts") or 0) for name, unit in states(units).items()}
    waiting = 0
    while True:
        now = states(units)
        late = [name for name, unit in now.items() if unit["ActiveState"] != "active"]
        if not late:
            return
        for name in late:
            failures = int(now[name].get("NRestarts") or 0) - first.get(name, 0)
            if failures >= FAILURES or now[name]["ActiveState"] == "failed":
                raise PerennialError(
                    f"{name} does not stay up; its last line: {last_words(name)};"
                    f" see `journalctl -u {name}` there"
                )
        if time.monotonic() - begun > READY:
            raise PerennialError(
                f"{late[0]} is not ready after {READY:g} s; its last line: {last_words(late[0])}"
            )
        if len(late) != waiting:
            waiting = len(late)
            say(f"waiting for {len(late)} of {len(units)}: {late[0].removesuffix('.service')}")
        time.sleep(0.2)


def _same(before: Mapping[str, str], now: Mapping[str, str]) -> bool:
    return before["MainPID"] not in ("", "0") and now["MainPID"] == before["MainPID"]


def _stop_timeout(unit: Mapping[str, str]) -> float:
    """Seconds of a TimeoutStopUSec as systemctl prints it: ``1min 30s``."""
    seconds = 0.0
    for word in unit.get("TimeoutStopUSec", "").split():
        number = word.rstrip("abcdefghijklmnopqrstuvwxyz")
        factor = {"min": 60, "h": 3600, "s": 1, "ms": 0.001, "d": 86400}.get(word[len(number) :], 0)
        with suppress(ValueError):
            seconds += float(number) * factor
    return seconds


def _call(*argv: str, check: bool = True, timeout: float = TIMEOUT) -> str:
    # A keeper's own state is no business of the programs that it calls.
    environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    if user := os.geteuid():  # whose systemd is another one
        argv = (argv[0], "--user", *argv[1:])
        environment.setdefault("XDG_RUNTIME_DIR", f"/run/user/{user}")
    try:
        done = subprocess.run(
            argv, capture_output=True, check=False, timeout=timeout, env=environment
        )
    except subprocess.TimeoutExpired:
        raise PerennialError(f"{' '.join(argv[:3])}: no answer after {timeout:g} s") from None
    if check and done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())
        raise PerennialError(f"{' '.join(argv[:3])}: {said or f'exit code {done.returncode}'}")
    return done.stdout.decode(errors="replace").strip()

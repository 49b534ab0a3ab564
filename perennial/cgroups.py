"""Limits of control groups, read with the standard library alone: machines get this, too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def core_limit(cores: int) -> int:
    """Find how many of the cores a container's own limit leaves; cores without one."""
    quota, _, period = _text(CGROUPS / "cpu.max").partition(" ")
    if not quota:
        quota = _text(CGROUPS / "cpu" / "cpu.cfs_quota_us")
        period = _text(CGROUPS / "cpu" / "cpu.cfs_period_us")
    if quota.isdigit() and period.isdigit() and int(period):
        return max(1, min(cores, -(-int(quota) // int(period))))
    return cores


def memory_limit(total: int, own: str, root: Path = CGROUPS) -> int:
    """Find the lowest limit of memory on the way from a process's control group to the root."""
    limits = [total]
    for folder, version in above(own, "memory", root):
        text = _text(folder / ("memory.limit_in_bytes" if version == 1 else "memory.max"))
        if text.isdigit():
            limits.append(int(text))
    return min(limits)


def above(own: str, controller: str, root: Path = CGROUPS) -> Iterator[tuple[Path, int]]:
    """List the folders from a process's control group to the root, and the version of each."""
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        version = 1 if controller in controllers.split(",") else 2
        if controllers and version != 1:
            continue
        top = root / controller if version == 1 else root
        group = top / path.lstrip("/")
        # Inside a container the path may be the host's; then the root itself is the limit.
        for folder in (group, *group.parents):
            yield folder, version
            if folder == top:
                break


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""

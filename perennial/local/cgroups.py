"""Limits of control groups, read with the standard library alone: machines get this, too."""

from __future__ import annotations

from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def core_limit(cores: int, root: Path = CGROUPS) -> int:
    """Find how many of the cores a container's own limit leaves; cores without one."""
    quota, _, period = _text(root / "cpu.max").partition(" ")
    if not quota:
        quota = _text(root / "cpu" / "cpu.cfs_quota_us")
        period = _text(root / "cpu" / "cpu.cfs_period_us")
    if quota.isdigit() and period.isdigit() and int(period):
        return max(1, min(cores, -(-int(quota) // int(period))))
    return cores


def memory_limit(total: int, own: str, root: Path = CGROUPS) -> int:
    """Find the lowest limit of memory on the way from a process's control group to the root.

    Parameters
    ----------
    total : int
        The machine's memory.
    own : str
        Text of ``/proc/self/cgroup``.
    root : pathlib.Path
        Where control groups are mounted.
    """
    limits = [total]
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        version_1 = "memory" in controllers.split(",")
        if controllers and not version_1:
            continue
        top, name = (
            (root / "memory", "memory.limit_in_bytes") if version_1 else (root, "memory.max")
        )
        group = top / path.lstrip("/")
        # Inside a container the path may be the host's; then the root itself is the limit.
        for folder in (group, *group.parents):
            text = _text(folder / name)
            if text.isdigit():
                limits.append(int(text))
            if folder == top:
                break
    return min(limits)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""

"""Who can change what a path leads to. Needs the standard library alone."""

from __future__ import annotations

import os
import pwd
import stat

#: More links than the kernel follows.
_MOST_LINKS = 40


def untrusted_part(path: str) -> str | None:
    """Say which part of a path others than root can change; None where there is none.

    The parts are each folder above it, each link on the way and all that this one leads through.
    A sticky folder such as /tmp counts: what stands in it is gone one day, and then anybody's.
    """
    here, links = "/", 0
    left = [here, *_names(os.path.abspath(path))]
    while left:
        name = left.pop(0)
        if name == "..":
            here = os.path.dirname(here)
            continue
        part = os.path.join(here, name)
        try:
            status = os.lstat(part)
        except OSError:
            return None  # the link is broken: nothing is run
        if status.st_uid != 0:
            return f"{part} belongs to {_user(status.st_uid)}"
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > _MOST_LINKS:
                return None
            target = os.readlink(part)
            here = "/" if target.startswith("/") else here
            left = [*_names(target), *left]
        elif status.st_mode & 0o022:
            return f"others than root may write to {part}"
        else:
            here = part
    return None


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _user(number: int) -> str:
    try:
        return f"user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"user {number}"

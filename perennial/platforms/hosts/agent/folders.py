"""Folders that users may write to, handled by root without trusting their content.

A cluster's user runs everybody's tasks, so what is in its folders can be replaced at any moment, by
a link to ``/etc`` for one. So root opens such a folder part by part, follows no link that somebody
else could have made, and then works on what it has opened and not on a path.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG

from perennial.errors import PerennialError

#: Left in a folder outside of ours by `give_to_root`, and trusted if it is root's: what is root's
#: there was the user's before.
MARK = ".dask-perennial-kept"

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
#: To pass through a folder, nobody needs the right to read it.
_WAY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a folder for what is done to it; only root's and our own links are followed."""
    here = os.open("/", _FOLDER)
    try:
        for index, name in enumerate(path.parts[1:], start=2):
            how = _FOLDER if index == len(path.parts) or os.geteuid() == 0 else _WAY
            status = os.fstat(here)
            trusted = status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o022
            try:
                inner = os.open(name, how | (0 if trusted else os.O_NOFOLLOW), dir_fd=here)
            except FileNotFoundError:
                raise
            except OSError as error:
                if trusted:
                    raise
                raise PerennialError(
                    f"{path}: {name} is a link or no folder, where others than root may write;"
                    f" found {error.strerror}; allowed: a folder; remove it there"
                ) from error
            os.close(here)
            here = inner
        yield here
    finally:
        os.close(here)


def make(path: Path, mode: int, owner: tuple[int, int] | None, ours: bool) -> None:
    """Make a folder as it shall be; its missing parents are everybody's to pass through."""
    made = _made(path)
    if not made and owner is None:
        return
    with opened(path) as folder:
        status = os.fstat(folder)
        if owner is not None and not made and status.st_uid != owner[0]:
            empty = not os.listdir(folder)
            if not (ours or empty or (status.st_uid == 0 and _marked(folder))):
                raise PerennialError(
                    f"{path} belongs to user {status.st_uid} and is not empty; allowed: one that is"
                    f" empty, or is user {owner[0]}'s; `chown` it, or name another folder"
                )
            if status.st_uid == 0:
                _give(folder, {0}, owner)
        os.fchown(folder, *(owner or (os.geteuid(), os.getegid())))
        os.fchmod(folder, mode)
        if owner is not None and _marked(folder):  # last: whoever was cut off needs it again
            os.unlink(MARK, dir_fd=folder)


def _made(path: Path) -> bool:
    """Make a folder that is missing; say whether it was."""
    try:
        with opened(path):
            return False
    except FileNotFoundError:
        if path.parent != path:
            make(path.parent, 0o755 if os.geteuid() == 0 else 0o700, None, ours=False)
    with opened(path.parent) as parent:
        os.mkdir(path.name, 0o700, dir_fd=parent)
    return True


def give_to_root(path: Path, users: Collection[int], ours: bool) -> None:
    """Make what users have left in a folder root's: another one must not inherit their numbers."""
    with opened(path) as folder:
        _give(folder, users, (0, 0))
        if os.fstat(folder).st_uid in users:
            if not ours:  # first: without it nobody would know a folder of root's again
                with suppress(FileExistsError):
                    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                    os.close(os.open(MARK, flags, 0o600, dir_fd=folder))
            os.fchown(folder, 0, 0)


def holds_something(path: Path) -> bool:
    """Whether there is a file in a folder that a person could miss."""
    try:
        with opened(path) as folder:
            for where, _, files, _ in os.fwalk(".", dir_fd=folder):
                if files and ".ipynb_checkpoints" not in Path(where).parts:
                    return True
    except (OSError, PerennialError):
        pass  # missing, or replaced by something else
    return False


def _give(folder: int, users: Collection[int], owner: tuple[int, int]) -> None:
    """Give what is some users' in a folder to somebody."""
    for _, names, files, at in os.fwalk(".", dir_fd=folder):
        for name in {*names, *files} - {MARK} if owner[0] else (*names, *files):
            with suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=at, follow_symlinks=False)
                # A file with a second name could be one of the machine's own.
                single = status.st_nlink == 1 or not S_ISREG(status.st_mode)
                if status.st_uid in users and single:
                    os.chown(name, *owner, dir_fd=at, follow_symlinks=False)


def _marked(folder: int) -> bool:
    """Whether `give_to_root` has left its mark."""
    try:
        status = os.stat(MARK, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return status.st_uid == 0 and S_ISREG(status.st_mode)

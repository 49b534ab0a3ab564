"""The files of a cluster on a machine, and the manifest that remembers them.

The manifest names a file before it is written: whatever was cut off, `remove` finds all.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from perennial.errors import PerennialError
from perennial.files import write_atomic, write_json
from perennial.platforms.hosts.agent import (
    accounts,
    folders,
    installer,
    manifest,
    systemd,
)

if TYPE_CHECKING:
    from perennial.platforms.hosts.agent.answers import Folder, Manifest, Written


def begin(
    cluster: str,
    files: Sequence[str],
    folders: Sequence[Folder],
    users: Sequence[dict[str, str]],
    remember: Manifest,
) -> None:
    """Remember what is about to be there, then make the users and the folders."""
    make_root(cluster)
    now = manifest.read(cluster)
    now |= remember
    now["files"] = sorted({*now.get("files", ()), *files})
    now["users"] = sorted({*now.get("users", ()), *(user["name"] for user in users)})
    parents = {parent for path in files for parent in Path(path).parents}
    missing = (str(parent) for parent in parents if not parent.exists())
    now["made"] = sorted({*now.get("made", ()), *missing})
    now["whole"] = False
    write_json(manifest.path(cluster), now)
    for user in users:
        accounts.make(**user)
    for entry in folders:
        _make_folder(Path(entry["path"]), entry["mode"], entry["owner"])


def make_root(cluster: str) -> None:
    """Make the folder of a cluster's state; root's services have users who pass through it."""
    mode = 0o700 if os.geteuid() else 0o755
    for folder in (manifest.STATE, manifest.STATE / cluster):
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        folder.chmod(mode)


def write(files: Sequence[Written]) -> list[str]:
    """Write files, each whole or not at all; returns the paths that changed."""
    for file in files:
        path = Path(str(file["path"]))
        if not file["text"]:
            os.chown(path, *accounts.ids(file["owner"]))
            path.chmod(file["mode"])
            continue
        _make_folder(path.parent, 0o755, None)
        try:
            write_atomic(path, file["text"], file["mode"], accounts.ids(file["owner"]))
        except OSError as error:
            error.filename = str(path)  # not the temporary one, or none at all
            raise
    return [file["path"] for file in files]


def upload(stream: IO[bytes], path: str, size: int, mode: int) -> int:
    """Take a file's bytes from the connection, under a temporary name until they are whole."""
    target = Path(path)
    _make_folder(target.parent, 0o755, None)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    left = size
    try:
        with temporary.open("wb") as file:
            os.fchmod(file.fileno(), mode)
            while left:
                part = stream.read(min(left, 1 << 16))
                if not part:
                    raise PerennialError(
                        f"{path}: the connection ended in the middle of the file; run the same"
                        " command again"
                    )
                left -= len(part)
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        while left and (part := stream.read(min(left, 1 << 16))):
            left -= len(part)  # the next request stands behind them
        if isinstance(error, OSError):
            error.filename = path  # a full disk names no file
        raise
    return size


def digests(paths: Sequence[str]) -> dict[str, str]:
    """Digest of each file that is there."""
    found = {}
    for path in paths:
        if Path(path).is_file():
            with open(path, "rb") as file:
                found[path] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def finish(
    cluster: str,
    files: Sequence[str],
    users: Sequence[str],
    remember: Manifest,
    environment: str | None,
) -> list[str]:
    """Remove what is no longer wanted and remember that all is whole; returns what went."""
    now = manifest.read(cluster)
    gone = sorted(set(now.get("files", ())) - set(files))
    for path in gone:
        Path(path).unlink(missing_ok=True)
        _prune(Path(path).parent)
    for user in sorted(set(now.get("users", ())) - set(users)):
        accounts.remove(user)
    for folder in (manifest.STATE / cluster).glob("env-*"):
        if folder.is_dir() and str(folder) != environment and not _used(folder):
            installer.drop_environment(folder)
            gone.append(str(folder))
    if any("/systemd/" in path for path in gone):
        systemd.reload()
    now |= remember
    write_json(
        manifest.path(cluster),
        {
            **now,
            "files": sorted(files),
            "users": sorted(users),
            "environment": environment,
            "whole": True,
        },
    )
    return gone


def take_down(cluster: str, say: Callable[[str], None], owner: str | None = None) -> bool:
    """Stop a cluster's services, each drained; False where they are to be kept.

    With ``owner``, only what it has deployed: what another resource has taken over stays.
    """
    now = manifest.read(cluster)
    # An earlier version has written the machine's name alone.
    if owner is not None and now.get("owner", now.get("machine", owner)) != owner:
        say("another resource owns the services of this machine by now; they stay")
        return False
    if now.get("init") == "supervisord":
        from perennial.platforms.hosts.agent import supervisord  # sent where it is needed

        supervisord.take_down(cluster, now, say)
    elif now:
        systemd.take_down(now.get("units", ()), now.get("targets", ()), say)
    return True


def remove(cluster: str, say: Callable[[str], None], owner: str | None = None) -> list[str]:
    """Stop a cluster's services, see `take_down`, and remove all that is ours."""
    if not take_down(cluster, say, owner):
        return []
    now = manifest.read(cluster)
    if not now:  # nothing, or the end of a removal that was cut off
        _clear(cluster)
        return []
    root = manifest.STATE / cluster
    for path in (*unfinished(now.get("files", ())), *map(Path, now.get("files", ()))):
        path.unlink(missing_ok=True)
        _prune(path.parent)
    for made in sorted(now.get("made", ()), key=len, reverse=True):
        with suppress(OSError):  # others have something there
            Path(made).rmdir()
    systemd.reload()
    staying = _kept(now.get("notebooks", ()), now.get("users", ()))
    for user in now.get("users", ()):
        accounts.remove(user)
    for folder in now.get("folders", ()):
        if folder not in staying and not str(folder).startswith(f"{root}/"):
            _prune(Path(folder))
    _remove_but(root, [*map(Path, staying)], last=manifest.path(cluster))
    _clear(cluster)
    return staying


def _clear(cluster: str) -> None:
    """Remove what a removal leaves for last: its lock, and its folders where they are empty."""
    for path in (
        manifest.lock(cluster),
        manifest.socket(cluster),
        *unfinished([str(manifest.path(cluster))]),
    ):
        path.unlink(missing_ok=True)
    for folder in (manifest.STATE / cluster, manifest.STATE, manifest.LOCKS):
        with suppress(OSError):
            folder.rmdir()
    installer.drop(cluster)


def unfinished(paths: Collection[str]) -> list[Path]:
    """List what was left of files whose writing a power cut has ended, see `write_atomic`."""
    found = []
    for folder in sorted({Path(path).parent for path in paths}):
        names = {Path(path).name for path in paths if Path(path).parent == folder}
        with suppress(OSError):
            for file in sorted(folder.glob(".*.tmp")):
                if file.name[1:].rpartition(".")[0].rpartition(".")[0] in names:
                    found.append(file)
    return found


def _remove_but(folder: Path, staying: Sequence[Path], last: Path) -> None:
    """Remove a folder but for what is kept; the manifest goes last, with all else gone."""
    if not folder.is_dir() or folder.is_symlink() or folder in staying:
        return
    for entry in sorted(folder.iterdir()):
        if entry == last:
            continue
        if any(path == entry or entry in path.parents for path in staying):
            _remove_but(entry, staying, last)
        elif entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
    if last.parent == folder:
        last.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def _kept(notebooks: Sequence[str], users: Sequence[str]) -> list[str]:
    """Name the folders of notebooks that stay; root gets those of system users, who are known yet.

    Another user must not inherit their numbers.
    """
    numbers = {accounts.ids(user)[0] for user in users if accounts.is_known(user)}
    staying = [path for path in notebooks if folders.holds_something(Path(path))]
    for path in staying if os.geteuid() == 0 else ():
        _give_to_root(Path(path), numbers)
    return staying


def _give_to_root(path: Path, users: Collection[int]) -> None:
    """Give notebooks to root, and those of our folders that they stand in."""
    folders.give_to_root(path, users, ours=manifest.STATE in path.parents)
    for parent in path.parents:
        if manifest.STATE in parent.parents:
            with folders.opened(parent) as folder:
                os.fchown(folder, 0, 0)


def _make_folder(path: Path, mode: int, owner: str | None) -> None:
    """Make a folder as it shall be."""
    ids = None if owner is None else accounts.ids(owner)
    folders.make(path, mode, ids, ours=manifest.STATE in path.parents)


def _prune(folder: Path) -> None:
    """Remove a folder of ours that has become empty, and so its parents."""
    while "dask-perennial" in str(folder) or folder.suffix == ".d":
        if folder in (Path("/etc/sysusers.d"), Path("/etc/cron.d")):
            return
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def _used(folder: Path) -> bool:
    """Whether a process runs from an environment: its first argument is in the folder."""
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if process.read_bytes().split(b"\0")[0].startswith(os.fsencode(f"{folder}/")):
                return True
    return False

"""The `ssh` processes that hold the connections: one a machine, however often it is asked for."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import subprocess
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path

from perennial.errors import PerennialError
from perennial.ssh import config, faults, keys, waiting
from perennial.ssh.attempt import Attempt, DeniedError
from perennial.ssh.folder import end, ended, folder, owned
from perennial.ssh.mux import holder
from perennial.ssh.target import Hop, jump_option, label

#: A login through several jump hosts takes so many times the seconds for one.
_LOGINS = 3
#: Seconds for a machine that another process will try as well.
_SHORT = 5.0
#: Logins at the same time.
_AT_ONCE = 32
#: One person answers one question at a time.
_asking = threading.Lock()


@dataclass(slots=True)
class Master:
    """A process that holds a connection."""

    #: Its control socket.
    socket: Path
    #: The process, as a pidfd.
    handle: int
    #: How many of this process use it.
    users: int = 0

    def lost(self, timeout: float = 0.0) -> bool:
        """Whether it has ended, at the latest within some seconds."""
        return ended(self.handle, timeout)

    @property
    def log(self) -> Path:
        """What it says."""
        return _log(self.socket)


_connecting: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)
_masters: dict[Path, Master] = {}
#: Logins that are under way.
_logins: set[subprocess.Popen[bytes]] = set()


def acquire(target: Hop, timeout: float, wait: waiting.Wait | None = None) -> Master:
    """Return the connection to a machine; made where there is none, by waiting if that is said."""
    path = folder() / _key(target)
    with _connecting[path]:
        master = _masters.get(path)
        if master is None or master.lost():
            # Of two processes of a run the second one finds what the first has made.
            with path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                handle = _standing(path)
                if handle is None:
                    _log_in(target, path, timeout, wait)
                    handle = _standing(path)
            if handle is None:
                raise faults.lost(label(target))
            master = _masters[path] = Master(path, handle)
        master.users += 1
        return master


def release(master: Master, broken: bool, last: bool = False) -> None:
    """Give a connection back; who made the folder of this run ends it after its last use.

    With ``last`` it is ended after that in any case: other processes of the run log in anew.
    """
    with _connecting[master.socket]:
        master.users -= 1
        if master.users and not broken:
            return
        if _masters.get(master.socket) is master:
            del _masters[master.socket]
        if broken or last or owned():
            end([master.handle])
            master.log.unlink(missing_ok=True)
        if not master.users:
            os.close(master.handle)


def log_in(targets: Iterable[Hop]) -> None:
    """Log in to machines before other processes of this run need them.

    Where a person is at a terminal they are asked here, for those processes have none. Who cannot
    be reached is left to them.
    """
    folder()  # made here, so that those processes use it as well
    if not _person():
        return

    def attempt(target: Hop) -> None:
        with suppress(PerennialError):
            acquire(target, _SHORT)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(attempt, targets))


def _standing(path: Path) -> int | None:
    """Return the process that holds a connection, as a pidfd; None where none does."""
    try:
        return holder(path)
    except OSError:
        path.unlink(missing_ok=True)
        return None


def _log_in(target: Hop, path: Path, timeout: float, wait: waiting.Wait | None) -> None:
    """Log in, without a question first; then, where a person is there, with one."""

    def attempt(timeout: float) -> PerennialError | None:
        with _key_file(target, path) as keyed:
            return _start(keyed, path, timeout, asks=False)

    if wait is None:
        fault = attempt(timeout)
    else:
        fault = waiting.keep_trying(attempt, label(target), timeout, wait)
    if isinstance(fault, DeniedError) and _person():
        with _asking, _key_file(target, path) as keyed:
            fault = _start(keyed, path, timeout, asks=True)
    if fault is not None:
        raise fault


def _start(target: Hop, path: Path, timeout: float, *, asks: bool) -> PerennialError | None:
    """Start the process, which goes into the background once it has logged in."""
    jump_keys = _known_hosts(target.jump_host_key, "jump_host_key")
    own_keys = config.options(target.host_key, _known_hosts(target.host_key, "host_key"))
    settings = [
        *("-F", str(_written(config.text(target, path.parent, timeout, asks, jump_keys)))),
        *(word for each in own_keys for word in ("-o", each)),
        *(["-l", target.user] if target.user else []),
        *(["-p", str(target.port)] if target.port else []),
        *(["-J", jump_option(target.jump)] if target.jump else []),
    ]
    log = _log(path)
    log.unlink(missing_ok=True)
    # With -v, what the `ssh` to a jump host says is not thrown away.
    ours = ["-v", "-E", str(log), "-S", str(path), "-M", "-f", "-N", *settings]
    words = path.with_suffix(".words")
    with words.open("w+b") as said:
        try:
            process = subprocess.Popen(
                ["ssh", *ours, "--", target.address],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                # Ctrl-C is for this process; but a terminal asks only those of its own session.
                start_new_session=not asks,
            )
        except FileNotFoundError:
            raise PerennialError(
                "no program `ssh`; install OpenSSH's client, such as Debian's package"
                " openssh-client"
            ) from None
        words.unlink()
        _logins.add(process)
        try:
            status = process.wait(None if asks else timeout * _LOGINS)
        except subprocess.TimeoutExpired:
            return faults.silent(label(target), timeout * _LOGINS)
        finally:
            _logins.discard(process)
            _kill(process)
        if status == 0:
            return None
        said.seek(0)
        hops = said.read().decode(errors="replace")
    found = log.read_text(errors="replace") if log.exists() else ""
    log.unlink(missing_ok=True)
    return faults.explain(Attempt(target, settings, timeout, found, hops))


@contextmanager
def _key_file(target: Hop, path: Path) -> Iterator[Hop]:
    """Put a private key into a file for as long as a login takes; nothing reads it later."""
    if target.private_key is None:
        yield target
        return
    try:
        text = keys.private_key(target.private_key)
    except keys.KeyTextError as error:
        raise PerennialError(
            f"{label(target)}: `private_key` is {error}; allowed: {keys.PRIVATE}"
        ) from None
    file = path.with_suffix(".key")
    file.unlink(missing_ok=True)
    try:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as written:
            written.write(text)
        yield replace(target, identity=str(file))
    finally:
        file.unlink(missing_ok=True)


def _known_hosts(given: str | None, key: str) -> Path | None:
    """Write host keys that are given into a file of known hosts; None where they are not."""
    if given is None or given == keys.ACCEPT_NEW:
        return None
    try:
        return _written(keys.known_hosts(given))
    except keys.KeyTextError as error:
        raise PerennialError(f"`{key}` is {error}; allowed: {keys.PUBLIC}") from None


def cancel() -> None:
    """End the logins that are under way in other threads, and those that wait for a machine."""
    waiting.cancel()
    cancel_logins()


def cancel_logins() -> None:
    """End the logins that are under way in other threads."""
    for process in tuple(_logins):
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a login, with what it has started for it; nothing where it has ended."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            if os.getpgid(process.pid) == process.pid:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        process.wait()


def _key(target: Hop) -> str:
    """Name a socket: the same for the same way to the same machine."""
    way = [str(getattr(target, field.name)) for field in fields(Hop)]
    return hashlib.sha256("\0".join(way).encode()).hexdigest()[:16]


def _log(path: Path) -> Path:
    return path.with_suffix(".log")


def _written(text: str) -> Path:
    """Write a configuration, once for all machines that have the same."""
    path = folder() / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.conf"
    if not path.exists():
        made = path.with_suffix(f".{threading.get_ident()}")
        made.write_text(text)
        made.chmod(0o600)
        made.replace(path)
    return path


def _person() -> bool:
    """Whether this process has a terminal at which a person can be asked."""
    try:
        with open("/dev/tty", "rb") as terminal:
            return os.isatty(0) and os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False

"""The cluster's own supervisord: start it, and call it over its unix socket.

XML-RPC with the standard library; supervisor's own client would import its whole server.
"""

from __future__ import annotations

import http.client
import os
import resource
import select
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from perennial.errors import PerennialError
from perennial.unix import UnixConnection

if TYPE_CHECKING:  # this file is sent to machines, without that one
    from perennial.paths import ClusterPaths

#: States in which supervisord keeps a process or is about to.
ALIVE = frozenset({"STARTING", "RUNNING", "BACKOFF", "STOPPING"})

#: States of a process that ended although it should run. In the first supervisord waits before it
#: tries again, a second longer each time.
UNSTEADY = frozenset({"BACKOFF", "FATAL", "EXITED"})

#: Variables that the services get from the user's shell. Others, such as DASK_* or a cloud's
#: keys, would make a cluster depend on the shell that happened to start it; what TMPDIR and
#: XDG_RUNTIME_DIR name goes with a login or a job.
INHERITED = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "LD_LIBRARY_PATH"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"),
    *("XDG_CONFIG_DIRS", "XDG_DATA_DIRS"),
)

#: Limits of a shell that would end a service or starve it; of those it may raise, the services
#: get what is allowed at most. Not the size of a stack, which is one for each thread.
LIMITS = (
    *(resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_AS, resource.RLIMIT_DATA),
    *(resource.RLIMIT_RSS, resource.RLIMIT_NPROC, resource.RLIMIT_MEMLOCK),
)

_ALREADY_STARTED, _NOT_RUNNING, _BAD_NAME, _ALREADY_ADDED = 60, 70, 10, 90


@dataclass(frozen=True, slots=True)
class Process:
    """One program as supervisord knows it."""

    #: Its name; each program is a group of its own.
    name: str
    #: One of supervisord's words: RUNNING, STARTING, BACKOFF, STOPPED, FATAL, …
    state: str
    #: Process id, 0 when it does not run.
    pid: int
    #: Seconds since the epoch.
    started: float
    #: What supervisord says of the last start.
    note: str

    @property
    def alive(self) -> bool:
        """Whether supervisord keeps it running or is about to."""
        return self.state in ALIVE

    @property
    def unsteady(self) -> bool:
        """Whether it ended by itself, and supervisord waits to start it again or does not."""
        return self.state in UNSTEADY


def started_as(module: str) -> str:
    """Name by which a module of this package is started: standing clusters have it written down."""
    return f"perennial.local.{module}"


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = UnixConnection(self._path, 30.0)
        self._connection = host, connection  # what `close` closes
        return connection


class Supervisor:
    """A running supervisord."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._transport = _UnixTransport(str(path))
        self._server = xmlrpc.client.ServerProxy("http://localhost", transport=self._transport)

    def _call(
        self,
        method: str,
        *arguments: Any,
        ignore: Collection[int] = (),
        remedy: str = "see `perennial logs`",
    ) -> Any:
        call: Callable[..., Any] = getattr(self._server.supervisor, method)
        try:
            return call(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode in ignore:
                return None
            said = f"{method}{arguments}: {fault.faultString}"
            raise PerennialError(f"supervisord refused {said}; {remedy}") from None
        except (OSError, http.client.HTTPException) as error:
            raise PerennialError(
                f"supervisord at {self._path} does not answer ({error});"
                " `perennial up` or `pulumi up` starts it again"
            ) from None
        finally:
            # Else the transport keeps its socket open for a next call that may never come.
            self._transport.close()

    def pid(self) -> int:
        """Process id of supervisord, 0 when it does not answer."""
        try:
            return cast(int, self._call("getPID"))
        except PerennialError:
            return 0

    def processes(self) -> dict[str, Process]:
        """Every program, by name."""
        return {
            info["name"]: Process(
                name=info["name"],
                state=info["statename"],
                pid=info["pid"],
                started=float(info["start"]),
                note=info["spawnerr"] or info["description"],
            )
            for info in self._call("getAllProcessInfo")
        }

    def reload(self) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
        """Read the configuration; names that it adds, changes and removes. Touches nothing."""
        remedy = "nothing was changed; `perennial up` or `pulumi up` writes its files again"
        [[added, changed, removed]] = self._call("reloadConfig", remedy=remedy)
        return frozenset(added), frozenset(changed), frozenset(removed)

    def add(self, name: str) -> None:
        """Take a program of the configuration in and start it."""
        self._call("addProcessGroup", name, ignore=(_ALREADY_ADDED,))

    def start(self, name: str) -> None:
        """Start a program that is not running; does not wait."""
        self._call("startProcessGroup", name, False, ignore=(_ALREADY_STARTED,))

    def signal_stop(self, name: str) -> None:
        """Tell a program to stop; does not wait."""
        self._call("stopProcessGroup", name, False, ignore=(_NOT_RUNNING, _BAD_NAME))

    def remove(self, name: str) -> None:
        """Forget a program that has stopped."""
        self._call("removeProcessGroup", name, ignore=(_BAD_NAME,))

    def wait_stopped(self, names: Collection[str], timeout: float) -> None:
        """Wait until programs have stopped."""
        for _ in polls(timeout):
            alive = [p.name for p in self.processes().values() if p.name in names and p.alive]
            if not alive:
                return
        raise PerennialError(
            f"{', '.join(alive)}: still stopping after {timeout:g} s;"
            f" see `perennial logs {alive[0]}`"
        )

    def shutdown(self, timeout: float) -> None:
        """Stop supervisord and wait until it has gone."""
        pid = self.pid()
        if not pid:
            return
        self._call("shutdown")
        if not wait_gone(pid, timeout):
            raise PerennialError(
                f"supervisord (pid {pid}) still runs after {timeout:g} s; end it, then run the same"
                " command again"
            )


def running(socket_path: Path, conf: Path) -> int:
    """Find a supervisord, whether it answers or not."""
    try:
        pid = int((socket_path.parent / "supervisord.pid").read_text())
        process = Path(f"/proc/{pid}")
        words = (process / "cmdline").read_bytes().split(b"\0")
        ours = process.stat().st_uid == os.geteuid()
    except (OSError, ValueError):
        return 0
    # An editor that shows the configuration names it as well.
    found = str(conf).encode() in words and b"supervisor.supervisord" in words
    return pid if found and ours else 0


def polls(timeout: float, interval: float = 0.05) -> Iterator[float]:
    """Yield the seconds that have passed, now and then, until ``timeout`` seconds have."""
    start = time.monotonic()
    while (passed := time.monotonic() - start) < timeout:
        yield passed
        time.sleep(interval)


def wait_gone(pid: int, timeout: float) -> bool:
    """Wait until a process, ours or not, has ended; say whether it has."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], timeout)[0])
    finally:
        os.close(process)


def signal_process(pid: int, number: int) -> None:
    """Signal a process that may be gone already."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def speaks_http(port: int) -> bool:
    """Whether a web server answers on a port of loopback, whatever it says.

    That something accepts is not enough: a connection to a port of the ephemeral range, where
    nobody listens, can end up connected to itself.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2.0)
    try:
        connection.request("GET", "/api")
        connection.getresponse()
        return True
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """Choose the variables of this shell that the services get."""
    return {
        key: value
        for key, value in environment.items()
        if key in INHERITED or key.startswith("LC_")
    }


def command(configuration: Path, *flags: str, python: str = sys.executable) -> list[str]:
    """Command line of the cluster's supervisord."""
    return [python, "-P", "-m", "supervisor.supervisord", *flags, "-c", str(configuration)]


def raise_limits() -> None:
    """Raise this process's limits, and those of what it starts, to what it is allowed."""
    for limit in LIMITS:
        _, hard = resource.getrlimit(limit)
        with suppress(OSError, ValueError):
            resource.setrlimit(limit, (hard, hard))


def launch(paths: ClusterPaths) -> None:
    """Start supervisord as a daemon; returns when its socket answers.

    Nothing of it depends on the shell: folders, variables, files, terminal, umask or limits.
    """
    from perennial.paths import supervisord_folder  # not sent to machines, which never call this

    raise_limits()
    done = subprocess.run(
        command(paths.supervisord_conf),
        # supervisord reads its files in the locale's encoding; ours are UTF-8.
        env={**inherited(os.environ), "PYTHONUTF8": "1"},
        cwd=supervisord_folder(paths),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        umask=0o077,
        check=False,
    )
    if done.returncode:
        said = " ".join(done.stdout.split()) or f"exit code {done.returncode}"
        log = paths.logs / "supervisord.log"
        raise PerennialError(f"supervisord does not start: {said}; its log is {log}")

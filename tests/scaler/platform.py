"""A platform of real `dask worker` processes, run by the test and asked by a scaler elsewhere.

The scaler's process can be killed and started again, and the platform stands. What it was asked
is written down, and a member that is stopped although nobody named it is a failure of the test.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import xmlrpc.client
from collections.abc import Sequence
from socketserver import ThreadingMixIn
from typing import Any, ClassVar
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

from perennial.errors import Busy, FleetMissing, NoCapacity
from perennial.fleet import Handle
from perennial.observation import Member, Observation
from tests.preloads.conftest import DRAIN, KEEP, Lab

MEMBER = ("--preload", "perennial.preloads.member")


class _Server(ThreadingMixIn, SimpleXMLRPCServer):
    daemon_threads = True


class _Handler(SimpleXMLRPCRequestHandler):
    rpc_paths = ("/RPC2",)


class Platform:
    """Real workers of one group; ``most`` is what the machine has room for."""

    def __init__(self, lab: Lab, group: str, *arguments: str, most: int = 8, **environment: str):
        self.lab = lab
        self.group = group
        self.most = most
        self.arguments = arguments or ("--nthreads", "1", *DRAIN, *KEEP, *MEMBER)
        self.environment = {"DASK_PERENNIAL__GROUP": group, **environment}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.told: dict[str, subprocess.Popen[bytes]] = {}
        #: Every call that changed something: what was asked, who was named, who was started.
        self.asked: list[tuple[int, tuple[str, ...], tuple[str, ...]]] = []
        self.started: dict[str, float] = {}
        self.codes: list[tuple[str, int]] = []
        self.lock = threading.Lock()
        self.calls = 0
        self._server = _Server(
            ("127.0.0.1", 0), requestHandler=_Handler, logRequests=False, allow_none=True
        )
        self._server.register_function(self._observe, "observe")
        self._server.register_function(self._resize, "resize")
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _reap(self) -> None:
        for name, process in list(self.told.items()):
            if process.poll() is not None:
                self.codes.append((name, process.returncode))
                del self.told[name]
        for name, process in list(self.processes.items()):
            if process.poll() is not None:  # as supervisord does
                self.processes[name] = self._start(name)

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        self.started[name] = time.monotonic()
        return self.lab.worker(name, *self.arguments, **self.environment)

    def _observe(self) -> dict[str, Any]:
        with self.lock:
            self._reap()
            members = [(name, "running") for name in self.processes]
            members += [(name, "leaving") for name in self.told]
            return {"desired": len(self.processes), "members": members, "most": self.most}

    def _resize(self, to: int, leaving: Sequence[str]) -> int:
        with self.lock:
            self._reap()
            self.calls += 1
            named = [name for name in leaving if name in self.processes]
            for name in named:
                process = self.processes.pop(name)
                self.told[name] = process
                process.send_signal(signal.SIGTERM)
            new: list[str] = []
            taken = self.processes.keys() | self.told.keys()
            while len(self.processes) < min(to, self.most):
                name = next(n for i in range(1000) if (n := f"{self.group}-{i}") not in taken)
                self.processes[name] = self._start(name)
                taken = taken | {name}
                new.append(name)
            self.asked.append((to, tuple(named), tuple(new)))
            return len(self.processes)

    def size(self) -> int:
        """How many members there are that have not been told to leave."""
        return int(self._observe()["desired"])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class RemoteHandle(Handle):
    """The port at which such a platform is."""

    port: int


class RemoteFleet:
    """The fleet of such a platform, in the scaler's process."""

    chooses: ClassVar[bool] = True
    handle: ClassVar[type[RemoteHandle]] = RemoteHandle

    def __init__(self, port: int) -> None:
        self.port = port

    def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            with xmlrpc.client.ServerProxy(
                f"http://127.0.0.1:{self.port}/RPC2", allow_none=True
            ) as server:
                return getattr(server, method)(*arguments)
        except (TimeoutError, OSError) as error:
            raise FleetMissing(f"no platform at {self.port}: {error}") from error
        except xmlrpc.client.Fault as error:
            kind = {"NoCapacity": NoCapacity, "Busy": Busy}
            for name, exception in kind.items():
                if name in error.faultString:
                    raise exception(error.faultString) from error
            raise

    def observe(self) -> Observation:
        found = self._ask("observe")
        members = tuple(Member(name, name, state) for name, state in found["members"])
        return Observation(
            found["desired"], members, all(m.state == "running" for m in members), 0, found["most"]
        )

    def resize(self, to: int, leaving: Sequence[Member] = ()) -> int:
        size: int = self._ask("resize", to, [member.id for member in leaving])
        return size


def main() -> int:
    """`python -m perennial.scaler`, with this platform among those that there are."""
    from perennial.registry import FLEETS
    from perennial.scaler.__main__ import main as scaler

    FLEETS["test"] = "tests.scaler.platform.RemoteFleet"
    return scaler()


if __name__ == "__main__":
    sys.exit(main())

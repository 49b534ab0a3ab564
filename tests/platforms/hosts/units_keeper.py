"""A keeper whose members are processes that only sleep; run by the tests of the fleet on hosts.

``python units_keeper.py FOLDER``: a real keeper in all but the service manager; with the relay in
the same process, or alone if there is no ``relay.json``. Each member is a process whose id stands
in a file beside the configuration.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from perennial.platforms.hosts import relay
from perennial.platforms.hosts.agent import keeper
from perennial.platforms.hosts.agent.reconciling import State, respond

#: What a member does when it is told to stop while the file ``slow`` is there.
SLOW = "trap 'sleep 2; exit 0' TERM; while :; do sleep 0.05; done"


class Processes:
    """Members that are processes: ``cpu@0`` holds the id of one."""

    def __init__(self, folder: Path, groups: Collection[str]) -> None:
        self.folder = folder
        self.groups = groups

    def states(self) -> dict[str, dict[int, State]]:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        found: dict[str, dict[int, State]] = {group: {} for group in self.groups}
        for group in self.groups:
            for file in self.folder.glob(f"{group}@*"):
                if "." not in file.name and alive(int(file.read_text())):
                    found[group][int(file.name.partition("@")[2])] = self._state(file)
        return found

    def _state(self, file: Path) -> State:
        if file.with_suffix(".leaving").exists():
            return "leaving"
        return "starting" if file.with_suffix(".held").exists() else "running"

    def start(self, group: str, numbers: Collection[int]) -> None:
        for number in numbers:
            file = self.folder / f"{group}@{number}"
            for suffix in (".leaving", ".held"):
                file.with_suffix(suffix).unlink(missing_ok=True)
            if (self.folder / "hold").exists():
                file.with_suffix(".held").touch()
            slow = (self.folder / "slow").exists()
            argv = ["sh", "-c", SLOW] if slow else ["sleep", "1000"]
            # In a session of its own: it lives on when its keeper is killed.
            process = subprocess.Popen(argv, start_new_session=True)
            temporary = file.with_suffix(".new")
            temporary.write_text(str(process.pid))
            temporary.replace(file)

    def stop(self, group: str, numbers: Collection[int]) -> None:
        for number in numbers:
            file = self.folder / f"{group}@{number}"
            file.with_suffix(".leaving").touch()
            with suppress(ProcessLookupError):
                os.kill(int(file.read_text()), signal.SIGTERM)


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    folder = Path(sys.argv[1])
    told = keeper.read(folder / "keeper.json")
    own = keeper.keeper(told, Processes(folder, told.bounds.uses), folder / "lock")
    if (folder / "relay.json").exists():
        settings = relay.read(folder / "relay.json")
        asyncio.run(relay.relay(settings, lambda message: respond(own, message), interval=0.2))
    else:
        keeper.run(own, keeper.RelaySocket(told.socket, told.user))

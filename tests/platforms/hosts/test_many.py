"""Many machines by SSH: how many processes and how much memory they take here."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from perennial.platforms.hosts import remote
from perennial.platforms.hosts.machine_services import Target
from tests.ssh.sshd import MISSING, Place, make_place, masters

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=MISSING),
    pytest.mark.skipif(os.geteuid() != 0, reason="the login must be root's: there is no sudo"),
]

MACHINES, AT_ONCE, KEPT = 24, 4, 3


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    yield from make_place(monkeypatch)
    remote.close()


@pytest.mark.parametrize("owned", [True, False])
def test_there_are_never_more_processes_than_are_used_and_kept(
    place: Place, monkeypatch: pytest.MonkeyPatch, owned: bool
) -> None:
    monkeypatch.setattr(remote, "KEPT", KEPT)
    # A process of the engine's uses the folder of the command that has started it.
    monkeypatch.setattr("perennial.ssh.masters.owned", lambda: owned)
    targets = [Target(f"m-{n}", "127.0.0.1", port=place.sshd.port) for n in range(MACHINES)]
    most, over = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(0.05):
            most = max(most, len(masters()))

    def ask(target: Target) -> str:
        with remote.borrowed(target) as agent:
            return str(agent.ask("machine_id"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = list(pool.map(ask, targets))
    finally:
        over.set()
        watcher.join()
    assert len(found) == MACHINES
    assert len(set(found)) == 1
    # Each that is used, each that is kept, and one of each thread that is on its way out.
    assert KEPT <= most <= KEPT + 2 * AT_ONCE
    assert len(masters()) == KEPT
    # Those that were used last are kept, and need no login.
    sshd = place.sshd.connections()
    assert [ask(target) for target in targets[-1:]] == found[-1:]
    assert place.sshd.connections() == sshd

"""The program that is sent to a machine, over a real sshd to this one."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from perennial.errors import FleetError
from perennial.platforms.hosts import program, remote
from perennial.platforms.hosts.agent import manifest
from perennial.platforms.hosts.machine_services import Target
from perennial.platforms.hosts.remote import LATER, MODULES, SUPERVISED, Agent, borrowed
from perennial.ssh import Stop
from tests.homes import wait_until
from tests.ssh.sshd import MISSING, Meter, Place, make_place

pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=MISSING),
    pytest.mark.skipif(os.geteuid() != 0, reason="the login must be root's: there is no sudo"),
]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    yield from make_place(monkeypatch)
    remote.close()


def target_of(place: Place) -> Target:
    return Target("machine-b", "127.0.0.1", port=place.sshd.port)


def test_it_answers_and_leaves_nothing(place: Place) -> None:
    with Agent(target_of(place)) as agent:
        assert agent.ask("manifest", cluster="nobody-has-this") == {}
        pids = place.sshd.connections()
        assert pids
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_without_root_nobody_logs_in_as_root(place: Place) -> None:
    target = replace(target_of(place), init="supervisord")
    with pytest.raises(FleetError, match="the login user is root"), Agent(target) as agent:
        agent.ask("folder")


def test_no_child_of_its_reads_what_the_operator_says(place: Place) -> None:
    with Agent(target_of(place)) as agent:
        assert agent.ask("manifest", cluster="nobody-has-this") == {}
        found = {
            os.readlink(f"/proc/{pid}/fd/0")
            for pid in place.sshd.connections()
            if b"perennial" in Path(f"/proc/{pid}/cmdline").read_bytes()
        }
    assert found == {"/dev/null"}


def test_what_is_sent_needs_the_standard_library_alone() -> None:
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]]\n"
        f"for name in {(*MODULES, *SUPERVISED, *sum(LATER.values(), ()))!r}: __import__(name)\n"
        "outside = {n.partition('.')[0] for n in sys.modules} - set(sys.stdlib_module_names)\n"
        "print(sorted(outside - {'perennial', '__main__', 'sitecustomize'}))\n"
        "print(sorted(n for n in sys.modules if n.startswith('perennial.')))\n"
    )
    root = Path(remote.__file__).parents[3]
    done = subprocess.run(
        [os.path.realpath("/proc/self/exe"), "-I", "-S", "-c", code, str(root)],
        capture_output=True,
        text=True,
        check=True,
    )
    outside, ours = done.stdout.splitlines()
    assert outside == "[]"
    packages = {
        "perennial.doctor",
        "perennial.platforms",
        "perennial.platforms.hosts",
        "perennial.supervision",
        "perennial.platforms.hosts.agent",
    }
    later = {name for names in LATER.values() for name in names}
    assert set(eval(ours)) - packages == {*MODULES, *SUPERVISED, *later}


def test_it_is_small_enough_for_a_look_in_20_kb(place: Place) -> None:
    with Meter(place) as meter, Agent(replace(target_of(place), port=meter.port)) as agent:
        wanted = {"ports": [8786], "claims": ["dask-nobody.target"]}
        agent.ask("look", cluster="nobody", names=["127.0.0.1"], interface=None, **wanted)
        assert meter.sent < 20_000
    assert len(remote._archive(root=True)) < 16_000
    # Under supervisord its own part goes there as well.
    assert len(remote._archive(root=False)) < 20_000
    assert b"numpydoc" not in zlib.decompress(remote._archive(root=False))


def test_what_a_login_prints_is_no_answer(place: Place) -> None:
    noisy = 'echo welcome; echo \'{"ok": "not me"}\'\n'
    (place.sshd.folder / ".bashrc").write_text(noisy)
    with Agent(target_of(place)) as agent:
        assert agent.ask("manifest", cluster="nobody-has-this") == {}


def test_an_error_names_the_machine_and_the_next_question_is_answered(place: Place) -> None:
    with Agent(target_of(place)) as agent:
        with pytest.raises(
            FleetError, match=r"^machine-b: interface ib7 is not there; there are lo"
        ):
            agent.ask("look", cluster="nobody", names=[], interface="ib7", ports=[], claims={})
        with pytest.raises(FleetError, match=r"^machine-b: /proc/x: "):
            agent.ask(
                "write", files=[{"path": "/proc/x", "text": "", "mode": 0o600, "owner": None}]
            )
        assert agent.ask("manifest", cluster="nobody-has-this") == {}


def test_a_file_is_whole_or_not_there(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "big"
    source.write_bytes(os.urandom(3 << 20))
    with Agent(target_of(place)) as agent:
        agent.upload(source, f"{tmp_path}/there/copy", mode=0o640)
        copy = tmp_path / "there" / "copy"
        assert copy.read_bytes() == source.read_bytes()
        assert copy.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def test_a_full_disk_leaves_the_old_file_and_the_connection(place: Place, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        (small / "copy").write_text("old")
        source = tmp_path / "big"
        source.write_bytes(os.urandom(3 << 20))
        with Agent(target_of(place)) as agent:
            with pytest.raises(FleetError, match=r"^machine-b: .*no space left on device"):
                agent.upload(source, f"{small}/copy")
            assert agent.ask("manifest", cluster="nobody-has-this") == {}
        assert [path.name for path in small.iterdir()] == ["copy"]
        assert (small / "copy").read_text() == "old"
    finally:
        subprocess.run(["umount", str(small)], check=True)


_SEND = """
import sys
from pathlib import Path
from perennial.platforms.hosts.remote import Agent
from perennial.platforms.hosts.machine_services import Target
with Agent(Target("machine-b", "127.0.0.1", port=int(sys.argv[1]))) as agent:
    while True:
        agent.upload(Path(sys.argv[2]), sys.argv[3])
"""


def test_who_is_killed_in_the_middle_of_a_file_leaves_the_old_one(
    place: Place, tmp_path: Path
) -> None:
    source, copy = tmp_path / "big", tmp_path / "there" / "copy"
    source.write_bytes(os.urandom(48 << 20))
    copy.parent.mkdir()
    copy.write_text("old")
    argv = (sys.executable, "-c", _SEND, str(place.sshd.port), str(source), str(copy))
    with subprocess.Popen(argv) as deploy:
        wait_until(lambda: len(list(copy.parent.iterdir())) == 2)
        assert copy.read_text() == "old"
        deploy.kill()
    wait_until(lambda: [path.name for path in copy.parent.iterdir()] == ["copy"])
    assert copy.read_text() == "old"
    with Agent(target_of(place)) as agent:
        agent.upload(source, str(copy))
    assert copy.read_bytes() == source.read_bytes()


def test_a_cut_connection_is_one_line(place: Place) -> None:
    with Agent(target_of(place)) as agent:
        agent.ask("manifest", cluster="nobody-has-this")
        threading.Timer(0.5, place.sshd.cut).start()
        with pytest.raises(FleetError, match=r"^machine-b \(127.0.0.1\): the conn") as caught:
            _ask_for_ever(agent)
    assert "\n" not in str(caught.value)


def test_what_sends_heartbeats_may_take_long(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "SILENCE", 1.5)
    often = "import sys; sys.modules['perennial.platforms.hosts.agent.main'].HEARTBEAT = 0.1"
    slow = "import time; time.sleep(4)"
    with Agent(target_of(place)) as agent:
        agent.ask("load", sources=[["often", often]])
        agent.ask("load", sources=[["slow", slow]])
    with Agent(target_of(place)) as agent, pytest.raises(FleetError, match="said nothing"):
        agent.ask("load", sources=[["slow", slow]])


def _ask_for_ever(agent: Agent) -> None:
    while True:
        agent.ask("usage", cluster="nobody-has-this")


def test_one_connection_serves_many_questions_and_is_made_again(place: Place) -> None:
    target = target_of(place)
    with borrowed(target) as first:
        first.ask("manifest", cluster="nobody-has-this")
    with borrowed(target) as second:
        assert second is first
        second.ask("manifest", cluster="nobody-has-this")
    place.sshd.cut()
    deadline = time.monotonic() + 10
    while first.alive and time.monotonic() < deadline:
        time.sleep(0.05)
    with borrowed(target) as third:
        assert third is not first
        assert third.ask("manifest", cluster="nobody-has-this") == {}


def test_two_deploys_wait_for_each_other(place: Place) -> None:
    said: list[str] = []
    cluster = f"test-{os.getpid()}"
    with Agent(target_of(place)) as first, Agent(target_of(place), said.append) as second:
        first.ask("lock", cluster=cluster)
        first.ask("lock", cluster=cluster)
        waiting = threading.Thread(target=second.ask, args=("lock",), kwargs={"cluster": cluster})
        waiting.start()
        deadline = time.monotonic() + 10
        while not said and time.monotonic() < deadline:
            time.sleep(0.05)
        assert said == ["waiting for another deploy that is at work there"]
        first.ask("unlock")
        waiting.join(10)
        assert not waiting.is_alive()
    manifest.lock(cluster).unlink()


def test_work_that_is_to_stop_ends_and_begins_nothing_more(place: Place) -> None:
    target, cluster, stop = target_of(place), f"test-{os.getpid()}", Stop()
    said: list[str] = []
    errors: list[str] = []

    def work() -> None:
        for _ in range(2):
            try:
                with borrowed(target, said.append) as agent:
                    agent.ask("lock", cluster=cluster)
            except FleetError as error:
                errors.append(str(error))

    with Agent(target) as first:
        first.ask("lock", cluster=cluster)
        alone = set(place.sshd.connections())
        working = threading.Thread(target=stop.run, args=(work,))
        working.start()
        wait_until(lambda: said)
        stop.ask()
        working.join(60)
        assert not working.is_alive()
        assert "the program there ended" in errors[0]
        assert errors[1:] == ["machine-b: stopped before anything more was asked of it"]
        # It has left nothing there, and others go on.
        wait_until(lambda: set(place.sshd.connections()) <= alone)
        first.ask("unlock")
    with borrowed(target) as agent:
        agent.ask("lock", cluster=cluster)
    manifest.lock(cluster).unlink()


def test_nobody_but_root_can_hold_the_lock_or_put_a_link_in_its_place(place: Place) -> None:
    cluster = f"test-{os.getpid()}"
    lock = manifest.lock(cluster)
    with Agent(target_of(place)) as agent:
        agent.ask("lock", cluster=cluster)
        folders = [*lock.parents][:-1]
        assert all(folder.stat().st_uid == 0 for folder in folders)
        assert lock.parent.stat().st_mode & 0o777 == 0o700
        assert not any(folder.stat().st_mode & 0o022 for folder in folders)
        agent.ask("unlock")
        lock.unlink()
        lock.symlink_to("/nowhere/else")
        with pytest.raises(FleetError, match=r"^machine-b: .*symbolic links") as caught:
            agent.ask("lock", cluster=cluster)
    assert "\n" not in str(caught.value)
    lock.unlink()


@pytest.mark.parametrize("line", [b"\n", b"7\n", b"\xff\n", b"[" * 9000 + b"\n", b'{"ok": \n'])
def test_an_answer_that_is_no_object_is_said(line: bytes) -> None:
    agent = Agent(Target("ma", "127.0.0.1"))
    with pytest.raises(FleetError, match=r"^ma: the program there answered b.*run the same"):
        agent._parsed(line)


def test_what_is_sent_needs_nothing_that_is_not_sent() -> None:
    """A module of ours that a sent one imports is sent before it, each in its order."""
    orders = [program.MODULES, *((*MODULES, *later) for later in LATER.values())]
    for order in orders:
        for place, module in enumerate(order):
            source = Path(str(import_module(module).__file__)).read_text()
            for node in ast.parse(source).body:  # what is imported when it is loaded
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("perennial"):
                    inner = {f"{node.module}.{alias.name}" for alias in node.names}
                    assert {str(node.module), *inner} & {*order[:place]}, (module, node.module)

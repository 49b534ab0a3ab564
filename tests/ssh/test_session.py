"""`Session` against a real sshd: what works, and one line for each thing that does not."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from perennial.errors import FleetError, PerennialError
from perennial.ssh import Hop, Session, UnreachableError, close, config, parse_jump
from perennial.ssh.target import jump_option
from tests.homes import wait_until
from tests.ports import free_port
from tests.ssh.sshd import MISSING, USER, Meter, Place, make_place, says, ssh_processes

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    yield from make_place(monkeypatch)


def test_nothing_of_the_operators_goes_along(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the configuration says: no agent, no variable, also not to a jump host."""
    liberal = "AllowAgentForwarding yes\nAcceptEnv *\nX11Forwarding yes"
    inner, bastion = place.another("inner", liberal), place.another("bastion", liberal)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine")
    monkeypatch.setenv("DISPLAY", ":7")
    agent = f"{place.root}/agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", agent], stdout=subprocess.DEVNULL) as running:
        wait_until(Path(agent).exists)
        monkeypatch.setenv("SSH_AUTH_SOCK", agent)
        subprocess.run(["ssh-add", "-q", str(place.key)], check=True)
        (place.ssh / "config").write_text(
            f"Host bastion\n  HostName 127.0.0.1\n  Port {bastion.port}\n"
            f"Host inner\n  HostName 127.0.0.1\n  Port {inner.port}\n  ProxyJump bastion\n"
            "Host *\n  ForwardAgent yes\n  SendEnv AWS_* LC_*\n  SetEnv TOKEN=mine\n"
            "  ForwardX11 yes\n  GSSAPIDelegateCredentials yes\n"
        )
        seen = {}
        for name in ("bastion", "inner"):
            with Session(Hop(name, name)) as session:
                channel = session.start("env")
                seen[name] = channel.read(1 << 16).decode()
                assert channel.wait() == 0
            # The same configuration has the shell's ssh take all of it along.
            ssh = ("ssh", "-F", f"{place.ssh}/config", "-o", f"UserKnownHostsFile={place.known}")
            jump = (
                ()
                if name == "bastion"
                else ("-o", f"ProxyCommand={' '.join(ssh)} -W %h:%p bastion")
            )
            argv = [*ssh, *jump, name, "env"]
            plain = subprocess.run(argv, capture_output=True, check=False, text=True)
            for word in ("SSH_AUTH_SOCK=", "AWS_SECRET_ACCESS_KEY=mine", "TOKEN=mine"):
                assert word in plain.stdout, (word, plain)
        running.terminate()
    for text in seen.values():
        assert "SSH_CONNECTION=" in text
        for word in ("SSH_AUTH_SOCK", "AWS_SECRET", "TOKEN", "DISPLAY"):
            assert word not in text


def test_a_process_reads_and_writes(place: Place) -> None:
    with Session(place.target) as session:
        channel = session.start("cat; echo problems >&2; exit 3")
        channel.write(b"one\ntwo")
        channel.close_stdin()
        assert channel.readline() == b"one\n"
        assert channel.readline() == b"two"
        assert channel.readline() == b""
        assert channel.wait() == 3
        assert channel.stderr == "problems\n"
        # Bytes and not text; more than any window or buffer, both ways at once.
        data = os.urandom(1 << 20) * 8
        channel = session.start("cat")
        writer = threading.Thread(target=lambda: (channel.write(data), channel.close_stdin()))
        writer.start()
        assert channel.read(len(data)) == data
        writer.join()
        assert channel.read(10) == b""
        assert channel.wait() == 0


def test_wait_does_not_hang_on_output_that_nobody_reads(place: Place) -> None:
    with Session(place.target) as session:
        channel = session.start("head -c 9000000 /dev/zero; head -c 100000 /dev/zero >&2; exit 1")
        assert channel.wait(30) == 1
        assert len(channel.read(10_000_000)) == 9_000_000
        assert len(channel.stderr) == 16_384


def sleeping(place: Place) -> list[int]:
    pids = place.sshd.connections()
    return [pid for pid in pids if psutil.Process(pid).cmdline()[:1] == ["sleep"]]


def test_a_process_that_was_killed_or_is_missing(place: Place) -> None:
    with Session(place.target) as session:
        channel = session.start("sh -c 'kill -TERM $$'; exit $?")
        assert channel.wait() == 128 + signal.SIGTERM
        channel = session.start("exec sleep 60")
        wait_until(lambda: sleeping(place))
        for pid in sleeping(place):
            os.kill(pid, signal.SIGKILL)
        assert "was ended by a signal" in str(channel.fault(channel.wait()))
        channel = session.start("/no/such/program")
        status = channel.wait()
        assert "machine-b (127.0.0.1): a command is missing" in str(channel.fault(status))


def test_a_process_that_does_not_read(place: Place) -> None:
    with Session(place.target) as session:
        channel = session.start("echo 'disk is full' >&2; exit 5")
        with pytest.raises(FleetError, match=r"exit status 5 \(disk is full\)"):
            channel.write(bytes(50_000_000))


@pytest.mark.parametrize(
    ("stderr", "status", "word"),
    [
        ("sudo: a password is required", 1, "NOPASSWD"),
        ("sudo: a terminal is required to read the password; either", 1, "NOPASSWD"),
        ("ann is not in the sudoers file.", 1, "user: root"),
        ("sudo: python3: command not found", 1, "missing"),
        ("bash: line 1: sudo: command not found", 127, "missing"),
        ("", 9, "exit status 9 (no output)"),
        ("", 137, "signal 9"),
    ],
)
def test_what_a_failed_command_means(place: Place, stderr: str, status: int, word: str) -> None:
    with Session(place.target) as session:
        channel = session.start(f"echo '{stderr}' >&2; exit {status}")
        text = str(channel.fault(channel.wait()))
        assert "machine-b" in text
        assert word in text


def test_a_command_that_says_nothing_in_time(place: Place) -> None:
    with Session(place.target) as session:
        channel = session.start("sleep 60")
        with pytest.raises(FleetError, match=r"said nothing for 0.2 s"):
            channel.readline(0.2)
        # The connection is as good as before.
        assert session.start("true").wait() == 0


def test_the_connection_is_lost_in_the_middle(place: Place) -> None:
    with Session(place.target) as session:
        reader, waiter = session.start("echo yes; cat"), session.start("sleep 60")
        assert reader.readline() == b"yes\n"
        place.sshd.cut()
        with pytest.raises(UnreachableError, match=r"machine-b .*connection was lost"):
            reader.readline()
        with pytest.raises(UnreachableError, match="lost"):
            waiter.wait()
        with pytest.raises(UnreachableError, match="lost"):
            reader.write(b"x" * 1000)
        with pytest.raises(UnreachableError, match="lost"):
            session.start("true")


@pytest.mark.quiet
def test_a_cut_network_is_noticed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "KEEPALIVE", 1.0)
    with Session(place.target) as session:
        channel = session.start("sleep 60")
        stopped = place.sshd.connections()
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        try:
            with pytest.raises(UnreachableError, match="lost"):
                channel.readline()
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        assert time.monotonic() - began < 10


def test_bytes_on_the_wire_are_few(place: Place) -> None:
    with Meter(place) as meter, Session(replace(place.target, port=meter.port)) as session:
        # Little is sent for a connection: the figure of an unchanged `up` rests on it.
        assert 1000 < meter.sent < 8000
        assert 1000 < meter.received < 8000
        before = meter.sent, meter.received
        channel = session.start("cat")
        channel.write(bytes(1_000_000))  # not compressed
        channel.close_stdin()
        assert len(channel.read(2_000_000)) == 1_000_000
        assert 1_000_000 < meter.sent - before[0] < 1_100_000
        assert 1_000_000 < meter.received - before[1] < 1_100_000


def test_many_threads_each_have_a_connection(place: Place) -> None:
    answers = []

    def ask(number: int) -> None:
        with Session(place.target) as session:
            answers.append(session.start(f"echo {number}").readline())

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(answers) == [f"{number}\n".encode() for number in range(6)]
    assert not ssh_processes()


def test_the_users_configuration_is_honoured(place: Place) -> None:
    port = free_port()
    (place.ssh / "config").write_text(
        f"Host lab-*\n  HostName 127.0.0.1\n  Port {place.sshd.port}\n  User {USER}\n"
        f"  IdentityFile {place.ssh}/elsewhere\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {place.ssh}/lab_hosts\n  RequestTTY force\n  RemoteCommand false\n"
        f"  SendEnv *\n  LocalForward {port} 127.0.0.1:1\n"
        f"  StrictHostKeyChecking no\n  ControlMaster auto\n  ControlPath {place.ssh}/theirs\n"
    )
    place.key.rename(place.ssh / "elsewhere")
    place.known.rename(place.ssh / "lab_hosts")
    with Session(Hop("lab-b", "lab-b")) as session:
        assert session.where == "lab-b"
        channel = session.start("test -t 0 || echo none")
        assert channel.readline() == b"none\n"
        assert not (place.ssh / "theirs").exists()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_a_configuration_that_cannot_be_used(place: Place) -> None:
    (place.ssh / "config").write_text("Port nonsense\n")
    says(place.target, "machine-b", "config line 1", kind=PerennialError)


def test_jump_hosts_one_after_another(place: Place) -> None:
    first, second = place.another("j1"), place.another("j2")
    through = f"{USER}@127.0.0.1:{first.port},127.0.0.1:{second.port}"
    with Session(replace(place.target, jump=through)) as session:
        channel = session.start("echo $SSH_CONNECTION")
        assert channel.readline().split()[3] == str(place.sshd.port).encode()
        assert first.connections()
        assert second.connections()
    close()  # they stand for other machines behind them, until the end
    wait_until(lambda: not first.connections() and not second.connections())


def test_jump_hosts_of_the_configuration(place: Place) -> None:
    first, second = place.another("j1"), place.another("j2")
    (place.ssh / "config").write_text(
        f"Host inner\n  ProxyJump middle\n  HostName 127.0.0.1\n  Port {place.sshd.port}\n"
        f"Host middle\n  ProxyJump outer\n  HostName 127.0.0.1\n  Port {second.port}\n"
        f"Host outer\n  HostName 127.0.0.1\n  Port {first.port}\n"
    )
    with Session(Hop("inner", "inner")) as session:
        assert session.start("true").wait() == 0
        assert first.connections()
        assert second.connections()


def test_a_jump_host_that_fails_is_named(place: Place) -> None:
    bastion = place.another("j", "AllowTcpForwarding no")
    via = f"127.0.0.1:{bastion.port}"
    says(
        replace(place.target, jump=via),
        f"machine-b (127.0.0.1): {via} cannot connect to 127.0.0.1 port {place.sshd.port}",
        "AllowTcpForwarding",
    )
    bastion.stop()
    says(replace(place.target, jump=via), f"machine-b (127.0.0.1): the jump host {via}", "refused")
    (place.ssh / "config").write_text("Host round\n  ProxyJump round\n")
    says(Hop("round", "round"), "circle", kind=PerennialError)


def test_parse_jump() -> None:
    text = "me@bastion:2222, inner,ssh://you@[fe80::1]:22,fe80::2"
    hops = parse_jump(text)
    assert [(hop.user, hop.address, hop.port) for hop in hops] == [
        ("me", "bastion", 2222),
        (None, "inner", None),
        ("you", "fe80::1", 22),
        (None, "fe80::2", None),
    ]
    assert jump_option(text) == "me@bastion:2222,inner,you@[fe80::1]:22,[fe80::2]"
    for bad in ("", "a,,b", "a:x", "-oProxyCommand=x", "me@"):
        with pytest.raises(PerennialError, match="is no host to connect through"):
            parse_jump(bad)


def test_ctrl_c_leaves_nothing(place: Place) -> None:
    def interrupt() -> None:
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    def work() -> None:
        with Session(place.target) as session:
            channel = session.start("sleep 60")
            threading.Thread(target=interrupt).start()
            channel.wait()

    with pytest.raises(KeyboardInterrupt):
        work()
    assert not ssh_processes()


def test_a_proxy_command(place: Place) -> None:
    relay = place.root / "relay.py"
    relay.write_text(
        "import os, socket, sys, threading\n"
        "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def up():\n"
        "    while data := os.read(0, 65536):\n"
        "        s.sendall(data)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while data := s.recv(65536):\n"
        "    os.write(1, data)\n"
    )
    (place.ssh / "config").write_text(
        f"Host inner\n  HostName 127.0.0.1\n  Port {place.sshd.port}\n"
        f"  ProxyCommand {sys.executable} {relay} %h %p 2>/dev/null\n"
    )
    with Session(Hop("machine-b", "inner")) as session:
        assert session.start("exit 4").wait() == 4
    children = psutil.Process().children()
    assert not [each for each in children if str(relay) in each.cmdline()]
    place.known.write_text("")
    with pytest.raises(FleetError, match=r"`ssh -o UserKnownHostsFile=~/.ssh/known_hosts"):
        Session(Hop("machine-b", "inner")).__enter__()
    (place.ssh / "config").write_text("ProxyCommand /no/such 2>/dev/null\n")
    with pytest.raises(UnreachableError, match="the ProxyCommand of the SSH configuration ended"):
        Session(Hop("machine-b", "inner")).__enter__()

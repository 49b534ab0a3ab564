"""Which way is blocked, and what opens it; looks at real ports."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from perennial.doctor import probing
from perennial.doctor.firewalls import Firewall
from perennial.doctor.reach import HERE, End, Result, Source, diagnose, examine, ways
from perennial.errors import FleetError

SCHEDULER = End("machine-a", "10.0.0.1", 8786, "scheduler", None, (8786, 8786))
JUPYTER = End("machine-a", "10.0.0.1", 8888, "jupyter", None, (8888, 8888))
RANDOM = End("machine-b", "10.0.0.2", 43211, "worker", "cpu")
RANGED = End("machine-c", "10.0.0.3", 9003, "worker", "gpu", (9000, 9009))
ENDS = [SCHEDULER, JUPYTER, RANDOM, RANGED]
LAPTOP = Source(HERE, "192.168.1.5", frozenset())
A = Source("machine-a", "10.0.0.1", frozenset({"scheduler", "jupyter"}))
B = Source("machine-b", "10.0.0.2", frozenset({"worker"}))
C = Source("machine-c", "10.0.0.3", frozenset({"worker"}))


def test_who_needs_to_reach_what() -> None:
    assert ways(LAPTOP, ENDS) == [SCHEDULER, JUPYTER]
    assert ways(A, ENDS) == [RANDOM, RANGED]
    assert ways(B, ENDS) == [SCHEDULER, RANGED]
    assert ways(C, ENDS) == [SCHEDULER, RANDOM]


def test_every_way_is_tried_from_where_it_begins() -> None:
    asked = {}

    def probe(machine: str, places: list[tuple[str, int]]) -> list[str]:
        asked[machine] = places
        if machine == "machine-c":
            raise FleetError("machine-c: no answer")
        return [probing.OPEN] * len(places)

    results = examine([A, B, C], ENDS, probe)
    assert asked["machine-b"] == [("10.0.0.1", 8786), ("10.0.0.3", 9003)]
    assert {result.source.machine for result in results} == {"machine-a", "machine-b"}
    assert diagnose(results) == []
    assert examine([], ENDS, probe) == []


@pytest.mark.parametrize(
    ("source", "end", "outcome", "words"),
    [
        (
            B,
            SCHEDULER,
            probing.TIMEOUT,
            "worker → scheduler: machine-b cannot reach machine-a at 10.0.0.1:8786/tcp (no "
            "answer): allow it in machine-a's firewall, e.g. `ufw allow from 10.0.0.2 to any "
            "port 8786 proto tcp`",
        ),
        (
            LAPTOP,
            JUPYTER,
            probing.FORBIDDEN,
            "client → jupyter: this machine cannot reach machine-a at 10.0.0.1:8888/tcp "
            "(forbidden): allow it in machine-a's firewall, e.g. `ufw allow from 192.168.1.5 to "
            "any port 8888 proto tcp`",
        ),
        (A, RANDOM, probing.TIMEOUT, "scheduler → worker: machine-a cannot reach machine-b"),
        (A, RANDOM, probing.TIMEOUT, "set `workers.cpu.ports` (such as 40000:40099)"),
        (B, RANGED, probing.TIMEOUT, "worker → worker: machine-b cannot reach machine-c"),
        (B, RANGED, probing.TIMEOUT, "port 9000:9009 proto tcp"),
        (B, SCHEDULER, probing.UNKNOWN_NAME, "set `internal` of machine-a"),
        (LAPTOP, SCHEDULER, probing.UNKNOWN_NAME, "/etc/hosts here, or set `internal`"),
        (LAPTOP, SCHEDULER, probing.NO_ROUTE, "or go through a machine that reaches it"),
        (B, SCHEDULER, probing.NO_ROUTE, "name it with `internal` or `interface`"),
        (B, SCHEDULER, probing.REFUSED, "machine-a: nothing listens at 10.0.0.1:8786"),
    ],
)
def test_what_opens_a_way(source: Source, end: End, outcome: str, words: str) -> None:
    (line,) = diagnose([Result(source, end, outcome)])
    assert words in line


def test_a_port_that_others_reach_is_rejected_by_a_firewall() -> None:
    (line,) = diagnose([Result(B, SCHEDULER, probing.REFUSED), Result(C, SCHEDULER, probing.OPEN)])
    assert "machine-b cannot reach machine-a at 10.0.0.1:8786/tcp (rejected)" in line


def test_what_listens_and_refuses_is_behind_a_firewall() -> None:
    end = replace(SCHEDULER, listens=True)
    firewalls = {"machine-a": Firewall("nft", ("inet filter input",))}
    (line,) = diagnose([Result(B, end, probing.REFUSED)], firewalls)
    assert (
        "(rejected): allow it in machine-a's firewall: `nft insert rule inet filter input" in line
    )
    (line,) = diagnose([Result(B, end, probing.NO_ROUTE)], firewalls)
    assert "ip saddr 10.0.0.2 tcp dport 8786 accept`" in line


def test_one_line_for_many_ports_and_one_for_what_nobody_reaches() -> None:
    many = [End("machine-b", "10.0.0.2", port, "worker", "cpu") for port in (40001, 40002)]
    (line,) = diagnose([Result(A, end, probing.TIMEOUT) for end in many])
    assert "10.0.0.2:40001, 40002/tcp" in line
    (line,) = diagnose([Result(source, SCHEDULER, probing.REFUSED) for source in (B, C)])
    assert "nothing listens" in line


def test_probe() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
        answers = probing.probe([("127.0.0.1", port), ("machine.invalid", 1)])
    assert answers == [probing.OPEN, probing.UNKNOWN_NAME]
    assert probing.probe([("127.0.0.1", port)]) == [probing.REFUSED]
    assert probing.probe([]) == []
    with socket.socket() as full:
        # A queue that is full swallows what comes, as a firewall that drops does.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        place = full.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(place)
        assert probing.probe([place], 0.3) == [probing.TIMEOUT]
        for each in waiting:
            each.close()


def test_own_address() -> None:
    assert probing.own_address("127.0.0.1", 1) == "127.0.0.1"
    assert probing.own_address("machine.invalid", 1) == ""


def test_listening() -> None:
    code = (
        "import socket, sys\n"
        "a = [socket.create_server(('127.0.0.1', 0)), socket.create_server(('0.0.0.0', 0))]\n"
        "print(a[1].getsockname()[1], flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert probing.listening([process.pid, 2**22 + 1]) == {
            process.pid: [port],
            2**22 + 1: [],
        }
        process.communicate(b"")


@pytest.mark.skipif(not os.path.exists("/proc/net/tcp6"), reason="no IPv6 here")
def test_loopback_is_known_in_every_form() -> None:
    loopback = ("0100007F", "0" * 24 + "01000000", "0" * 16 + "FFFF0000" + "0100007F")
    if sys.byteorder == "little":
        assert all(probing._is_loopback(each) for each in loopback)
        assert not probing._is_loopback("00000000")
        assert not probing._is_loopback("0" * 32)

"""What carries connections from outside: which way leads where, without a cluster."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from perennial.connect import Connection, Tls
from perennial.errors import PerennialError
from perennial.files import write_atomic
from perennial.tunnel import bastion, close_tunnel, describe, manage, open_tunnel, through
from perennial.tunnel.forwarding import Forward
from tests.ports import free_ports

CONNECTION = Connection(
    "lab",
    "tls://machine-a:8786",
    "https://machine-a:8888/proxy/8787/status",
    Tls("ca", "cert", "key"),
    "https://machine-a:8888/lab",
)


def test_what_leads_where() -> None:
    places = bastion.endpoints_of(CONNECTION)
    assert places == [("machine-a", 8786), ("machine-a", 8888)]
    forwards = manage._forwards(places, [Forward(9000, "machine-a", 8786)])
    assert [each.local for each in forwards] == [9000, 8888]
    here = manage._rewritten(CONNECTION, forwards)
    assert here.scheduler_address == "tls://127.0.0.1:9000"
    assert here.jupyter_url == "https://127.0.0.1:8888/lab"
    assert here.dashboard_link == "https://127.0.0.1:8888/proxy/8787/status"
    assert here.tls == CONNECTION.tls
    assert manage._rewritten(CONNECTION, ()) == CONNECTION
    no_jupyter = replace(CONNECTION, jupyter_url=None, dashboard_link=None)
    assert bastion.endpoints_of(no_jupyter) == [("machine-a", 8786)]


def test_two_places_with_the_same_port() -> None:
    port, free = free_ports(2)
    chosen = manage._free([Forward(port, "a", port), Forward(port, "b", port)])
    assert chosen[0].local == port
    assert chosen[1].local != port
    with socket.create_server(("127.0.0.1", free)):
        assert manage._free([Forward(free, "a", free)])[0].local != free


def test_the_last_of_several_bastions_is_the_bastion() -> None:
    hop = bastion.hop("me@outer:23,you@inner")
    assert (hop.user, hop.address, hop.jump) == ("you", "inner", "me@outer:23")


def test_a_damaged_file_is_no_tunnel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert describe("lab") is None
    assert close_tunnel("lab") is False
    for text in ("", "{}", "[]", '{"bastion": "b", "forwards": [{}]}'):
        write_atomic(tmp_path / "perennial/tunnels.d/lab/tunnel.json", text)
        assert describe("lab") is None
        assert through(CONNECTION) == CONNECTION
    with pytest.raises(PerennialError, match="name a bastion with --ssh"):
        open_tunnel(CONNECTION, None)
    assert close_tunnel("lab") is True

"""Which clusters a forwarded port leads to, and by which kubeconfig."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml

from perennial import tunnel
from perennial.connect import Connection, Tls
from perennial.errors import PerennialError
from perennial.platforms.kubernetes.port_forward import PortForward

FILES = Tls("ca", "cert", "key")
INSIDE = Connection(
    "lab",
    "tls://lab-scheduler.dask.svc:8786",
    None,
    FILES,
    "https://lab-jupyter.dask.svc:8888/lab",
)
CONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "prod",
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {"token": "x"}}],
    "contexts": [
        {"name": name, "context": {"cluster": "c", "user": "u"}} for name in ("prod", "other")
    ],
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    (tmp_path / "config").write_text(yaml.safe_dump(CONFIG))
    return tmp_path


def test_it_remembers_the_context_of_the_moment(home: Path) -> None:
    way = tunnel.by_platform(INSIDE)
    assert (way.carrier, way.told["namespace"], way.told["context"]) == (
        "kubernetes",
        "dask",
        "prod",
    )
    assert way.told["kubeconfig"] == str(home / "config")
    assert str(way) == "port-forward by the context prod"


def test_it_leads_to_the_clusters_own_services_alone() -> None:
    carrier = PortForward(tunnel.by_platform(INSIDE).told)
    scheduler = ("lab-scheduler.dask.svc", 8786)
    assert carrier.endpoints(INSIDE) == [scheduler, ("lab-jupyter.dask.svc", 8888)]
    ingress = Connection(
        "lab", INSIDE.scheduler_address, None, FILES, "https://hub.example.org/lab"
    )
    assert carrier.endpoints(ingress) == [scheduler]
    with_dashboard = PortForward({**tunnel.by_platform(INSIDE).told, "dashboard": "8787"})
    assert ("lab-scheduler.dask.svc", 8787) in with_dashboard.endpoints(ingress)


@pytest.mark.parametrize("address", ["machine-a:8786", "other-scheduler.dask.svc:8786", "x.svc:1"])
def test_another_address_is_refused_in_a_line(address: str) -> None:
    elsewhere = Connection("lab", f"tls://{address}", None, FILES)
    with pytest.raises(PerennialError, match=r"--port-forward is for .*kubernetes.*, found"):
        tunnel.by_platform(elsewhere)
    assert not tunnel.is_unreachable(elsewhere)


def test_an_api_server_that_is_away_is_said_and_nothing_is_left_behind(home: Path) -> None:
    way = tunnel.by_platform(INSIDE)
    with pytest.raises(PerennialError, match="cannot list the pods of lab: the API server does"):
        tunnel.open_tunnel(INSIDE, way)
    assert not list((home / "state").rglob("tunnel.json"))
    with pytest.raises(PerennialError, match="does not answer"):
        asyncio.run(PortForward(way.told).connect(()))
    assert tunnel.is_unreachable(INSIDE)


def test_a_proxy_in_the_kubeconfig_is_not_passed_by(home: Path) -> None:
    config = {**CONFIG, "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}]}
    config["clusters"][0]["cluster"]["proxy-url"] = "http://127.0.0.1:3128"  # type: ignore[index]
    (home / "config").write_text(yaml.safe_dump(config))
    line = PortForward(tunnel.by_platform(INSIDE).told)._line()
    with pytest.raises(PerennialError, match="proxy-url"):
        line._request("pod", 8786)

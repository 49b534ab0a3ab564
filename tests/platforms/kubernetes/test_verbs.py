"""Each command on Kubernetes: what cannot be done is one line that says what to do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from perennial.certificates import covers
from perennial.cli import app
from perennial.errors import FleetError, PerennialError
from perennial.paths import cluster_state
from perennial.platforms.kubernetes import secrets
from perennial.platforms.kubernetes.fleet import KubernetesFleet
from perennial.spec import load

FILE = "name: lab\nplatform: kubernetes\nworkers: {cpu: {}}\nkubernetes: {image: dask:1}\n"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cluster whose secrets were made, in a home without a kubeconfig."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cluster.yaml").write_text(FILE)
    secrets.prepared(load(tmp_path / "cluster.yaml"), str(tmp_path / "cluster.yaml"))
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        *("plan -f cluster.yaml", "up -f cluster.yaml --yes", "refresh", "down --force"),
        *("scale cpu=3", "rotate", "revoke anna", "open --print", "enable", "disable", "doctor"),
        *("status", "logs", "restart cpu --force"),
        *("adopt helm lab --scale worker=1:2 --image dask:1", "adopt helm lab --undo"),
    ],
)
def test_it_is_one_line_without_a_traceback(cluster: Path, words: str) -> None:
    done = CliRunner().invoke(app, words.split())
    assert isinstance(done.exception, PerennialError), done.output
    said = str(done.exception)
    assert "\n" not in said
    assert said.startswith(("lab: ", "kubeconfig: ", "pulumi: ")), said


def test_a_cluster_that_nobody_reaches_is_listed(cluster: Path) -> None:
    done = CliRunner().invoke(app, ["list"])
    assert "lab                  kubernetes unknown: kubeconfig: " in done.output


def test_the_secrets_are_for_no_terminal_and_hold_no_key_of_the_authority(
    cluster: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = cluster_state("lab")
    assert secrets.main(["cluster.yaml"]) == 0
    first = capsys.readouterr().out
    assert secrets.main(["cluster.yaml"]) == 0
    assert capsys.readouterr().out == first
    assert first.count("kind: Secret") == 4
    assert "ca-key" not in first
    spec = load(cluster / "cluster.yaml")
    by_name = {each["metadata"]["name"]: each["data"] for each in secrets.manifests(spec, paths)}
    assert by_name["lab-worker-tls"].keys() == {"ca.pem", "worker.pem", "worker-key.pem"}
    # A browser finds it at a forwarded port of this machine.
    assert covers((paths.tls / "jupyter.pem").read_bytes(), ("127.0.0.1", "localhost"))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(PerennialError, match="stdout is a terminal"):
        secrets.main(["cluster.yaml"])


def test_a_fleet_without_a_kubeconfig_says_so(cluster: Path) -> None:
    with pytest.raises(FleetError, match=r"^cpu: kubeconfig: .*; set KUBECONFIG"):
        KubernetesFleet("cpu", "default", "lab-cpu").observe()

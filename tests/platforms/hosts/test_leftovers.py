"""What a removal takes away that no manifest names."""

from __future__ import annotations

from pathlib import Path

import pytest

from perennial.files import write_json
from perennial.platforms.hosts.agent import making, manifest, store, systemd


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(manifest, "STATE", tmp_path / "state")
    monkeypatch.setattr(manifest, "LOCKS", tmp_path / "locks")
    monkeypatch.setattr(manifest, "PYTHONS", tmp_path / "pythons")
    monkeypatch.setattr(systemd, "take_down", lambda *_: None)
    monkeypatch.setattr(systemd, "reload", lambda: None)
    return tmp_path / "state"


def written(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_what_a_power_cut_has_left_of_a_file_goes_with_it(state: Path, tmp_path: Path) -> None:
    units = tmp_path / "etc" / "systemd"
    own = written(units / "dask-lab.target")
    config = written(tmp_path / "etc" / "dask-perennial" / "lab" / "cpu.yaml")
    write_json(manifest.path("lab"), {"init": "systemd", "files": [str(own), str(config)]})
    written(units / ".dask-lab.target.k3_x9abc.tmp")
    written(config.with_name(".cpu.yaml.aaaaaaaa.tmp"))
    written(manifest.path("lab").with_name(".manifest.json.bbbbbbbb.tmp"))
    written(state / "lab" / "bin" / ".uv-1.2.4711.tmp")
    # Somebody else's.
    written(units / ".dask-lab.service.k3_x9abc.tmp")
    written(units / ".dask-lab.target.swp")
    store.remove("lab", print)
    assert files(tmp_path) == {
        "etc/systemd/.dask-lab.service.k3_x9abc.tmp",
        "etc/systemd/.dask-lab.target.swp",
    }
    assert not config.parent.exists()
    assert not state.exists()


@pytest.mark.parametrize("key", ["owner", "machine"])  # an earlier version has written its name
def test_what_another_resource_owns_by_now_is_kept(state: Path, tmp_path: Path, key: str) -> None:
    folder = state / "lab" / "env-1"
    own = [written(tmp_path / "etc" / "dask-lab.target"), written(folder / "bin" / "python")]
    there = {"init": "systemd", "files": [str(own[0])], key: "w1"}
    write_json(manifest.path("lab"), {**there, "environment": str(folder)})
    said: list[str] = []
    assert store.remove("lab", said.append, owner="machine-b") == []
    making.remove(str(folder), "lab")
    assert said == ["another resource owns the services of this machine by now; they stay"]
    assert [path.exists() for path in own] == [True, True]
    store.remove("lab", said.append, owner="w1")
    making.remove(str(folder), "lab")
    assert not own[0].exists()
    assert not state.exists()


def test_a_manifest_that_was_never_whole_leaves_nothing(state: Path) -> None:
    written(manifest.path("lab").with_name(".manifest.json.bbbbbbbb.tmp"))
    store.remove("lab", print)
    assert not state.exists()


def test_an_environment_that_was_cut_off_leaves_nothing(state: Path, tmp_path: Path) -> None:
    folder = state / "lab" / "env-1"
    written(folder / "bin" / "python")
    written(folder.with_suffix(".txt"))
    written(state / "lab" / "bin" / "uv-1.2")
    written(manifest.path("lab").with_name(".manifest.json.bbbbbbbb.tmp"))
    making.remove(str(folder), "lab")
    assert not state.exists()


def test_a_cluster_takes_its_interpreters_with_it(state: Path, tmp_path: Path) -> None:
    pythons = tmp_path / "pythons"
    for cluster in ("lab", "gpu"):
        written(pythons / cluster / "cpython-3.12" / "bin" / "python3.12")
        written(state / cluster / "env-1" / "bin" / "python")
        written(state / cluster / "bin" / "uv-1.2")
        write_json(manifest.path(cluster), {"init": "systemd", "files": []})
    store.remove("lab", print)
    making.remove(str(state / "lab" / "env-1"), "lab")
    assert [path.name for path in pythons.iterdir()] == ["gpu"]
    store.remove("gpu", print)
    assert not pythons.exists()


def test_notebooks_that_stay_keep_no_interpreter(state: Path, tmp_path: Path) -> None:
    written(tmp_path / "pythons" / "lab" / "cpython-3.12" / "bin" / "python3.12")
    notebook = written(state / "lab" / "jupyter" / "notebooks" / "a.ipynb")
    making.remove(str(state / "lab" / "env-1"), "lab")
    assert notebook.exists()
    assert not (tmp_path / "pythons").exists()

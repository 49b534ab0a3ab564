"""Folders of the user, after the XDG specification and after Dask itself."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from perennial import paths
from perennial.errors import PerennialError
from tests.dask_processes import python


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("DASK_CONFIG", raising=False)
    return tmp_path


def test_state_stands_below_the_home_folder(home: Path) -> None:
    assert paths.state_home() == home / ".local/state/perennial"
    assert paths.cluster_state("lab").root == home / ".local/state/perennial/lab"


def test_xdg_state_home_is_honoured_when_absolute(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/var/somewhere")
    assert paths.state_home() == Path("/var/somewhere/perennial")
    for ignored in ("relative/state", ""):
        monkeypatch.setenv("XDG_STATE_HOME", ignored)
        assert paths.state_home() == home / ".local/state/perennial"


def test_paths_of_a_cluster_differ_and_stay_inside() -> None:
    cluster = paths.cluster_state("lab")
    names = [name for name, kind in vars(paths.ClusterPaths).items() if isinstance(kind, property)]
    found = [getattr(cluster, name) for name in names]
    assert len(set(found)) == len(found) == 18
    assert {path.parent for path in found} == {cluster.root}


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "Lab", "-a", "a-", "lab\n", "ä"])
def test_a_name_that_could_lead_elsewhere_is_refused(name: str) -> None:
    for refuse in (paths.cluster_state, paths.received_connection):
        with pytest.raises(PerennialError, match="is no cluster name"):
            refuse(name)


@pytest.mark.parametrize("name", ["a", "lab", "a-1", "a" * 40])
def test_every_name_of_a_cluster_file_is_taken(name: str) -> None:
    assert paths.cluster_state(name).root.name == name


def test_known_clusters_are_those_with_a_file_of_their_own(home: Path) -> None:
    assert paths.known_clusters() == []
    for name, file in (("b", "cluster.yaml"), ("a", "supervisord.conf"), ("c", "other")):
        folder = paths.cluster_state(name).root
        folder.mkdir(parents=True)
        (folder / file).touch()
    paths.received_connection("elsewhere").mkdir(parents=True)
    (paths.state_home() / "a file").touch()
    assert paths.known_clusters() == ["a", "b"]
    assert paths.received_connections() == ["elsewhere"]


def test_dask_config_is_where_dask_reads_it(home: Path, tmp_path: Path) -> None:
    """Asked of Dask itself, in each of the cases that it tells apart."""
    folder, file = tmp_path / "folder", tmp_path / "file.yaml"
    folder.mkdir()
    file.write_text("from-file: true")
    ask = (
        "import json, dask, dask.config\n"
        "from perennial import paths\n"
        "folder = paths.dask_config_home()\n"
        "folder.mkdir(parents=True, exist_ok=True)\n"
        "(folder / 'probe.yaml').write_text('probe: 1')\n"
        "dask.config.refresh()\n"
        "print(json.dumps([str(folder), dask.config.get('probe', None)]))\n"
    )
    usual = str(home / ".config/dask")
    for variables, expected in (
        ({}, usual),
        ({"XDG_CONFIG_HOME": "/nowhere"}, usual),
        ({"DASK_CONFIG": str(folder)}, str(folder)),
        ({"DASK_CONFIG": str(home / "new")}, str(home / "new")),
        ({"DASK_CONFIG": str(file)}, usual),
        ({"DASK_CONFIG": ""}, usual),
    ):
        assert json.loads(python(ask, home, variables)) == [expected, 1], variables


def test_both_folders_that_dask_reads_are_known(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASK_CONFIG", str(home / "mine"))
    assert paths.dask_config_homes() == [home / "mine", home / ".config/dask"]
    monkeypatch.setenv("DASK_CONFIG", str(home / ".config/dask"))
    assert paths.dask_config_homes() == [home / ".config/dask"]


def test_a_state_folder_that_others_can_change_is_refused(home: Path) -> None:
    folder = paths.cluster_state("lab").root
    folder.mkdir(parents=True)
    for each in (folder, folder.parent):
        each.chmod(0o777)
        with pytest.raises(PerennialError) as caught:
            paths.cluster_state("lab")
        assert f"{each}: others may write to it (mode 0777); " in str(caught.value)
        each.chmod(0o700)
    paths.cluster_state("lab")


def test_a_group_may_write_where_it_is_the_users_own(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders made with umask 002 on systems that give each user a group of their own."""
    folder = paths.cluster_state("lab").root
    folder.mkdir(parents=True)
    folder.chmod(0o770)
    if paths._is_private_group(folder.stat().st_gid):
        paths.cluster_state("lab")
    monkeypatch.setattr(paths, "_is_private_group", lambda _number: False)
    with pytest.raises(PerennialError, match="mode 0770"):
        paths.cluster_state("lab")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes folders of others")
def test_a_state_folder_of_another_user_is_refused(home: Path) -> None:
    folder = paths.cluster_state("lab").root
    folder.mkdir(parents=True)
    os.chown(folder, 12346, 12346)
    with pytest.raises(PerennialError, match="belongs to user 12346, not to user 0"):
        paths.cluster_state("lab")

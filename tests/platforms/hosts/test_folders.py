"""Root in folders of users: it believes nothing that stands there."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from perennial.errors import PerennialError
from perennial.platforms.hosts.agent import folders

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders to others")

USER, OTHER = 61_001, 61_002


def owner(path: Path) -> int:
    return path.lstat().st_uid


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder of the user's, which root has made."""
    folders.make(tmp_path / "var" / "home", 0o700, (USER, USER), ours=True)
    return tmp_path / "var" / "home"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A folder of root's with a file."""
    (tmp_path / "etc").mkdir(mode=0o755)
    (tmp_path / "etc" / "shadow").touch(0o600)
    return tmp_path / "etc"


def test_folders_are_made_with_their_parents(home: Path) -> None:
    assert (owner(home), home.stat().st_mode & 0o777) == (USER, 0o700)
    assert (owner(home.parent), home.parent.stat().st_mode & 0o777) == (0, 0o755)
    folders.make(home, 0o750, (USER, USER), ours=True)  # again
    assert home.stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("deep", [False, True])
def test_a_link_of_the_user_is_not_followed(home: Path, secret: Path, deep: bool) -> None:
    link = home / "jupyter"
    link.symlink_to(secret)
    path = link / "notebooks" if deep else link
    if deep:
        (secret / "notebooks").mkdir()
    for ours in (True, False):
        with pytest.raises(PerennialError, match="jupyter is a link or no folder"):
            folders.make(path, 0o700, (USER, USER), ours)
        with pytest.raises(PerennialError):
            folders.give_to_root(path, {USER}, ours)
    assert not folders.holds_something(path)
    assert [owner(each) for each in (secret, *secret.iterdir())].count(0) >= 2
    assert secret.stat().st_mode & 0o777 == 0o755


def test_a_link_of_roots_own_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "srv").symlink_to(tmp_path / "disk")
    folders.make(tmp_path / "srv" / "notebooks", 0o700, (USER, USER), ours=False)
    assert owner(tmp_path / "disk" / "notebooks") == USER


def test_links_inside_are_not_followed_either(home: Path, secret: Path) -> None:
    (home / "etc").symlink_to(secret)
    (home / "file").symlink_to(secret / "shadow")
    os.link(secret / "shadow", home / "second-name")
    os.chown(home, 0, 0)
    folders.make(home, 0o700, (USER, USER), ours=True)
    assert owner(secret) == owner(secret / "shadow") == 0
    assert owner(home / "etc") == USER  # the link itself


def test_what_is_somebody_elses_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    (data / "everybody").touch()
    for who in (0, OTHER):
        os.chown(data, who, who)
        with pytest.raises(PerennialError, match="is not empty"):
            folders.make(data, 0o700, (USER, USER), ours=False)
        assert (owner(data), data.stat().st_mode & 0o777) == (who, 0o755)
    (data / "everybody").unlink()
    folders.make(data, 0o700, (USER, USER), ours=False)
    assert owner(data) == USER


def test_what_was_kept_comes_back_and_nothing_else(tmp_path: Path) -> None:
    data = tmp_path / "data"
    folders.make(data, 0o700, (USER, USER), ours=False)
    mine, theirs = data / "mine.ipynb", data / "theirs.ipynb"
    for path, who in ((mine, USER), (theirs, OTHER)):
        path.touch()
        os.chown(path, who, who)
    assert folders.holds_something(data)
    folders.give_to_root(data, {USER}, ours=False)
    assert [owner(path) for path in (data, mine, theirs)] == [0, 0, OTHER]
    folders.make(data, 0o700, (USER, USER), ours=False)
    assert [owner(path) for path in (data, mine, theirs)] == [USER, USER, OTHER]
    assert {path.name for path in data.iterdir()} == {"mine.ipynb", "theirs.ipynb"}


@pytest.mark.parametrize("ending", ["giving", "owning"])
def test_who_was_cut_off_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    data = tmp_path / "data"
    mine = data / "mine.ipynb"
    folders.make(data, 0o700, (USER, USER), ours=False)
    mine.touch()
    os.chown(mine, USER, USER)

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    give = folders._give
    back = partial(folders.give_to_root, data, {USER}, ours=False)
    for again in (back, partial(folders.make, data, 0o700, (USER, USER), ours=False)):
        with monkeypatch.context() as patched:
            if ending == "giving":
                patched.setattr(folders, "_give", lambda *each: cut(give(*each)))
            else:
                patched.setattr(os, "fchown", cut)
            with pytest.raises(KeyboardInterrupt):
                again()
        again()
    assert [owner(path) for path in (data, mine)] == [USER, USER]
    assert [path.name for path in data.iterdir()] == ["mine.ipynb"]

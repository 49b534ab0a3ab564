"""What root sees of a folder that the cluster's user writes to: no more than that user does."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from perennial.platforms.hosts.agent import journal, manifest, supervisord
from perennial.supervision.hold import holder

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

USER = pwd.getpwnam("nobody")


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a cluster's supervisord, which is its user's."""
    # Not pytest's own folder: others may not pass through that.
    with tempfile.TemporaryDirectory(prefix="perennial-") as state:
        os.chmod(state, 0o755)
        monkeypatch.setattr(manifest, "STATE", Path(state))
        made = supervisord.root("lab")
        (made / "run").mkdir(parents=True)
        for each in (made, made / "run"):
            os.chown(each, USER.pw_uid, USER.pw_gid)
        yield made


@pytest.fixture
def rights() -> Iterator[None]:
    before = os.geteuid(), os.getegid(), os.getgroups()
    yield
    assert (os.geteuid(), os.getegid(), os.getgroups()) == before


@pytest.mark.usefixtures("rights")
def test_a_link_in_the_place_of_a_lock_leads_root_nowhere(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("1 7\n")
    secret.chmod(0o600)
    (folder / "run" / "x.lock").symlink_to(secret)
    own = folder / "run" / "y.lock"
    own.write_text("1 3\n")
    os.chown(own, USER.pw_uid, USER.pw_gid)
    assert holder(folder / "run" / "x.lock") == (0, 7)  # followed, root would read it
    assert {name: each["restarts"] for name, each in supervisord.members("lab").items()} == {
        "x": 0,
        "y": 2,
    }


@pytest.mark.usefixtures("rights")
def test_whatever_happens_root_is_root_again(folder: Path) -> None:
    def fail() -> None:
        with supervisord.owners_rights("lab") as found:
            assert found == folder
            assert (os.geteuid(), os.getegid()) == (USER.pw_uid, USER.pw_gid)
            assert os.getgroups() == []
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with supervisord.owners_rights("nobody-has-this"):
        assert os.geteuid() == 0


def test_who_reads_a_log_for_a_user_has_no_group_of_roots() -> None:
    user = USER.pw_name
    assert journal._read_as(user, "id", "-u").decode().split() == [str(USER.pw_uid)]
    assert journal._read_as(user, "id", "-G").decode().split() == [str(USER.pw_gid)]


def test_who_reads_a_log_for_a_user_reads_nothing_else() -> None:
    code = (
        "from perennial.platforms.hosts.agent import journal\n"
        f"print(journal._read_as({USER.pw_name!r}, 'readlink', '/proc/self/fd/0').decode(), end='')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input="a secret", capture_output=True, text=True, check=True
    )
    assert done.stdout == "/dev/null\n"


def test_what_cannot_be_read_of_a_log_is_no_line_of_it(folder: Path) -> None:
    (folder / "logs").mkdir()
    assert journal._of_file("lab", "cpu-0", 5, None, USER.pw_name) == ([], "0 0")
    log = folder / "logs" / "cpu-0.log"
    log.write_text("one\ntwo\n")
    file = log.stat().st_ino
    assert journal._of_file("lab", "cpu-0", 1, None, USER.pw_name) == (["two"], f"{file} 8")
    since = journal._of_file("lab", "cpu-0", 1, f"{file} 4", USER.pw_name)
    assert since == (["two"], f"{file} 8")

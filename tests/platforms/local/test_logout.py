"""What systemd-logind ends at a logout, as the doctor sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from perennial.platforms.local.logout import ends_processes, files, parse, settings, warning

SESSION = "0::/user.slice/user-1000.slice/session-3.scope\n"
MANAGER = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/dask-perennial-lab.service\n"
SYSTEM = "0::/system.slice/dask-perennial-lab.service\n"
OLDER = f"12:pids:/user.slice\n1:name=systemd:{SESSION.split('::')[1]}0::/\n"


@pytest.mark.parametrize("session", [SESSION, OLDER])
def test_a_cluster_of_a_login_is_kept_by_enable(session: str) -> None:
    cgroups = {"supervisord": session, "scheduler": session}
    said = warning(cgroups, "ada", ends=True, lingers=True)
    assert "KillUserProcesses=yes" in said  # lingering keeps nothing that is in a session
    assert "run `perennial enable`" in said
    assert warning(cgroups, "ada", ends=False, lingers=False) == ""


def test_what_was_adopted_stays_in_the_login_until_it_is_restarted() -> None:
    cgroups = {"supervisord": MANAGER, "scheduler": SESSION, "cpu-0": MANAGER}
    said = warning(cgroups, "ada", ends=True, lingers=True)
    assert said.startswith("scheduler: started in a login")
    assert "`perennial restart`" in said


def test_a_unit_of_the_user_needs_lingering() -> None:
    cgroups = {"supervisord": MANAGER, "scheduler": MANAGER}
    for ends in (True, False):  # the manager itself ends
        said = warning(cgroups, "ada", ends, lingers=False)
        assert "run `loginctl enable-linger ada`" in said
        assert warning(cgroups, "ada", ends, lingers=True) == ""


def test_a_unit_of_the_system_and_a_machine_without_sessions() -> None:
    for text in (SYSTEM, "0::/\n", ""):
        assert warning({"supervisord": text}, "ada", ends=True, lingers=False) == ""


def test_whom_logind_means() -> None:
    assert not ends_processes({}, "ada")
    assert not ends_processes({"KillUserProcesses": "no"}, "ada")
    assert ends_processes({"KillUserProcesses": "yes"}, "ada")
    assert not ends_processes({"KillUserProcesses": "yes"}, "root")
    assert not ends_processes({"KillUserProcesses": "yes", "KillOnlyUsers": "bob eve"}, "ada")
    assert ends_processes({"KillUserProcesses": "1", "KillOnlyUsers": "bob ada"}, "ada")
    excluded = {"KillUserProcesses": "true", "KillExcludeUsers": "root ada"}
    assert not ends_processes(excluded, "ada")


def test_the_files_count_as_logind_reads_them(tmp_path: Path) -> None:
    etc, run, usr = (tmp_path / name for name in ("etc", "run", "usr"))
    texts = {
        etc / "logind.conf": "[Login]\n#KillUserProcesses=yes\nKillOnlyUsers=ada\n",
        usr / "logind.conf": "[Login]\nKillUserProcesses=yes\n",
        etc / "logind.conf.d" / "50-site.conf": "[Login]\nKillUserProcesses = yes\n",
        usr / "logind.conf.d" / "50-site.conf": "[Login]\nKillUserProcesses=no\n",
        run / "logind.conf.d" / "90-more.conf": "[Login]\nKillOnlyUsers=\n",
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    roots = [str(etc), str(run), str(usr)]
    assert [path.relative_to(tmp_path).as_posix() for path in files(roots)] == [
        "etc/logind.conf",
        "etc/logind.conf.d/50-site.conf",
        "run/logind.conf.d/90-more.conf",
    ]
    assert parse(path.read_text() for path in files(roots)) == {"KillUserProcesses": "yes"}


def test_the_running_logind_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "logind.conf").write_text("KillUserProcesses=no\n")
    program = tmp_path / "loginctl"
    program.write_text("#!/bin/sh\necho KillUserProcesses=yes\necho KillExcludeUsers=root\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert settings([str(tmp_path)])["KillUserProcesses"] == "yes"
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert settings([str(tmp_path)]) == {"KillUserProcesses": "no"}

"""What brings supervisord back at boot on a machine, with systemd and without it."""

from __future__ import annotations

import shlex

import pytest

from perennial import quoting
from perennial.errors import PerennialError
from perennial.platforms.hosts.desired_state import Boot, DesiredState
from perennial.platforms.hosts.drift import main_file
from perennial.platforms.hosts.machine_services import services_by_machine
from tests.platforms.hosts.clusters import arranged, spec_of, under, user_home


def found(boot: Boot) -> DesiredState:
    spec = spec_of(environment={"python": "/opt/100%/bin/python"}, **under("supervisord"))
    return arranged(services_by_machine(spec)["machine-b"], boot=boot)


def test_a_unit_of_the_users_own_starts_supervisord() -> None:
    wanted = found("unit")
    assert (wanted.units, wanted.crontab) == (("dask-lab-machine-b.service",), "")
    [unit] = [f for f in wanted.files if f.path.endswith(".service")]
    assert unit.path == "/home/ada/.config/systemd/user/dask-lab-machine-b.service"
    root = "/home/ada/.local/state/dask-perennial/machine-b/lab/supervisord"
    for line in (
        "ConditionHost=0123abcd",  # machines may share a home folder
        f"ConditionPathExists={root}/supervisord.conf",
        "WantedBy=default.target",
    ):
        assert f"\n{line}\n" in unit.text
    assert "User=" not in unit.text


def test_a_line_of_the_crontab_starts_it_elsewhere() -> None:
    wanted = found("crontab")
    assert wanted.units == ()
    assert not any(".service" in file.path or "/etc/" in file.path for file in wanted.files)
    assert wanted.crontab == (
        "@reboot umask 077; ulimit -n 65536 2>/dev/null; cd / && exec env"
        " PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 PYTHONUTF8=1"
        r" /opt/100\%/bin/python -P -m supervisor.supervisord"
        " -c /home/ada/.local/state/dask-perennial/machine-b/lab/supervisord/supervisord.conf\n"
    )


def test_nothing_starts_it_where_neither_is_allowed() -> None:
    wanted = found("")
    assert (wanted.units, wanted.crontab) == ((), "")


def test_a_socket_below_a_long_home_is_made_by_its_name_alone() -> None:
    paths = user_home("crontab", "/home/" + "a" * 60).paths("lab")
    assert len(str(paths.socket)) > 107
    assert "file=/proc/self/cwd/supervisor.sock\n" in main_file(paths)


def test_a_command_for_cron_survives_its_shell() -> None:
    argv = ["/opt/a b/python", "it's", "100%", "$HOME", "\\%"]
    written = quoting.cron_command(argv, "here")
    # cron makes `\%` into `%` and gives the rest to a shell.
    assert shlex.split(written.replace(r"\%", "%")) == argv
    with pytest.raises(PerennialError, match="here, argument 1"):
        quoting.cron_command(["python", "a\nb"], "here")

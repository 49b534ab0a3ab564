"""What brings supervisord back at boot on a machine, with systemd and without it."""

from __future__ import annotations

import shlex

import pytest

from perennial import quoting
from perennial.errors import PerennialError
from perennial.platforms.hosts.desired_state import DesiredState, desired_state
from perennial.platforms.hosts.share import shares
from tests.platforms.hosts.clusters import spec_of


def arranged(booted: bool) -> DesiredState:
    spec = spec_of(environment={"python": "/opt/100%/bin/python"})
    share = shares(spec)["machine-b"]
    parts = [part.at("10.0.0.2") for part in share.services]
    return desired_state("lab", "supervisord", parts, share.counts, {}, booted=booted)


def test_a_unit_starts_supervisord_where_systemd_is() -> None:
    found = arranged(booted=True)
    assert found.units == ("dask-lab-supervisord.service",)
    assert "/etc/systemd/system/dask-lab-supervisord.service" in {f.path for f in found.files}
    assert "/etc/cron.d/dask-lab" not in {f.path for f in found.files}


def test_cron_starts_it_elsewhere() -> None:
    found = arranged(booted=False)
    assert found.units == ()
    (file,) = (f for f in found.files if not f.path.startswith("/etc/dask-perennial/"))
    assert (file.path, file.mode, file.owner) == ("/etc/cron.d/dask-lab", 0o644, None)
    *_, job = file.text.splitlines()
    assert job == (
        "@reboot dask-lab umask 077; ulimit -n 65536 2>/dev/null;"
        r" exec /opt/100\%/bin/python -P -m supervisor.supervisord"
        " -c /var/lib/dask-perennial/lab/supervisord/supervisord.conf"
    )
    assert file.text.endswith("\n")


def test_a_command_for_cron_survives_its_shell() -> None:
    argv = ["/opt/a b/python", "it's", "100%", "$HOME", "\\%"]
    written = quoting.cron_command(argv, "here")
    # cron makes `\%` into `%` and gives the rest to a shell.
    assert shlex.split(written.replace(r"\%", "%")) == argv
    with pytest.raises(PerennialError, match="here, argument 1"):
        quoting.cron_command(["python", "a\nb"], "here")

"""A machine whose names are wrong."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.homes import PERENNIAL, Home

pytestmark = pytest.mark.lab


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file and names the machine")
def test_a_machine_whose_names_are_wrong(home: Home) -> None:
    """Nothing of ours resolves its own name; what no certificate can hold is left out."""
    hosts = home.root / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n192.0.2.77 odd od..d {'a' * 64}.example münchen\n")
    script = f"""
mount --bind {hosts} /etc/hosts; hostname odd; ip link set lo up
{PERENNIAL} up --yes -f {home.file} && {PERENNIAL} doctor --json; {PERENNIAL} down --force
"""
    done = subprocess.run(
        [
            "unshare",
            "--net",
            "--uts",
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
            "bash",
            "-c",
            script,
        ],
        env=home.environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert "lab is up with 1 worker" in done.stdout, done.stdout + done.stderr
    assert '"check": "host names"' in done.stdout
    assert "'od..d'" in done.stdout
    assert "no name that a certificate can hold" in done.stdout
    assert "correct /etc/hosts" in done.stdout

"""One home folder, another machine: no command there touches a cluster of this one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.homes import PERENNIAL, Home

pytestmark = pytest.mark.lab

#: Another machine, as far as a process sees: its own processes, network and name.
OTHER = (
    *("unshare", "--map-root-user", "--pid", "--fork", "--mount-proc", "--net", "--uts"),
    *("--mount", "--kill-child"),
)


def _has_namespaces() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*OTHER, "true"], capture_output=True, check=False).returncode == 0


def _files(root: Path) -> dict[str, tuple[int, int]]:
    """What stands below a folder, but for what a running cluster writes itself."""
    return {
        str(path): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
        if path.is_file() and not {"logs", "scratch", "work"} & set(path.parts)
    }


def _on_another_machine(home: Home, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script on a machine that shares the home: with other namespaces."""
    return subprocess.run(
        [*OTHER, "bash", "-c", script],
        env=home.environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.skipif(not _has_namespaces(), reason="no namespaces here")
def test_on_another_machine_every_verb_names_the_one_and_touches_nothing(standing: Home) -> None:
    victim = standing.pid("cpu-0")
    before = _files(standing.state)
    file = str(standing.file)
    verbs = (
        ("status",),
        ("plan", "-f", file),
        ("up", "--yes", "-f", file),
        ("restart", "scheduler", "--force"),
        ("scale", "cpu=1"),
        ("logs",),
        ("pause",),
        ("down", "--force", "--purge"),
        ("list",),
    )
    # A program of the same user gets the number of a worker of the first machine.
    script = f"""
hostname other
ip link set lo up 2>/dev/null
echo {victim - 1} > /proc/sys/kernel/ns_last_pid; sleep 300 & stranger=$!
{"".join(f'{PERENNIAL} {" ".join(verb)} 2>&1; echo "= $?";' for verb in verbs)}
kill -0 $stranger && echo "$stranger lives"
"""
    done = _on_another_machine(standing, script)
    assert done.returncode == 0, done.stdout + done.stderr
    *said, lives = done.stdout.replace("\n= ", " = ").splitlines()
    assert lives == f"{victim} lives"
    host = os.uname().nodename
    assert len(said) == len(verbs), said
    for verb, line in zip(verbs, said, strict=True):
        if verb == ("list",):
            assert line.split()[:4] == ["lab", "local", "on", host], line
            assert line.endswith(" = 0"), line
        else:
            assert f"cluster lab runs on {host}" in line, (verb, line)
            assert line.endswith(" = 1"), (verb, line)
    assert _files(standing.state) == before
    assert standing.pid("cpu-0") == victim
    assert standing.workers() == {"cpu-0", "cpu-1"}


@pytest.mark.skipif(not _has_namespaces(), reason="no namespaces here")
def test_on_another_machine_nothing_connects_to_loopback(standing: Home) -> None:
    before = _files(standing.root)
    script = f"""
hostname other
for verb in connect "connect lab" env "connect --ssh 127.0.0.1:9"; do
    {PERENNIAL} $verb 2>&1; echo "= $?"
done
{sys.executable} -c 'import perennial; perennial.Cluster()' 2>&1 | tail -1
"""
    done = _on_another_machine(standing, script)
    said = done.stdout.replace("\n= ", " = ").splitlines()
    refused, tunnelled, notebook = said[:3], said[3:-1], said[-1]
    host = os.uname().nodename
    for line in (*refused, notebook):
        assert f"cluster lab runs on {host}, which shares this home folder" in line, line
        assert f"listens on 127.0.0.1 there; write an address of {host} as local.address" in line
        assert f"`perennial connect lab --ssh {host}` here" in line, line
    assert all(line.endswith(" = 1") for line in refused), refused
    assert "connecting: tunnel through 127.0.0.1:9" in tunnelled[0]  # the way that the others name
    after = {
        path: found for path, found in _files(standing.root).items() if "tunnels.d" not in path
    }
    assert after == before

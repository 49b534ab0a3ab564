"""`perennial up` and its kin through Pulumi's real engine; machines are folders."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.labs.pulumi import settings

if TYPE_CHECKING:
    from tests.stacks.conftest import Site

pytestmark = pytest.mark.lab

WHOLE = ["environment", "services"]


_BOTH = """
import sys
from pathlib import Path
from perennial.spec import load
from perennial.stacks import driver, planning
spec = load(Path(sys.argv[1]))
found = planning.planned(spec, driver.plan(spec, lambda text: None).log)
first = planning.first(spec, lambda: None)
assert found == first, (found, first)
print(len(found))
"""


def test_a_first_plan_is_what_the_engine_would_say(site: Site) -> None:
    site.spec["workers"]["cpu"]["scale"] = {"min": 0, "max": 4}
    site.file.write_text(json.dumps(site.spec))
    said = subprocess.run(
        [sys.executable, "-c", _BOTH, str(site.file)],
        env=site.environment,
        cwd=site.root,
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(said.stdout) > 3


@pytest.mark.smoke
def test_life(site: Site) -> None:
    assert "new machine: scheduler, jupyter" in site.run("plan")
    assert not site.state.exists(), "a plan leaves no trace"

    assert "7 made" in site.up()
    assert site.machines() == {"ma": WHOLE, "mb": WHOLE, "mc": WHOLE}
    assert "7 unchanged" in site.up()
    assert site.plan() == []

    site.spec["workers"]["cpu"] = {"count": 3, "memory": "1 GiB", "threads": 2}
    assert site.plan() == [
        "! mb restart cpu-mb-0 changed; drained first",
        "+ mb create cpu-mb-1 new",
        "! mc restart cpu-mc-0 changed; drained first",
    ]
    assert "2 changed, 5 unchanged" in site.up()

    site.spec["scheduler"] = {"port": 9786}
    site.spec["jupyter"] = None
    said = " / ".join(site.plan())
    assert "! ma restart scheduler changed; ALL RUNNING WORK AND RESULTS ARE LOST" in said
    assert "- ma delete jupyter no longer in the cluster file; its kernels end" in said

    said = site.run("down", "--force")
    assert "ma: left in place: /home/dask/notebooks" in said
    assert site.machines() == {}
    assert site.processes() == []
    assert not (site.state / "pulumi").exists()


def test_how_the_user_s_own_pulumi_writes_its_states_does_not_matter(site: Site) -> None:
    for way in ("DIY_BACKEND_GZIP", "SELF_MANAGED_STATE_LEGACY_LAYOUT"):
        site.environment[f"PULUMI_{way}"] = "true"
    site.up()
    assert "7 unchanged" in site.up()
    site.run("down", "--force")
    assert site.machines() == {}


def test_a_machine_comes_and_goes(site: Site) -> None:
    site.spec["workers"]["cpu"]["count"] = 4
    machines = [{"address": "ma", "roles": ["scheduler"]}]
    machines += [{"address": name, "roles": [{"cpu": 2}]} for name in ("mb", "mc")]
    site.spec |= {"jupyter": None, "hosts": {"machines": machines}}
    site.up()
    machines[2] = {"address": "md", "roles": [{"cpu": 2}]}
    assert site.plan() == [
        "+ md create md new machine: 2 of cpu",
        "+ md create environment uses /opt/dask/bin/python",
        "- mc delete mc no longer in the cluster file; its data moves to other machines; drained"
        " first",
    ]
    assert "2 made, 2 removed, 5 unchanged" in site.up()
    assert site.machines() == {"ma": WHOLE, "mb": WHOLE, "md": WHOLE}


@pytest.mark.parametrize("back", [False, True])
def test_a_machine_with_another_name_is_never_left_empty(site: Site, back: bool) -> None:
    """Its resources have other names then: new ones are made, and the old ones deleted."""
    first = {"address": "ma", "roles": ["scheduler", "jupyter"]}
    plain = {"address": "mb", "roles": ["cpu"]}
    before, after = [first, plain], [first, {**plain, "name": "w1"}]
    site.spec["hosts"]["machines"] = after if back else before
    site.up()
    site.spec["hosts"]["machines"] = before if back else after
    assert "2 made, 2 removed" in site.up()
    assert site.machines() == {"ma": WHOLE, "mb": WHOLE}
    assert site.plan() == []
    site.run("down", "--force")
    assert site.machines() == {}


_EMBEDDED = """
import sys
from pathlib import Path
from pulumi import automation
from perennial.spec import load
from perennial.stacks.hosts import HostsCluster
import json
file, name = Path(sys.argv[1]), {"now": "lab"}
def program():
    told = json.loads(file.read_text()) | {"name": name["now"]}
    file.write_text(json.dumps(told))
    HostsCluster("component", load(file))
project = automation.ProjectSettings("p", "python")
options = automation.LocalWorkspaceOptions(work_dir=str(file.parent), project_settings=project)
stack = automation.create_stack("s", "p", program=program, opts=options)
def resources(kind):
    found = stack.export_stack().deployment["resources"]
    return [each["urn"] for each in found if each["urn"].endswith(kind)]
def report():
    print(json.dumps({
        each.name: json.loads((each / "services").read_text())["cluster"]
        for each in sorted((file.parent / "machines").iterdir())
        if (each / "environment").exists() and (each / "services").exists()}))
stack.up()
report()
for replaced in (resources("ma-services"), resources("mb-services"), resources("ma-environment")):
    assert replaced
    stack.up(replace=replaced)
    report()
name["now"] = "gpu"
stack.up()
report()
stack.destroy()
assert not list((file.parent / "machines").iterdir())
"""


@pytest.mark.timeout(900)
def test_nothing_that_pulumi_replaces_is_left_empty_or_running(site: Site) -> None:
    """By `--replace`, and by a cluster of another name in the same stack."""
    site.file.write_text(json.dumps(site.spec))
    done = subprocess.run(
        [sys.executable, "-c", _EMBEDDED, str(site.file)],
        env={
            **site.environment,
            # The engine finds the Python of its dynamic providers there.
            "PATH": f"{Path(sys.executable).parent}:{site.environment['PATH']}",
            **settings(site.root),
        },
        cwd=site.root,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    lab = dict.fromkeys(("ma", "mb", "mc"), "lab")
    assert found == [lab] * 4 + [dict.fromkeys(lab, "gpu")]


def test_drift_is_seen_and_mended(site: Site) -> None:
    site.up()
    (site.root / "machines" / "mb" / "services").unlink()
    (site.root / "machines" / "mc" / "environment").unlink()
    expected = [
        "~ mb update mb its services are gone",
        "~ mc update mc the Python environment is gone",
    ]
    assert site.plan() == expected
    refreshed = site.run("refresh")
    assert all(line in " ".join(refreshed.split()) for line in expected)
    assert "2 changed, 5 unchanged" in site.up()
    assert site.machines() == {"ma": WHOLE, "mb": WHOLE, "mc": WHOLE}
    assert site.plan() == []


def test_one_machine_that_fails_stops_no_other(site: Site) -> None:
    (site.root / "broken").write_text("mb")
    said = site.up(code=1)
    assert said.splitlines()[-1] == "mb: refused the connection; start sshd there"
    assert "Traceback" not in said
    assert site.machines() == {"ma": WHOLE, "mc": WHOLE}
    assert (site.state / "connection.json").exists(), "the others can be used"
    (site.root / "broken").unlink()
    assert "2 made, 5 unchanged" in site.up()


def test_what_was_half_made_goes_with_its_machine(site: Site) -> None:
    site.up()
    site.spec["hosts"]["machines"].append("md")
    process = site.start("up", "--yes", nap=5.0)
    folder = site.root / "machines" / "md"
    while not folder.exists() and process.poll() is None:
        time.sleep(0.05)
    kill_tree(process.pid)
    assert site.machines()["md"] == ["environment.half"]
    site.spec["hosts"]["machines"].remove("md")
    site.up()
    assert site.machines() == {"ma": WHOLE, "mb": WHOLE, "mc": WHOLE}


def test_a_half_made_machine_that_is_off_is_not_forgotten(site: Site) -> None:
    site.up()
    site.spec["hosts"]["machines"] += ["md", "me"]
    process = site.start("up", "--yes", nap=5.0)
    folders = [site.root / "machines" / name for name in ("md", "me")]
    while not all(folder.exists() for folder in folders) and process.poll() is None:
        time.sleep(0.05)
    kill_tree(process.pid)
    (site.root / "broken").write_text("md me")
    for _ in range(2):
        said = site.run("down", "--force", code=1)
        assert said.splitlines()[-2:] == [
            f"{name}: refused the connection; start sshd there; then `perennial down` removes what"
            " was half made there"
            for name in ("md", "me")
        ]
    assert sorted(site.machines()) == ["md", "me"]
    # One never comes back, the other one does.
    site.run("forget", "md", "--force")
    (site.root / "broken").unlink()
    assert "lab is down" in site.run("down", "--force")
    assert sorted(site.machines()) == ["md"]
    assert not (site.state / "pulumi").exists()


def test_what_the_engine_complains_of_is_one_line(site: Site) -> None:
    site.up()
    said = site.run("forget", "mx", "--force", code=1)
    assert said.splitlines()[-1] == "mx: no machine of lab; it has ma, mb, mc"
    (site.state / "pulumi" / "passphrase").write_text("wrong")
    said = site.run("forget", "mc", "--force", code=1)
    assert said.splitlines()[-1].startswith("lab: pulumi: ")
    assert "Traceback" not in said


def test_secrets_stand_nowhere_in_the_clear(site: Site) -> None:
    site.up()
    secrets = [
        (site.state / "tls" / "client-key.pem").read_text().splitlines()[1],
        (site.state / "secrets" / "jupyter-token").read_text().strip(),
        (site.state / "pulumi" / "passphrase").read_text(),
    ]
    for path in site.root.rglob("*"):
        if path.is_file():
            text = path.read_text(errors="replace")
            found = [secret for secret in secrets if secret in text]
            assert not found or path.stat().st_mode & 0o077 == 0
            assert not found or path.name in ("client-key.pem", "jupyter-token", "passphrase")


@pytest.mark.parametrize("seed", range(3))
def test_killed_anywhere(site: Site, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(2):
        site.spec["hosts"]["machines"] = chance.sample(["ma", "mb", "mc", "md"], 3)
        process = site.start("up", "--yes", nap=0.4)
        time.sleep(chance.uniform(0.3, 4.0))
        if chance.random() < 0.5:
            kill_tree(process.pid)
        else:
            process.kill()
        process.wait()
        site.up()
        assert site.machines() == dict.fromkeys(sorted(site.spec["hosts"]["machines"]), WHOLE)
        assert site.plan() == []
        assert site.processes() == []
    site.run("down", "--force", "--purge")
    assert site.machines() == {}
    assert not site.state.exists()


def test_interrupted(site: Site) -> None:
    process = site.start("up", "--yes", nap=3.0)
    while not list(Path(site.root).glob("machines/*")):
        time.sleep(0.05)
    process.send_signal(2)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.splitlines()[-1] == (
        "lab: stopped in the middle; the same command goes on from there"
    )
    assert site.processes() == []
    site.up()
    assert site.machines() == {"ma": WHOLE, "mb": WHOLE, "mc": WHOLE}


def test_without_pulumi(site: Site) -> None:
    site.environment["PATH"] = "/usr/bin:/bin"
    said = site.run("up", "--yes", code=1)
    assert said.startswith("pulumi: no usable command line")
    from perennial.stacks import fetching

    # Nothing is offered that could not be checked.
    assert ("perennial up --install" in said) == bool(fetching.DIGESTS)
    assert "install it as https://www.pulumi.com/docs/install says" in said
    if not fetching.DIGESTS:
        said = site.run("up", "--yes", "--install", code=1).splitlines()[-1]
        assert said.startswith("pulumi: no checksum of version ")
        assert "nothing unchecked is installed; install it by hand as https" in said
    assert not site.state.exists()


def kill_tree(pid: int) -> None:
    """End a command and all that it has started, at once."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in processes:
        process.suspend()
    for process in processes:
        process.kill()

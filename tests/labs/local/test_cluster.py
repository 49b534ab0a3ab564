"""A real cluster under a real supervisord: its life, its changes."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from perennial.placement import Placement, here
from perennial.services import START_TIMEOUT
from tests.dask_processes import workers_of
from tests.homes import Home, wait_until
from tests.ports import free_ports

pytestmark = [pytest.mark.lab, pytest.mark.smoke]


def test_up_connect_compute_and_up_again(standing: Home) -> None:
    code = "from distributed import Client; print(Client().submit(sum, [1, 2]).result())"
    assert standing.python(code) == "3"
    before = {name: standing.pid(name) for name in ("scheduler", "cpu-0", "cpu-1", "supervisord")}
    assert "nothing to change" in standing.up()
    assert before == {name: standing.pid(name) for name in before}
    assert "nothing to change" in standing.run("plan", "--file", str(standing.file))


def test_status_for_people_and_for_scripts(standing: Home) -> None:
    table = standing.run("status")
    assert "2 workers, 2 threads" in table
    report = json.loads(standing.run("status", "--json"))
    services = {row["service"]: row for row in report["services"]}
    assert set(services) == {"health", "scheduler", "cpu-0", "cpu-1"}
    for row in services.values():
        assert row["state"] in ("RUNNING", "STARTING")
        assert psutil.pid_exists(row["pid"])
        assert row["memory"] > 1e6
    assert report["scheduler"]["workers"] == 2
    assert json.loads(standing.run("list", "--json"))[0]["workers"] == 2


def test_scale_up_and_down_keeps_the_others_and_every_key(standing: Home) -> None:
    before = {name: standing.pid(name) for name in ("scheduler", "cpu-0", "cpu-1")}
    assert "cpu 2 → 4" in standing.run("scale", "cpu=4")
    assert standing.workers() == {"cpu-0", "cpu-1", "cpu-2", "cpu-3"}
    with standing.client() as client:
        scattered = client.scatter(list(range(40)))
        persisted = [client.submit(pow, 2, n) for n in range(40)]
        assert "cpu 4 → 2" in standing.run("scale", "cpu=2")
        assert standing.workers() == {"cpu-0", "cpu-1"}
        assert client.gather(scattered) == list(range(40))
        assert client.gather(persisted) == [2**n for n in range(40)]
        for future in persisted:
            assert future.status == "finished"
    assert before == {name: standing.pid(name) for name in before}
    # The size belongs to `scale` now: the same file changes nothing.
    assert "cpu stays 2" in standing.run("scale", "cpu=2")
    assert "nothing to change" in standing.up()


def test_more_workers_than_the_machine_has_memory_for_are_refused(standing: Home) -> None:
    before = {name: standing.pid(name) for name in ("scheduler", "cpu-0", "cpu-1")}
    said = standing.run("scale", "cpu=99999", code=1)
    assert "lab: cpu=99999: 99,999 worker processes; this machine's " in said
    assert len(said.strip().splitlines()) == 1
    assert standing.workers() == {"cpu-0", "cpu-1"}
    assert before == {name: standing.pid(name) for name in before}
    assert "nothing to change" in standing.up()


def test_a_size_by_hand_outlives_the_next_up(standing: Home) -> None:
    standing.run("scale", "cpu=3")
    assert "nothing to change" in standing.up()
    assert standing.workers() == {"cpu-0", "cpu-1", "cpu-2"}
    standing.run("scale", "cpu=2")


def test_a_changed_group_is_replaced_and_nothing_else(standing: Home) -> None:
    standing.spec["workers"]["big"] = {"count": 1, "memory": "512 MiB"}
    standing.write()
    plan = standing.run("plan", "--file", str(standing.file))
    assert "+ create  big-0" in plan
    assert "1 to change" in plan
    before = {name: standing.pid(name) for name in ("scheduler", "cpu-0", "cpu-1")}
    standing.up()
    assert standing.workers() == {"cpu-0", "cpu-1", "big-0"}
    assert before == {name: standing.pid(name) for name in before}

    standing.spec["workers"]["cpu"]["threads"] = 2
    standing.write()
    plan = standing.run("plan", "--file", str(standing.file))
    assert [line.split()[1:3] for line in plan.splitlines() if line.startswith("  ")] == [
        ["restart", "cpu-0"],
        ["restart", "cpu-1"],
    ]
    kept = {name: standing.pid(name) for name in ("scheduler", "big-0")}
    with standing.client() as client:
        scattered = client.scatter(list(range(40)))
        assert "Do this? stdin is no terminal: add --yes" in standing.run(
            "up", "--file", str(standing.file), code=1
        )
        standing.up()
        assert client.gather(scattered) == list(range(40))
        threads = {w["name"]: w["nthreads"] for w in workers_of(client).values()}
        assert threads == {"cpu-0": 2, "cpu-1": 2, "big-0": 1}
    assert kept == {name: standing.pid(name) for name in kept}
    assert before["cpu-0"] != standing.pid("cpu-0")

    del standing.spec["workers"]["big"]
    standing.spec["workers"]["cpu"]["threads"] = 1
    standing.write()
    standing.up()
    assert standing.workers() == {"cpu-0", "cpu-1"}
    assert not (standing.state / "conf.d" / "big-0.conf").exists()


def test_a_changed_dask_configuration_replaces_its_group(standing: Home) -> None:
    standing.spec["workers"]["cpu"]["dask"] = {"distributed.worker.memory.target": 0.5}
    standing.write()
    plan = standing.run("plan", "--file", str(standing.file))
    assert plan.count("restart") == 2
    standing.up()
    with standing.client() as client:
        found = client.run(
            lambda: __import__("dask").config.get("distributed.worker.memory.target")
        )
        assert set(found.values()) == {0.5}
    del standing.spec["workers"]["cpu"]["dask"]
    standing.write()
    standing.up()


def test_restart_of_a_member_a_group_and_the_scheduler(standing: Home) -> None:
    before = {name: standing.pid(name) for name in ("scheduler", "cpu-0", "cpu-1")}
    with standing.client() as client:
        scattered = client.scatter(list(range(20)))
        standing.run("restart", "cpu-0")
        assert standing.pid("cpu-0") != before["cpu-0"]
        assert standing.pid("cpu-1") == before["cpu-1"]
        assert "2 members" in standing.run("restart", "cpu")
        assert client.gather(scattered) == list(range(20))
        assert standing.pid("scheduler") == before["scheduler"]
        # Work would be lost: it asks, and here is nobody to answer.
        assert "are lost with the scheduler" in standing.run("restart", "scheduler", code=1)
    standing.run("restart", "scheduler", "--force")
    assert standing.pid("scheduler") != before["scheduler"]
    assert standing.workers() == {"cpu-0", "cpu-1"}


def test_errors_are_one_line(standing: Home) -> None:
    for words, said in (
        (("scale", "gpu=1"), "no group 'gpu' in lab; it has cpu"),
        (("scale", "cpu"), "write GROUP=N"),
        (("scale", "cpu=-1"), "write GROUP=N"),
        (("restart", "nobody"), "no service or group 'nobody'; it has cpu"),
        (("status", "-c", "other"), "other"),
        (("logs", "nobody"), "no service or group 'nobody'"),
        (("rotate", "-c", "../lab"), "no such cluster"),
    ):
        output = standing.run(*words, code=1)
        assert said in output
        assert len(output.strip().splitlines()) == 1, output


def test_a_check_of_the_file_passes_although_the_cluster_holds_its_ports(standing: Home) -> None:
    said = standing.run("check", str(standing.file))
    assert said.endswith("ok: 1 scheduler, 2 workers in 1 group (2 threads, 2 GiB)\n")


def test_logs(standing: Home) -> None:
    assert "Scheduler at" in standing.run("logs", "scheduler", "-n", "1000")
    every = standing.run("logs", "-n", "5")
    assert {line.split(":")[0] for line in every.splitlines()} >= {"scheduler", "cpu-0", "cpu-1"}
    assert "spawned" in standing.run("logs", "supervisord")
    follower = standing.start("logs", "scheduler", "--follow", "-n", "0")
    assert follower.stdout is not None

    def says_something() -> bool:
        # Again and again: the follower may not be there yet when the first client comes.
        with standing.client() as client:
            client.submit(sum, [1]).result()
        return bool(select.select([follower.stdout], [], [], 0.5)[0])

    wait_until(says_something)
    assert "client" in follower.stdout.readline().lower()
    follower.kill()
    follower.communicate()


def test_doctor(standing: Home) -> None:
    findings = json.loads(standing.run("doctor", "--json"))
    assert {f["check"] for f in findings} == {
        *("services", "ports", "clock", "Client()", "open files", "disk"),
        *("certificates", "secrets", "client", "packages", "host names", "processes"),
    }
    assert [f for f in findings if f["level"] == "error"] == []


def test_rotate_renews_without_losing_work(standing: Home) -> None:
    from cryptography import x509

    def serial() -> int:
        pem = (standing.state / "tls" / "scheduler.pem").read_bytes()
        return x509.load_pem_x509_certificate(pem).serial_number

    before, old = {n: standing.pid(n) for n in ("scheduler", "cpu-0", "cpu-1")}, serial()
    with standing.client() as client:
        scattered = client.scatter(list(range(20)))
        assert "certificates renewed" in standing.run("rotate")
        assert client.gather(scattered) == list(range(20))
    assert serial() != old
    assert before == {name: standing.pid(name) for name in before}
    with standing.client() as client:
        assert client.submit(sum, [1, 2]).result() == 3


def test_an_edited_file_of_supervisord_is_found_and_written_again(standing: Home) -> None:
    before = {name: standing.pid(name) for name in ("scheduler", "cpu-0", "supervisord")}
    file = standing.state / "supervisord.conf"
    text = file.read_text()

    def plan() -> str:
        return standing.run("plan", "--file", str(standing.file))

    assert "nothing to change" in plan()
    file.write_text(text.replace("loglevel=info", "loglevel=debug"))
    assert "~ update  supervisord  supervisord.conf is not as" in plan()
    assert "1 changed" in standing.up()
    assert file.read_text() == text
    file.unlink()
    assert "supervisord.conf is missing" in plan()
    standing.up()
    assert file.read_text() == text
    assert "nothing to change" in plan()
    assert before == {name: standing.pid(name) for name in before}


def test_everything_on_disk_is_the_users_alone(standing: Home) -> None:
    for path in [standing.state, *standing.state.rglob("*")]:
        if path.is_symlink():
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        if not any(part in path.parts for part in ("scratch",)):
            assert mode & 0o077 == 0, f"{path} {mode:o}"
    assert stat.S_IMODE((standing.state / "scratch").stat().st_mode) == 0o700


def test_down_leaves_no_process_and_keeps_what_colleagues_have(home: Home) -> None:
    home.up()
    assert home.processes()
    record = home.state / "machine.json"
    assert Placement(**json.loads(record.read_text())) == here()
    certificate = (home.state / "tls" / "ca.pem").read_bytes()
    home.run("down")
    assert home.processes() == []
    assert not record.exists()
    assert not (home.state / "conf.d").exists()
    assert (home.state / "tls" / "ca.pem").read_bytes() == certificate
    assert not list((home.root / ".config" / "dask").glob("*perennial*"))
    assert "no clusters" in home.run("list")
    home.up()
    assert (home.state / "tls" / "ca.pem").read_bytes() == certificate
    home.run("down", "--purge")
    assert not home.state.exists()
    assert home.processes() == []


def test_what_down_has_left_is_removed_later(home: Home) -> None:
    home.up("--no-connect")
    home.run("down")
    key = home.state / "tls" / "ca-key.pem"
    assert "lab is down already; --purge removes" in home.run("down", "-c", "lab", code=1)
    assert key.exists()
    assert "other: no such cluster" in home.run("down", "-c", "other", "--purge", code=1)
    # What a cluster has not left is not removed, although it stands beside.
    other = home.state.parent / "connections.d" / "lab" / "ca.pem"
    other.parent.mkdir(parents=True)
    other.touch()
    said = home.run("down", "--purge", "--file", str(home.file))
    assert said == f"lab: certificates, token and logs are removed from {home.state}\n"
    assert not home.state.exists()
    assert other.exists()
    assert "lab: no such cluster" in home.run("down", "-c", "lab", "--purge", code=1)

    # By its name, and without one where it is the only one.
    for words in (("-c", "lab"), ()):
        (home.state / "tls").mkdir(parents=True)
        home.run("down", "--purge", *words)
        assert not home.state.exists()


def test_down_asks_when_somebody_works(standing: Home) -> None:
    with standing.client() as client:
        future = client.submit(sum, [1, 2])
        future.result()
        said = standing.run("down", code=1)
        assert "1 client," in said
        assert "add --force" in said
        assert standing.pid("scheduler")


def test_the_services_do_not_depend_on_the_shell_that_started_them(home: Home) -> None:
    home.environment["DASK_DISTRIBUTED__WORKER__MEMORY__TARGET"] = "0.123"
    home.environment["MY_CLOUD_SECRET"] = "hush"
    home.environment["PATH"] = f"{home.root}:/usr/bin:/bin"
    process = home.start("up", "--yes", "--file", str(home.file), start_new_session=True)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    with suppress(ProcessLookupError):  # a terminal that closes says so to all of its session
        os.killpg(process.pid, signal.SIGHUP)
    wait_until(lambda: home.workers() == {"cpu-0"})
    # Nothing of the cluster belongs to the session, or has its terminal.
    for found in home.processes():
        assert os.getsid(found.pid) != process.pid
    for name in ("scheduler", "cpu-0", "supervisord"):
        environment = psutil.Process(home.pid(name)).environ()
        assert "MY_CLOUD_SECRET" not in environment
        assert "DASK_DISTRIBUTED__WORKER__MEMORY__TARGET" not in environment
        if name != "supervisord":
            assert shutil.which("python", path=environment["PATH"]) == str(
                Path(sys.executable).with_name("python")
            )
            assert str(home.root) not in environment["PATH"].split(":")


def test_a_service_that_does_not_stay_up_says_its_last_words(home: Home) -> None:
    home.spec["workers"]["cpu"]["dask"] = {"distributed.worker.preload": ["no_such_module"]}
    home.write()
    said = home.up(code=1)
    assert "cpu-0 does not stay up" in said
    assert "no_such_module" in said
    # A second one does not find that all is well: nobody has registered.
    again = home.up(code=1)
    assert "does not stay up; its last line:" in again
    assert "no_such_module" in again
    assert "is up" not in again
    wait_until(lambda: "does not stay up" in home.run("status"))
    found = json.loads(home.run("doctor", "--json", code=1))
    assert any("no_such_module" in finding["text"] for finding in found)
    # Mended, the next `up` finishes what this one began.
    del home.spec["workers"]["cpu"]["dask"]
    home.write()
    home.up()
    assert home.workers() == {"cpu-0"}


def test_a_service_that_ends_after_some_seconds_is_named_before_the_time_is_over(
    home: Home,
) -> None:
    slow = home.root / "slow_to_die.py"
    slow.write_text("import os, time\ndef dask_setup(nanny):\n    time.sleep(6)\n    os._exit(3)\n")
    home.spec["workers"]["cpu"]["dask"] = {"distributed.nanny.preload": [str(slow)]}
    home.write()
    began = time.monotonic()
    assert "cpu-0 does not stay up" in home.up(code=1)
    assert time.monotonic() - began < START_TIMEOUT
    home.run("down", "--force")


def test_two_clusters_of_one_user(home: Home) -> None:
    home.up()
    other = Home.__new__(Home)
    other.__dict__.update(home.__dict__)
    scheduler, dashboard = free_ports(2)
    other.spec = {
        **home.spec,
        "name": "second",
        "scheduler": {"port": scheduler, "dashboard_port": dashboard},
        "workers": {"cpu": {"count": 1, "memory": "512 MiB"}},
    }
    other.file = home.root / "second.yaml"
    other.write()
    said = other.up()
    assert "reaches lab; `perennial connect second` changes that" in said
    assert "lab" in home.run("status", code=1)
    assert "second" in home.run("status", code=1)
    names = [row["name"] for row in json.loads(home.run("list", "--json"))]
    assert names == ["lab", "second"]
    home.run("down", "-c", "lab", "--force")
    assert home.run("status")
    home.run("down", "-c", "second", "--force")
    assert home.processes() == []

"""`explain`, `history`, `scale`, `pause`, `resume` as a user types them, on a real scheduler."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from perennial import authority, connect, paths
from perennial.cli import steer
from perennial.connect import Connection, Tls
from perennial.errors import PerennialError
from perennial.scaler import scaler_client
from perennial.scaler.scaler_client import Report
from perennial.scheduler_connection import security
from tests.cli.test_use import perennial
from tests.scaler.feeder import Scaler, record, scheduler

SPEC = """
name: lab
platform: local
workers:
  cpu: {scale: {min: 0, max: 8}}
  gpu: {scale: {min: 0, max: 2}}
  fixed: {count: 1}
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Home of the user whose machine the cluster runs on."""
    return tmp_path_factory.mktemp("machine")


@pytest.fixture(scope="module")
def cluster(machine: Path) -> Iterator[paths.ClusterPaths]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(machine))
        patch.delenv("XDG_STATE_HOME", raising=False)
        cluster = paths.cluster_state("lab")
        authority.ensure(cluster.tls, "lab", ())
        cluster.spec.write_text(SPEC)
    with scheduler(machine, cluster.tls) as address:
        connect.save(cluster, Connection("lab", address, tls=Tls.in_folder(cluster.tls)))
        yield cluster


@pytest.fixture
def scaler(cluster: paths.ClusterPaths) -> Iterator[Scaler]:
    connection = connect.load(cluster)
    with Scaler(connection.scheduler_address, security(connection.tls)) as running:
        yield running


def write(cluster: paths.ClusterPaths, *records: object, tail: str = "") -> None:
    cluster.scaler.mkdir(exist_ok=True)
    text = "".join(json.dumps(each) + "\n" for each in records) + tail
    (cluster.scaler / "records.jsonl").write_text(text)


def at(time: float) -> str:
    """A time as `--at` takes it; one that counts back from now is another one when it is read."""
    return datetime.fromtimestamp(time).isoformat()


def test_nothing_is_known_before_a_scaler_has_reported(
    machine: Path, cluster: paths.ClusterPaths
) -> None:
    for command in ("explain", "history"):
        code, out, error = perennial(machine, command)
        assert (code, out) == (1, "")
        assert error.startswith("lab: no scaler has recorded anything;")
        assert error.count("\n") == 1


def test_a_pin_is_taken_up_and_undone(machine: Path, scaler: Scaler) -> None:
    code, out, error = perennial(machine, "scale", "cpu=5", "--for", "2h")
    assert (code, error) == (0, "")
    assert out.startswith("lab: cpu 2 → 5, pinned until ")
    assert scaler.taken == [{"kind": "pin", "group": "cpu", "size": 5, "seconds": 7200}]

    code, out, error = perennial(machine, "scale", "cpu", "--auto")
    assert (code, out, error) == (0, "lab: cpu is autoscaled again\n", "")
    assert scaler.taken[1:] == [{"kind": "unpin", "group": "cpu"}]


@pytest.mark.lab
def test_a_slip_of_the_hand_is_refused_with_the_numbers(machine: Path, scaler: Scaler) -> None:
    beyond = "the max of its machines; raise it"
    scaler.limits = {
        "cpu": {"max": 400, "most": 28, "room": "this machine has 2 cores", "utmost": 240},
        "gpu": {"max": 2, "most": 28, "room": "", "utmost": 8, "beyond": beyond},
    }
    scaler.heard()
    for words, says in (
        (("cpu=1", "gpu=8"), "gpu=8: allowed: up to 2, the largest scale.max of gpu in"),
        (("cpu=29",), "cpu=29: allowed: up to 28, which is what the platform holds: this machine"),
    ):
        code, out, error = perennial(machine, "scale", *words)
        assert (code, out) == (1, "")
        assert error.startswith(says)
        assert error.endswith("ask for fewer, or add --force\n")
        assert error.count("\n") == 1
    # Beyond what the platform can do at all nobody can mean it, and force is not named.
    for words, says in (
        (("gpu=9",), "gpu=9: allowed: up to 8, the max of its machines; raise it"),
        (
            ("cpu=401",),
            "cpu=401: allowed: up to 240, which is all that the platform holds; ask for fewer",
        ),
    ):
        for force in ((), ("--force",)):
            assert perennial(machine, "scale", *words, *force) == (1, "", f"{says}\n")
    assert scaler.taken == []
    assert perennial(machine, "scale", "cpu=28")[0] == 0
    assert perennial(machine, "scale", "gpu=3", "--force")[0] == 0
    pins = [(each["group"], each["size"], each.get("force")) for each in scaler.taken]
    assert pins == [("cpu", 28, None), ("gpu", 3, True)]


@pytest.fixture
def limited(machine: Path, scaler: Scaler, monkeypatch: pytest.MonkeyPatch) -> Scaler:
    """A scaler that allows four members of cpu, asked by this process."""
    monkeypatch.setenv("XDG_STATE_HOME", str(machine / ".local" / "state"))
    scaler.limits = {"cpu": {"max": 4}}
    scaler.heard()
    return scaler


def test_a_size_that_a_deploy_has_just_allowed_is_accepted(
    cluster: paths.ClusterPaths, limited: Scaler
) -> None:
    """The machines' new bounds reach the scaler a moment after `up` has ended."""
    check = partial(scaler_client.check_size, group="cpu", size=6, cluster="lab")

    async def asked(scheduler: Any) -> Report:
        before = await scaler_client.report(scheduler)
        with pytest.raises(PerennialError, match="up to 4"):
            check(before)
        limited.limits = {"cpu": {"max": 6}}
        return await steer.accepted(scheduler, before, check)

    check(steer.ask(connect.load(cluster), asked, 60))


@pytest.mark.usefixtures("limited")
def test_a_size_is_held_against_the_limits_before_the_first_report(
    cluster: paths.ClusterPaths,
) -> None:
    """Right after `up` the scheduler knows of no limits, and a slip of the hand would be taken."""
    check = partial(scaler_client.check_size, group="cpu", size=100, cluster="lab")

    async def asked(scheduler: Any) -> Report:
        return await steer.accepted(scheduler, Report({}, None), check)

    with pytest.raises(PerennialError, match="cpu=100: allowed: up to 4"):
        steer.ask(connect.load(cluster), asked, 60)


def test_pause_and_resume(machine: Path, scaler: Scaler) -> None:
    said = "lab: autoscaling is paused; `perennial resume` ends that\n"
    assert perennial(machine, "pause") == (0, said, "")
    code, out, _ = perennial(machine, "explain", "gpu")
    assert code == 0
    assert "Mode: the scaler is paused" in out
    assert perennial(machine, "resume") == (0, "lab: autoscaling is resumed\n", "")
    assert scaler.taken == [{"kind": "pause"}, {"kind": "resume"}]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("scale", "cpu=-1"), "'cpu=-1': write GROUP=N, such as cpu=4"),
        (("scale", "cpu=4", "--auto"), "'cpu=4': found a size; with --auto write the group alone"),
        (
            ("scale", "cpu", "--auto", "--for", "2h"),
            "--for and --auto: choose one; autoscaling has no time",
        ),
        (("scale", "cpu=4", "--for", "soon"), "'soon': not a duration; write one such as"),
        (("scale", "fixed=1", "--for", "1h"), "fixed: no scaler sizes it; --for and --auto are"),
        (("explain", "tpu"), "tpu: no record of this group of lab; there is cpu, gpu"),
        (("explain", "--at", "noon"), "'noon': not a time; write 14:05"),
        (("history", "--plot", "a.png"), "a.png: found .png; allowed: .html,"),
        (("scaler", "run"), "lab: no "),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    machine: Path, scaler: Scaler, words: tuple[str, ...], says: str
) -> None:
    code, out, error = perennial(machine, *words)

    assert (code, out) == (1, "")
    assert error.startswith(says)
    assert error.count("\n") == 1
    assert scaler.taken == []


def test_explain_names_what_is_wrong_first(machine: Path, scaler: Scaler) -> None:
    scaler.infeasible = ["60 tasks need FPGA: 1; no group has it"]
    scaler.groups["cpu"] = {"trouble": "the platform has no room", "to": 4, "rule": "blocked"}
    scaler.heard()

    code, out, error = perennial(machine, "explain", "cpu")

    assert (code, error) == (0, "")
    wrong = time.time()
    first, empty, head, trouble, *rest = out.splitlines()
    assert (first, empty) == ("60 tasks need FPGA: 1; no group has it", "")
    assert head.startswith("cpu, ")
    assert head.endswith("ago): grows from 2 to 4 members.")
    assert trouble == "  Trouble: the platform has no room."
    assert "  Why: 2 members have 4 tasks." in rest
    assert any(line.startswith("  Rule: blocked: ") for line in rest)
    found = json.loads(perennial(machine, "explain", "--json")[1])
    assert found["notes"] == [first]
    assert set(found["groups"]) == {"cpu", "gpu"}
    scaler.infeasible = []
    scaler.heard()
    assert first not in perennial(machine, "explain")[1]
    out = perennial(machine, "explain", "--at", at(wrong))[1]
    assert out.splitlines()[:2] == [first, ""], "what was wrong then is told of then, and once"
    assert out.count(first) == 1


def test_a_history_cut_in_the_middle_of_a_line(
    machine: Path, cluster: paths.ClusterPaths, scaler: Scaler
) -> None:
    now, hour = time.time(), 3600  # long before what other tests' scalers have told the scheduler
    write(
        cluster,
        record(time=now - 3 * hour, to=2),
        record(time=now - 2 * hour, to=6, rule="demand", reason="24 tasks wait"),
        record(time=now - hour, to=6, asked=6, rule="demand", reason="24 tasks wait"),
        tail='{"time": 17, "group": "cp',
    )
    try:
        code, out, error = perennial(machine, "history", "cpu", "--since", "4h")
        assert code == 0
        assert "1 line is damaged (cut off, say) and skipped" in error
        words = out.splitlines()[0].split()
        # Soon after midnight the day stands before the time.
        told = words[words.index("cpu") :]
        assert told == ["cpu", "2", "→", "6", "demand", "24", "tasks", "wait"]

        code, out, error = perennial(machine, "explain", "cpu", "--at", at(now - 1.5 * hour))
        assert code == 0
        assert "grows from 2 to 6 members" in out
        assert "1 line is damaged" in out
        code, _, error = perennial(machine, "explain", "cpu", "--at", at(now - 4 * hour))
        assert code == 1
        assert error.startswith("lab: the records begin at ")

        plot = machine / "plot.html"
        code, out, _ = perennial(machine, "history", "--since", "4h", "--plot", str(plot))
        assert code == 0
        assert out.startswith(f"{plot}: ")
        assert "<!DOCTYPE html>" in plot.read_text()[:200]
    finally:
        (cluster.scaler / "records.jsonl").unlink()


def test_a_scaler_that_is_away_is_named(machine: Path, cluster: paths.ClusterPaths) -> None:
    connection = connect.load(cluster)
    with Scaler(connection.scheduler_address, security(connection.tls)) as scaler:
        scaler.heard()
    code, out, error = perennial(machine, "pause")

    assert (code, out) == (1, "")
    assert error.startswith("lab: the scheduler keeps the request, but the scaler has not ")
    assert error.count("\n") == 1
    with Scaler(connection.scheduler_address, security(connection.tls)) as scaler:
        end = time.monotonic() + 60
        while not scaler.taken:
            assert time.monotonic() < end, "the wish is gone"
            time.sleep(0.1)
        assert scaler.taken == [{"kind": "pause"}]


@pytest.mark.lab
def test_a_scheduler_that_is_away_is_named(machine: Path, tmp_path: Path) -> None:
    """A colleague with a bundle, while the cluster is down."""
    folder = tmp_path / ".local/state/perennial/connections.d/there"
    folder.mkdir(parents=True)
    gone = Connection("there", "tcp://127.0.0.1:9")
    (folder / "connection.json").write_text(json.dumps(gone.to_json()))

    for words in (("explain",), ("scale", "cpu=1")):
        code, out, error = perennial(tmp_path, *words)
        assert (code, out) == (1, "")
        assert error.startswith("tcp://127.0.0.1:9: the scheduler has not answered within ")
        assert error.count("\n") == 1, error

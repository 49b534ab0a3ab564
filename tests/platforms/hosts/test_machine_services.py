"""From a cluster file to the services of its machines."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.platforms.hosts import machine_services
from perennial.platforms.hosts.files import files
from perennial.platforms.hosts.machine_spec import machine_specs, read
from perennial.platforms.hosts.secrets import Secrets
from perennial.services import ADDRESS, INSTANCE, Service, fingerprint, to_json
from perennial.spec import ClusterSpec, dump, load, loads, parse
from perennial.templating import Format
from tests.examples import examples
from tests.platforms.hosts.clusters import PLAIN, machines, spec_of

ROOT = Path(__file__).parents[3]
STORY = ROOT / "examples" / "hosts.yaml"


def names(by_machine: dict[str, machine_services.MachineServices]) -> dict[str, list[str]]:
    return {name: list(machine_services.members(assigned)) for name, assigned in by_machine.items()}


def test_the_story_of_three_machines() -> None:
    found = machine_services.services_by_machine(load(STORY))

    assert names(found) == {
        "machine-a": ["scheduler", "jupyter"],
        "machine-b": ["cpu-machine-b-0", "cpu-machine-b-1"],
        "machine-c": ["cpu-machine-c-0", "cpu-machine-c-1"],
    }
    assert [assigned.roles for assigned in found.values()] == [
        ("scheduler", "client", "jupyter"),
        ("worker",),
        ("worker",),
    ]
    assert {assigned.scheduler for assigned in found.values()} == {
        "tls://machine-a.example.org:8786"
    }
    assert found["machine-b"].names == ("machine-b", "machine-b.example.org")


def test_a_plain_list_has_its_services_first_and_its_groups_spread() -> None:
    found = machine_services.services_by_machine(spec_of())

    assert names(found) == {
        "machine-a": ["scheduler", "jupyter"],
        "machine-b": ["cpu-machine-b-0", "cpu-machine-b-1"],
        "10-0-0-3": ["cpu-10-0-0-3-0"],
    }
    assert found["machine-a"].pages == "/var/lib/dask-perennial/lab/pages/http"
    assert found["machine-b"].pages == ""


def test_one_machine_has_everything() -> None:
    found = machine_services.services_by_machine(spec_of(machines("::1"), jupyter=None))

    assert names(found) == {"1": ["scheduler", "cpu-1-0", "cpu-1-1", "cpu-1-2"]}
    assert found["1"].scheduler == "tls://[::1]:8786"


def test_counts_of_machines_stand_above_the_rest() -> None:
    spec = spec_of(
        machines(
            {"address": "a", "roles": ["scheduler", {"cpu": 1}]},
            {"address": "b", "roles": ["cpu"]},
            {"address": "c", "roles": [{"cpu": 0}]},
            {"address": "d", "roles": ["cpu"]},
        ),
        workers={"cpu": {"count": 6}},
    )

    found = machine_services.services_by_machine(spec)

    assert {name: assigned.counts["cpu"] for name, assigned in found.items()} == {
        "a": 1, "b": 3, "c": 0, "d": 2,
    }  # fmt: skip


def test_the_size_of_a_group_is_the_sum_of_its_counts() -> None:
    spec = spec_of(
        machines(
            {"address": "a", "roles": ["scheduler", {"cpu": 2}]},
            {"address": "b", "roles": [{"cpu": 3}]},
        ),
        workers={"cpu": {}},
    )

    assert spec.workers["cpu"].count == 5
    assert loads(dump(spec)) == spec


@pytest.mark.parametrize(
    ("group", "counts"),
    [
        ({}, {"machine-b": 1, "10-0-0-3": 1}),
        ({"count": 1}, {"machine-b": 1, "10-0-0-3": 0}),
        ({"scale": {"max": 1}}, {"machine-b": 1, "10-0-0-3": 0}),
        ({"scale": {"max": 9}}, {"machine-b": 1, "10-0-0-3": 1}),
    ],
)
def test_a_group_without_a_count_has_one_member_on_each_machine(
    group: dict[str, Any], counts: dict[str, int]
) -> None:
    spec = spec_of(workers={"cpu": group})

    found = machine_services.services_by_machine(spec)

    assert {
        name: assigned.counts["cpu"] for name, assigned in found.items() if assigned.counts
    } == counts
    assert spec.workers["cpu"].count == sum(counts.values())
    assert loads(dump(spec)) == spec
    assert machine_services.services_by_machine(loads(dump(spec))) == found


def test_jupyter_beside_the_scheduler_shows_the_dashboard() -> None:
    where = machine_services.addresses(spec_of())
    text = jupyter_text(spec_of(), "machine-a")

    assert where.jupyter == "https://machine-a.example.org:8888/lab"
    assert where.dashboard == "https://machine-a.example.org:8888/dashboard/status"
    assert "c.ServerApp.certfile = '/etc/dask-perennial/lab/tls/jupyter.pem'\n" in text
    assert f'c.ServerApp.ip = "{ADDRESS}"\n' in text
    assert "c.ServerApp.allow_remote_access = True\n" in text
    assert "c.ServerProxy.servers = {" in text


def test_jupyter_elsewhere_has_no_dashboard_and_a_warning() -> None:
    data = machines(
        {"address": "a", "roles": ["scheduler"]}, {"address": "b", "roles": ["jupyter", "cpu"]}
    )
    document = parse(yaml.safe_dump(data), "lab.yaml")
    where = machine_services.addresses(document.spec)

    assert where.jupyter == "https://b:8888/lab"
    assert where.dashboard == "http://127.0.0.1:8787/status"
    assert "ServerProxy.servers" not in jupyter_text(document.spec, "b")
    [warning] = document.warnings()
    assert warning.found == "Jupyter on b and the scheduler on a"
    assert warning.line is not None


def jupyter_text(spec: ClusterSpec, machine: str) -> str:
    service = machine_services.members(machine_services.services_by_machine(spec)[machine])[
        "jupyter"
    ]
    [text] = [file.text for file in service.files if file.path.endswith("server_config.py")]
    compile(text.replace(ADDRESS, "10.0.0.1"), "config", "exec")
    return text


def test_an_address_is_filled_in_everywhere() -> None:
    for assigned in machine_services.services_by_machine(spec_of()).values():
        for service in machine_services.members(assigned).values():
            there = service.at("10.0.0.9")
            assert ADDRESS in written(service)
            assert ADDRESS not in written(there)
            assert fingerprint(there) != fingerprint(service)


def written(service: Service) -> str:
    return json.dumps(to_json(service), ensure_ascii=False)


def test_how_a_machine_is_reached() -> None:
    data = machines(
        {"address": "a", "roles": ["scheduler"], "interface": "ib0", "internal": "10.1.0.1"},
        {"address": "b", "user": "root", "port": 23, "roles": ["cpu"], "init": "systemd"},
        user="ops", port=22, jump="ops@bastion", init="supervisord", known_hosts="~/hosts",
    )  # fmt: skip
    a, b = [
        assigned.target for assigned in machine_services.services_by_machine(spec_of(data)).values()
    ]

    assert (a.user, a.port, a.init, a.interface) == ("ops", 22, "supervisord", "ib0")
    assert (b.user, b.port, b.init, b.interface) == ("root", 23, "systemd", None)
    assert a.jump == b.jump == "ops@bastion"
    assert a.known_hosts == "~/hosts"
    assert (
        machine_services.services_by_machine(spec_of(data))["b"].scheduler == "tls://10.1.0.1:8786"
    )


def test_without_tls_only_jupyter_has_a_certificate() -> None:
    found = machine_services.services_by_machine(spec_of(security={"tls": False}))

    assert [assigned.roles for assigned in found.values()] == [("jupyter",), (), ()]
    assert found["machine-b"].scheduler == "tcp://machine-a.example.org:8786"


def test_ucx() -> None:
    spec = spec_of(security={"tls": False}, protocol="ucx")
    found = machine_services.services_by_machine(spec)
    configs = {
        name: yaml.safe_load(service.files[0].text)
        for assigned in found.values()
        for name, service in machine_services.members(assigned).items()
    }
    worker = machine_services.members(found["machine-b"])["cpu-machine-b-0"]

    assert found["machine-b"].scheduler == "ucx://machine-a.example.org:8786"
    assert worker.command.argv[worker.command.argv.index("--protocol") + 1] == "ucx"
    for name in ("scheduler", "jupyter"):
        assert configs[name]["distributed-ucxx"] == {"create-cuda-context": True}
    assert "distributed-ucxx" not in configs["cpu-machine-b-0"]
    assert "distributed_ucxx" in machine_services.environment(spec)["needs"]
    own = spec_of(
        security={"tls": False},
        protocol="ucx",
        dask={"distributed-ucxx.create-cuda-context": False},
    )
    text = (
        machine_services.members(machine_services.services_by_machine(own)["machine-a"])[
            "scheduler"
        ]
        .files[0]
        .text
    )
    assert yaml.safe_load(text)["distributed-ucxx"] == {"create-cuda-context": False}


def test_machines_behind_forwarded_ports() -> None:
    found = machine_services.services_by_machine(
        spec_of(
            machines(
                {"address": "127.0.0.1", "port": 2222, "internal": "10.0.0.1", "name": "one"},
                {"address": "127.0.0.1", "port": 2200, "internal": "10.0.0.2", "name": "two"},
            )
        )
    )

    assert found["two"].scheduler == "tls://10.0.0.1:8786"


# JSON and fingerprints


def test_secrets_do_not_show() -> None:
    assert repr(Secrets("ca", "ca-key", "token")) == "Secrets()"


def test_shares_survive_json() -> None:
    for assigned in machine_services.services_by_machine(load(STORY)).values():
        text = json.dumps(machine_services.to_json(assigned))
        assert machine_services.from_json(json.loads(text)) == assigned
        # As Pulumi keeps it: every number a float.
        assert machine_services.from_json(json.loads(text, parse_int=float)) == assigned


CONCERNS: list[tuple[dict[str, Any], set[str]]] = [
    ({"workers": {"cpu": {"count": 2}}}, set()),
    ({"workers": {"cpu": {"count": 3, "threads": 2}}}, {"cpu"}),
    ({"workers": {"cpu": {"count": 3, "drain": "90 s"}}}, {"cpu"}),
    ({"workers": {"cpu": {"count": 3, "dask": {"array.chunk-size": "64 MiB"}}}}, {"cpu"}),
    ({"workers": {"cpu": {"count": 3}, "gpu": {}}}, set()),
    ({"scheduler": {"watchdog": "90 s"}}, {"scheduler"}),
    ({"scheduler": {"port": 9786}}, {"scheduler", "cpu", "jupyter"}),
    ({"jupyter": {"idle": "1 h"}}, {"jupyter"}),
    ({"jupyter": {"certificate": "/etc/passwd", "key": "/etc/passwd"}}, set()),
    ({"dask": {"array.chunk-size": "64 MiB"}}, {"scheduler", "cpu", "jupyter"}),
    ({"security": {"tls": False}}, {"scheduler", "cpu", "jupyter"}),
    ({"environment": {"python": "/opt/other"}}, {"scheduler", "cpu", "jupyter"}),
    (machines(*PLAIN["hosts"]["machines"], user="ops", max_unavailable=2), set()),
    (machines(*PLAIN["hosts"]["machines"], "machine-d"), set()),
    (machines("machine-z", *PLAIN["hosts"]["machines"][1:]), {"scheduler", "cpu", "jupyter"}),
]


def _title(value: object) -> str:
    """Name a case; a set has another order in each process."""
    return "-".join(sorted(value)) if isinstance(value, set) else str(value)[:50]


@pytest.mark.parametrize(("change", "concerned"), CONCERNS, ids=_title)
def test_a_fingerprint_changes_for_what_concerns_it(
    change: dict[str, Any], concerned: set[str]
) -> None:
    before, after = prints(spec_of()), prints(spec_of({**PLAIN, **change}))
    changed = {name for name in before.keys() & after.keys() if before[name] != after[name]}

    assert {name.partition("-")[0] for name in changed} == concerned


def prints(spec: ClusterSpec) -> dict[str, str]:
    return {
        name: fingerprint(service)
        for assigned in machine_services.services_by_machine(spec).values()
        for name, service in machine_services.members(assigned).items()
    }


def test_a_description_is_no_part_of_a_fingerprint() -> None:
    [service] = machine_services.services_by_machine(spec_of())["machine-b"].services
    assert fingerprint(replace(service, description="other words")) == fingerprint(service)


# Generated clusters

groups = st.lists(st.sampled_from(["cpu", "gpu", "io", "big-one"]), min_size=1, unique=True)


@st.composite
def clusters(draw: st.DrawFn, explicit: bool = False) -> dict[str, Any]:
    """A cluster file with roles on every machine."""
    workers = {
        name: {"processes": draw(st.integers(1, 2)), "count": draw(st.integers(0, 20))}
        for name in draw(groups)
    }
    found: list[dict[str, Any]] = [
        {"address": f"m{index}.example.org", "roles": []}
        for index in range(draw(st.integers(1, 6)))
    ]
    found[draw(st.integers(0, len(found) - 1))]["roles"].append("scheduler")
    for name, group in workers.items():
        places = draw(st.lists(st.sampled_from(range(len(found))), min_size=1, unique=True))
        counts = {place: draw(st.integers(0, 5)) for place in places}
        plain = set() if explicit else set(draw(st.lists(st.sampled_from(places), unique=True)))
        for place in places:
            found[place]["roles"].append(name if place in plain else {name: counts[place]})
        said = sum(counts[place] for place in places if place not in plain)
        if plain:
            group["count"] += said
        else:
            group["count"] = said
    kept = [machine for machine in found if machine["roles"]]
    return {**PLAIN, "workers": workers, "hosts": {"machines": kept}}


@settings(max_examples=examples(200), deadline=None)
@given(clusters())
def test_every_member_has_one_place_and_the_sums_are_right(data: dict[str, Any]) -> None:
    spec = spec_of(data)
    found = machine_services.services_by_machine(spec)
    every = [name for assigned in found.values() for name in machine_services.members(assigned)]

    assert len(every) == len(set(every))
    assert every.count("scheduler") == every.count("jupyter") == 1
    for name, group in spec.workers.items():
        assert sum(assigned.counts.get(name, 0) for assigned in found.values()) == group.count
    for assigned in found.values():
        assert (
            machine_services.from_json(json.loads(json.dumps(machine_services.to_json(assigned))))
            == assigned
        )
        for service in machine_services.members(assigned).values():
            assert INSTANCE not in written(service)
            assert "\ue002" not in written(service)
    assert loads(dump(spec)) == spec


@settings(max_examples=examples(200), deadline=None)
@given(clusters(explicit=True), st.data())
def test_a_machine_more_leaves_the_others_alone(data: dict[str, Any], draw: st.DataObject) -> None:
    before = machine_services.services_by_machine(spec_of(data))
    more = {name: draw.draw(st.integers(0, 3)) for name in data["workers"]}
    machine = {"address": "new.example.org", "roles": [{name: more[name]} for name in more]}
    workers = {
        name: {**group, "count": group["count"] + more[name]}
        for name, group in data["workers"].items()
    }
    place = draw.draw(st.integers(0, len(data["hosts"]["machines"])))
    every = list(data["hosts"]["machines"])
    every.insert(place, machine)

    after = machine_services.services_by_machine(
        spec_of({**data, "workers": workers, "hosts": {"machines": every}})
    )

    del after["new"]
    assert after == before


def test_a_thousand_machines() -> None:
    """Linear, and far below the seconds that a plan may take."""
    seconds = {count: timed(count) for count in (100, 1000)}

    assert seconds[1000] < 3
    assert seconds[1000] < 30 * max(seconds[100], 0.02)


def timed(count: int) -> float:
    data = machines(*[f"m{index}.example.org" for index in range(count)])
    data["workers"] = {f"group-{index}": {"count": count} for index in range(5)}
    text = yaml.safe_dump(data)
    start = time.process_time()
    found = machine_services.services_by_machine(loads(text))
    json.dumps([machine_services.to_json(assigned) for assigned in found.values()])
    assert len(found) == count
    return time.process_time() - start


@pytest.mark.parametrize("form", ["systemd", "supervisord"])
def test_files_for_every_machine(form: Format) -> None:
    found = files(load(STORY), form)
    everything = "".join(found.values())

    assert {path.partition("/")[0] for path in found} == {"machine-a", "machine-b", "machine-c"}
    assert not {ADDRESS, INSTANCE, "\ue002"} & {*everything}
    assert "machine-b/etc/dask-perennial/lab/cpu.yaml" in found
    unit = "etc/systemd/system/dask-lab-cpu@.service"
    own = unit if form == "systemd" else "conf.d/cpu-machine-b-1.conf"
    assert "--host machine-b.example.org" in found[f"machine-b/{own}"]
    assert "scheduler" not in " ".join(path for path in found if path.startswith("machine-b"))


def test_a_machine_is_the_same_in_whatever_order_its_keys_come() -> None:
    """As they do from Pulumi's engine: what came of another order would be a change."""
    groups = {name: {"count": 1, "scale": {"max": 3}} for name in ("zeta", "alpha", "mu")}
    fixed = {"omega": {"count": 2}, "beta": {"count": 1}}
    spec = loads(json.dumps({**machines("ma", "mb"), "workers": {**groups, **fixed}}))
    for values in machine_specs(spec).values():
        for chance in range(5):
            other = shuffled(values, Random(chance))
            assert machine_services.to_json(
                machine_services.services_of(read(other))
            ) == machine_services.to_json(machine_services.services_of(read(values)))
    assert list(machine_services.services_by_machine(spec)["mb"].counts) == [
        "zeta",
        "alpha",
        "mu",
        "omega",
        "beta",
    ]


def shuffled(value: Any, chance: Random) -> Any:
    if isinstance(value, list):
        return [shuffled(each, chance) for each in value]
    if not isinstance(value, dict):
        return value
    keys = chance.sample(list(value), len(value))
    return {key: shuffled(value[key], chance) for key in keys}

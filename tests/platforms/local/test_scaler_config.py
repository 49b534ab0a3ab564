"""What the scaler is told, and the program that runs it; rendered, with nothing started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perennial.fleet import opened
from perennial.paths import ClusterPaths
from perennial.platforms.local import layout
from perennial.platforms.local.fleet import LocalFleet
from perennial.platforms.local.layout import LocalHandle
from perennial.scaler import settings
from perennial.spec import ClusterSpec, loads

CLUSTER = """
name: lab
platform: local
scheduler: {port: 18786, dashboard_port: 18787}
jupyter: null
workers:
  cpu:
    threads: 2
    processes: 3
    memory: 1 GiB
    drain: 90 s
    scale:
      min: 1
      max: 8
      idle: 2 min
      priority: 3
      cost: 2.5
      start_up: 20 s
      horizon: 45 s
      step_up: 2
      step_down: 0.5
      on_deadline: stop
      schedules:
        - {days: mon-fri, from: '08:00', to: '18:00', time_zone: Europe/Zurich, min: 4}
  gpu: {resources: {GPU: 1}, scale: {max: 2}}
  fix: {count: 3, resources: {FIX: 2}}
scaler: {interval: 10 s, budget: 12, port: 18790, dry_run: true}
"""
PATHS = ClusterPaths(Path("/srv/perennial/lab"))
MEMBERS = {"cpu": [0], "gpu": [], "fix": [0, 1, 2]}


def programs(spec: ClusterSpec) -> dict[str, layout.Program]:
    return layout.programs(spec, PATHS, MEMBERS, "/opt/python")


def told(spec: ClusterSpec) -> settings.Settings:
    [text] = [text for path, text in programs(spec)["scaler"].files if path.endswith(".json")]
    return settings.parse(json.loads(text))


def test_every_key_of_the_cluster_file_arrives() -> None:
    found = told(loads(CLUSTER))
    assert (found.cluster, found.platform, found.interval) == ("lab", "local", 10.0)
    assert (found.budget, found.port, found.dry_run) == (12.0, 18790, True)
    assert (found.scheduler, found.http) == ("tls://127.0.0.1:18786", "127.0.0.1:18787")
    assert found.tls is not None
    assert found.tls.key == "/srv/perennial/lab/tls/client-key.pem"
    assert found.state == PATHS.scaler
    cpu, gpu, fix = found.groups
    assert (cpu.group.min, cpu.group.max, cpu.group.slots, cpu.group.processes) == (1, 8, 6, 3)
    assert (cpu.group.memory, cpu.group.drain, cpu.group.idle) == (3 * 2**30, 90.0, 120.0)
    assert (cpu.group.priority, cpu.group.cost, cpu.group.start_up) == (3, 2.5, 20.0)
    assert (cpu.group.horizon, cpu.group.step_up, cpu.group.step_down) == (45.0, 2.0, 0.5)
    assert cpu.on_deadline == "stop"
    spec = loads(CLUSTER).workers["cpu"].scale
    assert spec is not None
    assert list(cpu.schedules) == spec.schedules
    assert (gpu.group.idle, gpu.group.horizon, gpu.group.resources) == (None, None, {"GPU": 1.0})
    # Its size is not the scaler's, but it does some of the work.
    assert (fix.group.resources, fix.group.cost) == ({"FIX": 2.0}, 0.0)
    assert isinstance(fix.fleet, LocalHandle)
    assert fix.fleet.fixed


def test_the_fleets_are_opened_by_what_it_is_told() -> None:
    for group in told(loads(CLUSTER)).groups:
        fleet = opened("local", group.fleet)
        assert isinstance(fleet, LocalFleet)
        assert fleet.paths.root == PATHS.root
        assert fleet.python == "/opt/python"


def test_without_tls_it_has_no_certificate() -> None:
    found = told(loads(CLUSTER + "security: {tls: false}\n"))
    assert found.tls is None
    assert found.scheduler.startswith("tcp://")


@pytest.mark.parametrize(
    "change",
    [
        ("scaler: {interval: 10 s, budget: 12, port: 18790, dry_run: true}", "scaler: null"),
        ("scale: {max: 2}", "count: 1"),
    ],
)
def test_it_is_there_only_where_it_has_something_to_size(change: tuple[str, str]) -> None:
    text = CLUSTER.replace(*change)
    if "scaler: null" not in text:
        text = text.replace(text[text.index("    scale:") : text.index("  gpu")], "")
    spec = loads(text)
    assert spec.scaled == ()
    assert "scaler" not in programs(spec)
    assert "scaler.port" not in spec.ports()


def test_a_change_of_bounds_changes_the_scaler_and_nothing_else() -> None:
    before, after = programs(loads(CLUSTER)), programs(loads(CLUSTER.replace("max: 8", "max: 9")))
    assert [name for name in before if before[name].text != after[name].text] == ["scaler"]
    assert list(before) == list(after)


def test_it_stops_first_and_its_unit_holds_no_secret() -> None:
    program = programs(loads(CLUSTER))["scaler"]
    assert "priority=950" in program.text
    assert "stopwaitsecs=20" in program.text
    assert "-m perennial.scaler /srv/perennial/lab/config/scaler.json" in program.text
    assert "key" not in program.text
    assert program.ports == (18790,)

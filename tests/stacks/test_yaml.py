"""A Pulumi YAML program with two clusters, with the real engine; machines are folders."""

from __future__ import annotations

import json
from typing import Any

import pytest

from perennial.stack_outputs import clusters
from tests.labs.hosts.base import UnavailableError
from tests.labs.pulumi import yaml_host
from tests.stacks.conftest import Site
from tests.stacks.projects import Project

pytestmark = pytest.mark.lab


#: A setting that is `null`, as a text.
NULL = {"distributed.comm.retry.count": "null"}


def cluster(name: str, memory: str, *machines: str) -> dict[str, Any]:
    return {
        "type": "perennial:index:HostsCluster",
        "properties": {
            "name": name,
            "environment": {"python": "/opt/dask/bin/python"},
            "env": {"WORD": {"fn::secret": "Tr0ub4dor"}},
            "workers": {"cpu": {"count": 1, "memory": memory, "dask": NULL}},
            "jupyter": False,  # a `null` never arrives
            "dask": NULL,
            "hosts": {"machines": [{"address": each, "name": each} for each in machines]},
        },
    }


def program(memory: str) -> dict[str, Any]:
    return {
        "resources": {
            "one": cluster("one", memory, "ma", "mb"),
            "two": cluster("two", "1 GiB", "mc"),
        },
        "outputs": {
            "scheduler": "${one.scheduler_address}",
            "connection": "${two.connection}",
            "cluster": "${two.cluster}",
        },
    }


def test_a_yaml_program(site: Site) -> None:
    try:
        host = yaml_host()
    except UnavailableError as error:
        pytest.skip(str(error))
    site.environment["PATH"] = f"{host}:{site.environment['PATH']}"
    project = Project(site, runtime="yaml", **program("512 MiB"))
    project.pulumi("stack", "init", "dev")
    said = project.pulumi("up", "--yes", "--skip-preview")
    assert site.machines().keys() == {"ma", "mb", "mc"}
    standing = json.loads((site.root / "machines" / "mc" / "services").read_text())
    assert standing["roles"] == ["scheduler", "worker"]
    said += project.pulumi("up", "--yes", "--skip-preview", "--expect-no-changes")
    Project(site, runtime="yaml", **program("600 MiB"))
    changed = project.pulumi("preview", "--diff")
    assert '"512 MiB" => "600 MiB"' in changed
    assert "digest" not in changed  # it differs because the memory does
    said += changed + project.pulumi("up", "--yes", "--skip-preview")
    # No secret is in an address: it is none.
    address = project.pulumi("stack", "output", "scheduler")
    assert address == "tls://ma:8786\n"
    connection = json.loads(project.pulumi("stack", "output", "connection", "--show-secrets"))
    assert connection["tls"]["key"].startswith("-----BEGIN")
    outputs = json.loads(project.pulumi("stack", "output", "--json", "--show-secrets"))
    [told] = clusters(outputs, "dev").values()
    assert (told.spec.name, told.spec.env, told.connection) == (
        "two",
        {"WORD": "Tr0ub4dor"},
        connection,
    )
    none = {"distributed.comm.retry.count": None}
    assert (told.spec.dask, told.spec.workers["cpu"].dask) == (none, none)
    assert "Tr0ub4dor" not in said + project.kept()
    assert "PRIVATE KEY" not in said + project.kept()
    project.pulumi("destroy", "--yes", "--skip-preview")
    assert site.machines() == {}

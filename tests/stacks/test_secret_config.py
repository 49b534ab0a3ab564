"""What is secret in a stack's configuration is in clear nowhere, with the real engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.stacks.conftest import Site
from tests.stacks.projects import Project

pytestmark = pytest.mark.lab

CLUSTER = {
    "name": "lab",
    "platform": "hosts",
    "environment": {"python": "/opt/dask/bin/python"},
    "workers": {"cpu": {"memory": "1 GiB"}},
    "hosts": {"machines": ["ma", "mb"]},
}


@pytest.mark.parametrize("whole", [True, False], ids=["a secret key", "a secure value in it"])
def test_secret_config_is_secret_in_the_state(site: Site, whole: bool) -> None:
    project = Project(site)
    project.pulumi("stack", "init", "dev")
    if whole:
        text = json.dumps({**CLUSTER, "env": {"WORD": "Tr0ub4dor"}})
        project.pulumi("config", "set", "--secret", "perennial:cluster", text)
    else:
        file = project.folder / "Pulumi.dev.yaml"
        settings = yaml.safe_load(file.read_text())  # it holds the salt of the passphrase
        file.write_text(json.dumps({**settings, "config": {"perennial:cluster": CLUSTER}}))
        path = "perennial:cluster.env.WORD"
        project.pulumi("config", "set", "--secret", "--path", path, "Tr0ub4dor")
    program = Path(__file__).parents[2] / "__main__.py"
    said = project.inline("preview", program)
    said += project.inline("up", program)
    assert site.machines().keys() == {"ma", "mb"}
    said += project.inline("up", program, diff=True)
    assert "Tr0ub4dor" not in project.kept()
    assert "Tr0ub4dor" not in said
    assert "Tr0ub4dor" in project.pulumi("stack", "export", "--show-secrets")
    project.inline("destroy", program)
    assert site.machines() == {}


WRONG = """
import pulumi
from perennial.stacks.hosts import HostsCluster
from perennial.stacks.local import LocalCluster
secret = pulumi.Output.secret(4711471)
args = {"name": "lab", "workers": {"cpu": {"count": 1}}}
env, port = {"env": {"PIN": secret}}, {"scheduler": {"port": secret}}
hosts = {"environment": {"python": "/p"}, "hosts": {"machines": [{"name": "ma", "address": "ma"}]}}
"""


@pytest.mark.parametrize(
    ("made", "fault"),
    [
        ('HostsCluster("c", {**args, **hosts, **env})', "env.PIN: found a value beside secrets"),
        ('HostsCluster("c", {**args, **hosts, **port})', "scheduler.port: found an Output's value"),
        ('LocalCluster("c", {**args, **env})', "env.PIN: found a value beside secrets"),
    ],
)
def test_a_wrong_secret_is_not_shown(site: Site, made: str, fault: str) -> None:
    project = Project(site)
    project.pulumi("stack", "init", "dev")
    program = project.folder / "program.py"
    program.write_text(WRONG + made)
    said = project.inline("preview", program, code=1)
    assert f"{fault}; allowed: " in said
    assert "4711471" not in said
    assert "/perennial/" not in said  # nor where in our code it was found

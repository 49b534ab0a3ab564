"""A cluster from a stack's configuration: the keys of a cluster file, or a few answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from perennial.errors import SpecError
from perennial.spec import ClusterSpec
from perennial.stacks.program import configured

ROOT = Path(__file__).parents[2]


def read(values: dict[str, Any], secret: Sequence[str] = ()) -> ClusterSpec:
    """Read a configuration as the engine hands it over: objects as JSON."""
    texts = {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()
    }
    pulumi.runtime.set_all_config(texts, list(secret))
    return configured(pulumi.Config("perennial"))


@pytest.mark.parametrize("name", ["hosts", "local"])
def test_examples(name: str) -> None:
    text = (ROOT / f"Pulumi.{name}-example.yaml").read_text()
    assert read(yaml.safe_load(text)["config"]).platform == name


def test_template_asks_for_what_is_read() -> None:
    project = yaml.safe_load((ROOT / "template" / "Pulumi.yaml").read_text())
    asked = project["template"]["config"]
    answers = {key: question.get("default", "ma, mb,mc") for key, question in asked.items()}
    spec = read(answers)
    assert [machine.called for machine in spec.options.machines] == ["ma", "mb", "mc"]
    assert (spec.name, spec.workers["cpu"].count, spec.workers["cpu"].threads) == ("lab", 2, 1)
    assert spec.environment.python == "/opt/dask/bin/python"


def test_answers_are_checked_like_a_file() -> None:
    with pytest.raises(SpecError) as caught:
        read({"perennial:machines": "ma", "perennial:python": "/p", "perennial:workers": "many"})
    assert "Pulumi.stack.yaml: perennial:workers: found 'many'" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("wokers", "did you mean perennial:workers?"),
        ("zzz", "run `pulumi config rm perennial:zzz`"),
    ],
)
def test_a_key_that_nothing_reads_is_refused(key: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        read({"perennial:machines": "ma", "perennial:python": "/p", f"perennial:{key}": "3"})
    assert f"perennial:{key}: found a key that nothing reads; allowed: cluster, " in str(
        caught.value
    )
    assert str(caught.value).endswith(said)


def test_keys_of_others_are_left_alone() -> None:
    assert read({"perennial:machines": "ma", "perennial:python": "/p", "aws:region": "x"})


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("jupyter", {"directory": "Tr0ub4dor"}),
        ("env", {"PIN": 471147}),
        ("jupyter", {"port": "47"}),
    ],
)
def test_a_fault_does_not_show_a_secret(key: str, wrong: dict[str, Any]) -> None:
    """Not as what to write either, which is made of what was found."""
    cluster = {"name": "lab", "platform": "local", "workers": {"cpu": {}}, key: wrong}
    [(name, secret)] = wrong.items()
    with pytest.raises(SpecError) as caught:
        read({"perennial:cluster": cluster}, secret=["perennial:cluster"])
    assert f"{key}.{name}: found a secret value; allowed: " in str(caught.value)
    assert str(secret) not in str(caught.value)


def test_a_wrong_key_is_named_beside_secrets() -> None:
    cluster = {"name": "lab", "platform": "local", "workers": {"cpu": {"memry": "Tr0ub4dor"}}}
    with pytest.raises(SpecError) as caught:
        read({"perennial:cluster": cluster}, secret=["perennial:cluster"])
    assert "workers.cpu.memry: found the unknown key memry; allowed: " in str(caught.value)
    assert str(caught.value).endswith("did you mean memory?")


def test_no_machines() -> None:
    with pytest.raises(SpecError, match="set perennial:machines to the addresses"):
        read({})


def test_faults_name_their_place() -> None:
    cluster = {"name": "lab", "platform": "local", "workers": {"cpu": {"memory": "much"}}}
    with pytest.raises(SpecError) as caught:
        read({"perennial:cluster": cluster})
    assert str(caught.value).startswith("perennial:cluster: workers.cpu.memory: found ")

"""Values of the Helm chart as a cluster file: exact text, and one line for what is lost.

``PERENNIAL_REWRITE=1 python -m pytest tests/platforms/kubernetes/chart`` writes the files anew.
"""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from perennial.cli import app
from perennial.errors import PerennialError, SpecError
from perennial.platforms.kubernetes.chart.convert import Converted, convert
from perennial.platforms.kubernetes.chart.rules import RULES
from perennial.platforms.kubernetes.chart.table import ROWS
from perennial.platforms.kubernetes.deployer import KubernetesDeployer
from perennial.platforms.kubernetes.files import files
from perennial.platforms.kubernetes.manifests import manifests
from perennial.platforms.kubernetes.quotas import quantity
from perennial.spec import loads, schema
from perennial.spec.reading import read
from tests.examples import examples

CASES = Path(__file__).parent / "cases"

#: Every value of the chart's last release.
POD = (
    "image.repository image.tag image.pullPolicy image.pullSecrets replicas env resources.limits"
    " resources.requests tolerations affinity nodeSelector securityContext serviceAccountName"
    " livenessProbe readinessProbe name"
)
INGRESS = (
    "ingress.enabled ingress.ingressClassName ingress.pathType ingress.tls ingress.secretName"
    " ingress.hostname ingress.annotations"
)
MONITOR = "enabled namespace namespaceSelector additionalLabels interval jobLabel metricRelabelings"
CHART = {
    "": "nameOverride fullnameOverride additional_worker_groups",
    "scheduler.": f"{POD} enabled serviceType loadBalancerIP servicePort serviceAnnotations"
    " extraArgs metrics.enabled",
    "scheduler.metrics.serviceMonitor.": f"{MONITOR} targetLabels",
    "webUI.": f"name servicePort {INGRESS}",
    "worker.": f"{POD} image.dask_worker strategy.type custom_scheduler_url default_resources.cpu"
    " default_resources.memory extraArgs mounts.volumes mounts.volumeMounts annotations port"
    " portDashboard threads_per_worker metrics.enabled",
    "worker.metrics.podMonitor.": f"{MONITOR} podTargetLabels",
    "jupyter.": f"{POD} enabled rbac serviceType servicePort password passwordHint command args"
    f" extraConfig mounts.volumes mounts.volumeMounts {INGRESS}",
}


def notes(made: Converted) -> str:
    lines = (f"{'lost' if n.lost else 'differs'}: {n.key}: {n.why}\n" for n in made.notes)
    return "".join(lines)


def converted(values: Any) -> Converted:
    return convert(yaml.safe_dump(values), "lab", source="values.yaml")


@pytest.mark.parametrize("case", sorted(CASES.iterdir()), ids=lambda path: path.name)
def test_a_case_is_converted_to_the_letter(case: Path, tmp_path: Path) -> None:
    made = convert((case / "values.yaml").read_text(), "lab", "dask", "values.yaml")
    for name, text in (("cluster.yaml", made.text), ("notes.txt", notes(made))):
        if os.environ.get("PERENNIAL_REWRITE"):
            (case / name).write_text(text)
        assert (case / name).read_text() == text, name
    assert loads(made.text) == made.spec
    file = tmp_path / "cluster.yaml"
    file.write_text(made.text)
    assert KubernetesDeployer("kubernetes").faults(read(file))[0] == []
    assert "kustomization.yaml" in files(made.spec)


@pytest.mark.parametrize("case", sorted(CASES.iterdir()), ids=lambda path: path.name)
def test_no_container_requests_more_than_its_limit(case: Path) -> None:
    made = convert((case / "values.yaml").read_text(), "lab")
    found = [each for part in manifests(made.spec).values() for each in part]
    for each in (each for each in found if each["kind"] == "Deployment"):
        resources = each["spec"]["template"]["spec"]["containers"][0]["resources"]
        for name, limit in resources["limits"].items():
            wanted = resources["requests"].get(name, limit)
            assert quantity(wanted) <= quantity(limit), (each["metadata"]["name"], name)


def test_the_table_has_every_value_of_the_chart_once() -> None:
    keys = [row.key for row in ROWS]
    assert len(keys) == len(set(keys))
    chart = {f"{part}{key}" for part, names in CHART.items() for key in names.split()}
    assert chart - set(keys) == set()
    finer = {"resources.limits.memory", "resources.limits.cpu"}
    assert {key for key in set(keys) - chart if key.partition(".")[2] not in finer} == set()


def test_each_row_says_what_a_value_becomes_or_why_it_has_no_counterpart() -> None:
    for row in ROWS:
        assert row.ours or row.why, row.key
        assert not row.rule or row.rule in RULES, row.key


def test_keys_that_the_table_names_are_keys_of_the_cluster_file() -> None:
    known = schema()

    def has(node: Any, steps: list[str]) -> bool:
        while "$ref" in node:
            node = known["$defs"][node["$ref"].rpartition("/")[2]]
        for option in node.get("anyOf", ()):
            if has(option, steps):
                return True
        if not steps:
            return True
        inner = node.get("properties", {}).get(steps[0]) or node.get("additionalProperties")
        return inner is True or (isinstance(inner, dict) and has(inner, steps[1:]))

    for row in ROWS:
        assert not row.ours or any(
            has(branch, row.ours.split("."))
            for branch in [known, *known.get("oneOf", ()), *known.get("anyOf", ())]
        ), row.ours
    assert not has(known, ["scheduler", "nothing"])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"worker": {"replicas": "three"}}, "worker.replicas: found 'three'; allowed: a whole num"),
        ({"worker": 5}, "worker: found 5; allowed: a mapping"),
        ({"worker": {"image": []}}, "worker.image: found an empty list; allowed: a mapping"),
        ({"scheduler": {"servicePort": 70000}}, "scheduler.servicePort: found 70000; allowed: a p"),
        ({"worker": {"resources": {"limits": {"memory": "lots"}}}}, "worker.resources.limits.mem"),
        ({"worker": {"env": [{"name": "A=B"}]}}, "worker.env[0]: found 'A=B'; allowed: a variabl"),
        (
            {"worker": {"env": {"A": "B"}}},
            "worker.env: found a mapping of 1 key; allowed: a list o",
        ),
        ({"worker": {"tolerations": "all"}}, "worker.tolerations: found 'all'; allowed: a list of"),
        ({"jupyter": {"enabled": "yes"}}, "jupyter.enabled: found 'yes'; allowed: true or false"),
        ({"scheduler": {"image": {"repository": "a b"}}}, "scheduler.image.repository: found 'a b"),
        ({"scheduler": {"nodeSelector": {"a b": "c"}}}, "scheduler.nodeSelector: found"),
        ({"scheduler": {"serviceType": "External"}}, "scheduler.serviceType: found 'External'"),
        (
            {"scheduler": {"resources": {"limits": {"memory": "1k"}}}},
            "scheduler.resources.limits.m",
        ),
        ({"additional_worker_groups": {"name": "a"}}, "additional_worker_groups: found a mapping"),
        ({"additional_worker_groups": [{}]}, "additional_worker_groups[0].name: found null; allow"),
        ({"additional_worker_groups": [{"name": "../x" * 9 + "é"}, {"name": "main"}]}, "[1].name"),
        ({"additional_worker_groups": [{"name": "§"}]}, "additional_worker_groups[0].name: found"),
        (
            {"additional_worker_groups": [{"name": "a", "mounts": 1}]},
            "[0].mounts: found 1; allowed",
        ),
        ({"worker": {"image": {"pullSecrets": [{"a": 1}]}}}, "worker.image.pullSecrets: found"),
        (
            {"jupyterhub": {}, "dask-gateway": {}},
            "(file): found dask-gateway, jupyterhub; allowed:",
        ),
        (["worker"], "(file): found a list of 1 value; allowed: values of the chart dask"),
    ],
)
def test_a_wrong_value_is_one_line_with_its_key(values: Any, said: str) -> None:
    with pytest.raises(SpecError) as raised:
        converted(values)
    lines = str(raised.value).splitlines()
    assert said in lines[0], lines
    assert len(lines) == 1
    assert re.match(r"values\.yaml(:\d+)?: ", lines[0]), lines


def test_a_wrong_value_is_found_on_its_line() -> None:
    text = "# first\nworker:\n  image:\n    tag: [1]\n"
    with pytest.raises(SpecError, match=r"^values.yaml:4: worker.image.tag: found a list"):
        convert(text, "lab", source="values.yaml")


def test_a_bomb_of_anchors_is_refused_at_once() -> None:
    text = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
    )
    with pytest.raises(SpecError, match="50,000 values"):
        convert(text, "lab")


@settings(max_examples=examples(300), deadline=None)
@given(st.data())
def test_whatever_stands_there_it_is_converted_or_refused_by_a_key(data: st.DataObject) -> None:
    row = data.draw(st.sampled_from(ROWS))
    odd = st.one_of(
        *(st.none(), st.booleans(), st.integers(-1, 10**12), st.text(max_size=8)),
        st.lists(st.one_of(st.text(max_size=4), st.dictionaries(st.text(max_size=4), st.none()))),
        st.dictionaries(st.text(max_size=8), st.one_of(st.text(max_size=4), st.integers(0, 9))),
        st.lists(st.fixed_dictionaries({"name": st.text("abc-", max_size=5)}), max_size=2),
    )
    value: Any = data.draw(odd)
    for step in reversed(row.key.split(".")):
        value = {step: value}
    if row.section == "worker" and data.draw(st.booleans()):
        value = {"additional_worker_groups": [{"name": "more", **value["worker"]}]}
    refused = None
    try:
        made: Converted | None = converted(value)
    except SpecError as error:
        made, refused = None, error
    assert refused is None or all(fault.path for fault in refused.faults)
    assert made is None or loads(made.text) == made.spec


def test_the_command_writes_the_file_and_says_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "values.yaml").write_text("jupyter: {password: sha1:secret}\n")
    done = CliRunner().invoke(app, ["import", "helm", "values.yaml", "-o", "cluster.yaml"])
    assert done.exit_code == 0, done.output
    assert "lost: jupyter.password: JupyterLab asks for a token" in done.stderr
    assert "secret" not in done.output + (tmp_path / "cluster.yaml").read_text()
    assert "cluster.yaml: 1 scheduler, 3 workers in 1 group" in done.stdout
    checked = CliRunner().invoke(app, ["check", "cluster.yaml"])
    assert checked.exit_code == 0, checked.output
    again = CliRunner().invoke(app, ["import", "helm", "values.yaml", "-o", "cluster.yaml"])
    assert "exists already; add --force" in str(again.exception)
    strict = CliRunner().invoke(app, ["import", "helm", "values.yaml", "--strict"])
    assert strict.exit_code == 1
    assert strict.stdout == (tmp_path / "cluster.yaml").read_text()
    piped = CliRunner().invoke(app, ["import", "helm", "-", "--release", "lab"], input="{}\n")
    assert "name: lab\n" in piped.stdout
    assert CliRunner().invoke(app, ["import", "compose", "values.yaml"]).exit_code == 2


@pytest.mark.parametrize(("name", "said"), [("none.yaml", "no such file"), (".", "directory")])
def test_a_file_that_cannot_be_read_is_one_line(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["import", "helm", name])
    assert isinstance(done.exception, PerennialError)
    assert said in str(done.exception)
    assert "helm get values" in str(done.exception)


def test_the_page_of_the_values_is_the_table() -> None:
    folder = Path(__file__).parents[4] / "docs"
    spec = importlib.util.spec_from_file_location("generate_helm", folder / "generate_helm.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    lines = generator.render().splitlines()
    for row in ROWS:
        line = next(line for line in lines if line.startswith(f"| `{row.key}` |"))
        assert f"`{row.ours}`" in line if row.ours else row.why in line, row.key
    assert "generated/helm-values.md" in (folder / "reference" / "helm-values.md").read_text()


def test_monitors_become_one_that_holds_for_all_parts() -> None:
    own = {
        **{"enabled": True, "namespace": "monitoring", "interval": "1m", "jobLabel": "team"},
        "additionalLabels": {"release": "prometheus"},
    }
    rules = [{"action": "drop", "regex": "python_.*", "sourceLabels": ["__name__"]}]
    service = {**own, "targetLabels": ["team"], "metricRelabelings": rules}
    made = converted(
        {
            "scheduler": {"metrics": {"enabled": True, "serviceMonitor": service}},
            "worker": {"metrics": {"enabled": True, "podMonitor": {"enabled": True}}},
        }
    )
    assert yaml.safe_load(made.text)["kubernetes"]["metrics"] == {
        "monitor": {
            **{"interval": "1m", "job_label": "team", "labels": {"release": "prometheus"}},
            **{"target_labels": ["team"], "relabelings": rules},
        }
    }
    said = notes(made)
    assert "lost: scheduler.metrics.serviceMonitor.namespace: monitors stand in the" in said
    assert "differs: worker.metrics.podMonitor.enabled: one monitor holds for all parts" in said
    # What is off in the chart stays off.
    off = converted({"worker": {"metrics": {"podMonitor": {"enabled": True}}}})
    assert "metrics" not in yaml.safe_load(off.text)["kubernetes"]

"""What is rendered for Kubernetes: exact text for a whole cluster, and what holds for every one.

``PERENNIAL_REWRITE=1 python -m pytest tests/platforms/kubernetes`` writes the expected files anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.errors import SpecError
from perennial.platforms.kubernetes import names, secrets
from perennial.platforms.kubernetes.deployer import KubernetesDeployer
from perennial.platforms.kubernetes.files import files
from perennial.platforms.kubernetes.manifests import manifests
from perennial.platforms.kubernetes.merging import merged
from perennial.platforms.kubernetes.parts import client_address
from perennial.platforms.kubernetes.restricted import violations
from perennial.services.values import PLACEHOLDERS
from perennial.spec import ClusterSpec, loads
from perennial.spec.reading import read
from tests.examples import examples

CASE = Path(__file__).parent / "cases" / "full"
RECIPE = Path(__file__).parents[3] / "templates" / "container"
EXAMPLE = Path(__file__).parents[3] / "examples" / "kubernetes.yaml"
LEAST = {
    "name": "lab",
    "platform": "kubernetes",
    "workers": {"cpu": {"count": 2}},
    "kubernetes": {"image": "dask:1"},
}
NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,12}[a-z0-9])?", fullmatch=True)
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DIGEST = re.compile(r"(-preloads-)\w+-\w+")
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


def spec_of(**changes: Any) -> ClusterSpec:
    return loads(yaml.safe_dump({**LEAST, **changes}))


def objects(spec: ClusterSpec) -> Iterator[dict[str, Any]]:
    for each in manifests(spec).values():
        yield from each


def deployments(spec: ClusterSpec) -> dict[str, dict[str, Any]]:
    found = (each for each in objects(spec) if each["kind"] == "Deployment")
    return {each["metadata"]["labels"][names.PART]: each["spec"] for each in found}


def container(spec: ClusterSpec, part: str) -> dict[str, Any]:
    found: dict[str, Any] = deployments(spec)[part]["template"]["spec"]["containers"][0]
    return found


@st.composite
def specs(draw: st.DrawFn) -> ClusterSpec:
    """Draw clusters of many shapes."""
    group = st.fixed_dictionaries(
        {"threads": st.integers(1, 8), "processes": st.integers(1, 3)},
        optional={
            "count": st.just(1),
            "scale": st.fixed_dictionaries({"min": st.just(0), "max": st.integers(1, 9)}),
            "env": st.just({"A": "$(HOME) $$"}),
        },
    )
    reserved = {"scheduler", "jupyter", "scaler", "relay", "keeper", "health", "client", "worker"}
    groups = NAMES.filter(lambda name: name not in reserved and not re.search(r"-\d+$", name))
    return spec_of(
        name=draw(NAMES),
        workers=draw(st.dictionaries(groups, group, min_size=1, max_size=3)),
        security={"tls": draw(st.booleans())},
        jupyter=draw(st.sampled_from([None, {}, {"port": 9999}])),
        kubernetes={
            "image": "dask:1",
            "network": {"policies": draw(st.booleans()), "metadata": draw(st.booleans())},
            "jupyter": draw(st.sampled_from([{}, {"storage": {}}])),
        },
    )


def test_a_whole_cluster_is_rendered_to_exactly_these_files() -> None:
    rendered = files(loads((CASE / "cluster.yaml").read_text(encoding="utf-8")))
    del rendered["manifests/preloads.yaml"]  # our own files, see `test_code`
    recipe = {name for name in rendered if name.startswith("container/")}
    texts = {name: rendered.pop(name) for name in recipe}
    assert texts.keys() == {f"container/{path.name}" for path in RECIPE.iterdir()}
    assert all(texts[f"container/{path.name}"] == path.read_text() for path in RECIPE.iterdir())
    rendered = {name: _DIGEST.sub(r"\1DIGEST", text) for name, text in rendered.items()}
    folder = CASE / "kubernetes"
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    if os.environ.get("PERENNIAL_REWRITE"):
        for relative in found.keys() - rendered.keys():
            found[relative].unlink()
        for relative, text in rendered.items():
            (folder / relative).parent.mkdir(parents=True, exist_ok=True)
            (folder / relative).write_text(text, encoding="utf-8")
        return
    assert sorted(found) == sorted(rendered)
    for relative, text in rendered.items():
        assert found[relative].read_text(encoding="utf-8") == text, relative


@settings(max_examples=examples(60), deadline=None)
@given(specs())
def test_what_holds_for_every_cluster(spec: ClusterSpec) -> None:
    every = list(objects(spec))
    # Names are valid, and unique for each kind.
    keys = [(each["kind"], each["metadata"]["name"]) for each in every]
    assert len(set(keys)) == len(keys)
    assert all(_NAME.fullmatch(name) and len(name) <= names.LONGEST for _, name in keys)
    for part, deployment in deployments(spec).items():
        template = deployment["template"]
        pod = template["spec"]
        assert violations(pod) == [], part
        # Selectors match their own pods, and those of no other part.
        wanted = deployment["selector"]["matchLabels"].items()
        matched = [
            other
            for other, each in deployments(spec).items()
            if wanted <= each["template"]["metadata"]["labels"].items()
        ]
        assert matched == [part]
        assert pod["automountServiceAccountToken"] is (part == "scaler")
        # Every volume that is mounted is there.
        there = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} <= there
    rendered = files(spec)
    text = "".join(rendered.values())
    assert "BEGIN" not in text
    assert not any(mark in text for mark in PLACEHOLDERS)
    # The same services, the same bytes; and kubectl reads what was written.
    assert files(spec) == rendered
    for name, written in rendered.items():
        if name.endswith(".yaml"):
            assert all(isinstance(each, dict) for each in yaml.load_all(written, _LOADER))


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(st.tuples(NAMES, NAMES), min_size=2, max_size=2, unique=True))
def test_two_clusters_in_a_namespace_never_share_a_name(pairs: list[tuple[str, str]]) -> None:
    one, other = (names.name_of(*pair) for pair in pairs)
    assert one != other


def test_names_that_are_long_or_ambiguous_end_in_a_digest() -> None:
    assert names.name_of("lab", "cpu") == "lab-cpu"
    assert names.name_of("lab-gpu", "x") == "lab-gpu-x"
    assert names.name_of("lab", "gpu-x").startswith("lab-gpu-x-0")
    assert len(names.name_of("a" * 40, "b" * 40)) <= names.LONGEST


def test_a_worker_is_told_to_stop_long_enough_before_it_is_killed() -> None:
    spec = spec_of(workers={"cpu": {"drain": "200 s"}})
    pod = deployments(spec)["cpu"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 230
    assert "perennial.preloads.drain" in pod["containers"][0]["command"]


def test_no_probe_can_end_a_worker_that_is_busy() -> None:
    assert "livenessProbe" not in container(spec_of(), "cpu")
    assert "startupProbe" not in container(spec_of(), "cpu")
    probe = container(spec_of(), "scheduler")["livenessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 60
    never = spec_of(scheduler={"watchdog": "0 s"})
    assert "livenessProbe" not in container(never, "scheduler")


def test_a_scheduler_and_jupyter_are_never_there_twice() -> None:
    found = deployments(spec_of())
    assert {found[part]["strategy"]["type"] for part in ("scheduler", "jupyter")} == {"Recreate"}


def test_the_size_of_a_scaled_group_is_not_written() -> None:
    spec = spec_of(workers={"cpu": {"scale": {"min": 0, "max": 3}}, "fixed": {"count": 0}})
    assert "replicas" not in deployments(spec)["cpu"]
    assert deployments(spec)["fixed"]["replicas"] == 0


def test_a_size_changes_no_pod_and_another_variable_changes_its_group_alone() -> None:
    def prints(**changes: Any) -> dict[str, str]:
        return {
            part: each["template"]["metadata"]["annotations"][names.FINGERPRINT]
            for part, each in deployments(spec_of(**changes)).items()
        }

    before = prints(workers={"cpu": {}, "gpu": {}})
    assert prints(workers={"cpu": {"count": 5}, "gpu": {}}) == before
    after = prints(workers={"cpu": {"env": {"A": "1"}}, "gpu": {}})
    assert {part for part in before if before[part] != after[part]} == {"cpu"}


def test_what_looks_like_a_variable_of_a_pod_is_left_as_it_was_written() -> None:
    spec = spec_of(env={"A": "$(POD_NAME)$"}, workers={"cpu": {"extra_args": ["--$(POD_IP)"]}})
    found = container(spec, "cpu")
    assert {"name": "A", "value": "$$(POD_NAME)$$"} in found["env"]
    assert "--$$(POD_IP)" in found["command"]
    assert "$(POD_NAME)" in found["command"]


def test_each_pod_has_the_keys_of_its_own_role_alone() -> None:
    metrics = {"image": "dask:1", "metrics": {}}
    spec = spec_of(kubernetes=metrics)
    for part, expected in {
        "scheduler": {"lab-scheduler-tls", "lab-metrics-secret"},
        "cpu": {"lab-worker-tls", "lab-metrics-secret"},
        "jupyter": {"lab-client-tls", "lab-jupyter-secret"},
    }.items():
        volumes = deployments(spec)[part]["template"]["spec"]["volumes"]
        named = set(re.findall(r"lab-[a-z]+-(?:tls|secret)", str(volumes)))
        assert named == expected
    # And each file comes from the Secret that holds it.
    held = secrets.contents(spec)
    for deployment in deployments(spec).values():
        for volume in deployment["template"]["spec"]["volumes"]:
            for source in volume.get("projected", {}).get("sources", ()):
                files_of = {item["key"] for item in source["secret"]["items"]}
                assert files_of <= set(held[source["secret"]["name"]])


def test_only_the_scaler_has_rights_and_only_over_its_own_deployments() -> None:
    spec = spec_of(workers={"cpu": {"scale": {"min": 0, "max": 3}}, "gpu": {}})
    (role,) = (each for each in objects(spec) if each["kind"] == "Role")
    for rule in role["rules"]:
        if "pods" not in rule["resources"] and "resourcequotas" not in rule["resources"]:
            assert rule["resourceNames"] == ["lab-cpu", "lab-gpu"]
    assert not any("*" in rule["verbs"] + rule["resources"] for rule in role["rules"])
    assert not any(each["kind"] == "Role" for each in objects(spec_of()))


def test_the_scheduler_is_reached_by_its_cluster_and_by_labelled_pods_alone() -> None:
    spec = spec_of(kubernetes={"image": "dask:1", "network": {"client_namespaces": ["nb"]}})
    policies = {
        each["metadata"]["labels"][names.PART]: each["spec"]
        for each in objects(spec)
        if each["kind"] == "NetworkPolicy"
    }
    assert policies.keys() == {"scheduler", "cpu", "jupyter"}
    (rule,) = policies["scheduler"]["ingress"]
    assert rule["ports"] == [{"port": 8786, "protocol": "TCP"}]
    client = {"podSelector": {"matchLabels": {"lab.dask-perennial/client": "true"}}}
    where = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "nb"}}}
    own = {"podSelector": {"matchLabels": {"app.kubernetes.io/instance": "lab"}}}
    assert rule["from"] == [own, client, {**where, **client}]
    assert policies["jupyter"]["ingress"] == []
    assert "169.254.169.254/32" in str(policies["cpu"]["egress"])


def test_an_ingress_of_the_scheduler_is_where_clients_connect() -> None:
    own = {"host": "dask.example.org", "annotations": {"example.org/passthrough": "true"}}
    options = {**LEAST["kubernetes"], "scheduler": {"ingress": own}}
    spec = spec_of(kubernetes=options)
    (made,) = [each for each in objects(spec) if each["kind"] == "Ingress"]
    assert made["metadata"]["name"] == "lab-scheduler"
    assert made["metadata"]["annotations"] == own["annotations"]
    (rule,) = made["spec"]["rules"]
    backend = {"name": "lab-scheduler", "port": {"name": "comm"}}
    assert rule["http"]["paths"][0]["backend"]["service"] == backend
    # The controller has no certificate of the host: TLS ends in the scheduler, which has one.
    assert made["spec"]["tls"] == [{"hosts": ["dask.example.org"]}]
    assert "dask.example.org" in secrets.reached_by(spec, "scheduler")
    assert client_address(spec) == "tls://dask.example.org:443"
    (policy,) = [
        each
        for each in objects(spec)
        if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] == "lab-scheduler"
    ]
    assert policy["spec"]["ingress"] == [{"ports": [{"port": 8786, "protocol": "TCP"}]}]
    with pytest.raises(SpecError, match=r"kubernetes\.scheduler\.ingress: .*an Ingress with TLS"):
        spec_of(kubernetes=options, security={"tls": False})


def test_extra_pod_spec_is_merged_strategically_and_what_it_opens_is_warned_of(
    tmp_path: Path,
) -> None:
    below = {"containers": [{"name": "dask", "env": [{"name": "A", "value": "1"}], "tty": True}]}
    above = {"containers": [{"name": "dask", "env": [{"name": "B"}], "tty": None}, {"name": "log"}]}
    assert merged(below, above) == {
        "containers": [
            {"name": "dask", "env": [{"name": "A", "value": "1"}, {"name": "B"}]},
            {"name": "log"},
        ]
    }
    file = tmp_path / "cluster.yaml"
    extra = {"image": "dask:1", "extra_pod_spec": {"hostNetwork": True}}
    file.write_text(yaml.safe_dump({**LEAST, "kubernetes": extra}))
    errors, warnings = KubernetesDeployer("kubernetes").faults(read(file))
    assert errors == []
    assert "pods of cpu with hostNetwork: true" in {warning.found for warning in warnings}
    file.write_text(yaml.safe_dump(LEAST))
    assert KubernetesDeployer("kubernetes").faults(read(file)) == ([], [])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kubernetes": {}}, "kubernetes.image: found nothing"),
        ({"kubernetes": {"image": "a b"}}, "kubernetes.image: found 'a b'"),
        ({"kubernetes": {"image": "a", "workers": {"x": {}}}}, "kubernetes.workers.x"),
        ({"environment": {"requirements": ["dask"]}}, "environment.requirements"),
        ({"umask": "022"}, "umask"),
        ({"security": {"open_dashboard": True}}, "security.open_dashboard"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=re.escape(said)):
        spec_of(**changes)


def test_the_example_is_rendered() -> None:
    assert "manifests/scaler.yaml" in files(loads(EXAMPLE.read_text()))


def test_metrics_are_served_and_read_where_the_file_asks_for_it() -> None:
    plain = spec_of()
    assert "perennial.preloads.metrics" not in container(plain, "scheduler")["command"]
    assert "lab-metrics-secret" not in str(list(objects(plain)))
    assert "ports" not in container(plain, "cpu")
    assert not any(each["kind"] == "PodMonitor" for each in objects(plain))
    asked = {
        "namespaces": ["monitoring"],
        "monitor": {
            **{"labels": {"release": "prometheus"}, "interval": "1m", "job_label": "team"},
            "target_labels": ["team"],
        },
    }
    kubernetes = {"image": "dask:1", "metrics": asked}
    spec = spec_of(workers={"cpu": {"processes": 2}}, kubernetes=kubernetes)
    command = container(spec, "scheduler")["command"]
    assert "perennial.preloads.metrics" in command
    ports = {each["name"]: each["containerPort"] for each in container(spec, "cpu")["ports"]}
    assert ports == {"metrics": 9180, "metrics-1": 9181}
    found = {
        each["metadata"]["name"]: each for each in objects(spec) if each["kind"] == "PodMonitor"
    }
    assert found.keys() == {"lab-scheduler", "lab-cpu"}
    made = found["lab-cpu"]
    assert made["metadata"]["labels"]["release"] == "prometheus"
    assert made["spec"]["jobLabel"] == "team"
    assert made["spec"]["podTargetLabels"] == ["team"]
    one, other = made["spec"]["podMetricsEndpoints"]
    assert (one["port"], other["port"]) == ("metrics", "metrics-1")
    assert one == {
        "port": "metrics",
        "path": "/metrics",
        "scheme": "https",
        "interval": "1m",
        "authorization": {
            "type": "Bearer",
            "credentials": {"name": "lab-metrics-secret", "key": "metrics-token"},
        },
        "tlsConfig": {
            "ca": {"secret": {"name": "lab-metrics-secret", "key": "ca.pem"}},
            "serverName": "lab-scheduler.default.svc",
        },
    }
    assert secrets.contents(spec)["lab-metrics-secret"] == ("ca.pem", "metrics-token")
    # Nobody else reaches the port, and JupyterLab has none.
    policies = {
        each["metadata"]["labels"][names.PART]: each["spec"]["ingress"]
        for each in objects(spec)
        if each["kind"] == "NetworkPolicy"
    }
    where = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    ports_of = [{"port": port, "protocol": "TCP"} for port in (9180, 9181)]
    assert policies["cpu"][-1] == {"from": [where], "ports": ports_of}
    assert policies["scheduler"][-1] == {"from": [where], "ports": ports_of[:1]}
    assert policies["jupyter"] == []
    volumes = str(deployments(spec)["jupyter"]["template"]["spec"]["volumes"])
    assert "metrics" not in volumes

"""A release of the Helm chart is adopted, scaled, upgraded and let go; on a real API server.

Its pods are real Dask processes without anything of ours, see `tests.labs.kubernetes.release`; the
scaler has the rights of its own service account alone.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from distributed import Client
from typer.testing import CliRunner

from perennial.cli import app
from perennial.errors import PerennialError
from perennial.platforms.kubernetes.chart.release import find
from perennial.platforms.kubernetes.client import Api
from perennial.platforms.kubernetes.fleet import COST, LEAVING
from tests.homes import wait_until
from tests.labs.kubernetes.lab import Lab, running
from tests.labs.kubernetes.monitors import define
from tests.labs.kubernetes.release import Machine, chart, kubeconfig

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]  # may wait for the lab

CASES = Path(__file__).parents[2] / "platforms" / "kubernetes" / "chart" / "cases"
OPTIONS = "--image dask:1 --interval 1s --idle 3s --drain 30s --yes"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running() as lab:
        yield lab


def namespace(lab: Lab, name: str) -> str:
    api = Api()
    api.core.create_namespace({"metadata": {"name": name}})
    listed = api.core.list_namespaced_service_account
    wait_until(lambda: "default" in {each.metadata.name for each in listed(name).items})
    return name


def helm(lab: Lab, where: str, style: str, made: list[Any], *more: str) -> str:
    """Install or upgrade as Helm does: by patches from here, or by server-side apply."""
    text = "---\n".join(yaml.safe_dump(each) for each in made)
    if style == "helm4":
        words = ["apply", "--server-side", "--field-manager=helm", *more, "-f", "-"]
        return lab.kubectl("-n", where, *words, text=text)
    if not Api().apps.list_namespaced_deployment(where).items:
        return lab.kubectl("-n", where, "create", "--field-manager=helm", "-f", "-", text=text)
    for each in made:
        patch = ["--field-manager=helm", "--type=strategic", "-p", json.dumps(each)]
        what = f"{each['kind'].lower()}/{each['metadata']['name']}"
        lab.kubectl("-n", where, "patch", what, *patch)
    return ""


def perennial(*words: str) -> str:
    done = CliRunner().invoke(app, shlex.split(" ".join(words)))
    if isinstance(done.exception, PerennialError):
        raise done.exception
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def sizes(where: str) -> dict[str, int]:
    listed = Api().apps.list_namespaced_deployment(where).items
    return {each.metadata.name: each.spec.replicas for each in listed}


def picture(where: str) -> Any:
    """What the release consists of, but for sizes, and for who has set what and when."""
    api = Api()
    made = [*api.apps.list_namespaced_deployment(where).items]
    made += api.core.list_namespaced_service(where).items
    plain = [api.core.api_client.sanitize_for_serialization(each) for each in made]
    for each in plain:
        each["spec"].pop("replicas", None)
        for key in ("managedFields", "resourceVersion", "generation"):
            each["metadata"].pop(key, None)
        each["metadata"].get("annotations", {}).pop("deployment.kubernetes.io/revision", None)
        each.pop("status")
    return plain


@contextmanager
def standing(lab: Lab, where: str, folder: Path, net: int) -> Iterator[tuple[Machine, Client]]:
    with Machine(lab, where, folder, net) as machine:
        with Client(f"tcp://127.0.0.1:{machine.port}", timeout=60, set_as_default=False) as client:
            client.wait_for_workers(3, timeout=60)
            yield machine, client
        assert machine.failed == []


def undone(lab: Lab, where: str, machine: Machine, at_first: dict[str, int]) -> None:
    """Let the release go, and find nothing of ours there."""
    undo = perennial(f"adopt helm lab -n {where} --undo --plan")
    assert "1 → 2, as before it was adopted" in undo
    perennial(f"adopt helm lab -n {where} --undo --yes")
    wait_until(lambda: sizes(where) == at_first, 60)
    for pod in machine.pods():
        assert not {COST, LEAVING} & set(pod.metadata.annotations or ())
    api = Api()
    for kind in ("ServiceAccount", "Role", "RoleBinding", "ConfigMap", "Deployment"):
        assert api.labelled_objects(kind, where, {"dask-perennial/adopts": "lab"}) == []
    with pytest.raises(PerennialError, match="it was not adopted"):
        perennial(f"adopt helm lab -n {where} --undo --yes")


@pytest.mark.parametrize(
    ("style", "net"), [pytest.param("helm3", 73, marks=pytest.mark.smoke), ("helm4", 74)]
)
def test_adopt_scale_upgrade_undo(lab: Lab, tmp_path: Path, style: str, net: int) -> None:
    where = namespace(lab, style)
    helm(lab, where, style, chart("lab", "lab-dask", 2, big=1))
    with standing(lab, where, tmp_path, net) as (machine, client):
        before, at_first = picture(where), sizes(where)
        planned = perennial(f"adopt helm lab -n {where} --scale worker=1:4 {OPTIONS} --plan")
        assert "2 now, from then on 1 to 4 by demand" in planned
        assert sizes(where) == at_first
        assert len(Api().core.list_namespaced_config_map(where).items) == 1  # the namespace's own
        extras = "--policies --budgets"
        perennial(f"adopt helm lab -n {where} --scale worker=1:4 {OPTIONS} {extras}")
        lab.kubectl("-n", where, "wait", "--for=create", "pod", "-l", "dask-perennial/adopts=lab")
        data = client.scatter({f"data-{n}": n for n in range(20)}, hash=False)

        # Up by demand; the group without bounds keeps its size.
        futures = client.map(lambda n: (time.sleep(0.5), n)[1], range(160), pure=False)
        wait_until(lambda: sizes(where)["lab-dask-worker"] == 4, 90)
        assert sizes(where) == {**at_first, "lab-dask-worker": 4, "lab-perennial": 1}

        # An upgrade resets the size, and the scaler restores it while there is work.
        upgraded = chart("lab", "lab-dask", 2, big=1)
        if style == "helm4":
            with pytest.raises(
                AssertionError, match=r"conflict.*dask-perennial|conflict.*replicas"
            ):
                helm(lab, where, style, upgraded)
            helm(lab, where, style, upgraded, "--force-conflicts")
        else:
            helm(lab, where, style, upgraded)
        wait_until(lambda: sizes(where)["lab-dask-worker"] == 4, 90)

        # With the line of --values it does not: nothing differs, and nothing conflicts.
        line = perennial(f"adopt helm lab -n {where} --values")
        assert line.startswith("--set worker.replicas=")
        live = int(line.split()[1].rpartition("=")[2])
        helm(lab, where, style, chart("lab", "lab-dask", live, big=1))
        assert client.gather(futures) == list(range(160))

        # Down without work: drained, and nothing is lost that was there after the upgrade.
        kept = client.map(lambda n: n * n, range(30), pure=False)
        client.gather(kept)
        data = client.scatter({f"more-{n}": n for n in range(20)}, hash=False)
        wait_until(lambda: sizes(where)["lab-dask-worker"] == 1, 120)
        wait_until(lambda: len(client.ncores()) == 2, 60)
        assert {future.status for future in (*kept, *data.values())} == {"finished"}
        assert client.gather(kept) == [n * n for n in range(30)]
        assert client.gather(data) == {f"more-{n}": n for n in range(20)}
        assert "drained in" in machine.log("lab-perennial")
        assert "Traceback" not in machine.log("lab-perennial")

        undone(lab, where, machine, at_first)
        assert picture(where) == before
        helm(lab, where, style, chart("lab", "lab-dask", 2, big=1))  # without force


def test_releases_are_found_whatever_they_are_called(lab: Lab, tmp_path: Path) -> None:
    where = namespace(lab, "found")
    helm(lab, where, "helm3", chart("one", "other-name", 2, **{"big-mem": 0}))
    lab.kubectl(
        *("-n", where, "create", "-f", "-"),
        text="---\n".join(yaml.safe_dump(each) for each in chart("two", "two-dask", 1)[1:2]),
    )
    api = Api()
    found = find(api, "one", where)
    assert found.scheduler == f"tcp://other-name-scheduler.{where}.svc:8786"
    assert found.http == f"other-name-scheduler.{where}.svc:80"
    groups = {each.name: each for each in found.groups}
    assert groups.keys() == {"worker", "big-mem"}
    assert groups["worker"].deployment == "other-name-worker"
    assert (groups["worker"].threads, groups["worker"].memory) == (1, 10**9)
    assert (groups["worker"].replicas, groups["big-mem"].replicas) == (2, 0)
    with pytest.raises(PerennialError, match=r"no release of the chart dask.*found one, two"):
        find(api, "three", where)
    with pytest.raises(PerennialError, match="the release has no scheduler of its own"):
        find(api, "two", where)
    with pytest.raises(PerennialError, match="no group huge; the release has worker, big-mem"):
        perennial(f"adopt helm one -n {where} --scale huge=1:2 {OPTIONS}")

    # The order of further groups stands in Helm's own Secret alone.
    line = perennial(f"adopt helm one -n {where} --values")
    assert line == "--set worker.replicas=2\n"
    lab.kubectl("-n", where, "scale", "deployment/other-name-worker-big-mem", "--replicas=3")
    held = {"config": {"additional_worker_groups": [{"name": "a"}, {"name": "big-mem"}]}}
    packed = base64.b64encode(gzip.compress(json.dumps(held).encode())).decode()
    labels = {"owner": "helm", "name": "one", "status": "deployed", "version": "3"}
    secret = {
        "metadata": {"name": "sh.helm.release.v1.one.v3", "labels": labels},
        "type": "helm.sh/release.v1",
        "stringData": {"release": packed},
    }
    api.core.create_namespaced_secret(where, secret)
    line = perennial(f"adopt helm one -n {where} --values")
    big = "--set additional_worker_groups[1].replicas=3"
    assert sorted(line.strip().replace(" --set", "\n--set").splitlines()) == [
        *(big, "--set worker.replicas=2"),
    ]
    passed = subprocess.run(
        ["bash", "-c", f"printf '%s ' $(printf '%s' {shlex.quote(line)})"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert passed.stdout.split() == line.split()  # as a shell puts it into `helm upgrade`

    scaled = ["autoscale", "deployment/other-name-worker", "--max=3"]
    lab.kubectl("-n", where, *scaled)
    with pytest.raises(PerennialError, match=r"HorizontalPodAutoscaler .* sizes other-name-worker"):
        find(api, "one", where)
    lab.kubectl("-n", where, "delete", "hpa", "--all")
    host = {"spec": {"template": {"spec": {"hostNetwork": True}}}}
    lab.kubectl("-n", where, "patch", "deployment/other-name-worker", "-p", json.dumps(host))
    with pytest.raises(PerennialError, match="are on their node's network"):
        find(api, "one", where)


def test_without_the_rights_nothing_is_made(lab: Lab, tmp_path: Path) -> None:
    where = namespace(lab, "rights")
    helm(lab, where, "helm3", chart("lab", "lab-dask", 1))
    lab.kubectl("-n", where, "create", "serviceaccount", "reader")
    bound = ["--clusterrole=view", f"--serviceaccount={where}:reader"]
    lab.kubectl("-n", where, "create", "rolebinding", "reader", *bound)
    words = f"adopt helm lab -n {where} --scale worker=1:2 {OPTIONS}".split()
    done = subprocess.run(
        [sys.executable, "-m", "perennial", *words],
        env={**os.environ, "KUBECONFIG": str(kubeconfig(lab, where, "reader", tmp_path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert done.stderr.splitlines()[-1].startswith(
        "rights: you may not create serviceaccounts there; ask for a role"
    ), done.stderr
    assert sizes(where) == {"lab-dask-scheduler": 1, "lab-dask-worker": 1}


def test_everything_that_is_put_beside_is_taken_by_a_restricted_namespace(lab: Lab) -> None:
    where = namespace(lab, "strict")
    level = "pod-security.kubernetes.io/enforce=restricted"
    helm(lab, where, "helm4", chart("lab", "lab-dask", 1))
    lab.kubectl("label", "namespace", where, level)
    perennial(f"adopt helm lab -n {where} --scale worker=1:2 {OPTIONS} --policies --budgets")
    lab.kubectl("-n", where, "wait", "--for=create", "pod", "-l", "dask-perennial/adopts=lab")
    # Again, with less: what is not asked for any more goes, and the sizes of before stay known.
    lab.kubectl("-n", where, "scale", "deployment/lab-dask-worker", "--replicas=2")
    perennial(f"adopt helm lab -n {where} --scale worker=1:3 {OPTIONS}")
    api = Api()
    assert api.labelled_objects("NetworkPolicy", where, {"dask-perennial/adopts": "lab"}) == []
    undo = perennial(f"adopt helm lab -n {where} --undo --plan")
    assert "2 → 1, as before it was adopted; pods go as Kubernetes picks them" in undo
    assert "replicas" not in perennial(f"adopt helm lab -n {where} --undo --keep-sizes --plan")
    # Where Helm has removed the release, what is beside it can still go.
    lab.kubectl("-n", where, "delete", "deployment,service", "-l", "release=lab")
    with pytest.raises(PerennialError, match="no release of the chart dask"):
        perennial(f"adopt helm lab -n {where} --scale worker=1:3 {OPTIONS}")
    perennial(f"adopt helm lab -n {where} --undo --yes")
    with pytest.raises(PerennialError, match="no release of the chart dask"):
        perennial(f"adopt helm lab -n {where} --undo --yes")


def test_a_rolling_change_is_waited_for(lab: Lab, tmp_path: Path) -> None:
    """Two versions of pods are there, and nobody would know which of them go."""
    where = namespace(lab, "rolled")
    helm(lab, where, "helm3", chart("lab", "lab-dask", 2, big=1))
    with standing(lab, where, tmp_path, 75) as (machine, client):
        perennial(f"adopt helm lab -n {where} --scale worker=1:4 {OPTIONS}")
        wait_until(lambda: sizes(where)["lab-dask-worker"] == 1, 60)
        # A pod of the new version that nobody starts, so that the change does not end.
        machine.held = True
        slow = {"template": {"spec": {"containers": [{"name": "lab-dask-worker", "image": "new"}]}}}
        patch = ["--type=strategic", "--field-manager=helm", "-p", json.dumps({"spec": slow})]
        lab.kubectl("-n", where, "patch", "deployment/lab-dask-worker", *patch)
        futures = client.map(lambda n: (time.sleep(0.3), n)[1], range(100), pure=False)
        wait_until(lambda: "is being rolled out" in machine.health_of_the_scaler(), 60)
        assert sizes(where)["lab-dask-worker"] == 1
        machine.held = False
        wait_until(lambda: sizes(where)["lab-dask-worker"] > 1, 90)
        client.gather(futures)


@pytest.mark.parametrize("case", sorted(CASES.iterdir()), ids=lambda path: path.name)
def test_what_values_are_converted_to_is_taken_by_the_api_server(
    lab: Lab, case: Path, tmp_path: Path
) -> None:
    lab.kubectl(
        "apply", "-f", "-", text="{apiVersion: v1, kind: Namespace, metadata: {name: dask}}"
    )
    define(lab)
    (tmp_path / "out").mkdir()
    out = ["-n", "dask", "-o", str(tmp_path / "cluster.yaml")]
    perennial("import helm", str(case / "values.yaml"), "--release", case.name, *out)
    perennial("render", str(tmp_path / "cluster.yaml"), "-o", str(tmp_path / "out"))
    strict = ["--dry-run=server", "--validate=strict"]
    lab.kubectl("apply", *strict, "-k", str(tmp_path / "out"))

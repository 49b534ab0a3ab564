"""An adopted release for the commands: remembered by `adopt`, asked through its scaler's pod."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from perennial import connect
from perennial.connect import Connection
from perennial.contracts import Overview
from perennial.errors import PerennialError
from perennial.files import read_json, write_json
from perennial.pages import ROSTER, counts_of
from perennial.paths import ClusterPaths, cluster_state, known_clusters
from perennial.platforms.kubernetes import names
from perennial.platforms.kubernetes.access import lacking, written
from perennial.platforms.kubernetes.chart.release import Release, ReleaseGroup, find
from perennial.platforms.kubernetes.chart.scaler_objects import ADOPTS, PORT, Wanted
from perennial.platforms.kubernetes.client import Api, labelled
from perennial.platforms.kubernetes.port_forward import current
from perennial.platforms.kubernetes.runtime import KubernetesRuntime
from perennial.spec import parse
from perennial.stacked import remember as remember_spec

if TYPE_CHECKING:
    from perennial.doctor import Finding
    from perennial.pages import Counts

#: What the commands that ask need, as API group, resource and verb.
ASKED = (
    *(("", "pods", "list"), ("", "pods/log", "get"), ("", "pods/exec", "get")),
    *(("", "pods/exec", "create"), ("", "services", "list")),
    *(("apps", "deployments", "list"), ("apps", "deployments", "get")),
)
#: What changes a release is Helm's: verb → what does so.
OWNED = {
    "plan": "`helm upgrade --dry-run` shows a change",
    "up": "`helm upgrade` changes it",
    "refresh": "`helm get manifest` says what it has made",
    "down": "`perennial adopt helm {name} --undo` removes the scaler, `helm uninstall` the rest",
    "forget": "Kubernetes replaces the pods of a lost node by itself",
    "restart": "`kubectl rollout restart` replaces its pods, without a drain",
    "scale": "`helm upgrade` sizes a group that was not named in `adopt helm --scale`",
    "rotate": "it has no certificates",
    "rotate_authority": "it has no certificates",
    "issue": "it has no certificates",
    "revoke": "it has no certificates",
    "jupyter": "`kubectl port-forward` opens its JupyterLab",
    "dashboard": "`kubectl port-forward` opens its dashboard",
    "enable": "Kubernetes starts its pods by itself",
    "disable": "Kubernetes keeps its pods running until `helm uninstall`",
    "supervisor": "--wait is for the platform local",
}


@dataclass(frozen=True, slots=True)
class Adopted:
    """Which release a cluster of this user's is."""

    namespace: str
    #: Of the kubeconfig, as it was chosen then.
    context: str

    @classmethod
    def load(cls, name: str) -> Adopted | None:
        """Read it; None for a cluster that is no release."""
        found = read_json(_file(cluster_state(name)))
        return None if found is None else cls(**found)


def refusal(verb: str, name: str) -> str:
    """Say who does what a command would do to a release."""
    return f"{name}: Helm owns this release; {OWNED[verb].format(name=name)}"


def remember(release: Release, wanted: Wanted) -> str:
    """Have the commands find a release; return why they do not, empty where they do."""
    name = release.name
    if name in known_clusters() and Adopted.load(name) is None:
        return (
            f"a cluster {name} of yours stands elsewhere, so `perennial status` and the like mean"
            " that one"
        )
    groups = {
        each.name: {
            **{"threads": each.threads, "processes": each.processes},
            **{"memory": f"{each.memory} B", "drain": f"{wanted.drain:g} s"},
            **_sizes(wanted, each),
        }
        for each in release.groups
    }
    tree = {
        "name": name,
        "platform": "kubernetes",
        "workers": groups,
        "jupyter": None,
        "security": {"tls": False},
        "kubernetes": {"image": wanted.image, "namespace": release.namespace},
    }
    try:
        spec = parse(yaml.safe_dump(tree, sort_keys=False), remembered=True).spec
    except PerennialError as error:
        return f"`perennial status` and the like do not find it: {str(error).splitlines()[0]}"
    paths = cluster_state(name)
    remember_spec(spec, None, paths)
    connect.save(paths, Connection(name, release.scheduler, None, None, None))
    write_json(_file(paths), asdict(Adopted(release.namespace, current()[1])))
    return ""


def forget(name: str) -> None:
    """Forget a release that was let go."""
    if Adopted.load(name) is not None:
        shutil.rmtree(cluster_state(name).root)


class ReleaseRuntime(KubernetesRuntime):
    """Pods of an adopted release and of its scaler."""

    cannot: ClassVar = {verb: f"{{name}}: Helm owns this release; {OWNED[verb]}" for verb in OWNED}

    @cached_property
    def api(self) -> Api:
        """The API server of the context in which the release was adopted."""
        return Api(context=self._adopted.context)

    @cached_property
    def release(self) -> Release:
        """The release as it runs now."""
        return find(self.api, self.name, self._namespace)

    def overview(self) -> Overview:
        """Ask whether the scheduler's pod is ready."""
        return Overview(bool(self.ready("scheduler")), self.release.scheduler)

    def counts(self) -> Counts | None:
        """Ask for the scheduler's page from the scaler's pod."""
        asked = (self.release.http, "/json/counts.json", ROSTER)
        try:
            return counts_of(*json.loads(self.asked("perennial.platforms.kubernetes.page", *asked)))
        except (PerennialError, ValueError, TypeError):
            return None

    def pods(self, part: str | None) -> list[Any]:
        """List the pods of a part, or all; each gets the label that ours have."""
        labels = ({"release": self.name, "app": self.release.labels["app"]}, {ADOPTS: self.name})
        found = []
        for each in labels:
            found += self.api.call(
                f"list the pods of {self.name}",
                self.api.core.list_namespaced_pod,
                self._namespace,
                label_selector=labelled(each),
            ).items
        known = {each.deployment: each.name for each in self.release.groups}
        for pod in found:
            pod.metadata.labels[names.PART] = _part_of(pod, known)
        return [each for each in found if part in (None, each.metadata.labels[names.PART])]

    def parts(self) -> Iterator[tuple[str, Any, list[Any]]]:
        """Yield each Deployment that sizes or schedules, and its pods."""
        names_of = {each.name: each.deployment for each in self.release.groups}
        read = self.api.apps.read_namespaced_deployment
        for key, name in names_of.items():
            found = self.api.call(f"read the Deployment {name}", read, name, self._namespace)
            yield key, found, self.pods(key)

    def checks(self, _python: str | None) -> Iterator[Finding]:
        """Run the checks that make sense for a release."""
        from perennial.doctor import guarded
        from perennial.platforms.kubernetes import doctor

        yield from guarded("rights", self._rights)
        yield from guarded("pods", lambda: doctor.pods(self))
        yield from guarded("scaler", self._scaler_says)

    def scaler(self) -> Desk:
        """Return what keeps the scaler's reports: the scaler's pod."""
        return Desk(self)

    # Inside

    @cached_property
    def _adopted(self) -> Adopted:
        found = Adopted.load(self.name)
        assert found is not None  # noqa: S101 - that is why it is one of these
        return found

    @property
    def _namespace(self) -> str:
        return self._adopted.namespace

    def _rights(self) -> Iterator[Finding]:
        from perennial.doctor import Finding

        missing = list(lacking(self.api, self._namespace, ASKED))
        if missing:
            text = f"you may not {written(missing)} in the namespace {self._namespace}"
            yield Finding("rights", "warning", f"{text}; ask for a role with these rights")
        else:
            yield Finding("rights", "ok", f"{len(ASKED)} asked for, all there")

    def _scaler_says(self) -> Iterator[Finding]:
        from perennial.doctor import Finding
        from perennial.scaler import scaler_client

        found = asyncio.run(scaler_client.report(self.scaler()))
        if not found.wrong:
            yield Finding("scaler", "ok", f"has looked {found.age or 0:.0f} s ago")
        for each in found.wrong:
            yield Finding("scaler", "warning", each)

    def asked(self, *words: str) -> str:
        """Run a module of ours in the scaler's pod."""
        command = ["python", "-P", "-m", *words]
        return self.api.run(self._scalers, self._namespace, "scaler", command)

    @cached_property
    def _scalers(self) -> str:
        """Name of the scaler's pod."""
        ready = self.ready("scaler")
        if not ready:
            raise PerennialError(
                f"{self.name}: no pod of its scaler is ready; see `perennial logs scaler`"
            )
        return str(ready[0].metadata.name)


class Desk:
    """What the scheduler of a cluster of ours answers; see `perennial.scaler.scaler_client`."""

    def __init__(self, running: ReleaseRuntime) -> None:
        self._running = running

    async def perennial_report(self, since: float | None = None) -> Any:
        """Return what the scaler has said."""
        return await asyncio.to_thread(self._told, "report", since)

    async def perennial_wish(self, wish: Mapping[str, Any]) -> Any:
        """Leave a request."""
        return await asyncio.to_thread(self._told, "wish", dict(wish))

    def _told(self, question: str, words: Any) -> Any:
        asked = ("perennial.scaler.desk", str(PORT), question, json.dumps(words))
        try:
            answer = json.loads(self._running.asked(*asked))
        except ValueError:
            answer = {"error": "it does not answer; see `perennial logs scaler`"}
        if "error" in answer:
            raise PerennialError(f"{self._running.name}: its scaler: {answer['error']}")
        return answer["answer"]


def runtime(platform: str, name: str) -> KubernetesRuntime:
    """Return a cluster of ours, or an adopted release."""
    kind: Any = KubernetesRuntime if Adopted.load(name) is None else ReleaseRuntime
    found: KubernetesRuntime = kind(platform, name)
    return found


def _sizes(wanted: Wanted, group: ReleaseGroup) -> dict[str, Any]:
    if group.name not in wanted.bounds:
        return {"count": group.replicas}
    least, most = wanted.bounds[group.name]
    scale = {"min": least, "max": most, "idle": f"{wanted.idle:g} s"}
    return {"count": min(max(group.replicas, least), most), "scale": scale}


def _part_of(pod: Any, groups: Mapping[str, str]) -> str:
    """Name the part of a pod: by its Deployment, since the labels of all groups are the same."""
    labels = pod.metadata.labels
    if ADOPTS in labels:
        return "scaler"
    component = str(labels.get("component", ""))
    owners = [each.name for each in pod.metadata.owner_references or ()]
    suffix = f"-{labels.get('pod-template-hash', '')}"
    found = (groups.get(owner.removesuffix(suffix)) for owner in owners)
    return next(filter(None, found), component)


def _file(paths: ClusterPaths) -> Any:
    return paths.root / "release.json"

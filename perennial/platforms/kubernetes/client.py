"""The API server's client, and its errors in one line each. The library is imported on use."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from perennial.errors import PerennialError
from perennial.platforms.kubernetes.merging import Manifest

Result = TypeVar("Result")

#: Seconds in which the API server must connect, and answer.
TIMEOUT = (5, 20)
UNKNOWN = 401
REFUSED = 403
GONE = 404
CONFLICT = 409
#: Who has set a field, for the API server.
MANAGER = "dask-perennial"
#: Kinds that are applied and removed as plain values, and their versions.
VERSIONS = {
    "ServiceAccount": "v1",
    "ConfigMap": "v1",
    "Service": "v1",
    "PersistentVolumeClaim": "v1",
    "Role": "rbac.authorization.k8s.io/v1",
    "RoleBinding": "rbac.authorization.k8s.io/v1",
    "Deployment": "apps/v1",
    "PodDisruptionBudget": "policy/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "Ingress": "networking.k8s.io/v1",
}
#: Kinds that an API server has where somebody has brought them.
BROUGHT = {"PodMonitor": "monitoring.coreos.com/v1"}
#: How the containers of our pods, and of the Helm chart's, begin.
OWN = ("dask", "jupyter", "scaler")


class ApiError(PerennialError):
    """The API server refused, or did not answer."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        #: HTTP status; 0 where nobody answered.
        self.status = status


class Api:
    """The parts of the API that a cluster uses."""

    def __init__(self, kubeconfig: str = "", context: str = "") -> None:
        try:
            from kubernetes import client, config
        except ModuleNotFoundError as error:
            raise ApiError(
                f"{error.name} is not installed here; `pip install 'dask-perennial[kubernetes]'`"
                " brings it",
                0,
            ) from None
        try:
            if "KUBERNETES_SERVICE_HOST" in os.environ:
                config.load_incluster_config()
            else:
                config.load_kube_config(kubeconfig or kubeconfig_here(), context or None)
        except config.ConfigException as error:
            said = " ".join(str(error).split()).removesuffix(".")
            raise ApiError(
                f"kubeconfig: {said}; set KUBECONFIG to the file of your cluster, and choose one"
                " with `kubectl config use-context`",
                0,
            ) from None
        self.core: Any = client.CoreV1Api()
        self.apps: Any = client.AppsV1Api()
        self.access: Any = client.AuthorizationV1Api()

    def call(self, what: str, function: Callable[..., Result], *args: Any, **more: Any) -> Result:
        """Call the API; raise `ApiError` that says what could not be done."""
        with self.reported(what):
            return function(*args, _request_timeout=TIMEOUT, **more)
        raise AssertionError  # the line before returns or raises

    @contextmanager
    def reported(self, what: str) -> Iterator[None]:
        """Raise `ApiError` for what the API's client raises."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as error:
            status = int(error.status or 0)
            hint = "; log in to the cluster again" if status == UNKNOWN else ""
            raise ApiError(f"cannot {what}: {_reason(error)}{hint}", status) from None
        except HTTPError as error:
            reason = getattr(error, "reason", None) or error
            raise ApiError(f"cannot {what}: the API server does not answer ({reason})", 0) from None

    def apply(self, made: Mapping[str, Any]) -> None:
        """Make or change an object, as `kubectl apply --server-side` does."""
        meta = made["metadata"]
        self.call(
            f"apply {made['kind']} {meta['name']}",
            self._kind(made["kind"]).server_side_apply,
            body=dict(made),
            name=meta["name"],
            namespace=meta["namespace"],
            field_manager=MANAGER,
            force_conflicts=True,
        )

    def look(self, made: Mapping[str, Any]) -> Manifest | None:
        """Read an object by its kind and name; None where there is none."""
        meta = made["metadata"]
        what = f"read {made['kind']} {meta['name']}"
        if made["kind"] in BROUGHT and self.lacks(made["kind"]):
            return None
        try:
            read = self._kind(made["kind"]).get
            found = self.call(what, read, name=meta["name"], namespace=meta["namespace"])
        except ApiError as error:
            if error.status != GONE:
                raise
            return None
        return dict(found.to_dict())

    def remove(self, made: Mapping[str, Any]) -> None:
        """Delete an object by its kind and name, if it is there."""
        meta = made["metadata"]
        what = f"delete {made['kind']} {meta['name']}"
        # Otherwise what it has made would stay behind.
        body = {"propagationPolicy": "Background"}
        try:
            delete = self._kind(made["kind"]).delete
            self.call(what, delete, name=meta["name"], namespace=meta["namespace"], body=body)
        except ApiError as error:
            if error.status != GONE:
                raise

    def labelled_objects(
        self, kind: str, namespace: str, labels: Mapping[str, str]
    ) -> list[Manifest]:
        """List objects of a kind by their labels."""
        chosen = labelled(dict(labels))
        read = self._kind(kind).get
        found = self.call(f"list {kind}", read, namespace=namespace, label_selector=chosen)
        return [{**each.to_dict(), "kind": kind} for each in found.items]

    def _kind(self, kind: str) -> Any:
        """Return the resource of a kind, as the API server describes it."""
        return self._resources.get(api_version={**VERSIONS, **BROUGHT}[kind], kind=kind)

    def lacks(self, kind: str) -> bool:
        """Whether the API server has not got a kind that somebody has to bring."""
        from kubernetes.dynamic.exceptions import ResourceNotFoundError

        try:
            self._kind(kind)
        except ResourceNotFoundError:
            return True
        return False

    @cached_property
    def _resources(self) -> Any:
        from kubernetes.dynamic import DynamicClient

        # Its cache of what the server has would be a file that anybody can guess the name of.
        with TemporaryDirectory() as folder:
            make = partial(DynamicClient, self.core.api_client, cache_file=f"{folder}/cache")
            client = self.call("ask what the API server has", lambda **_: make())
            for kind, version in VERSIONS.items():
                find = partial(client.resources.get, api_version=version, kind=kind)
                self.call(f"find {kind} on the API server", lambda find=find, **_: find())
            return client.resources

    def run(self, pod: str, namespace: str, container: str, command: list[str]) -> str:
        """Run a command in a container of a pod; return what it prints."""
        from kubernetes.stream import stream

        # As a string it would be the text of Python's own, not what was printed.
        answer = self.call(
            f"run a command in {pod}",
            lambda *where, **more: stream(
                self.core.connect_get_namespaced_pod_exec,
                *where,
                command=command,
                container=container,
                **{"stdin": False, "stdout": True, "stderr": False, "tty": False},
                _preload_content=False,
                **more,
            ),
            pod,
            namespace,
        )
        answer.run_forever(timeout=TIMEOUT[1])
        return str(answer.read_stdout())


def kubeconfig_here() -> str:
    """Return where the kubeconfig is; the library keeps what it was when it was imported."""
    files = os.environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
    return os.pathsep.join(os.path.abspath(each) for each in files.split(os.pathsep) if each)


def is_ready(pod: Any) -> bool:
    """Whether a pod is ready."""
    conditions = pod.status.conditions or ()
    return any(each.type == "Ready" and each.status == "True" for each in conditions)


def is_live(pod: Any) -> bool:
    """Whether a pod counts: one that was evicted stays in the list for long."""
    return pod.status.phase not in ("Succeeded", "Failed")


def own_container(pod: Any) -> str:
    """Name the container of a pod that is its service, beside those that somebody injects."""
    found = [container.name for container in pod.spec.containers]
    return str(next((name for name in found if name.startswith(OWN)), found[0]))


def labelled(labels: dict[str, str]) -> str:
    """Write labels as the API takes a selector."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _reason(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"

"""The API server's client, and its errors in one line each. The library is imported on use."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from perennial.errors import PerennialError

Result = TypeVar("Result")

#: Seconds in which the API server must connect, and answer.
TIMEOUT = (5, 20)
UNKNOWN = 401
REFUSED = 403
GONE = 404
#: Who has set a field, for the API server.
MANAGER = "dask-perennial"
#: Kinds that are applied and removed as plain values: where they are.
PATHS = {
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "ConfigMap": "/api/v1/namespaces/{namespace}/configmaps",
    **{
        kind: f"/apis/rbac.authorization.k8s.io/v1/namespaces/{{namespace}}/{plural}"
        for kind, plural in (("Role", "roles"), ("RoleBinding", "rolebindings"))
    },
    "Deployment": "/apis/apps/v1/namespaces/{namespace}/deployments",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
}
CONFLICT = 409


class ApiError(PerennialError):
    """The API server refused, or did not answer."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        #: HTTP status; 0 where nobody answered.
        self.status = status


class Api:
    """The parts of the API that a cluster uses."""

    def __init__(self) -> None:
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
                config.load_kube_config()
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
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return function(*args, _request_timeout=TIMEOUT, **more)
        except ApiException as error:
            status = int(error.status or 0)
            hint = "; log in to the cluster again" if status == UNKNOWN else ""
            raise ApiError(f"cannot {what}: {_reason(error)}{hint}", status) from None
        except HTTPError as error:
            reason = getattr(error, "reason", None) or error
            raise ApiError(f"cannot {what}: the API server does not answer ({reason})", 0) from None

    def apply(self, made: Mapping[str, Any]) -> None:
        """Make or change an object, as `kubectl apply --server-side` does."""
        how = {"Content-Type": "application/apply-patch+yaml"}
        owner = [("fieldManager", MANAGER), ("force", "true"), ("fieldValidation", "Strict")]
        self._request("apply", made, "PATCH", body=made, header_params=how, query_params=owner)

    def look(self, made: Mapping[str, Any]) -> Any:
        """Read an object by its kind and name; None where there is none."""
        try:
            return self._request("read", made, "GET")
        except ApiError as error:
            if error.status != GONE:
                raise
            return None

    def remove(self, made: Mapping[str, Any]) -> None:
        """Delete an object by its kind and name, if it is there."""
        try:
            self._request("delete", made, "DELETE", body={"propagationPolicy": "Background"})
        except ApiError as error:
            if error.status != GONE:
                raise

    def labelled_objects(
        self, kind: str, namespace: str, labels: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        """List objects of a kind by their labels."""
        place = {"kind": kind, "metadata": {"namespace": namespace, "name": ""}}
        chosen = [("labelSelector", labelled(dict(labels)))]
        found = self._request("list", place, "GET", query_params=chosen)
        return [{**each, "kind": kind} for each in found["items"]]

    def _request(self, verb: str, made: Mapping[str, Any], method: str, **more: Any) -> Any:
        """Send a request about an object as a plain value."""
        kind, meta = made["kind"], made["metadata"]
        path = PATHS[kind].format(namespace=quote(meta["namespace"], safe=""))
        if meta["name"]:
            path = f"{path}/{quote(meta['name'], safe='')}"
        usual = {"response_type": "object", "auth_settings": ["BearerToken"]}
        send = self.core.api_client.call_api
        headers = {"Accept": "application/json", **more.pop("header_params", {})}
        what = f"{verb} {kind} {meta['name']}".rstrip()
        return self.call(
            what,
            lambda **limit: send(
                path,
                method,
                header_params=headers,
                _return_http_data_only=True,
                **usual,
                **more,
                **limit,
            ),
        )

    def run(self, pod: str, namespace: str, command: list[str]) -> str:
        """Run a command in a pod; return what it prints."""
        from kubernetes.stream import stream

        # As a string it would be the text of Python's own, not what was printed.
        answer = self.call(
            f"run a command in {pod}",
            lambda *where, **more: stream(
                self.core.connect_get_namespaced_pod_exec,
                *where,
                command=command,
                **{"stdin": False, "stdout": True, "stderr": False, "tty": False},
                _preload_content=False,
                **more,
            ),
            pod,
            namespace,
        )
        answer.run_forever(timeout=TIMEOUT[1])
        return str(answer.read_stdout())


def is_ready(pod: Any) -> bool:
    """Whether a pod is ready."""
    conditions = pod.status.conditions or ()
    return any(each.type == "Ready" and each.status == "True" for each in conditions)


def labelled(labels: dict[str, str]) -> str:
    """Write labels as the API takes a selector."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _reason(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"

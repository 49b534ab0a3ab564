"""What a deployment needs of the API server, asked before anything is made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import TYPE_CHECKING, Any

from perennial.errors import PerennialError
from perennial.platforms.kubernetes import names, secrets
from perennial.platforms.kubernetes.client import BROUGHT, GONE, REFUSED, Api, ApiError
from perennial.platforms.kubernetes.manifests import manifests
from perennial.platforms.kubernetes.merging import Manifest

if TYPE_CHECKING:
    from perennial.spec import ClusterSpec

#: What is done to each object. pulumi-kubernetes makes and changes by `patch`, and watches until
#: one that it has deleted is gone.
CHANGES = ("get", "list", "watch", "create", "patch", "delete")
#: What is looked at until the pods are ready: API group and resource.
WATCHED = (
    ("apps", "deployments"),
    ("apps", "replicasets"),
    ("", "pods"),
    ("", "services"),
    ("", "endpoints"),
    ("", "persistentvolumeclaims"),
    ("discovery.k8s.io", "endpointslices"),
)
WATCHES = ("list", "watch")
#: Questions at a time.
AT_ONCE = 8
#: Rights that a line names.
FEW = 6

Right = tuple[str, str, str]


def check(spec: ClusterSpec, api: Api) -> None:
    """Raise where the namespace is missing, or a right in it; one line."""
    namespace = spec.options.namespace
    try:
        found = api.call(f"read the namespace {namespace}", api.core.read_namespace, namespace)
    except ApiError as error:
        if error.status == GONE:
            raise PerennialError(
                f"{spec.name}: the namespace {namespace} does not exist; `kubectl create namespace"
                f" {namespace}` makes it, or correct kubernetes.namespace"
            ) from None
        if error.status != REFUSED:
            raise PerennialError(f"{spec.name}: {error}") from None
    else:
        if found.metadata.deletion_timestamp is not None:
            raise PerennialError(
                f"{spec.name}: the namespace {namespace} is being deleted; wait until it is gone"
                " and make it anew"
            )
    for kind in sorted({each["kind"] for each in _objects(spec)} & BROUGHT.keys()):
        if api.lacks(kind):
            raise PerennialError(
                f"{spec.name}: the API server has no {kind}; install the Prometheus operator, or"
                " remove kubernetes.metrics.monitor"
            )
    if missing := list(lacking(api, namespace, sorted(set(needed(spec))))):
        raise PerennialError(
            f"{spec.name}: you may not {written(missing)} in the namespace {namespace}; ask for a"
            " role with these rights"
        )


def refuse_strangers(spec: ClusterSpec, api: Api) -> None:
    """Raise where objects of this name are there, and not by `perennial up` of this user."""
    namespace, name = spec.options.namespace, names.name_of(spec.name, "scheduler")
    read = api.apps.read_namespaced_deployment
    try:
        api.call(f"read the Deployment {name}", read, name, namespace)
    except ApiError as error:
        if error.status == GONE:
            return
        raise PerennialError(f"{spec.name}: {error}") from None
    raise PerennialError(
        f"{spec.name}: the Deployment {namespace}/{name} is there, and `perennial up` here has not"
        " made it; take that cluster down where it was made, or give this one another name"
    )


def needed(spec: ClusterSpec) -> Iterator[Right]:
    """Yield what `perennial up` does, as API group, resource and verb."""
    objects = _objects(spec)
    kinds = {(each["apiVersion"], each["kind"]) for each in objects}
    if secrets.contents(spec):
        kinds.add(("v1", "Secret"))
    for version, kind in kinds:
        group = version.rpartition("/")[0]
        yield from ((group, plural(kind), verb) for verb in CHANGES)
    yield from ((group, resource, verb) for group, resource in WATCHED for verb in WATCHES)
    # Nobody gives away rights that they do not have.
    for rule in (rule for each in objects for rule in each.get("rules", ())):
        yield from product(rule["apiGroups"], rule["resources"], rule["verbs"])


def _objects(spec: ClusterSpec) -> list[Manifest]:
    return [each for part in manifests(spec).values() for each in part]


def plural(kind: str) -> str:
    """Name the resource of a kind."""
    name = kind.lower()
    if name.endswith("y"):
        return f"{name[:-1]}ies"
    return f"{name}es" if name.endswith("s") else f"{name}s"


def lacking(api: Api, namespace: str, rights: Iterable[Right]) -> Iterator[Right]:
    """Ask for each right whether it is there."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [(right, pool.submit(_may, api, namespace, right)) for right in rights]
    yield from (right for right, answer in asked if not answer.result())


def _may(api: Api, namespace: str, right: Right) -> bool:
    group, whole, verb = right
    resource, _, part = whole.partition("/")
    wanted = {
        **{"namespace": namespace, "group": group, "verb": verb},
        **{"resource": resource, "subresource": part},
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": wanted},
    }
    create: Any = api.access.create_self_subject_access_review
    return bool(api.call("ask for your rights", create, review).status.allowed)


def written(rights: Sequence[Right]) -> str:
    """Write rights in a line; the first ones of many."""
    names = [f"{verb} {_named(group, resource)}" for group, resource, verb in rights]
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return f"{', '.join(names[:FEW])}{more}"


def _named(group: str, resource: str) -> str:
    return f"{resource}.{group}" if group else resource

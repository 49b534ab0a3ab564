"""Which API server a cluster stands on: the current context may lead to another one by now."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from perennial.errors import PerennialError
from perennial.files import read_json, write_json
from perennial.paths import cluster_state
from perennial.platforms.kubernetes.client import Api, ApiError
from perennial.platforms.kubernetes.port_forward import current


@dataclass(frozen=True, slots=True)
class Identity:
    """An API server, and a namespace of it."""

    server: str
    #: Of the kubeconfig; empty inside Kubernetes.
    context: str
    #: UID of the namespace; empty where there is none, or nobody may read it.
    namespace: str = ""

    def is_same(self, other: Identity) -> bool:
        """Whether both are one: a server may have several addresses."""
        return self.server == other.server or bool(self.namespace == other.namespace != "")


def identity(api: Api, namespace: str) -> Identity:
    """Ask where an API server is, and which namespace it has of this name."""
    server, (_, context) = str(api.core.api_client.configuration.host), current()
    try:
        found = api.call(f"read the namespace {namespace}", api.core.read_namespace, namespace)
    except ApiError:
        return Identity(server, context)
    return Identity(server, context, str(found.metadata.uid))


def remember(name: str, api: Api, namespace: str) -> None:
    """Write down where a cluster stands."""
    write_json(path(name), asdict(identity(api, namespace)))


def own_server(name: str, namespace: str) -> Api:
    """Connect to the API server of the current context; raise where the cluster is on another."""
    api, found = Api(), read_json(path(name))
    if found is None:
        return api
    before, now = Identity(**found), identity(api, namespace)
    if not now.is_same(before):
        raise PerennialError(
            f"{name}: stands on {before.server}, and the context {now.context or 'in-cluster'}"
            f" leads to {now.server}; `kubectl config use-context {before.context}` leads back; if"
            f" both are one, remove {path(name)}"
        )
    return api


def path(name: str) -> Path:
    """File in a cluster's state folder."""
    return cluster_state(name).root / "api-server.json"

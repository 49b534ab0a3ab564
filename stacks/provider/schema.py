"""The schema of the package, for programs in any language: made from the cluster file's models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from perennial.spec import json_schema as cluster_file

from ..components import COMPONENTS

Node = Mapping[str, Any]
Spec = dict[str, Any]

PACKAGE = "perennial"
_ANY: Spec = {"$ref": "pulumi.json#/Any"}
_MAP: Spec = {"type": "object", "additionalProperties": _ANY}
_TEXT: Spec = {"type": "string"}
_SECRET: Spec = {**_TEXT, "secret": True}
_LINES: Spec = {"type": "array", "items": _TEXT}

#: Outputs of every component.
_TOLD: Spec = {
    "scheduler_address": {**_TEXT, "description": "Address of the scheduler."},
    "dashboard_url": {**_TEXT, "description": "Address of Dask's dashboard."},
    "jupyter_url": {**_TEXT, "description": "Address of JupyterLab."},
    "connection": {**_MAP, "secret": True, "description": "What `perennial connect` reads."},
    "fleets": {**_MAP, "description": "What the scaler is given, by group."},
    "cluster": {**_MAP, "secret": True, "description": "What `perennial connect --stack` reads."},
}
_ALWAYS = ("scheduler_address", "connection", "fleets", "cluster")

#: Inputs and outputs of the resources that the components are made of.
_PARTS: dict[str, tuple[str, Spec, Spec]] = {
    "Authority": (
        "The certificate authority of a cluster.",
        {"cluster": _TEXT},
        {
            **dict.fromkeys(("ca", "client", "created", "ends"), _TEXT),
            **dict.fromkeys(("ca_key", "client_key", "token"), _SECRET),
        },
    ),
    "Certificate": (
        "A certificate of a role, signed by the authority of its cluster.",
        {
            **dict.fromkeys(("ca", "role"), _TEXT),
            "ca_key": {**_TEXT, "secret": True},
            "names": _LINES,
        },
        {**dict.fromkeys(("cert", "ends"), _TEXT), "key": {**_TEXT, "secret": True}},
    ),
    "HostEnvironment": (
        "The Python environment on a machine.",
        {
            **{"target": _MAP, "environment": _MAP, "claims": _ANY},
            **{"stack": _TEXT, "force": {"type": "boolean"}},
        },
        {"facts": _MAP, "drift": _LINES},
    ),
    "HostServices": (
        "The services on a machine.",
        {
            **dict.fromkeys(("cluster", "machine", "members", "everywhere", "secrets"), _MAP),
            "runs": _LINES,
            **dict.fromkeys(("python", "scheduler_host", "digest", "stack"), _TEXT),
            **{key: {"type": "boolean"} for key in ("dashboard", "force")},
            "max_unavailable": {"type": "integer"},
        },
        {"outcome": _MAP, "drift": _LINES, "owner": _TEXT},
    ),
    "LocalServices": (
        "The services of a cluster on this machine.",
        {"cluster": _MAP, "groups": _LINES, "force": {"type": "boolean"}, "stack": _TEXT},
        {
            **{"connection": _MAP, "credentials": {**_MAP, "secret": True}},
            **{"drift": _LINES, "owner": _TEXT},
        },
    ),
}
_NEEDED = {
    "Authority": ["cluster"],
    "Certificate": ["ca", "ca_key", "role", "names"],
    "HostEnvironment": ["target", "environment"],
    "HostServices": ["cluster", "machine", "secrets"],
    "LocalServices": ["cluster"],
}


def schema() -> str:
    """Return the schema of the provider's resources and components."""
    types: Spec = {}
    resources: Spec = {f"{PACKAGE}:index:{name}": _part(name) for name in _PARTS}
    for token, platform in COMPONENTS.items():
        whole = cluster_file.shared((platform,))
        for name, node in whole["$defs"].items():
            types[f"{PACKAGE}:index:{name}"] = {
                "type": "object",
                **_described(node),
                "properties": _properties(node["properties"]),
                "required": _required(node),
            }
        resources[token] = _component(whole)
    found = {
        "name": PACKAGE,
        "version": version("dask-perennial"),
        "description": "Standing Dask clusters as code",
        "types": types,
        "resources": resources,
    }
    return json.dumps(found, sort_keys=True)


def _part(name: str) -> Spec:
    description, inputs, outputs = _PARTS[name]
    return {
        "description": description,
        "inputProperties": inputs,
        "requiredInputs": _NEEDED[name],
        "properties": {**inputs, **outputs},
        "required": [*_NEEDED[name], *outputs],
    }


def _component(whole: Node) -> Spec:
    keys = {key: node for key, node in whole["properties"].items() if key != "platform"}
    said = "Deploy what is refused: too many members, or on what another stack owns."
    force = {"type": "boolean", "description": said}
    return {
        "isComponent": True,
        **_described(whole),
        "inputProperties": {**_properties(keys), "force": force},
        "requiredInputs": [key for key in _required(whole) if key != "platform"],
        "properties": _TOLD,
        "required": list(_ALWAYS),
    }


def _properties(nodes: Mapping[str, Node]) -> Spec:
    return {
        key: {**_type(node), **_described(node), **_hidden(node)} for key, node in nodes.items()
    }


def _hidden(node: Node) -> Spec:
    """Say what is encrypted wherever it is kept: what JSON Schema has nobody read back."""
    secret = any(each.get("writeOnly") for each in (node, *node.get("anyOf", ())))
    return {"secret": True} if secret else {}


def _required(node: Node) -> list[str]:
    return [key for key, value in node["properties"].items() if "default" not in value]


def _described(node: Node) -> Spec:
    return {"description": node["description"]} if "description" in node else {}


def _type(node: Node) -> Spec:
    """Say in Pulumi's words what may stand somewhere."""
    if "$ref" in node:
        return {"$ref": f"#/types/{PACKAGE}:index:{node['$ref'].rpartition('/')[2]}"}
    if choices := [each for each in node.get("anyOf", ()) if each.get("type") != "null"]:
        return _one_of(_type(each) for each in choices)
    kinds = node.get("type", "string")
    if isinstance(kinds, list):
        return _one_of(_type({**node, "type": kind}) for kind in kinds)
    if kinds == "array":
        return {"type": "array", "items": _type(node.get("items", {}))}
    if kinds == "object":
        inner = node.get("additionalProperties")
        items = _type(inner) if isinstance(inner, Mapping) else _ANY
        return {"type": "object", "additionalProperties": items}
    return {"type": kinds}


def _one_of(types: Iterable[Spec]) -> Spec:
    found: list[Spec] = []
    for each in types:
        found += [each] if each not in found else []
    return found[0] if len(found) == 1 else {"oneOf": found}

"""A stack as versions with dynamic providers have left it, made of one of the present version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pulumi.dynamic.dynamic import serialize_provider

from perennial.platforms.hosts.machine_services import services_of, to_json
from perennial.platforms.hosts.machine_spec import MachineSpec, read
from perennial.stacks import host_resources
from perennial.stacks.provider.values import decoded

#: Kind now → kind then, and the class of its provider.
_THEN = {
    "Authority": ("ClusterAuthority", host_resources.AuthorityProvider),
    "HostEnvironment": ("HostEnvironment", host_resources.EnvironmentProvider),
    "HostServices": ("HostServices", host_resources.ServicesProvider),
}


def make_earlier(file: Path) -> None:
    """Rewrite the engine's state of a cluster ``lab``."""
    text = file.read_text()
    for now, (then, _) in _THEN.items():
        text = text.replace(f"perennial:index:{now}", f"pulumi-python:dynamic/perennial:{then}")
    text = text.replace("perennial:index:HostsCluster", "perennial:hosts:HostsCluster")
    text = text.replace("pulumi:providers:perennial", "pulumi:providers:pulumi-python")
    text = text.replace("::lab-", "::")
    state = json.loads(text)
    for resource in state["checkpoint"]["latest"]["resources"]:
        kind = resource["type"].rpartition(":")[2]
        if "dynamic/perennial:" in resource["type"]:
            _rewrite(kind, resource)
    file.write_text(json.dumps(state))


def _rewrite(kind: str, resource: dict[str, Any]) -> None:
    inputs, outputs = resource["inputs"], resource["outputs"]
    provider = next(made for then, made in _THEN.values() if then == kind)
    common = {"__provider": serialize_provider(provider())}
    secrets = {"secrets": inputs.get("secrets")}
    known = decoded({key: value for key, value in inputs.items() if key != "secrets"})
    if kind == "HostServices":
        spec = {key: known[key] for key in MachineSpec.model_fields if key in known}
        now = {"share": _text(to_json(services_of(read(spec)))), **secrets, **common}
        resource["inputs"] = {**now, "room": "{}"}
        outcome = {k: v for k, v in outputs["outcome"].items() if k != "services"}
        resource["outputs"] = {**now, "outcome": _text(outcome), "drift": []}
    elif kind == "HostEnvironment":
        keys = ("interface", "internal", "init", "user", "port", "identity", "jump", "known_hosts")
        target = {**dict.fromkeys(keys), **known["target"]}
        now = {"target": _text(target), "wish": _text(known["environment"]), **common}
        resource["inputs"] = {**now, "claims": _text(known["claims"])}
        resource["outputs"] = {**now, "facts": _text(outputs["facts"]), "drift": []}
    else:
        resource["inputs"] = {**inputs, **common}
        resource["outputs"] = {**outputs, **inputs, **common}


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)

"""Cluster files with values that Pulumi knows only during a deployment. Pure.

What is deployed, and under which names, has to be known when the program runs; any other value may
be an `Output`. So the file is validated twice: here without these values, and by the provider, once
it has them, as a whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from itertools import pairwise
from typing import Any

import pulumi

from perennial.errors import Fault, SpecError
from perennial.spec import ClusterSpec, loads, plain
from perennial.spec.words import key_path

Location = tuple[str | int, ...]
Tree = dict[str, Any]

#: Keys by which resources are chosen and named, as patterns of key paths.
_STRUCTURE = re.compile(
    r"name|platform|protocol|security(\.tls)?|environment|environment\.(requirements|wheelhouse|build)"
    r"(\[\d+\])?|workers|workers\.[^.]+|workers\.[^.]+\.(count|scale)(\..*)?|jupyter|scaler|scheduler"
    r"|[a-z0-9]+\.(machines|init)|[a-z0-9]+\.machines\[\d+\]"
    r"|[a-z0-9]+\.machines\[\d+\]\.(name|roles|init)(\[\d+\])?(\..*)?"
    r"|[a-z0-9]+\.network\.(policies|cidr|nat|endpoints|clients|zones(\[\d+\])?)"
    r"|[a-z0-9]+\.jupyter\.(ingress|storage)|[a-z0-9]+\.(region|profile|notebooks|alarms|logs\.keep)"
    r"|[a-z0-9]+\.(exec|load_balancer|policies|scheduler\.keep_volume)"
    r"|[a-z0-9]+\.workers\.[^.]+\.(base|healthy|instance_types(\[\d+\])?|on_demand|policies)"
    r"|[a-z0-9]+\.workers\.[^.]+\.((spot|warm)(\..*)?|surge)"
)

#: Keys of a platform's own which have to be there, or by which something more is made: so much is
#: known of an Output in their place.
_UNKNOWN = "unknown.invalid"
_WANTED: dict[str, Any] = {
    **dict.fromkeys(("service_account", "claim", "host"), _UNKNOWN),
    # Of a container or of a machine: the one text that both take.
    "image": "ami-00000000",
    "vpc": "vpc-00000000",
    "subnets": ["subnet-00000000"],
    "file_system": "fs-00000000",
    "access_point": "fsap-00000000",
    "topic": "arn:aws:sns:us-east-1:000000000000:unknown",
}
#: Lists of a platform's own whose length has to be known, and what stands for an Output in them.
_LISTED = {
    "subnets": "subnet-00000000",
    **dict.fromkeys(("clients", "security_groups"), "sg-00000000"),
    "policies": "arn:aws:iam::aws:policy/unknown",
}


@dataclass(frozen=True, slots=True)
class Inputs:
    """A cluster file as a program writes it."""

    #: What is known of it, validated.
    spec: ClusterSpec
    #: All of it; its values may be Outputs.
    tree: Tree
    #: Who deploys it, where that is no stack of a user's own.
    deployer: str = ""


def read(args: Any, platform: str, source: str = "args") -> Inputs:
    """Read the arguments of a component: a spec, a mapping or typed arguments."""
    if isinstance(args, Inputs):
        return args
    if isinstance(args, ClusterSpec):
        return Inputs(args, plain(args))
    tree: Tree = {"platform": platform, **_values(args)}
    outputs = dict(_outputs(tree))
    if faults := [_structural(at) for at in outputs if is_structure(at)]:
        raise SpecError(faults, source)
    try:
        spec = loads(dumped(_without(tree, outputs, platform)), source)
    except SpecError as error:
        # These lines are of a text that nobody has written.
        raise error.without_lines() from None
    return Inputs(spec, _with(plain(spec), outputs))


def resolved(given: Inputs) -> ClusterSpec | pulumi.Output[ClusterSpec]:
    """Return the whole cluster: at once where no value is an Output, else when all are known."""
    if next(_outputs(given.tree), None) is None:
        return given.spec

    def whole(tree: Tree) -> ClusterSpec:
        try:
            return loads(dumped(tree))
        except SpecError as error:
            raise refused(error, given.spec.name) from None

    return pulumi.Output.from_input(given.tree).apply(whole)


def has_outputs(given: Inputs, keys: Sequence[str] = ()) -> bool:
    """Whether a value at or below one of these keys is an Output; at any key without them.

    The platform's own are below ``options``, as in a spec.
    """
    own = given.spec.platform
    wanted = [tuple(re.sub(r"^options\b", own, key).split(".")) for key in keys]
    return any(
        not keys or any(at[: len(key)] == key or key[: len(at)] == at for key in wanted)
        for at, _ in _outputs(given.tree)
    )


def refused(error: SpecError, name: str) -> pulumi.RunError:
    """Return what ends a program that gives a wrong Output: its value may be a secret."""
    unseen = SpecError(error.faults, name).without_values("an Output's value")
    return pulumi.RunError(str(unseen))


def hidden(spec: ClusterSpec) -> Inputs:
    """Make every value of a cluster secret but those by which resources are chosen and named."""
    return Inputs(spec, _hidden(plain(spec)))


def _hidden(value: Any, at: Location = ()) -> Any:
    if at and is_structure(at) and not isinstance(value, Mapping | list):
        return value
    if isinstance(value, Mapping) and (value or is_structure(at)):
        return {key: _hidden(inner, (*at, key)) for key, inner in value.items()}
    if isinstance(value, list) and (value or is_structure(at)):
        return [_hidden(inner, (*at, place)) for place, inner in enumerate(value)]
    return pulumi.Output.secret(value)


def _values(value: Any) -> Any:
    """Read typed arguments as the mappings that they stand for."""
    if isinstance(value, pulumi.Output):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        own = ((each, getattr(value, each.name)) for each in fields(value))
        return {
            # `from` is no name in Python; None means nothing was written, unless it is a choice.
            each.name.removesuffix("_"): _values(inner)
            for each, inner in own
            if inner is not None or each.default is not None
        }
    if isinstance(value, Mapping):
        return {str(key): _values(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_values(inner) for inner in value]
    return value


def _outputs(value: Any, at: Location = ()) -> Iterator[tuple[Location, pulumi.Output[Any]]]:
    if isinstance(value, pulumi.Output):
        yield at, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _outputs(inner, (*at, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _outputs(inner, (*at, place))


def is_structure(at: Location) -> bool:
    """Whether a key has to be known when the program runs."""
    return _STRUCTURE.fullmatch(key_path(at)) is not None


def _structural(at: Location) -> Fault:
    machine = isinstance(at[-1], int) and at[-2] == "machines"
    fix = "give it a name, and make its address the Output" if machine else "write a plain value"
    return Fault(key_path(at), "an Output", "a value that is known when the program runs", fix)


def _without(tree: Tree, outputs: Mapping[Location, Any], platform: str) -> Tree:
    """Leave out what is not known yet; a machine without a known address is called by its name."""
    found: Tree = _copied(tree)
    for at in sorted(outputs, key=_places, reverse=True):
        inner: Any = found
        for step in at[:-1]:
            inner = inner[step]
        if at[-1] == "address":
            inner["address"] = f"{inner.get('name') or f'unknown-{at[-2]}'}.invalid"
        elif at == ("environment", "python"):
            inner["python"] = "/unknown/python"  # a platform may want one, or requirements
        elif at[0] == platform and at[-1] in _WANTED:
            inner[at[-1]] = _WANTED[str(at[-1])]
        elif at[0] == platform and isinstance(at[-1], int) and at[-2] in _LISTED:
            inner[at[-1]] = _LISTED[str(at[-2])]
        else:
            del inner[at[-1]]
    for place, machine in enumerate(found.get(platform, {}).get("machines", [])):
        if (platform, "machines", place, "address") in outputs and "name" not in machine:
            fault = Fault(
                f"{platform}.machines[{place}].name",
                "nothing",
                "a name, since its address is an Output",
                "add a name such as machine-a",
            )
            raise SpecError([fault], "args")
    return found


def _places(at: Location) -> tuple[tuple[str, int], ...]:
    """Order locations; those in one list by their numbers."""
    return tuple(("", step) if isinstance(step, int) else (step, 0) for step in at)


def _with(tree: Tree, outputs: Mapping[Location, Any]) -> Tree:
    """Put what is not known yet back in its place."""
    for at, output in sorted(outputs.items(), key=lambda item: _places(item[0])):
        inner: Any = tree
        for step, below in pairwise(at):
            # What was empty without its Outputs is not there any more.
            empty: Any = [] if isinstance(below, int) else {}
            inner = inner[int(step)] if isinstance(inner, list) else inner.setdefault(step, empty)
        place = at[-1]
        if isinstance(inner, list) and inner[int(place) : int(place) + 1] != [
            _LISTED.get(str(at[-2]))
        ]:
            inner.insert(int(place), output)
        else:
            inner[place] = output
    return tree


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def dumped(tree: Tree) -> str:
    """Write a cluster file; as JSON, since YAML's writer leaves out quotes, as those of 08:00."""
    return json.dumps(tree, ensure_ascii=False)

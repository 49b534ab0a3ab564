"""What the SDK of pulumi-aws says of its resources: names, types, and what is required.

The plugin that Pulumi's users run is not to be had here; the SDK is, and both are written from one
schema. So what the SDK's classes do not know, the plugin refuses, and so does the stand-in.
"""

from __future__ import annotations

import collections.abc
import enum
import importlib
import inspect
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

import pulumi
from pulumi import _types as sdk
from pulumi.runtime.rpc import UNKNOWN

TAG = re.compile(r"[\w\s.:/=+\-@]*")
PLAIN = {str: "string", bool: "boolean", int: "integer", float: "number"}


@dataclass(frozen=True)
class Schema:
    """The inputs and outputs of a type of resources, by the names of the engine."""

    arguments: type
    #: Each output, with its type in Python.
    outputs: Mapping[str, Any]

    def faults(self, inputs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Return what the plugin would refuse: a property, and why."""
        yield from _object(self.arguments, inputs, "")
        tags = inputs.get("tags")
        if isinstance(tags, Mapping):
            yield from _tags(tags)

    @property
    def inputs(self) -> Mapping[str, Any]:
        """Return each input, with its type in Python."""
        return sdk.input_type_types(self.arguments)


#: The SDK imports its parts when they are asked for, which two threads must not do at once.
_importing = Lock()


def schema(token: str) -> Schema:
    """Return the schema of a type, ``aws:ec2/vpc:Vpc`` say."""
    with _importing:
        return _schema(token)


@cache
def _schema(token: str) -> Schema:
    package, folder, name = token.split(":")
    module = importlib.import_module(f"pulumi_{package}.{folder.partition('/')[0]}")
    resource = getattr(module, name)
    return Schema(getattr(module, f"{name}Args"), sdk.resource_types(resource))


def _tags(tags: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Return what every API refuses of tags, though few say so in their models."""
    if len(tags) > 50:
        yield "tags", f"{len(tags)} tags; at most 50"
    for key, value in tags.items():
        if not 1 <= len(key) <= 128 or key.startswith("aws:") or not TAG.fullmatch(key):
            yield "tags", f"key {key!r}: 1 to 128 letters, digits and _.:/=+-@, not from aws:"
        if not isinstance(value, str) or len(value) > 256 or not TAG.fullmatch(value):
            yield "tags", f"value {value!r}: up to 256 letters, digits and _.:/=+-@"


def _object(cls: type, value: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    known, names = sdk.input_type_types(cls), sdk.input_type_py_to_pulumi_names(cls)
    for key, each in value.items():
        if key not in known:
            yield f"{path}{key}", f"unknown property; known: {', '.join(sorted(known))}"
        elif each is not None:
            yield from _value(known[key], each, f"{path}{key}")
    parameters = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
    for name in list(parameters)[1:]:
        if parameters[name].default is inspect.Parameter.empty:
            key = names.get(name, name)
            if value.get(key) is None:
                yield f"{path}{key}", "missing required property"


def _value(kind: Any, value: Any, path: str) -> Iterator[tuple[str, str]]:
    kind = unwrapped(kind)
    if value == UNKNOWN or kind is Any:
        return
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    holds = {collections.abc.Sequence: list, collections.abc.Mapping: dict}.get(origin)
    is_object = isinstance(kind, type) and sdk.is_input_type(kind)
    wanted = holds or (dict if is_object else {float: int | float}.get(kind, kind))
    if not isinstance(value, wanted) or (kind in {int, float} and isinstance(value, bool)):
        name = PLAIN.get(kind) or ("list" if wanted is list else "map")
        yield path, f"{_named(value)} in the place of a {name}"
    elif is_object:
        yield from _object(kind, value, f"{path}.")
    elif holds is list:
        for number, each in enumerate(value):
            yield from _value(inner[0], each, f"{path}[{number}]")
    elif holds is dict:
        for key, each in value.items():
            yield from _value(inner[1], each, f"{path}.{key}")


def unwrapped(kind: Any) -> Any:
    """Return the plain type of an input: without Output, Awaitable and None, and of enums."""
    origin = typing.get_origin(kind)
    if origin in {typing.Union, types.UnionType}:
        every = [each for each in typing.get_args(kind) if not _is_wrapper(each)]
        plain = {unwrapped(each) for each in every}
        return plain.pop() if len(plain) == 1 else Any
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return next(base for base in kind.__mro__ if base in PLAIN)
    return kind


def _is_wrapper(kind: Any) -> bool:
    origin = typing.get_origin(kind) or kind
    return origin in {type(None), pulumi.Output, collections.abc.Awaitable}


def _named(value: Any) -> str:
    return {dict: "an object", list: "a list"}.get(type(value)) or repr(value)

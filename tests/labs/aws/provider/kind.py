"""A type of resources: how each is made, read, changed and removed in AWS.

A new type is a class of about ten lines. Inputs reach a call by their names, ``vpcId`` as
``VpcId``; an input that reaches none is refused, so that nothing is lost in silence.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, partial
from typing import Any, ClassVar

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.model import ListShape, MapShape, Shape, StructureShape
from pulumi.runtime.rpc import UNKNOWN

from tests.labs.aws.provider.schema import PLAIN, schema, unwrapped

Values = dict[str, Any]
#: Every type, by its token.
KINDS: dict[str, Kind] = {}
ACCOUNT = "123456789012"


class UnsupportedError(Exception):
    """The stand-in does not do it yet."""


class Aws:
    """Clients of a region."""

    def __init__(self, region: str, tags: Mapping[str, str] | None = None) -> None:
        self.region = region
        #: The provider's `defaultTags`.
        self.tags = dict(tags or {})
        self.client = cache(self._client)
        #: The same for what AWS does by itself and moto does not: no calls of the plugin's.
        self.behind = cache(partial(self._client, aws_access_key_id="AKIABEHIND0000000000"))

    def _client(self, name: str, **own: str) -> Any:
        if own:
            own["aws_secret_access_key"] = "none"
        retries = Config(retries={"mode": "standard", "max_attempts": 3})
        return boto3.client(name, region_name=self.region, config=retries, **own)

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of a resource of this account and region."""
        return f"arn:aws:{service}:{self.region}:{ACCOUNT}:{resource}"


class Kind:
    """A type of resources."""

    token: ClassVar[str] = ""
    #: Inputs that cannot be changed: another value makes another resource.
    replaces: ClassVar[Collection[str]] = ()
    #: The input that names it, made from the resource's name where none is given; and its length.
    named: ClassVar[tuple[str, int] | None] = None
    #: What the plugin puts in where nothing is given.
    defaults: ClassVar[Values] = {}
    #: Outputs that another value of any input changes.
    moving: ClassVar[Collection[str]] = ()

    def __init_subclass__(cls) -> None:
        if cls.token:
            KINDS[cls.token] = cls()

    def replaced(self, old: Values, new: Values) -> Collection[str]:
        """Return the inputs that may not change, where it depends on the inputs which."""
        return self.replaces

    def check(self, inputs: Values) -> list[tuple[str, str]]:
        """Return what the plugin refuses beyond names and types: a property, and why."""
        return []

    def create(self, aws: Aws, inputs: Values) -> str:
        """Make one; return its id."""
        raise NotImplementedError

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        """Return what AWS holds of one, by the names of the engine; None where it is gone."""
        raise NotImplementedError

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        """Change what differs, but for its tags."""
        raise UnsupportedError(f"{self.token}: an update of {', '.join(changed(old, new))}")

    def retag(self, aws: Aws, id_: str, known: Values, gone: list[str], tags: Values) -> None:
        """Remove some tags, and set the others."""
        raise UnsupportedError(f"{self.token}: another tag")

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        """Remove one."""
        raise NotImplementedError


def changed(old: Values, new: Values) -> list[str]:
    """Return the inputs that differ, but for tags."""
    keys = {*old, *new} - {"tags"}
    return sorted(key for key in keys if old.get(key) != new.get(key))


def plain_name(name: str) -> str:
    """Return a name as it is compared between the engine and an API."""
    return name.replace("_", "").replace("-", "").lower()


def request(client: Any, operation: str, given: Mapping[str, Any], **names: str) -> Values:
    """Return the parameters of a call, from inputs; ``names`` are those that differ in the API.

    An input whose name there is empty is passed elsewhere; ``outer.inner`` is one of an object.
    """
    model = client.meta.service_model
    shape = model.operation_model(client.meta.method_to_api_mapping[operation]).input_shape
    return structure(shape, given, operation, **names)


def structure(shape: Shape, given: Mapping[str, Any], path: str, /, **names: str) -> Values:
    """Return inputs as a structure of an API."""
    assert isinstance(shape, StructureShape)
    members = {plain_name(name): name for name in shape.members}
    found: Values = {}
    for key, value in given.items():
        wanted = names.get(key, key)
        if value is None or not wanted or key in {"region", "tags"}:
            continue
        name = wanted if wanted in shape.members else members.get(plain_name(wanted))
        # What holds several is named in the singular here and in the plural there, or the reverse.
        for other in (f"{wanted}s", wanted.removesuffix("s"), f"{wanted}Set"):
            name = name or members.get(plain_name(other))
        if name is None:
            raise UnsupportedError(f"{path}: no parameter for the input {key}")
        inner = {
            other.removeprefix(f"{key}."): name_
            for other, name_ in names.items()
            if other.startswith(f"{key}.")
        }
        found[name] = shaped(shape.members[name], value, f"{path}.{name}", **inner)
    return found


def shaped(shape: Shape, value: Any, path: str, /, **names: str) -> Any:
    """Return an input's value as an API takes it."""
    if isinstance(shape, StructureShape):
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if not isinstance(value, Mapping):
            raise UnsupportedError(f"{path}: {value!r} in the place of an object")
        return structure(shape, value, path, **names)
    if isinstance(shape, ListShape):
        every = value if isinstance(value, list) else [value]
        return [shaped(shape.member, each, path, **names) for each in every]
    if isinstance(shape, MapShape):
        return {key: shaped(shape.value, each, path, **names) for key, each in value.items()}
    casts: dict[str, Callable[[Any], Any]] = {
        "integer": int,
        "long": int,
        "double": float,
        "float": float,
        "boolean": lambda given: given if isinstance(given, bool) else given == "true",
        "blob": base64.b64decode,
        "string": lambda given: str(given).lower() if isinstance(given, bool) else str(given),
    }
    return casts.get(shape.type_name, lambda given: given)(value)


def found(token: str, answer: Mapping[str, Any], **names: str) -> Values:
    """Return the outputs that an answer of AWS holds: text, numbers, and lists of them."""
    outputs = {plain_name(names.get(name, name)): name for name in schema(token).outputs}
    values: Values = {}
    for key, value in answer.items():
        name = outputs.get(plain_name(key))
        if name is None or not _is_simple(value):
            continue
        kind = unwrapped(schema(token).outputs[name])
        if kind in PLAIN and not isinstance(value, kind):
            continue
        values[name] = value
    return values


def _is_simple(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(each, str) for each in value)
    return isinstance(value, str | int | float)


def pairs(tags: Mapping[str, str] | None, key: str = "Key", value: str = "Value") -> list[Any]:
    """Return tags as most APIs take them."""
    return [{key: name, value: text} for name, text in sorted((tags or {}).items())]


def tags_of(listed: Sequence[Mapping[str, str]] | None) -> dict[str, str]:
    """Return tags as the engine has them; AWS's own are nobody's input."""
    lower = [{key.lower(): text for key, text in each.items()} for each in listed or []]
    return {each["key"]: each["value"] for each in lower if not each["key"].startswith("aws:")}


def gone(error: ClientError) -> bool:
    """Whether a call failed because there is no such resource."""
    code = error.response["Error"]["Code"]
    signs = ("NotFound", "NoSuch", "DoesNotExist", "not found", "Malformed")
    return code in {"404", "ResourceNotFoundException"} or any(sign in code for sign in signs)


def first(call: Callable[..., Any], key: str, **given: Any) -> Any:
    """Return the first of what a call lists; None where there is none."""
    try:
        listed = call(**given)[key]
    except ClientError as error:
        if gone(error):
            return None
        raise
    return listed[0] if listed else None


def absent(call: Callable[..., Any], **given: Any) -> None:
    """Remove something that may be gone already."""
    try:
        call(**given)
    except ClientError as error:
        if not gone(error):
            raise


def same_json(one: str | None, other: str | None) -> bool:
    """Whether two texts are the same JSON, however it is written."""
    return one is not None and other is not None and json.loads(one) == json.loads(other)


def to_come(token: str, inputs: Mapping[str, Any]) -> Values:
    """Return what a resource will have: its inputs, and all else not known yet."""
    return {**dict.fromkeys(schema(token).outputs, UNKNOWN), **inputs}

"""Turns errors of pydantic's into the words of the cluster file. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from perennial.errors import Fault
from perennial.registry import PLATFORMS
from perennial.spec import json_schema as schemas
from perennial.spec.scalars import is_plain
from perennial.spec.tree import Ambiguous, Tree
from perennial.spec.units import Refusal
from perennial.spec.words import WHOLE, key_path, nearest, plural, show, show_key

#: More faults than these help nobody.
MOST = 50

Location = tuple[str | int, ...]
_MISSING = object()
_BOOLEANS = {
    **dict.fromkeys(("yes", "on", "true", "1"), True),
    **dict.fromkeys(("no", "off", "false", "0"), False),
}


@dataclass(frozen=True)
class Explainer:
    """Turns pydantic's errors into faults."""

    #: The file, for lines and for what stands there.
    tree: Tree
    #: The platform that the file names, if there is such a platform.
    platform: str | None
    data: Mapping[str, Any] = field(repr=False)

    @property
    def _schema(self) -> schemas.JsonSchema:
        return schemas.shared(tuple(PLATFORMS))

    def explain(self, error: ValidationError) -> list[Fault]:
        """List the faults behind an error of pydantic's."""
        faults = []
        errors = error.errors(include_url=False, include_input=False)
        # A required key that was mistyped is one fault, not two.
        mistyped = {self._meant(one["loc"]) for one in errors if one["type"] == "extra_forbidden"}
        for one in errors:
            location: Location = one["loc"]
            if self.platform is None and location[0] in PLATFORMS:
                continue  # the platform that they belong to is not known
            if one["type"] == "refused":
                refusals: tuple[Refusal, ...] = one["ctx"]["refusals"]
                faults += [self._refused(location, refusal) for refusal in refusals]
            elif one["type"] == "missing":
                faults += [self._missing(location)] if location not in mistyped else []
            elif one["type"] == "extra_forbidden":
                faults.append(self._unknown(location))
            else:
                faults.append(self._other(location))
        return faults

    def word(self, fault: Ambiguous) -> Fault:
        """Say of a word that YAML readers disagree on what its key takes."""
        schema = schemas.find(self._schema, fault.location) if fault.location else {}
        node = schemas.plain(self._schema, schema)
        if not node:  # a key, or below `dask`, where anything may stand
            return Fault(fault.path, fault.found, fault.allowed, fault.fix, fault.line)
        fix = _corrected(fault.location, node, fault.text)
        return Fault(fault.path, fault.found, _allowed(schema, node), fix, fault.line)

    def _refused(self, location: Location, refusal: Refusal) -> Fault:
        is_key = refusal.key or location[-1:] == ("[key]",)
        location = (location[:-1] if location[-1:] == ("[key]",) else location) + refusal.at
        found = f"the name {show(location[-1])}" if is_key else refusal.found or None
        return self._fault(location, found, refusal.allowed, refusal.fix, of_key=is_key)

    def _missing(self, location: Location) -> Fault:
        node = schemas.plain(self._schema, schemas.find(self._schema, location))
        fix = f"add {_example(location, node)}"
        return self._fault(location, "nothing", schemas.describe(node), fix, of_key=True)

    def _known(self, location: Location) -> list[str]:
        parent = schemas.plain(self._schema, schemas.find(self._schema, location[:-1]))
        return [
            name
            for name in parent.get("properties", {})
            if name not in PLATFORMS or name == self.platform
        ]

    def _meant(self, location: Location) -> Location:
        return (*location[:-1], nearest(str(location[-1]), self._known(location)) or "")

    def _unknown(self, location: Location) -> Fault:
        key = str(location[-1])
        if len(location) == 1 and key in PLATFORMS:
            return self._fault(
                location,
                f"options of the platform {key}",
                f"those of the platform {self.platform}",
                "remove them or change platform",
                of_key=True,
            )
        near = self._meant(location)[-1]
        fix = f"did you mean {near}?" if near else "remove it or correct its indentation"
        known = ", ".join(self._known(location))
        return self._fault(location, f"the unknown key {show_key(key)}", known, fix, of_key=True)

    def _other(self, location: Location) -> Fault:
        key = location[-1:] == ("[key]",)
        location = location[:-1] if key else location
        schema = schemas.find(self._schema, location)
        node = schemas.plain(self._schema, schema)
        fix = _corrected(location, node, self._value(location))
        return self._fault(location, None, _allowed(schema, node), fix)

    def _fault(
        self, location: Location, found: str | None, allowed: str, fix: str, of_key: bool = False
    ) -> Fault:
        found = found or self._found(location)
        return Fault(key_path(location), found, allowed, fix, self.tree.line(location), of_key)

    def _value(self, location: Location) -> Any:
        """Look up what stands at a place; `_MISSING` where nothing does."""
        value: Any = self.data
        for step in location:
            try:
                value = value[step]
            except (LookupError, TypeError):
                return _MISSING
        return value

    def _found(self, location: Location) -> str:
        value: Any = self.data
        for step in location:
            try:
                value = value[step]
            except (LookupError, TypeError):
                if isinstance(value, str):
                    return show(value)  # the short form of a mapping
                default = schemas.find(self._schema, location).get("default", _MISSING)
                meant = default not in (_MISSING, {}, None)
                return f"nothing, which means {show(default)}" if meant else "nothing"
        return show(value)


def limited(faults: list[Fault]) -> list[Fault]:
    """Put faults in the order of the file, each once, and leave out what is too much."""
    ordered = sorted(dict.fromkeys(faults), key=lambda fault: fault.line or 0)
    if len(ordered) <= MOST:
        return ordered
    more = plural(len(ordered) - MOST, "more fault")
    return [*ordered[:MOST], Fault(WHOLE, more, "none", "correct those above first")]


def _allowed(schema: schemas.JsonSchema, node: schemas.JsonSchema) -> str:
    absence = schemas.absence(schema)
    return schemas.describe(node) + (f" or {absence}" if absence else "")


def _corrected(location: Location, node: schemas.JsonSchema, value: Any) -> str:
    """Say what to write: what was probably meant where that is allowed, else an example."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    bounded = node.get("type") in ("integer", "number") and "minimum" in node
    if is_number and bounded and not _within(value, node):
        return "write a number in that range"
    meant = _meant_value(node, value)
    if meant is None or not isinstance(location[-1], str):
        return f"write {_example(location, node)}"
    return f"write `{show_key(location[-1])}: {_flow(meant)}`"


def _within(number: float, node: schemas.JsonSchema) -> bool:
    return bool(node["minimum"] <= number <= node["maximum"])


def _meant_value(node: schemas.JsonSchema, value: Any) -> Any:
    """Read a value of another type as the type that is allowed; None where that fails."""
    kinds = node.get("type")
    kind = kinds[0] if kinds == ["string", "object"] else kinds
    if kind == "boolean":
        return _BOOLEANS.get(str(value).lower())
    if kind == "string" and isinstance(value, int | float | str) and not isinstance(value, bool):
        text = str(value)
        fits = re.search(node["pattern"], text) if "pattern" in node else text
        return text if fits and text in node.get("enum", [text]) else None
    if kind == "integer" and isinstance(value, str):
        digits = value.replace("_", "")
        number = int(digits) if re.fullmatch(r"\d{1,18}", digits, re.ASCII) else None
        return number if number is not None and _within(number, node) else None
    return None


def _example(location: Location, node: schemas.JsonSchema) -> str:
    """Write an example of the last key, such as ``threads: 1``."""
    examples = node.get("examples") or [node.get("default")]
    if examples[0] is None:  # a mapping without an example of its own: what it must have
        properties = node.get("properties", {})
        examples = [{name: properties[name]["examples"][0] for name in node.get("required", [])}]
    key = location[-1] if location else ""
    return f"`{show_key(key)}: {_flow(examples[0])}`" if isinstance(key, str) else "one of these"


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str):
        return value if is_plain(value) else f"'{value}'"
    return show(value)

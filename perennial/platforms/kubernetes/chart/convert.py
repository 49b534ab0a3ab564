"""From a values file of the chart to a cluster file. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from perennial.errors import Fault, SpecError
from perennial.platforms.kubernetes.chart.draft import Draft, Note
from perennial.platforms.kubernetes.chart.kinds import fits, words
from perennial.platforms.kubernetes.chart.rules import RULES, located
from perennial.platforms.kubernetes.chart.table import MAIN, ROWS, Row, defaults, rows
from perennial.platforms.kubernetes.chart.value import Value
from perennial.spec import ClusterSpec, loads
from perennial.spec.models import RESERVED_NAMES
from perennial.spec.reading import dump
from perennial.spec.tree import BrokenError, Tree, read_tree
from perennial.spec.units import NAME_PATTERN
from perennial.spec.words import WHOLE, shorten, show_key

_SECTIONS = frozenset(row.section for row in ROWS)
_GROUPS = "additional_worker_groups"
#: What an umbrella chart calls this one.
_UMBRELLA = "dask"
_OTHER = "it is of another chart"
_NONE = "the chart has no such value"
#: What all pods share is said once.
_SHARED = ("image_pull_policy", "image_pull_secrets")


@dataclass(frozen=True, slots=True)
class Converted:
    """A cluster file, and what it does not say."""

    spec: ClusterSpec
    text: str
    notes: tuple[Note, ...]

    @property
    def lost(self) -> int:
        """How many values have no counterpart."""
        return sum(note.lost for note in self.notes)


def convert(text: str, name: str, namespace: str | None = None, source: str = "") -> Converted:
    """Convert a values file, where an empty one is the chart as it is; raise `SpecError`."""
    tree = _read(text, source)
    written = tree.data() if tree else {}
    draft = Draft(tree, {"name": name, "platform": "kubernetes", "workers": {}, "kubernetes": {}})
    if namespace is not None:
        draft.put("kubernetes.namespace", namespace, "")
    values = _own(draft, written, source)
    known = {key: each for key, each in values.items() if _is_known(draft, key, each)}
    _unknown(draft, known, "", {row.key for row in ROWS})
    whole = _over(defaults(), known)
    _kinds(draft, known)
    if not draft.faults:
        _parts(draft, known, whole)
    if draft.faults:
        raise SpecError(draft.faults, source)
    _share(draft.data)
    return _checked(draft, source)


def _read(text: str, source: str) -> Tree | None:
    """Read the file; None for one without a value."""
    lines = (line.strip() for line in text.removeprefix("\ufeff").splitlines())
    if all(not line or line.startswith("#") or line in ("---", "{}") for line in lines):
        return None
    try:
        tree = read_tree(text)
    except BrokenError as error:
        faults = [_worded(each) for each in error.faults]
        raise SpecError(faults, source) from None
    if tree.faults:
        raise SpecError(tree.faults, source)
    return tree


def _worded(fault: Fault) -> Fault:
    """Say it of a values file where it would be said of a cluster file."""
    if fault.path != WHOLE or "perennial init" not in fault.fix:
        return fault
    fix = "write what `helm get values RELEASE` prints"
    return Fault(WHOLE, fault.found, "values of the chart dask", fix, fault.line)


def _own(draft: Draft, written: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """Find the chart's values, also in the file of a chart that has this one in it."""
    if _SECTIONS & written.keys() or not written:
        return written
    inner = written.get(_UMBRELLA)
    if not isinstance(inner, Mapping):
        found = ", ".join(map(show_key, list(written)[:3]))
        allowed = f"values of the chart dask, such as {', '.join(sorted(_SECTIONS)[:4])}"
        fix = "name a values file of the chart dask; clusters of Dask Gateway are made on demand"
        raise SpecError([Fault(WHOLE, shorten(found), allowed, fix)], source)
    for key in (key for key in written if key != _UMBRELLA):
        draft.lose(show_key(key), _OTHER)
    draft.prefix = f"{_UMBRELLA}."
    return inner


def _is_known(draft: Draft, key: str, value: Any) -> bool:
    if key not in _SECTIONS:
        draft.lose(show_key(key), _OTHER if isinstance(value, Mapping) else _NONE)
    return key in _SECTIONS


def _unknown(draft: Draft, found: Mapping[str, Any], at: str, keys: Collection[str]) -> None:
    """Name what the chart does not have, and what is no mapping where one must be."""
    for key, value in found.items():
        path = f"{at}.{show_key(key)}" if at else show_key(key)
        if path in keys or value is None:
            continue
        if not any(each.startswith(f"{path}.") for each in keys):
            draft.lose(path, _NONE)
        elif not isinstance(value, Mapping):
            draft.refuse(path, value, "a mapping")
        else:
            _unknown(draft, value, path, keys)


def _kinds(draft: Draft, known: Mapping[str, Any]) -> None:
    """Refuse what is of a wrong kind, before anything looks into it."""
    for row in ROWS:
        _kind(draft, row, row.key, _at(known, row.key))
    groups = known.get(_GROUPS)
    for index, own in enumerate(groups if isinstance(groups, list) else ()):
        for row in rows("worker"):
            key = row.key.replace("worker", f"{_GROUPS}[{index}]", 1)
            _kind(draft, row, key, _at({"worker": own}, row.key))


def _kind(draft: Draft, row: Row, key: str, value: Any) -> None:
    below = (fault.path.startswith(f"{draft.prefix}{key}.") for fault in draft.faults)
    if value is not None and not fits(row.kind, value) and not any(below):
        draft.refuse(key, value, words(row.kind))


def _parts(draft: Draft, known: Mapping[str, Any], whole: Mapping[str, Any]) -> None:
    for row in (row for row in ROWS if row.key in ("nameOverride", "fullnameOverride")):
        _take(draft, row, row.key, known, whole, "")
    for section in ("scheduler", "webUI"):
        for row in rows(section):
            _take(draft, row, row.key, known, whole, "")
    _group(draft, MAIN, "worker", known, whole)
    _groups(draft, whole)
    for row in rows("jupyter"):
        _take(draft, row, row.key, known, whole, "")
    if not draft.get("jupyter") and draft.get("kubernetes.jupyter") and "jupyter" in draft.data:
        del draft.data["kubernetes"]["jupyter"]


def _groups(draft: Draft, whole: Mapping[str, Any]) -> None:
    """Take the further groups: each is laid over `worker`, whose values are not said again."""
    every = whole.get(_GROUPS) or []
    keys = {row.key.replace("worker.", "", 1) for row in rows("worker")}
    for index, own in enumerate(every):
        key = f"{_GROUPS}[{index}]"
        _unknown_in_group(draft, own, key, keys)
        if draft.faults:
            return
        name = _name(draft, own.get("name"), f"{key}.name")
        laid = {"worker": _over(whole["worker"], own)}
        if name is not None:
            _group(draft, name, key, {"worker": own}, laid)


def _unknown_in_group(
    draft: Draft, own: Mapping[str, Any], key: str, keys: Collection[str]
) -> None:
    _unknown(draft, own, key, {f"{key}.{each}" for each in keys})


def _group(
    draft: Draft, name: str, key: str, known: Mapping[str, Any], whole: Mapping[str, Any]
) -> None:
    for row in rows("worker"):
        if row.key != "worker.name":
            _take(draft, row, row.key.replace("worker", key, 1), known, whole, name)
    resources = whole["worker"].get("resources") or {}
    if key == "worker" and not resources.get("limits") and not resources.get("requests"):
        draft.differ(
            "worker.resources",
            "without limits the chart gives each worker its whole node, and here it has 1 thread"
            " and 4 GiB; write threads and memory",
        )


def _take(
    draft: Draft,
    row: Row,
    key: str,
    known: Mapping[str, Any],
    whole: Mapping[str, Any],
    group: str,
) -> None:
    """Take one value."""
    written, value = _at(known, row.key), _at(whole, row.key)
    if value is None or (row.needs and not _at(whole, row.needs)):
        return
    part = whole.get(row.section, {})
    part = part if isinstance(part, Mapping) else {}
    parts = {"resources": {}, "mounts": {}, "image": {}, "ingress": {}, **part}
    of = Value(draft, row, key, value, parts, group, written is not None)
    if row.rule:
        RULES[row.rule](of)
    elif row.ours:
        RULES["copied"](of)
    elif value not in ({}, [], "", row.usual):
        of.lose(row.why)


def _name(draft: Draft, found: Any, key: str) -> str | None:
    """Name a group as the chart does, as far as that is a name here."""
    if not isinstance(found, str):
        draft.refuse(key, found, "a name of the group", "add `name`")
        return None
    name = re.sub(r"[^a-z0-9-]+", "-", found.lower()).strip("-")[:40].rstrip("-")
    if name in RESERVED_NAMES:
        name = f"{name}s"
    if not re.fullmatch(NAME_PATTERN, name):
        draft.refuse(key, found, "a name of letters a-z, digits and -, with a letter first")
        return None
    if name in draft.data["workers"]:
        draft.refuse(key, found, f"a name that no other group has; {MAIN} is that of `worker`")
        return None
    if name != found:
        draft.differ(key, f"the group is called {name}")
    return name


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay values over others as Helm does; null removes a value."""
    result = dict(below)
    for key, value in above.items():
        found = result.get(key)
        both = isinstance(value, Mapping) and isinstance(found, Mapping)
        if value is None and isinstance(found, Mapping):
            continue  # a whole part of the chart cannot go
        result[key] = _over(found, value) if both and isinstance(found, Mapping) else value
    return result


def _at(values: Any, key: str) -> Any:
    for step in key.split("."):
        values = values.get(step) if isinstance(values, Mapping) else None
    return values


def _share(data: dict[str, Any]) -> None:
    """Say once what all pods have, so that it holds for the scaler's as well."""
    options = data["kubernetes"]
    pods = [options.get("scheduler", {})]
    pods += [options.get("workers", {}).get(name, {}) for name in data["workers"]]
    pods += [options.get("jupyter", {})] if data.get("jupyter", {}) is not None else []
    for key in _SHARED:
        values = [pod.get(key) for pod in pods]
        if values[0] is not None and all(each == values[0] for each in values):
            options[key] = values[0]
            for pod in pods:
                del pod[key]


def _checked(draft: Draft, source: str) -> Converted:
    """Validate what was made; a fault of it is one of the value that it was made of."""
    try:
        spec = loads(json.dumps(draft.data))
    except SpecError as error:
        faults = [located(each, draft) for each in error.faults]
        raise SpecError(faults, source) from None
    return Converted(spec, "".join(_written(spec, draft.notes, source)), tuple(draft.notes))


def _written(spec: ClusterSpec, notes: Collection[Note], source: str) -> Iterator[str]:
    made_of = PurePath(source).name or "values"
    yield f"# Made of {made_of} of the Helm chart dask by `perennial import helm`.\n"
    if lost := sum(note.lost for note in notes):
        yield f"# {lost} of its values have no counterpart; the command names them.\n"
    yield dump(spec)

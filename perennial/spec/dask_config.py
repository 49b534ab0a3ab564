"""Dask's own configuration inside a cluster file: what is sound, and what looks mistyped.

Keys are written dotted, nested or mixed, as Dask's own files and environment allow. Dask takes
any key, because libraries add their own; so an unknown key is no fault, but one that nearly
matches a key of Dask's is worth a warning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from perennial.spec import pinned
from perennial.spec.units import Refusal, refuse_all
from perennial.spec.words import nearest

_DEFAULTS = (("dask", "dask.yaml"), ("distributed", "distributed.yaml"))
_PRELOADED = ("scheduler", "worker", "nanny")

Location = tuple[str | int, ...]
#: Keys from the top of Dask's configuration, with - for _ as Dask reads them.
Setting = tuple[str, ...]


def check(config: dict[str, Any]) -> dict[str, Any]:
    """Validate configuration: text keys, JSON values, no setting twice, Dask's own structure."""
    refusals = list(_unsound(config, ()))
    if not refusals and config:
        refusals = [*_twice(config), *_misplaced(config)]
        leaves = {setting: (at, value) for setting, at, value in _leaves(config)}
        refusals += pinned.refusals(leaves)
    if refusals:
        raise refuse_all(refusals)
    return config


def mistyped(config: Mapping[str, Any]) -> Iterator[tuple[Location, str]]:
    """Find keys that nearly match one of Dask's: where each stands, and what was probably meant."""
    for setting, location, _ in _leaves(config):
        if meant := _meant(setting):
            yield location, meant


@cache
def defaults() -> dict[str, Any]:
    """Dask's default configuration, read as text: importing distributed takes 0.4 s."""
    known: dict[str, Any] = {}
    for package, name in _DEFAULTS:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            text = (Path(folder) / name).read_text(encoding="utf-8")
            known |= yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    return known


def _unsound(value: Any, at: Location) -> Iterator[Refusal]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str) or not all(key.split(".")):
                yield Refusal(
                    "keys such as distributed.worker.memory.target",
                    "write words with single dots between them",
                    (*at, str(key)),
                )
            else:
                yield from _unsound(inner, (*at, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _unsound(inner, (*at, index))
    elif not _is_json(value):
        yield Refusal(
            "what JSON can hold: text, finite numbers, true, false, null, lists and mappings",
            "write another value",
            at,
        )


def _is_json(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return value.bit_length() <= 64
    return value is None or isinstance(value, str)


def _leaves(
    config: Mapping[str, Any], above: Setting = (), at: Location = ()
) -> Iterator[tuple[Setting, Location, Any]]:
    """Yield each setting, where it stands, and its value; an empty mapping sets nothing."""
    for key, value in config.items():
        setting = (*above, *key.replace("_", "-").split("."))
        if isinstance(value, Mapping):
            yield from _leaves(value, setting, (*at, key))
        else:
            yield setting, (*at, key), value


def _twice(config: Mapping[str, Any]) -> Iterator[Refusal]:
    seen: dict[Setting, Location] = {}
    for setting, location, _ in _leaves(config):
        if setting in seen:
            yield Refusal("each setting once, dotted or nested", "remove one of the two", location)
        seen[setting] = location
    for setting, location in seen.items():
        if any(setting[:length] in seen for length in range(1, len(setting))):
            yield Refusal(
                "keys below a mapping, not below a value", "remove one of the two", location
            )


def _misplaced(config: Mapping[str, Any]) -> Iterator[Refusal]:
    for setting, location, value in _leaves(config):
        known: Any = defaults()
        for step in setting:
            known = _child(known, step)
        if isinstance(known, Mapping) and known:
            keys = ", ".join(list(known)[:5])
            yield Refusal(f"a mapping with keys such as {keys}", "write one of its keys", location)
        if setting in [("distributed", part, "preload") for part in _PRELOADED]:
            items = value if isinstance(value, list) else [value]
            if not all(isinstance(item, str) for item in items):
                yield Refusal(
                    "a module or a list of modules", "write the names of modules", location
                )


def _child(known: Any, step: str) -> Any:
    if isinstance(known, Mapping):
        for key, value in known.items():
            if key.replace("_", "-") == step:
                return value
    return None


def _meant(setting: Setting) -> str | None:
    known: Any = defaults()
    for index, step in enumerate(setting):
        if not isinstance(known, Mapping) or not known:
            return None  # below a setting of Dask's, where any key may stand
        child = _child(known, step)
        if child is None and step not in known:
            if near := nearest(step, known, cutoff=0.8):
                return ".".join((*setting[:index], near, *setting[index + 1 :]))
            return ".".join(("distributed", *setting)) if _forgotten(index, setting) else None
        known = child
    return None


def _forgotten(index: int, setting: Setting) -> bool:
    """Whether only the leading ``distributed`` is missing: ``worker.memory.target``."""
    if index or len(setting) < 2:
        return False
    known: Any = defaults().get("distributed", {})
    for step in setting[:2]:
        known = known.get(step) if isinstance(known, Mapping) else None
    return known is not None

"""What people have asked of the scaler: pins, bounds, a pause. Kept on disk, as they are taken up.

A request arrives through the scheduler until it is acknowledged, so the same one can come twice;
its id is remembered, and it is taken up once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import isfinite
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from perennial.errors import PerennialError
from perennial.files import read_json, write_json
from perennial.preloads.messages import Request
from perennial.scaler.values import Group

#: Ids of requests that are remembered.
REMEMBERED = 200


class _Pin(BaseModel):
    size: int = Field(ge=0)
    until: float | None = None
    seconds: float | None = None
    force: bool = False


class _Bounds(BaseModel):
    min: int | None = Field(default=None, ge=0)
    max: int | None = Field(default=None, ge=0)


class _File(BaseModel):
    model_config = ConfigDict(validate_assignment=True)

    pins: dict[str, _Pin] = {}
    bounds: dict[str, _Bounds] = {}
    paused: bool = False
    taken: list[str] = []


class Overrides:
    """What holds now."""

    def __init__(self, folder: Path, most: Mapping[str, int] | None = None) -> None:
        self.path = folder / "wishes.json"
        self.note = ""
        self.most = dict(most or {})
        self._is = _File()
        try:
            self._is = _File.model_validate(read_json(self.path, missing={}))
        except (PerennialError, ValidationError, OSError) as error:
            line = str(error).splitlines()[0]
            self.note = f"{self.path} is damaged ({line}): pins, bounds and a pause are forgotten"
        for name, pin in self._is.pins.items():
            ceiling = _ceiling(self._is, name, self.most)
            if ceiling is not None and pin.size > ceiling and not pin.force:
                self.note = f"{name}: pinned at {pin.size}, above its max: taken as {ceiling}"
                pin.size = ceiling

    @property
    def paused(self) -> bool:
        """Whether the scaler shall change nothing."""
        return self._is.paused

    def take(self, requests: Iterable[Request], groups: frozenset[str], now: float) -> list[str]:
        """Take requests up and write them down."""
        said = []
        after = self._is.model_copy(deep=True)
        for request in requests:
            name = str(request.get("id", ""))
            if name and name in after.taken:
                continue
            try:
                said.append(_taken(after, request, groups, self.most, now))
            except (ValueError, KeyError, TypeError) as error:
                said.append(f"refused: {dict(request)}: {str(error).splitlines()[0]}")
            after.taken = [*after.taken, name][-REMEMBERED:]
        if after != self._is:
            write_json(self.path, after.model_dump(mode="json"))
            self._is = after
        return said

    def expire(self, now: float) -> list[str]:
        """Remove pins whose time is over; return which."""
        for pin in self._is.pins.values():
            if pin.until is not None and pin.seconds is not None:
                pin.until = min(pin.until, now + pin.seconds)
        pins = [name for name, pin in self._is.pins.items() if _over(pin.until, now)]
        for name in pins:
            del self._is.pins[name]
        if pins:
            write_json(self.path, self._is.model_dump(mode="json"))
        return [f"{name}: its pin is over" for name in pins]

    def applied(self, group: Group) -> Group:
        """Apply pins and bounds to the rules of a group."""
        if group.name in self._is.bounds:
            wanted = self._is.bounds[group.name]
            least = group.min if wanted.min is None else wanted.min
            most = group.max if wanted.max is None else wanted.max
            # The one that a person has named counts; the other gives way.
            least = min(least, most) if wanted.min is None else least
            group = replace(group, min=least, max=max(least, most))
        if group.name in self._is.pins:
            pin = self._is.pins[group.name]
            group = replace(group, pin=pin.size, forced=pin.force)
        return group

    def ceiling(self, group: str) -> int | None:
        """Say the largest size at which a group may be pinned without force."""
        return _ceiling(self._is, group, self.most)

    def left(self, group: str, now: float) -> float | None:
        """Say for how many seconds a group's size is still pinned; None if not, or for ever."""
        pin = self._is.pins.get(group)
        return None if pin is None or pin.until is None else max(0.0, pin.until - now)

    def summary(self, now: float) -> dict[str, object]:
        """Say what is in force, for the scaler's report."""
        return {
            "paused": self._is.paused,
            "pins": {
                name: {"size": pin.size, "left": None if pin.until is None else pin.until - now}
                for name, pin in self._is.pins.items()
            },
            "bounds": {name: each.model_dump() for name, each in self._is.bounds.items()},
        }


def _over(until: float | None, now: float) -> bool:
    return until is not None and until <= now


def _ceiling(to: _File, group: str, most: Mapping[str, int]) -> int | None:
    """Say the largest size at which a group may be pinned: the file's max, or a person's."""
    bounds = to.bounds.get(group)
    wanted = bounds.max if bounds is not None else None
    return None if group not in most else max(most[group], wanted or 0)


def _taken(
    to: _File,
    request: Request,
    groups: frozenset[str],
    most: Mapping[str, int],
    now: float,
) -> str:
    """Apply one request; describe it."""
    kind = request["kind"]
    if kind in ("pause", "resume"):
        to.paused = kind == "pause"
        return "paused" if to.paused else "resumed"
    name = request["group"]
    if name not in groups:
        raise ValueError(f"no group {name}; the groups are {', '.join(sorted(groups))}")
    match kind:
        case "pin":
            seconds = request.get("seconds")
            if seconds is not None and not isfinite(seconds):
                raise ValueError(f"{seconds} is no number of seconds")
            until = None if seconds is None else now + float(seconds)
            pin = _Pin(
                size=request["size"],
                until=until,
                seconds=seconds,
                force=request.get("force", False),
            )
            largest = _ceiling(to, name, most)
            if largest is not None and pin.size > largest and not pin.force:
                raise ValueError(f"{name}={pin.size}: allowed: up to {largest} without force")
            to.pins[name] = pin
            return f"{name}: pinned at {request['size']}" + (
                f" for {seconds:g} s" if seconds else ""
            )
        case "unpin":
            to.pins.pop(name, None)
            return f"{name}: not pinned any more"
        case "bounds":
            wanted = _Bounds(min=request["min"], max=request["max"])
            if wanted.min is not None and wanted.max is not None and wanted.min > wanted.max:
                raise ValueError(f"min {wanted.min} is above max {wanted.max}")
            to.bounds[name] = wanted
            said = [f"{key} {value}" for key, value in wanted if value is not None]
            return f"{name}: bounds: {', '.join(said) or 'those of the cluster file'}"
        case "unbound":
            to.bounds.pop(name, None)
            return f"{name}: the bounds of the cluster file"
    raise ValueError(f"no request of the kind {kind}")

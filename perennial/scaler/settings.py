"""The scaler's configuration: the JSON file that the platform's deployment has written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from perennial import fleet
from perennial.errors import PerennialError
from perennial.fleet import Handle
from perennial.registry import FLEETS, PLATFORMS, has_fleet
from perennial.scaler.values import Group
from perennial.spec.scaling import Schedule
from perennial.tls import Tls

OnDeadline = Literal["wait", "stop"]

_GROUP = TypeAdapter(Group)
_OWN = {each.name for each in fields(Group)}


class _File(BaseModel):
    """The file as it is written; its groups are looked at one by one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    cluster: str = Field(min_length=1)
    platform: str
    scheduler: str = Field(pattern=r"^(tcp|tls|ucx|ws|wss)://")
    tls: Tls | None = None
    interval: float = Field(default=1.0, ge=0.1, le=3600)
    state: str = Field(pattern=r"^/")
    port: int = Field(default=0, ge=0, le=65535)
    dry_run: bool = False
    budget: float | None = Field(default=None, ge=0)
    groups: list[Mapping[str, object]]
    http: str | None = None
    adopted: bool = False


class _PlatformOptions(BaseModel):
    """What stands beside the rules of a group."""

    model_config = ConfigDict(extra="forbid")

    fleet: Mapping[str, object]
    schedules: tuple[Schedule, ...] = ()
    on_deadline: OnDeadline = "wait"


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """One group: its rules, its calendar, and how its fleet is reached."""

    #: Rules, before the calendar and overrides are worked in.
    group: Group
    #: How the fleet is reached.
    fleet: Handle
    #: Other bounds at certain times.
    schedules: tuple[Schedule, ...] = ()
    #: What becomes of a member that is at work when its drain's time is over.
    on_deadline: OnDeadline = "wait"

    @property
    def most(self) -> int:
        """The largest size that the cluster file allows at any time."""
        return max([self.group.max, *(each.max or 0 for each in self.schedules)])


@dataclass(frozen=True, slots=True)
class Settings:
    """The scaler's configuration."""

    #: Names.
    cluster: str
    platform: str
    #: Dask's address of the scheduler.
    scheduler: str
    #: Folder for what it remembers.
    state: Path
    #: In the order of the cluster file.
    groups: tuple[GroupSettings, ...] = ()
    #: Certificate; None for a cluster without TLS.
    tls: Tls | None = None
    #: Seconds between two looks.
    interval: float = 1.0
    #: Port on loopback of ``/metrics`` and ``/health``; 0 for none.
    port: int = 0
    #: Decide and record, and change nothing.
    dry_run: bool = False
    #: Most that all members may cost for an hour.
    budget: float | None = None
    #: ``host:port`` of the scheduler's own pages, for one without our preload.
    http: str | None = None
    #: Whether neither the scheduler nor the workers have anything of ours: members are known by
    #: their host then, and the fleets say so as well.
    adopted: bool = False


def read(path: Path) -> Settings:
    """Read a scaler's configuration."""
    try:
        return parse(json.loads(path.read_bytes(), parse_constant=_no_number), str(path))
    except OSError as error:
        raise PerennialError(
            f"{path}: {error.strerror or error}; `perennial up` or `pulumi up` writes the"
            " scaler's configuration"
        ) from error
    except ValueError as error:  # not JSON, or not UTF-8
        raise PerennialError(
            f"{path}: not valid JSON ({error}); `perennial up` or `pulumi up` writes it anew"
        ) from error


def parse(found: Any, source: str = "scaler.json") -> Settings:
    """Make sense of a scaler's configuration."""
    try:
        file = _File.model_validate(found)
    except ValidationError as error:
        raise _refused(source, error) from None
    if not has_fleet(file.platform):
        raise _wrong(
            source, "platform", file.platform, f"one of {', '.join(sorted({*PLATFORMS, *FLEETS}))}"
        )
    if file.scheduler.startswith("tls:") and file.tls is None:
        raise _wrong(source, "tls", "nothing", "ca, cert and key, because the scheduler uses TLS")
    if file.adopted and file.http is None:
        raise _wrong(source, "http", "nothing", "host:port of the dashboard, for one not ours")
    groups = tuple(
        _group(source, index, file.platform, each) for index, each in enumerate(file.groups)
    )
    names = [each.group.name for each in groups]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise _wrong(source, f"groups[{index}].name", name, "a name that no other group has")
    return Settings(
        **{key: getattr(file, key) for key in _File.model_fields if key not in ("groups", "state")},
        state=Path(file.state),
        groups=groups,
    )


def _group(source: str, index: int, platform: str, found: Mapping[str, object]) -> GroupSettings:
    where = f"groups[{index}]"
    try:
        beside = _PlatformOptions.model_validate({k: v for k, v in found.items() if k not in _OWN})
        group = _GROUP.validate_python({k: v for k, v in found.items() if k in _OWN})
    except ValidationError as error:
        raise _refused(source, error, where) from None
    if not 0 <= group.min <= group.max:
        raise _wrong(source, f"{where}.min", group.min, f"0 to max, which is {group.max}")
    if group.slots < 1 or group.processes < 1:
        raise _wrong(source, f"{where}.slots", group.slots, "at least 1, as processes")
    try:
        handle = fleet.read(platform, beside.fleet)
    except ValidationError as error:
        raise _refused(source, error, f"{where}.fleet") from None
    return GroupSettings(group, handle, beside.schedules, beside.on_deadline)


def _no_number(found: str) -> float:
    raise ValueError(f"{found} is no number")


def _refused(source: str, error: ValidationError, where: str = "") -> PerennialError:
    first = error.errors(include_url=False)[0]
    path = where
    for part in first["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    missing = first["type"] == "missing"
    found = "nothing" if missing else repr(first["input"])[:100]
    allowed = "a value" if missing else first["msg"][:1].lower() + first["msg"][1:]
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        allowed = "no such key"
    return _wrong(source, path or "(file)", found, allowed)


def _wrong(source: str, path: str, found: object, allowed: str) -> PerennialError:
    return PerennialError(
        f"{source}: {path}: found {found}; allowed: {allowed}; `perennial up` or"
        " `pulumi up` writes this file anew"
    )

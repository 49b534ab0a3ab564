"""What the agent answers and what a machine remembers, as types. The agent itself needs none."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

#: Digest, mode and owner of a file; None for whoever looks.
FileState = list[Any]


class Member(TypedDict):
    """A service on a machine."""

    state: str
    pid: int
    restarts: int
    fingerprint: str | None
    since: NotRequired[float | None]


class Usage(Member):
    """A service, and what it uses."""

    uptime: float
    memory: int
    cpu: float


class Certificate(TypedDict):
    """What a certificate was made from, when it ends, and digests of it and its key."""

    origin: str
    ends: str
    digests: list[str]


class Manifest(TypedDict, total=False):
    """What a machine remembers of a cluster; earlier versions wrote less."""

    init: str
    owner: str
    stack: str
    machine: str
    whole: bool
    environment: str | None
    files: list[str]
    users: list[str]
    made: list[str]
    units: list[str]
    targets: list[str]
    crontab: str
    folders: list[str]
    notebooks: list[str]
    outdated: dict[str, int]
    stop_timeout: float
    declared: dict[str, int]
    kept: dict[str, int]
    sizes: dict[str, int]
    numbers: dict[str, list[int]]
    members: dict[str, str]
    expected: dict[str, FileState]
    programs: dict[str, str]
    kept_programs: dict[str, str]
    mark: str
    certificates: dict[str, Certificate]
    reads: dict[str, list[str]]


class Look(TypedDict):
    """What a deploy must know of a machine."""

    time: float
    python: str
    machine: str
    folder: str
    systemd: int
    address: str
    manifest: Manifest
    files: dict[str, FileState]
    edited: dict[str, float]
    programs: dict[str, str]
    altered: list[str]
    users: list[str]
    folders: list[str]
    members: dict[str, Member]
    enabled: bool
    taken: dict[str, str]
    clashes: list[tuple[str, str]]
    #: Seconds by which its clock is ahead of the operator's; added there.
    ahead: NotRequired[float]


class Inventory(TypedDict):
    """What an interpreter says of itself."""

    version: str
    packages: dict[str, str]
    missing: list[str]


class Environment(TypedDict):
    """A Python environment."""

    python: str
    version: str
    packages: dict[str, str | None]
    missing: list[str]
    digest: str
    machine: NotRequired[str]


class FirewallFound(TypedDict):
    """A machine's own firewall."""

    kind: str
    chains: list[str]


class Folder(TypedDict):
    """A folder to be made."""

    path: str
    mode: int
    owner: str | None


class Written(TypedDict):
    """A file to be written; without a text its mode and owner are set alone."""

    path: str
    text: str
    mode: int
    owner: str | None


class Outcome(TypedDict, total=False):
    """What came of a deploy, as its resource remembers it."""

    init: str
    address: str
    machine: str
    members: dict[str, str]
    expires: str
    #: Fingerprints by group or service; added by the resource.
    services: dict[str, str]

"""What an instance fetches when it starts, and the user data that fetches it. Pure."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from perennial import render
from perennial.aws import names
from perennial.errors import PerennialError
from perennial.jupyter import notebook_directory, state_directory
from perennial.own_wheel import own_wheel
from perennial.platforms.ec2 import parts
from perennial.platforms.ec2.parts import SCHEDULER, Machine
from perennial.spec import ClusterSpec
from perennial.templating import rendered

#: Bytes of user data that EC2 takes.
LARGEST = 16_384
#: Stands for the address of the instance, in the texts of its bundle.
ADDRESS = "address-of-this-instance"
#: Names of the lifecycle hooks of a group.
LAUNCHED, TERMINATING = "perennial-launched", "perennial-terminating"
#: Python of every image, which starts what is there before an environment is.
PYTHON = "/usr/bin/python3"
#: What is sent to instances: their own programs, in the place where they are imported from.
_PROGRAMS = "perennial.platforms.ec2.instance"


@dataclass(frozen=True, slots=True)
class Bundle:
    """The files of one kind of instance."""

    files: Mapping[str, bytes]

    @property
    def data(self) -> bytes:
        """All of them as one archive; the same files, the same bytes."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path, content in sorted(self.files.items()):
                entry = tarfile.TarInfo(path)
                entry.size, entry.mode = len(content), 0o644
                archive.addfile(entry, io.BytesIO(content))
        return packed.getvalue()

    @property
    def digest(self) -> str:
        """Digest of the archive, which the user data names."""
        return hashlib.sha256(self.data).hexdigest()


def bundle(spec: ClusterSpec, machine: Machine) -> Bundle:
    """Put together what the instances of one kind fetch."""
    texts = {f"root{path}": text for path, text in files(spec, machine).items()}
    texts["bundle.json"] = json.dumps(facts(spec, machine), indent=2, sort_keys=True) + "\n"
    found = {path: text.encode() for path, text in texts.items()} | _programs()
    if needed := parts.requirements_of(spec):
        wheel = own_wheel()
        found |= {"requirements.txt": needed.encode(), wheel.name: wheel.data}
    return Bundle(found)


def files(spec: ClusterSpec, machine: Machine) -> dict[str, str]:
    """Render units and configuration, by path on the instance."""
    here = [service.at(ADDRESS) for service in machine.services]
    found = render.systemd(here, spec.name, {machine.key: 0} if machine.is_group else {})
    folder, units = parts.directory(spec.name), render.UNITS
    found[f"{units}/{unit(spec, 'boot')}"] = rendered(
        "systemd",
        "instance-boot.service.j2",
        cluster=spec.name,
        argv=_argv("boot"),
        directory=folder,
    )
    helpers = {"watch": "Watch over the end of an instance", "logs": "Logs to CloudWatch"}
    for name, text in helpers.items():
        if name == "watch" and not machine.is_group:
            continue
        found[f"{units}/{unit(spec, name)}"] = rendered(
            "systemd",
            "instance-watch.service.j2",
            description=f"{text}, of the Dask cluster {spec.name}",
            argv=_argv(name),
            directory=folder,
            state=f"dask-perennial/{spec.name}/logs" if name == "logs" else "",
        )
    return found


def facts(spec: ClusterSpec, machine: Machine) -> dict[str, Any]:
    """Say what the programs of an instance have to know; see `instance.boot` and its neighbours."""
    secret = parts.keys(spec.name)
    units = [render.unit_name(spec.name, service) for service in machine.services]
    services = units if machine.is_group else [render.target_name(spec.name)]
    helpers = ["watch", "logs"] if machine.is_group else ["logs"]
    found: dict[str, Any] = {
        "mark": ADDRESS,
        "secrets": {names.secret_name(spec.name, role): secret for role in machine.secrets},
        "environment": parts.environment(spec),
        "owned": _owned(spec, machine),
        "fenced": _fenced(spec, machine),
        "units": {
            "boot": unit(spec, "boot"),
            "services": [*services, *(unit(spec, name) for name in helpers)],
            "drained": units if machine.is_group else [],
        },
        "logs": {
            "group": names.log_group(spec.name),
            "stream": machine.key,
            "units": [f"dask-{spec.name}-*"],
            "cursor": f"{parts.state(spec.name)}/logs/cursor",
        },
        "volume": f"{render.STATE}/dask-perennial",
    }
    if machine.is_group:
        found |= {
            "group": names.name_of(spec.name, machine.key),
            "launched": LAUNCHED,
            "terminating": TERMINATING,
        }
    return found


def _owned(spec: ClusterSpec, machine: Machine) -> dict[str, str]:
    """List folders that systemd does not make: Jupyter's own in memory, and a mounted one."""
    own = [service for service in machine.services if service.role == "jupyter"]
    if not own or spec.jupyter is None:
        return {}
    place = parts.site(spec)
    user = render.user(spec.name, own[0])
    found = {state_directory(place): user}
    if spec.options.notebooks is not None:
        found[notebook_directory(spec.jupyter, place)] = user
    return found


def _fenced(spec: ClusterSpec, machine: Machine) -> list[str]:
    """List the users who must not reach the metadata: they run what others have written.

    The scheduler and the scaler share a user, and the scaler needs its role.
    """
    if spec.options.metadata:
        return []
    fenced = (each for each in machine.services if each.role in ("worker", "jupyter"))
    return [render.user(spec.name, service) for service in fenced]


def unit(spec: ClusterSpec, name: str) -> str:
    """Name the unit of one of the instance's own programs."""
    return f"dask-{spec.name}-{name}.service"


def bundle_key(machine: Machine, digest: str) -> str:
    """Name an instance's bundle in the bucket."""
    return f"{machine.key}/{digest}.tar"


def user_data(
    spec: ClusterSpec, machine: Machine, bucket: str, digest: str, settings: Mapping[str, Any]
) -> str:
    """Write what an instance runs at its first boot: `instance.aws`, and a call of its `fetch`.

    It holds no secret: whoever may describe instances can read it.
    """
    where = (bucket, bundle_key(machine, digest), digest)
    folder = parts.directory(spec.name)
    call = f"fetch({where!r}, {folder!r}, json.loads({json.dumps(settings, sort_keys=True)!r}))"
    text = f"#!{PYTHON}\n{_program('aws')}\n\n{call}\n"
    size = len(text.encode())
    if size > LARGEST:
        raise PerennialError(
            f"{spec.name}: found {size} bytes of user data for {machine.key}; EC2 takes {LARGEST};"
            " give the cluster a shorter name"
        )
    return text


def settings(spec: ClusterSpec, machine: Machine, made: Mapping[str, str]) -> dict[str, Any]:
    """Say what an instance is told of resources: of ``volume``, ``zone``, ``role``, ``export``."""
    if machine.key != SCHEDULER:
        return {}
    found: dict[str, Any] = {
        "volume": made["volume"],
        "zone": made["zone"],
        "name": parts.scheduler_host(spec),
    }
    if spec.scaled:
        text = parts.aws_config_text(made["role"], spec.options.region)
        found["files"] = {parts.aws_config(spec): text}
    if spec.options.notebooks is not None and spec.jupyter is not None:
        place = notebook_directory(spec.jupyter, parts.site(spec))
        found["mounts"] = {place: f"{made['export']}:/"}
    return found


def fetch_keys(cluster: str) -> str:
    """Write the command by which an instance reads its keys from Secrets Manager again."""
    return f"cd {parts.directory(cluster)} && {' '.join(_argv('boot'))} keys"


def _argv(name: str) -> tuple[str, ...]:
    return (PYTHON, "-m", f"{_PROGRAMS}.{name}")


def _programs() -> dict[str, bytes]:
    folder = _PROGRAMS.replace(".", "/")
    programs = ("aws", "boot", "watch", "logs")
    return {f"{folder}/{name}.py": _program(name).encode() for name in programs}


@cache
def _program(name: str) -> str:
    return (resources.files(_PROGRAMS) / f"{name}.py").read_text(encoding="utf-8")

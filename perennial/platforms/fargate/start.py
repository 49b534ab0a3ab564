"""``python -m perennial.platforms.fargate.start COMMAND…``: what a container runs.

ECS hands a container its secrets as a variable. They are written to files in memory that this user
alone reads, and the command is run without the variable: no program that a task or a notebook
starts finds keys in its environment. What only a running task knows, its number and its address,
is filled into the command. Standard library alone.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.request import urlopen

#: Variable with the secret files, as JSON: text by name.
SECRETS = "PERENNIAL_SECRETS"
#: Variable with what the service needs before it starts, as JSON.
SERVICE = "PERENNIAL_SERVICE"
#: Where a container asks for what ECS knows of it.
METADATA = "ECS_CONTAINER_METADATA_URI_V4"
#: Seconds that this may take.
TIMEOUT = 10.0

_FILLED = re.compile(r"\$\$|\$\((\w+)\)")


@dataclass(frozen=True, slots=True)
class Here:
    """What ECS knows of a running task."""

    #: Number of the task: 32 letters.
    task: str
    #: Its address in the VPC.
    address: str

    @classmethod
    def read(cls, get: Callable[[str], Any]) -> Here:
        """Ask the metadata service."""
        container = get("")
        arn = str(get("/task")["TaskARN"])
        return cls(arn.rpartition("/")[2], str(container["Networks"][0]["IPv4Addresses"][0]))

    def fill(self, text: str) -> str:
        """Fill in what only a task knows; ``$$`` is a dollar."""
        known = {"TASK": self.task, "ADDRESS": self.address}

        def one(found: re.Match[str]) -> str:
            return known.get(found[1], found[0]) if found[1] else "$"

        return _FILLED.sub(one, text)


def prepare(told: Mapping[str, Any], secrets: Mapping[str, str], here: Here) -> None:
    """Make the folders and the files of a service."""
    for folder in told["folders"]:
        os.makedirs(here.fill(folder), mode=0o700, exist_ok=True)
    for path, text in told["files"].items():
        _write(path, text)
    for name, path in told["secrets"].items():
        if name not in secrets:
            raise SystemExit(
                f"{name}: not in the secret of this task; `perennial up` puts it there"
            )
        _write(path, secrets[name])


def _write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(handle, "w", encoding="utf-8") as file:
        file.write(text)


def environment(given: Mapping[str, str], own: Mapping[str, str], here: Here) -> dict[str, str]:
    """Return the variables of the command: the image's and ECS's without keys, and its own."""
    others = {name: text for name, text in given.items() if name not in (SECRETS, SERVICE)}
    return {**others, **{name: here.fill(text) for name, text in own.items()}}


def metadata(path: str) -> Any:
    """Ask ECS."""
    where = os.environ.get(METADATA)
    if not where:
        raise SystemExit(f"{METADATA} is not set: this is no task of ECS")
    with urlopen(f"{where}{path}", timeout=TIMEOUT) as answer:  # noqa: S310 - ECS's own
        return json.load(answer)


def main(command: Sequence[str]) -> None:
    """Prepare, then become the command."""
    os.umask(0o077)
    here = Here.read(metadata)
    told = json.loads(os.environ[SERVICE])
    prepare(told, json.loads(os.environ.get(SECRETS, "{}")), here)
    os.chdir(here.fill(told["directory"]))
    argv = [here.fill(word) for word in command]
    os.execvpe(argv[0], argv, environment(os.environ, told["environment"], here))  # noqa: S606 - no shell


if __name__ == "__main__":
    main(sys.argv[1:])

"""The outputs of a stack of the user's own, read by their `pulumi` and with their login."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

from pulumi.automation import CommandError, StackNotFoundError

from perennial.errors import PerennialError

from . import engine
from .events import reason

#: Names under which Pulumi looks for a project, in a folder and in those above it.
_PROJECTS = ("Pulumi.yaml", "Pulumi.yml", "Pulumi.json")


def read(stack: str, folder: Path) -> dict[str, object]:
    """Read a stack's outputs, the secret ones as well."""
    if not folder.is_dir():
        raise PerennialError(f"{folder}: no such folder; name that of the program with --cwd")
    command = engine.find_command()
    # Where the user is logged in, and what opens the stack's secrets.
    own = {name: os.environ[name] for name in engine.FOREIGN if name in os.environ}
    words = ["stack", "output", "--json", "--show-secrets", "--stack", stack]
    try:
        said = command.run(words, str(folder), own).stdout
    except CommandError as error:
        raise PerennialError(f"{stack}: {reason(error)}; {_remedy(error, folder)}") from None
    found: dict[str, object] = json.loads(said)
    return found


def _remedy(error: CommandError, folder: Path) -> str:
    """Say what to do about an error; what it is about shows in the names that it mentions."""
    said, pulumi = str(error), f"pulumi -C {shlex.quote(str(folder))}"
    if "PULUMI_ACCESS_TOKEN" in said or "pulumi login" in said:
        return "run `pulumi login`, or set PULUMI_BACKEND_URL as for `pulumi up`"
    if "passphrase" in said:
        return "set PULUMI_CONFIG_PASSPHRASE_FILE to the file with the stack's passphrase"
    if not any((at / name).exists() for at in (folder, *folder.parents) for name in _PROJECTS):
        return f"no Pulumi program in {folder}; name its folder with --cwd"
    if isinstance(error, StackNotFoundError):
        return f"`{pulumi} stack ls` lists the stacks"
    return f"`{pulumi} stack output` says the same"

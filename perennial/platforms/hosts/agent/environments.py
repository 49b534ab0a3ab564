"""Python environments on a machine: what they are and have."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from perennial.errors import PerennialError
from perennial.platforms.hosts.agent import unprivileged

if TYPE_CHECKING:
    from perennial.platforms.hosts.agent.answers import Environment, Inventory

#: Run by an environment's own interpreter, in isolated mode.
_INVENTORY = """
import importlib.metadata as metadata, json, platform, sys
from importlib.util import find_spec
packages = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in metadata.distributions()}
print(json.dumps({"version": platform.python_version(), "packages": packages,
    "missing": [name for name in sys.argv[1:] if find_spec(name) is None]}))
"""  # noqa: E501

#: Seconds in which an interpreter must say what it has.
TIMEOUT = 60.0
#: Packages whose versions are of interest to everybody.
KNOWN = ("dask", "distributed", "dask-perennial", "jupyterlab", "distributed-ucxx")


def architecture() -> str:
    """Name this machine's architecture, as ``uname -m`` does."""
    return os.uname().machine


def look(python: str, needs: Sequence[str] = ()) -> Environment | None:
    """Find out what an interpreter is and has; None where there is none. Root never runs it."""
    if not Path(python).exists():
        return None
    try:
        # An interpreter may be anybody's, and so may all that it imports: root runs neither.
        _, said = unprivileged.run(
            [python, "-I", "-c", _INVENTORY, *needs], unprivileged.nobody(), timeout=TIMEOUT
        )
    except PermissionError:
        if os.geteuid():
            why = "the login user; give the path of an interpreter that this user may run"
            raise PerennialError(f"{python}: not executable for {why}") from None
        raise PerennialError(
            f"{python}: not executable for users other than root, and no service runs as root;"
            " give the path of an interpreter that every user may run"
        ) from None
    except subprocess.TimeoutExpired:
        raise _broken(python, f"no answer after {TIMEOUT:g} s") from None
    except OSError as error:
        raise _broken(python, str(error.strerror)) from None
    found = _inventory(said)
    if found is None:
        words = "".join(filter(str.isprintable, " ".join(said.split())))[-200:]
        raise _broken(python, words or "no output")
    everything = json.dumps(found["packages"], sort_keys=True).encode()
    return {
        "python": python,
        "version": found["version"],
        "packages": {name: found["packages"].get(name) for name in KNOWN},
        "missing": found["missing"],
        "digest": hashlib.sha256(everything).hexdigest()[:16],
    }


def _broken(python: str, why: str) -> PerennialError:
    return PerennialError(f"{python}: no working Python: {why}; give the path of another one")


def _inventory(said: str) -> Inventory | None:
    """Read what an interpreter said; None for what no interpreter says, and no terminal gets."""
    try:
        found = json.loads(said.splitlines()[-1])
        version, packages, missing = found["version"], found["packages"], found["missing"]
        texts = [*packages.values(), *missing]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None
    if not re.match(r"[0-9]+\.[0-9]+", str(version)):
        return None
    fit = all(isinstance(text, str) and text.isprintable() for text in (version, *texts))
    return {"version": version, "packages": packages, "missing": missing} if fit else None

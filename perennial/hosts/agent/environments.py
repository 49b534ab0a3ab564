"""Python environments on a machine: what they are and have."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perennial.errors import PerennialError

#: Run by an environment's own interpreter, in isolated mode.
_INVENTORY = """
import importlib.metadata as metadata, json, platform, sys
from importlib.util import find_spec
packages = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in metadata.distributions()}
print(json.dumps({"version": platform.python_version(), "packages": packages,
    "missing": [name for name in sys.argv[1:] if find_spec(name) is None]}))
"""  # noqa: E501

#: Packages whose versions are of interest to everybody.
KNOWN = ("dask", "distributed", "dask-perennial", "jupyterlab", "distributed-ucxx")


def architecture() -> str:
    """Name this machine's architecture, as ``uname -m`` does."""
    return os.uname().machine


def look(python: str, needs: Sequence[str] = ()) -> dict[str, Any] | None:
    """Find out what an interpreter is and has; None where there is none.

    Parameters
    ----------
    python : str
        Path of the interpreter.
    needs : sequence of str
        Modules that must be there.

    Returns
    -------
    dict or None
        ``python``, ``version``, ``packages`` (some, with their versions), ``missing`` (of
        the modules that are needed) and ``digest`` (of all packages and versions).
    """
    if not Path(python).exists():
        return None
    try:
        done = subprocess.run(
            [python, "-I", "-c", _INVENTORY, *needs],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        found: dict[str, Any] = json.loads(done.stdout)
    except PermissionError:
        raise PerennialError(f"{python}: not executable; give the path of an interpreter") from None
    except (OSError, ValueError):
        said = " ".join(done.stderr.split())[-200:] if "done" in locals() else "does not run"
        raise PerennialError(f"{python}: no working Python: {said or 'it says nothing'}") from None
    everything = json.dumps(found["packages"], sort_keys=True).encode()
    return {
        "python": python,
        "version": found["version"],
        "packages": {name: found["packages"].get(name) for name in KNOWN},
        "missing": found["missing"],
        "digest": hashlib.sha256(everything).hexdigest()[:16],
    }

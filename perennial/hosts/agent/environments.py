"""Python environments on a machine: found, or made with uv."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from perennial.errors import PerennialError
from perennial.files import write_json
from perennial.hosts.agent import manifest, store

#: Run by an environment's own interpreter, in isolated mode.
_INVENTORY = """
import importlib.metadata as metadata, json, platform, sys
from importlib.util import find_spec
packages = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in metadata.distributions()}
print(json.dumps({"version": platform.python_version(), "packages": packages,
    "missing": [name for name in sys.argv[1:] if find_spec(name) is None]}))
"""  # noqa: E501

#: Seconds for making an environment: some hundred megabytes may have to come.
MAKING = 1800.0
#: Packages whose versions are of interest to everybody.
KNOWN = ("dask", "distributed", "dask-perennial", "jupyterlab", "distributed-ucxx")


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


def make(
    cluster: str,
    folder: str,
    requirements: str,
    uv: str,
    wheelhouse: str | None,
    say: Callable[[str], None],
) -> None:
    """Make an environment, or bring one back to what was asked for.

    Parameters
    ----------
    cluster : str
        The cluster's name.
    folder : str
        Where it stands. Its name changes with the requirements, so an environment in use is
        never changed into another one.
    requirements : str
        Text of the requirements file.
    uv : str
        Path of uv.
    wheelhouse : str or None
        Folder of wheels; with it nothing comes from the network.
    say : callable
        Told what happens.
    """
    store.make_root(cluster)
    root = Path(folder)
    whole, listed = root / ".perennial-whole", root.with_suffix(".txt")
    if not whole.exists() and root.exists():
        shutil.rmtree(root)  # cut off while it was made
    source = ["--no-index", "--find-links", wheelhouse] if wheelhouse else []
    offline = ["--offline"] if wheelhouse else []
    if not (root / "bin/python").exists():
        say("making the environment")
        _uv(uv, "venv", "--quiet", "--python", ">=3.11", *offline, folder)
    root.chmod(0o755)
    try:
        listed.write_text(requirements)
        say("installing the requirements")
        _uv(
            *(uv, "pip", "install", "--quiet", "--python", f"{folder}/bin/python", "--exact"),
            *("--compile-bytecode", "--link-mode", "copy", *source, *offline, "-r", str(listed)),
        )
    finally:
        listed.unlink(missing_ok=True)
    write_json(whole, {"requirements": requirements})


def is_whole(folder: str) -> bool:
    """Whether an environment was made to its end."""
    return Path(folder, ".perennial-whole").exists()


def remove(folder: str, cluster: str) -> None:
    """Remove an environment of ours, and what a cluster has here if nothing else is left."""
    shutil.rmtree(folder, ignore_errors=True)
    root = manifest.STATE / cluster
    shutil.rmtree(root / "wheelhouse", ignore_errors=True)
    if not manifest.read(cluster).get("files") and root.is_dir():
        manifest.path(cluster).unlink(missing_ok=True)
        for path in (root / "bin", root, manifest.STATE):
            if path.name == "bin":
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def _uv(*argv: str) -> None:
    # What everybody shall read; and nothing of root's own configuration or caches.
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "UV_NO_CONFIG": "1",
        "UV_NO_CACHE": "1",
        "UV_PYTHON_INSTALL_DIR": "/opt/dask-perennial-python",
    }
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            check=False,
            timeout=MAKING,
            env=environment,
            umask=0o022,
        )
    except subprocess.TimeoutExpired:
        raise PerennialError(f"uv {argv[1]}: not done after {MAKING:g} s") from None
    if done.returncode:
        said = " ".join(done.stderr.split())[-600:] or f"exit code {done.returncode}"
        raise PerennialError(f"uv {' '.join(argv[1:3])}: {said}")

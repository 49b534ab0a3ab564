"""Python environments on a machine: made with uv, and removed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Collection
from pathlib import Path

from perennial.errors import PerennialError
from perennial.files import write_json
from perennial.hosts.agent import manifest, store

#: Seconds for making an environment: some hundred megabytes may have to come.
MAKING = 1800.0


def make(
    cluster: str,
    folder: str,
    requirements: str,
    uv: str,
    wheelhouse: str | None,
    wheels: Collection[str],
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
    wheels : collection of str
        Names of the files in it; others go, lest uv takes a newer version for the better one.
    say : callable
        Told what happens.
    """
    store.make_root(cluster)
    root = Path(folder)
    whole, listed = root / ".perennial-whole", root.with_suffix(".txt")
    if not whole.exists() and root.exists():
        shutil.rmtree(root)  # cut off while it was made
    for file in Path(wheelhouse).iterdir() if wheelhouse else ():
        if file.name not in wheels:
            file.unlink()
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


def remove(folder: str, cluster: str) -> None:
    """Remove an environment of ours, and what a cluster has here if nothing else is left."""
    shutil.rmtree(folder, ignore_errors=True)
    root = manifest.STATE / cluster
    shutil.rmtree(root / "wheelhouse", ignore_errors=True)
    Path(folder).with_suffix(".txt").unlink(missing_ok=True)  # where a power cut has left it
    if not manifest.read(cluster).get("files") and root.is_dir():
        for file in (manifest.path(cluster), *store.unfinished([str(manifest.path(cluster))])):
            file.unlink(missing_ok=True)
        for path in (root / "bin", root, manifest.STATE):
            if path.name == "bin":
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_dir() and not any(path.iterdir()):
                path.rmdir()
    store.drop_interpreters()


def _uv(*argv: str) -> None:
    # What everybody shall read; and nothing of root's own configuration or caches.
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "UV_NO_CONFIG": "1",
        "UV_NO_CACHE": "1",
        "UV_PYTHON_INSTALL_DIR": str(manifest.PYTHONS),
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

"""Python environments on a machine: made with uv, and removed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Collection
from pathlib import Path

from perennial.errors import PerennialError
from perennial.files import write_atomic, write_json
from perennial.platforms.hosts.agent import folders, installer, manifest, store, unprivileged
from perennial.platforms.hosts.agent.unprivileged import Account

#: Seconds for making an environment: some hundred megabytes may have to come.
MAKING = 1800.0
#: What uv says of a package of which there is only the source.
_NO_WHEEL = "building from source is disabled"


def make(
    cluster: str,
    folder: str,
    requirements: str,
    uv: str,
    wheelhouse: str | None,
    wheels: Collection[str],
    build: bool,
    say: Callable[[str], None],
) -> None:
    """Make an environment, or bring one back to what was asked for."""
    store.make_root(cluster)
    root = Path(folder)
    whole, listed = installer.complete_mark(root), root.with_suffix(".txt")
    if not whole.exists() and root.exists():
        shutil.rmtree(root)  # an interrupted installation
    for file in Path(wheelhouse).iterdir() if wheelhouse else ():
        if file.name not in wheels:
            file.unlink()
    source = ["--no-index", "--find-links", wheelhouse] if wheelhouse else []
    offline = ["--offline"] if wheelhouse else []
    built = [] if build else ["--only-binary", ":all:"]
    with installer.at_work(cluster) as who:
        folders.make(root, 0o755, (who.uid, who.gid), ours=True)
        if not (root / "bin/python").exists():
            say("making the environment")
            _uv(cluster, who, uv, "venv", "--quiet", "--python", ">=3.11", *offline, folder)
        try:
            write_atomic(listed, requirements, mode=0o644)
            say("installing the requirements")
            install = ("pip", "install", "--quiet", "--exact", "--compile-bytecode", *built)
            into = ("--python", f"{folder}/bin/python", "--link-mode", "copy")
            _uv(cluster, who, uv, *install, *into, *source, *offline, "-r", str(listed))
        finally:
            listed.unlink(missing_ok=True)
            (root / ".lock").unlink(missing_ok=True)  # uv's lock, writable by everybody
    write_json(whole, {"requirements": requirements})


def remove(folder: str, cluster: str) -> None:
    """Remove an environment of ours, and what a cluster has here if nothing else is left.

    One that services of the cluster need is kept: under another name in the cluster file the
    machine may have been given the same one again.
    """
    if manifest.read(cluster).get("environment") == folder:
        return
    installer.drop_environment(Path(folder))
    root = manifest.STATE / cluster
    shutil.rmtree(root / "wheelhouse", ignore_errors=True)
    Path(folder).with_suffix(".txt").unlink(missing_ok=True)  # left by a power cut
    if not manifest.read(cluster).get("files") and root.is_dir():
        for file in (manifest.path(cluster), *store.unfinished([str(manifest.path(cluster))])):
            file.unlink(missing_ok=True)
        shutil.rmtree(root / "bin", ignore_errors=True)
    installer.drop(cluster)


def _uv(cluster: str, who: Account, *argv: str) -> None:
    # What everybody shall read; and nothing of anybody's own configuration or caches.
    environment = {
        "UV_NO_CONFIG": "1",
        "UV_NO_CACHE": "1",
        "UV_PYTHON_INSTALL_DIR": str(manifest.PYTHONS / cluster),
        "TMPDIR": who.home,
    }
    try:
        code, printed = unprivileged.run(argv, who, MAKING, environment)
    except subprocess.TimeoutExpired:
        late = f"uv {argv[1]}: not done after {MAKING:g} s; run the same command again"
        raise PerennialError(late) from None
    if code:
        said = " ".join(printed.split())
        words = "".join(filter(str.isprintable, said[-600:])) or f"exit code {code}"
        hint = "; provide a wheel, or write `build: true` below environment"
        raise PerennialError(
            f"uv {' '.join(argv[1:3])}: {words}{hint if _NO_WHEEL in said else ''}"
        )

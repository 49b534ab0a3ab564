"""The Pulumi engine, built from its Go module: the ordinary command line, made here.

It is made once and kept in the cache folder, 4 minutes the first time. Beside ``pulumi`` stands
``pulumi-resource-pulumi-python`` from the same module, as in the ordinary installation: it starts
the server of dynamic providers in the Python of the caller. There is no host for Python, so no
``pulumi up`` of such a folder: a program is run inline, through the Automation API. The host for
programs in YAML is made here too.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from tests.labs.hosts.base import UnavailableError, cache

VERSION = "v3.246.0"
YAML_VERSION = "v1.25.0"

#: Its own replacement, which the ones who require its module have to repeat.
_CLIPBOARD = (
    "github.com/atotto/clipboard=github.com/tgummerer/clipboard@v0.0.0-20241001131231-d02d263e614e"
)
_COMMAND = "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
_YAML = "github.com/pulumi/pulumi-yaml/cmd/pulumi-language-yaml"
_STAMP = f"-X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version={VERSION}"


def engine(say: IO[str] = sys.stderr) -> Path:
    """Give the folder of ``pulumi``; makes it the first time.

    Raises
    ------
    UnavailableError
        Where it cannot be made.
    """
    recipe = hashlib.sha256(f"{_CLIPBOARD}{_STAMP}".encode()).hexdigest()[:8]
    return _made(f"{VERSION}-{recipe}", "the Pulumi engine", _build_engine, say)


def yaml_host(say: IO[str] = sys.stderr) -> Path:
    """Give the folder of ``pulumi-language-yaml``; makes it the first time, in some minutes.

    Raises
    ------
    UnavailableError
        Where it cannot be made.
    """
    return _made(f"yaml-{YAML_VERSION}", "Pulumi's YAML host", _build_yaml_host, say)


def settings(states: Path) -> dict[str, str]:
    """Give the environment variables of a Pulumi that keeps its states in a folder."""
    return {
        "PULUMI_BACKEND_URL": states.as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": "not one",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }


def _made(name: str, what: str, build: Callable[[Path], None], say: IO[str]) -> Path:
    """Give a folder of the cache; what `build` leaves in ``bin`` becomes it the first time."""
    kept = cache("pulumi")
    made = kept / name
    with (kept / "lock").open("w") as lock:
        # Two runs of the tests do not both build it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.is_dir():
            if shutil.which("go") is None:
                raise UnavailableError(f"{what} needs go, to be built")
            print(f"making {made}", file=say)
            with tempfile.TemporaryDirectory(dir=kept) as folder:
                build(Path(folder))
                (Path(folder) / "bin").rename(made)
    return made


def _build_engine(folder: Path) -> None:
    _require(folder, _COMMAND, VERSION, f"-replace={_CLIPBOARD}")
    _go(folder, "build", "-o", "bin/pulumi", "-ldflags", f"-s -w {_STAMP}", _COMMAND)
    sdk = _go(folder, "list", "-m", "-f", "{{.Dir}}", "github.com/pulumi/pulumi/sdk/v3").strip()
    server = folder / "bin" / "pulumi-resource-pulumi-python"
    server.write_bytes((Path(sdk) / "python/dist" / server.name).read_bytes())
    server.chmod(0o755)


def _build_yaml_host(folder: Path) -> None:
    _require(folder, _YAML, YAML_VERSION)
    _go(folder, "build", "-o", "bin/pulumi-language-yaml", "-ldflags", "-s -w", _YAML)


def _require(folder: Path, command: str, version: str, *edits: str) -> None:
    """Make a module that needs a command's module."""
    (folder / "tools.go").write_text(f'package lab\n\nimport _ "{command}"\n')
    _go(folder, "mod", "init", "lab")
    module = command.partition("/cmd/")[0]
    _go(folder, "mod", "edit", *edits, f"-require={module}@{version}")
    _go(folder, "mod", "tidy")


def _go(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["go", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"GOFLAGS": "-buildvcs=false"},
    )
    if done.returncode:
        reason = " ".join(done.stderr.split())[-300:]
        raise UnavailableError(f"go {arguments[0]} cannot build for the Pulumi lab: {reason}")
    return done.stdout

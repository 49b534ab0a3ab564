"""The Pulumi engine, built from its Go module: the ordinary command line, made here.

It is made once and kept in the cache folder, 4 minutes the first time. Beside ``pulumi`` stands
``pulumi-resource-pulumi-python`` from the same module, as in the ordinary installation: it starts
the server of dynamic providers in the Python of the caller. There is no host for Python, so no
``pulumi up`` of such a folder: a program is run inline, through the Automation API. The host for
programs in YAML is made here too, and so is the provider ``pulumi-resource-kubernetes``.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO

from tests.labs.hosts.base import UnavailableError, cache

#: The oldest engine that is supported, with which everything is tried, and the newest known one.
OLDEST, NEWEST = "v3.246.0", "v3.274.1"
YAML_VERSION = "v1.25.0"
#: Of pulumi-kubernetes on PyPI, and the version of its provider's module with the same schema.
KUBERNETES_VERSION = "4.25.0"
_KUBERNETES_MODULE = "v4.0.0-20260115033456-f47bc2d6f199"

#: Its own replacement, which the ones who require its module have to repeat.
_CLIPBOARD = (
    "github.com/atotto/clipboard=github.com/tgummerer/clipboard@v0.0.0-20241001131231-d02d263e614e"
)
_COMMAND = "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
_YAML = "github.com/pulumi/pulumi-yaml/cmd/pulumi-language-yaml"
_KUBERNETES = "github.com/pulumi/pulumi-kubernetes/provider/v4"
_KUBERNETES_SDK = "github.com/pulumi/pulumi-kubernetes/sdk/v4"
#: Its own command embeds files that its build makes and its module does not hold.
_KUBERNETES_MAIN = f"""\
package main

import (
	_ "embed"

	"{_KUBERNETES}/pkg/provider"
	"{_KUBERNETES}/pkg/version"
)

//go:embed schema.json
var schema []byte

//go:embed terraform-mapping.json
var mapping []byte

func main() {{ provider.Serve("kubernetes", version.Version, schema, mapping) }}
"""
_STAMP = "-X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version="


def engine(version: str = "", say: IO[str] = sys.stderr) -> Path:
    """Give the folder of ``pulumi``, of PERENNIAL_LAB_PULUMI or the oldest; made the first time.

    Raises
    ------
    UnavailableError
        Where it cannot be made.
    """
    version = version or os.environ.get("PERENNIAL_LAB_PULUMI") or OLDEST
    recipe = hashlib.sha256(f"{_CLIPBOARD}{_STAMP}{version}".encode()).hexdigest()[:8]
    build = partial(_build_engine, version)
    return _made(f"{version}-{recipe}", "the Pulumi engine", build, say)


def yaml_host(say: IO[str] = sys.stderr) -> Path:
    """Give the folder of ``pulumi-language-yaml``; makes it the first time, in some minutes.

    Raises
    ------
    UnavailableError
        Where it cannot be made.
    """
    return _made(f"yaml-{YAML_VERSION}", "Pulumi's YAML host", _build_yaml_host, say)


def kubernetes_provider(build: bool = False, say: IO[str] = sys.stderr) -> Path:
    """Give the folder of ``pulumi-resource-kubernetes``; makes it if asked to, in 15 minutes.

    Raises
    ------
    UnavailableError
        Where it was not made, or cannot be.
    """
    name, what = f"kubernetes-{KUBERNETES_VERSION}", "Pulumi's provider for Kubernetes"
    if not build and not (cache("pulumi") / name).is_dir():
        command = "python -m tests.labs.kubernetes.build"
        raise UnavailableError(f"WITHOUT {what.upper()}: run `{command}` once (half an hour)")
    # A lock of its own: nobody waits for it to get the engine.
    return _made(name, what, _build_kubernetes, say, "kubernetes.lock")


def settings(states: Path) -> dict[str, str]:
    """Give the environment variables of a Pulumi that keeps its states in a folder."""
    return {
        "PULUMI_BACKEND_URL": states.as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": "not one",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }


def _made(
    name: str, what: str, build: Callable[[Path], None], say: IO[str], lock_file: str = "lock"
) -> Path:
    """Give a folder of the cache; what `build` leaves in ``bin`` becomes it the first time."""
    kept = cache("pulumi")
    made = kept / name
    if made.is_dir():  # it came there as a whole
        return made
    with (kept / lock_file).open("w") as lock:
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


def _build_engine(version: str, folder: Path) -> None:
    _require(folder, _COMMAND, version, f"-replace={_CLIPBOARD}")
    _go(folder, "build", "-o", "bin/pulumi", "-ldflags", f"-s -w {_STAMP}{version}", _COMMAND)
    sdk = _go(folder, "list", "-m", "-f", "{{.Dir}}", "github.com/pulumi/pulumi/sdk/v3").strip()
    server = folder / "bin" / "pulumi-resource-pulumi-python"
    server.write_bytes((Path(sdk) / "python/dist" / server.name).read_bytes())
    server.chmod(0o755)


def _build_yaml_host(folder: Path) -> None:
    _require(folder, _YAML, YAML_VERSION)
    _go(folder, "build", "-o", "bin/pulumi-language-yaml", "-ldflags", "-s -w", _YAML)


def _build_kubernetes(folder: Path) -> None:
    module = f"{_KUBERNETES}@{_KUBERNETES_MODULE}"
    found = json.loads(_go(folder, "mod", "download", "-json", module))
    # With the requirements of its own go.mod: newer versions of them do not fit together.
    go_mod = Path(found["GoMod"]).read_text()
    (folder / "go.mod").write_text(go_mod.replace(f"module {_KUBERNETES}\n", "module lab\n"))
    (folder / "main.go").write_text(_KUBERNETES_MAIN)
    command = Path(found["Dir"]) / "cmd/pulumi-resource-kubernetes"
    schema = json.loads((command / "schema.json").read_bytes())
    schema["version"] = KUBERNETES_VERSION
    (folder / "schema.json").write_text(json.dumps(schema))
    mapping = "terraform-mapping.json"
    (folder / mapping).write_bytes((command / mapping).read_bytes())
    sdk = f"-replace={_KUBERNETES_SDK}={_KUBERNETES_SDK}@v{KUBERNETES_VERSION}"
    _go(folder, "mod", "edit", f"-require={module}", sdk)
    _go(folder, "mod", "tidy")
    stamp = f"-s -w -X {_KUBERNETES}/pkg/version.Version={KUBERNETES_VERSION}"
    _go(folder, "build", "-p=2", "-o", "bin/pulumi-resource-kubernetes", "-ldflags", stamp, ".")


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

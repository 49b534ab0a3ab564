"""The Python environment of a cluster's machines: what each one needs to make it.

Pure, but for what is in a wheelhouse, and for the dask-perennial that is installed here.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

from perennial.errors import Fault, SpecError
from perennial.own_wheel import own_wheel
from perennial.render import STATE
from perennial.requirements import requirements
from perennial.services import FOLDER
from perennial.spec import ClusterSpec
from perennial.spec.named_files import wheels

_JUPYTER = ("jupyterlab", "jupyter_server_proxy", "dask_labextension")


class EnvironmentSpec(TypedDict):
    """What Python environment a machine needs."""

    kind: Literal["python", "requirements"]
    python: str
    needs: list[str]
    #: The cluster's name, once it is known whose the environment is.
    cluster: NotRequired[str]
    #: Of one that is made: the requirements, what they are made from, and whether to build.
    text: NotRequired[str]
    hash: NotRequired[str]
    wheelhouse: NotRequired[str | None]
    build: NotRequired[bool]


def state(cluster: str, root: bool = True) -> str:
    """Folder of all that a cluster has on a machine, but for root's configuration."""
    return f"{f'{STATE}/dask-perennial' if root else FOLDER}/{cluster}"


def environment(spec: ClusterSpec, jupyter: bool = False, root: bool = True) -> EnvironmentSpec:
    """Say what Python environment a machine needs, made by root or by the login user."""
    needs = ["distributed", *(["distributed_ucxx"] if spec.protocol == "ucx" else [])]
    if jupyter:
        needs += _JUPYTER
    if spec.environment.python is not None:
        return {"kind": "python", "python": spec.environment.python, "needs": needs}
    text = requirements(spec, own_path(spec.name, root))
    build = spec.environment.build
    key = _hash(text + "# build\n" * build, spec.environment.wheelhouse)
    found: EnvironmentSpec = {
        "kind": "requirements",
        "text": text,
        "hash": key,
        "wheelhouse": spec.environment.wheelhouse,
        "python": f"{state(spec.name, root)}/env-{key}/bin/python",
        "needs": needs,
    }
    return {**found, "build": True} if build else found


def python(spec: ClusterSpec, root: bool = True) -> str:
    """Interpreter of the services on a machine."""
    return str(environment(spec, root=root)["python"])


def own_path(cluster: str, root: bool = True) -> str:
    """Where a machine has the wheel of dask-perennial that it was sent."""
    return f"{state(cluster, root)}/bin/{own_wheel().name}"


def _hash(text: str, wheelhouse: str | None) -> str:
    """Return 16 letters of the digest of what an environment is made from."""
    digest = hashlib.sha256(text.encode())
    if wheelhouse is not None:
        try:
            for name, _ in wheels(Path(wheelhouse)):
                digest.update(f"{name} {content(Path(wheelhouse, name))}\n".encode())
        except OSError as error:
            found = f"{wheelhouse!r}: {(error.strerror or str(error)).lower()}"
            fault = Fault("environment.wheelhouse", found, "a folder of wheels", "correct the path")
            raise SpecError([fault]) from None
    return digest.hexdigest()[:16]


def content(file: Path) -> str:
    """Digest of a file; it is read once, until somebody changes it."""
    status = file.stat()
    changes = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return _content(str(file), changes)


@lru_cache(maxsize=4096)
def _content(path: str, _changes: tuple[int, ...]) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

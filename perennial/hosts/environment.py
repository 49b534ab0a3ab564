"""The Python environment of a cluster's machines: what each one needs to make it.

Pure, but for what is in a wheelhouse.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from perennial import __version__
from perennial.errors import Fault, SpecError
from perennial.render import STATE
from perennial.spec import ClusterSpec
from perennial.spec.beside import wheels
from perennial.spec.environment import names

_OWN = "dask-perennial"
_JUPYTER = ("jupyterlab", "jupyter_server_proxy", "dask_labextension")


def environment(spec: ClusterSpec, jupyter: bool = False) -> dict[str, Any]:
    """Say what Python environment the machines need.

    Parameters
    ----------
    spec : ClusterSpec
        A cluster file of the platform hosts.
    jupyter : bool
        Whether JupyterLab runs in it.

    Returns
    -------
    dict
        Values for JSON. ``kind`` is ``python`` (with ``python``, the interpreter) or
        ``requirements`` (with ``text``, ``hash``, ``wheelhouse`` and ``python``, the
        interpreter that will be there). ``needs`` lists modules without which services do not
        start.

    Raises
    ------
    SpecError
        For a wheelhouse that cannot be read.
    """
    needs = ["distributed", *(["distributed_ucxx"] if spec.protocol == "ucx" else [])]
    if jupyter:
        needs += _JUPYTER
    if spec.environment.python is not None:
        return {"kind": "python", "python": spec.environment.python, "needs": needs}
    text = _text(spec)
    key = _hash(text, spec.environment.wheelhouse)
    return {
        "kind": "requirements",
        "text": text,
        "hash": key,
        "wheelhouse": spec.environment.wheelhouse,
        "python": f"{STATE}/dask-perennial/{spec.name}/env-{key}/bin/python",
        "needs": needs,
    }


def python(spec: ClusterSpec) -> str:
    """Interpreter of the services on every machine."""
    return str(environment(spec)["python"])


def _text(spec: ClusterSpec) -> str:
    """Write the requirements, with dask-perennial among them."""
    lines = list(spec.environment.requirements or ())
    if not names(lines, _OWN):
        extra = "[jupyter]" if spec.jupyter is not None else ""
        lines.append(f"{_OWN}{extra}=={__version__}")
    return "\n".join(lines) + "\n"


def _hash(text: str, wheelhouse: str | None) -> str:
    """Say in 16 letters what an environment is made from: the requirements, and every wheel."""
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
    """Digest of a file; it is read once, until somebody changes it.

    Parameters
    ----------
    file : pathlib.Path
        The file.
    """
    status = file.stat()
    changes = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return _content(str(file), changes)


@lru_cache(maxsize=4096)
def _content(path: str, _changes: tuple[int, ...]) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""A wheel of what is installed here: machines get this one, and ask no index for the name."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

from perennial.errors import PerennialError

NAME = "dask-perennial"
#: In a checkout the last four are not below the folder of the first.
_PACKAGES = (
    "perennial",
    *(f"perennial.{n}" for n in ("stacks", "supervisord", "systemd", "templates")),
)
_WHEEL = "Wheel-Version: 1.0\nGenerator: dask-perennial\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel, and the digest of its bytes."""

    name: str
    version: str
    data: bytes
    digest: str


@cache
def own_wheel() -> Wheel:
    """Pack what is installed here; the same files give the same bytes."""
    found = distribution(NAME)
    metadata = found.read_text("METADATA") or found.read_text("PKG-INFO")
    if not metadata:
        raise PerennialError(f"{NAME}: its metadata is missing here; install it again with pip")
    name = f"dask_perennial-{found.version}"
    info = f"{name}.dist-info"
    files = dict(sorted(_modules()))
    files[f"{info}/METADATA"] = metadata.encode()
    files[f"{info}/WHEEL"] = _WHEEL.encode()
    files[f"{info}/entry_points.txt"] = (found.read_text("entry_points.txt") or "").encode()
    lines = [f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in files.items()]
    files[f"{info}/RECORD"] = "".join([*lines, f"{info}/RECORD,,\n"]).encode()
    data = _zipped(files)
    return Wheel(f"{name}-py3-none-any.whl", found.version, data, hashlib.sha256(data).hexdigest())


def _modules() -> Iterator[tuple[str, bytes]]:
    for package in _PACKAGES:
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            for path in Path(place).rglob("*"):
                # What else is there was installed to be used: `pyproject.toml` says what is.
                if path.is_file() and path.suffix != ".pyc":
                    inner = path.relative_to(place).as_posix()
                    yield f"{package.replace('.', '/')}/{inner}", path.read_bytes()


def _zipped(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    # Neither the time nor zlib's version is part of the digest: operators have the same one.
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for path, data in files.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    return packed.getvalue()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")

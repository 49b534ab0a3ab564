"""Wheels of the environment that the tests run in, for machines without internet."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

from tests.labs.hosts.base import CHECKOUT


def make_wheelhouse(folder: Path) -> Path:
    """Fill a folder with wheels of dask-perennial and of all that it requires.

    Those of others are put together again from what is installed here.

    Parameters
    ----------
    folder : pathlib.Path
        Where they go; made if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    build = ("-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder))
    subprocess.run([sys.executable, *build], cwd=CHECKOUT, check=True, capture_output=True)
    for name in sorted(_required("dask-perennial") - {"dask-perennial"}):
        _pack(distribution(name), folder)
    return folder


def _required(name: str) -> set[str]:
    """Names of a distribution and of all that it requires, extras left out."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        name = waiting.pop().lower().replace("_", "-").replace(".", "-")
        if name in found:
            continue
        found.add(name)
        for text in distribution(name).requires or ():
            wanted = Requirement(text)
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                waiting.append(wanted.name)
    return found


def _pack(found: Distribution, folder: Path) -> None:
    described = (found.read_text("WHEEL") or "").splitlines()
    tags = [line.partition(": ")[2] for line in described if line.startswith("Tag: ")]
    name = found.metadata["Name"].lower().replace("-", "_").replace(".", "_")
    # Several tags of one file stand in its name as one.
    parts = zip(*(tag.split("-") for tag in tags), strict=True)
    joined = "-".join(".".join(dict.fromkeys(part)) for part in parts)
    files = {
        file.as_posix(): Path(str(found.locate_file(file))).read_bytes()
        for file in found.files or ()
        if ".." not in file.parts and "__pycache__" not in file.parts and file.name != "RECORD"
    }
    folders = {path.partition("/")[0] for path in files if ".dist-info/" in path}
    (inner,) = (each for each in folders if each.endswith(".dist-info"))
    record = "".join(f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in files.items())
    with zipfile.ZipFile(
        folder / f"{name}-{found.version}-{joined}.whl", "w", zipfile.ZIP_DEFLATED
    ) as wheel:
        for path, data in files.items():
            wheel.writestr(path, data)
        wheel.writestr(f"{inner}/RECORD", f"{record}{inner}/RECORD,,\n")


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")

"""The two releases of Dask before this one: what runs inside Dask's processes runs there, too.

Each release is put in front of the installed one, so that the tests run unchanged on it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.labs.hosts.base import CHECKOUT, alone, cache

RELEASES = ("2026.7.1", "2026.6.0")

#: What depends on more of Dask than its documentation tells.
TESTS = ("tests/preloads", "tests/scaler/test_workers.py", "tests/scaler/test_drain.py")

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]


def installed(release: str) -> Path:
    """Give the folder of a release of Dask; makes it the first time."""
    folder = cache("dask") / release
    with alone("dask"):
        if not folder.is_dir():
            install = ("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder))
            packages = (f"dask=={release}", f"distributed=={release}")
            subprocess.run([sys.executable, *install, *packages], check=True)
    return folder


@pytest.mark.parametrize("release", RELEASES)
def test_an_earlier_release(release: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(installed(release))}
    version = "import distributed; print(distributed.__version__)"
    said = subprocess.run(
        [sys.executable, "-c", version], env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == release
    command = ("-m", "pytest", "-q", "-m", "not soak", "-p", "no:cacheprovider", *TESTS)
    done = subprocess.run([sys.executable, *command], env=environment, cwd=CHECKOUT, check=False)
    assert done.returncode == 0

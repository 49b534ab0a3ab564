"""The recipe for images: built twice it gives one image, and a cluster runs on that."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from perennial.platforms.kubernetes.files import files
from perennial.spec import loads
from tests.labs.kubernetes import images
from tests.labs.kubernetes.build import ROOT
from tests.labs.kubernetes.lab import BUILD, IMAGE, cache, lacking
from tests.labs.kubernetes.node import with_node
from tests.labs.kubernetes.test_story import CLUSTER, python, stand

pytestmark = [pytest.mark.lab, pytest.mark.timeout(3600)]

NAME = "lab.local/recipe:1"
#: A Debian with its Python, in the place of an image that a registry would have.
PYTHON = "3.11.2"
BASE = ("python3", "python3-venv", "ca-certificates")
ON_BASE = ("--build-arg", "BASE=localhost/base:1", "--build-arg", "PIP_NO_INDEX=1")


class Builder:
    """Buildah with a folder of its own for all that it keeps; no daemon."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._words = ["buildah", "--root", str(folder / "root"), "--runroot", str(folder / "run")]
        self._environment = {
            **os.environ,
            **{"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"},
        }

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            [*self._words, *words],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout.strip()


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    missing = lacking() or [name for name in ("buildah", "mmdebstrap") if not shutil.which(name)]
    if missing or os.geteuid() != 0:
        pytest.skip(
            f"THE RECIPE FOR IMAGES WAS NOT BUILT: without {', '.join(missing) or 'root'};"
            f" run `apt-get install buildah mmdebstrap` and `{BUILD}`"
        )
    folder = tmp_path_factory.mktemp("images")
    made = Builder(folder)
    base = cache() / "build" / "base.tar"
    if not base.exists():
        part = base.with_suffix(".part.tar")
        wanted = f"--include={','.join(BASE)}"
        debian = ("mmdebstrap", "-q", "--variant=minbase", wanted, "bookworm", str(part))
        subprocess.run(debian, timeout=900, check=True)
        part.rename(base)
    container = made("from", "scratch")
    made("add", "-q", container, str(base), "/")
    made("commit", "-q", "--timestamp", "0", container, "localhost/base:1")
    made("rm", container)
    yield made
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def context(builder: Builder) -> Path:
    """What `perennial render` writes, with packages locked and in the place of an index."""
    folder = builder.folder / "container"
    for name, text in files(loads(CLUSTER)).items():
        if name.startswith("container/"):
            (builder.folder / name).parent.mkdir(exist_ok=True)
            (builder.folder / name).write_text(text)
    wheels = folder / "wheels"
    pip = [sys.executable, "-m", "pip"]
    own = ("--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(ROOT))
    subprocess.run([*pip, "wheel", *own], timeout=300, check=True)
    # What the README says; with our own versions, and those that the base's Python can have.
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "--quiet"]
    usual = ("--generate-hashes", "--python-version", PYTHON, "--find-links", "wheels")
    for wanted in ("requirements", "jupyter"):
        named = ("--constraints", str(ROOT / "constraints.txt"), f"{wanted}.in")
        lock = [*uv, *usual, *named, "--output-file", f"{wanted}.txt"]
        subprocess.run(lock, cwd=folder, timeout=300, check=True)
        own = ("--quiet", "--no-deps", "--only-binary", ":all:", "--python-version", PYTHON)
        where = ("--find-links", "wheels", "--dest", "wheels", "-r", f"{wanted}.txt")
        subprocess.run([*pip, "download", *own, *where], cwd=folder, timeout=900, check=True)
    return folder


@pytest.fixture(scope="module")
def digests(builder: Builder, context: Path) -> list[str]:
    """Digests of two builds, neither of which takes a step from the other."""
    found = []
    for number in range(2):
        title = f"localhost/dask:{number}"
        usual = ("--no-cache", "--timestamp", "0", "--target", "dask", "-t", title)
        builder("build", "-q", *usual, *ON_BASE, str(context))
        found.append(
            builder("inspect", "--type", "image", "--format", "{{.FromImageDigest}}", title)
        )
    return found


def test_two_builds_give_one_image(digests: list[str]) -> None:
    one, other = digests
    assert one.startswith("sha256:")
    assert one == other


def test_the_image_of_jupyterlab_serves_it(builder: Builder, context: Path) -> None:
    title = "localhost/jupyter:0"
    usual = ("--timestamp", "0", "--target", "jupyter", "-t", title)
    builder("build", "-q", *usual, *ON_BASE, str(context))
    container = builder("from", title)
    said = builder("run", container, "--", "sh", "-c", "id -u; jupyter lab --version; pip check")
    builder("rm", container)
    user, version, *rest = said.splitlines()
    assert user == "10001"
    assert int(version.split(".")[0]) >= 4
    assert rest == ["No broken requirements found."]


def test_a_cluster_runs_on_it(
    builder: Builder, digests: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Where Restricted is enforced, the scaler as well."""
    assert len(set(digests)) == 1
    home = tmp_path_factory.mktemp("home")
    archive = builder.folder / "recipe.tar"
    builder("push", "-q", "localhost/dask:0", f"oci-archive:{archive}:{NAME}")
    with with_node() as lab:
        images.bring(lab, archive)
        spec = yaml.safe_load(CLUSTER.replace(IMAGE, NAME))
        stand(lab, home, yaml.safe_dump(spec))
        code = (
            "with connected() as c:\n"
            " print(sum(c.gather(c.map(lambda x: x * x, range(50)))))\n"
            " print(c.submit(lambda: __import__('os').getuid()).result())\n"
        )
        assert python(lab, "client", code).split() == ["40425", "10001"]

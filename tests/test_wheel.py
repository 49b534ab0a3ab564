"""What users install: the wheel holds every module and template, and works by itself."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from perennial.own_wheel import own_wheel

CHECKOUT = Path(__file__).parent.parent


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short name: a unix socket's path may not be long."""
    with tempfile.TemporaryDirectory(prefix="w-") as folder:
        yield Path(folder)


def test_the_wheel_works_without_the_checkout(short: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(short)],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
    )
    (wheel,) = short.glob("*.whl")
    site = short / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    shipped = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    for folder in ("systemd", "supervisord", "templates"):
        for template in (CHECKOUT / folder).glob("*.j2"):
            assert f"perennial/{folder}/{template.name}" in shipped
    # What machines are sent is packed from what runs here, and has the same in it.
    with zipfile.ZipFile(io.BytesIO(own_wheel().data)) as archive:
        sent = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    ours = {name for name in shipped if ".dist-info/" not in name}
    assert {name for name in sent if ".dist-info/" not in name} == ours
    assert all((site / name).read_bytes() == sent[name] for name in ours)

    for module in (CHECKOUT / "perennial").rglob("*.py"):
        assert module.relative_to(CHECKOUT).as_posix() in shipped

    (short / "cluster.yaml").write_text("name: lab\nplatform: local\nworkers: {cpu: {}}\n")
    environment = {**os.environ, "PYTHONPATH": str(site), "HOME": str(short)}

    def run(*words: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", *words],
            cwd=short,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    code = [sys.executable, "-c", "import perennial.cli; print(perennial.cli.__file__)"]
    where = subprocess.run(
        code, cwd=short, env=environment, check=True, capture_output=True, text=True
    ).stdout
    assert where.startswith(str(site))
    for form in ("systemd", "supervisord"):
        run("perennial", "render", "cluster.yaml", "--format", form, "-o", form)
        assert any((short / form).rglob("*scheduler*"))
    assert '"$schema"' in run("perennial", "schema")

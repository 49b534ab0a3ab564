"""What users install: the wheel holds every module and template, and works by itself."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent


def test_the_wheel_works_without_the_checkout(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    shipped = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    for folder in ("systemd", "supervisord", "templates"):
        for template in (CHECKOUT / folder).glob("*.j2"):
            assert f"perennial/{folder}/{template.name}" in shipped
    for module in (CHECKOUT / "perennial").rglob("*.py"):
        assert module.relative_to(CHECKOUT).as_posix() in shipped

    (tmp_path / "cluster.yaml").write_text("name: lab\nplatform: local\nworkers: {cpu: {}}\n")
    environment = {**os.environ, "PYTHONPATH": str(site), "HOME": str(tmp_path)}

    def run(*words: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    code = [sys.executable, "-c", "import perennial.cli; print(perennial.cli.__file__)"]
    where = subprocess.run(
        code, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    ).stdout
    assert where.startswith(str(site))
    for form in ("systemd", "supervisord"):
        run("perennial", "render", "cluster.yaml", "--format", form, "-o", form)
        assert any((tmp_path / form).rglob("*scheduler*"))
    assert '"$schema"' in run("perennial", "schema")

"""A malformed file of the user's own, in Dask's folder, is not the cluster file's fault."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_a_malformed_file_of_the_user_is_named(tmp_path: Path) -> None:
    own = tmp_path / ".config/dask"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("distributed:\n  worker: {memory: [\n")
    file = tmp_path / "cluster.yaml"
    file.write_text("name: lab\nplatform: local\nworkers: {cpu: {drain: 5 min}}\n")
    done = subprocess.run(
        [sys.executable, "-m", "perennial", "check", str(file)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HOME": str(tmp_path)},
    )
    assert done.returncode == 1
    assert str(own / "mine.yaml") in done.stderr
    assert "cluster.yaml:" not in done.stderr
    assert done.stderr.count("\n") == 1

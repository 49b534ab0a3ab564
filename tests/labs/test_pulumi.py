"""The Pulumi engine itself: it runs an inline program with dynamic resources, and keeps secrets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.labs.hosts.base import UnavailableError
from tests.labs.pulumi import NEWEST, OLDEST, engine, settings

# The first time it is built, which takes minutes.
pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

_PROGRAM = """
import json, os, pathlib, sys
import pulumi
from pulumi import automation
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider

class Files(ResourceProvider):
    def create(self, props):
        pathlib.Path(props["path"]).write_text(props["text"])
        return CreateResult(props["path"], props)
    def diff(self, id, old, new):
        return DiffResult(changes=old["text"] != new["text"])
    def delete(self, id, props):
        os.unlink(id)

class File(Resource):
    def __init__(self, name, path, text):
        super().__init__(Files(), name, {"path": path, "text": pulumi.Output.secret(text)})

def program():
    for name in ("a", "b"):
        File(name, str(pathlib.Path(name).absolute()), "precious")

stack = automation.create_or_select_stack("dev", project_name="lab", program=program)
for action in (stack.up, stack.up, stack.destroy):
    print(json.dumps(action().summary.resource_changes))
    print(json.dumps(sorted(path.name for path in pathlib.Path.cwd().glob("?"))))
"""


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_an_inline_program_is_deployed_and_destroyed(tmp_path: Path, version: str) -> None:
    try:
        folder = engine(version)
    except UnavailableError as reason:
        pytest.skip(str(reason))
    path = os.pathsep.join([str(Path(sys.prefix, "bin")), str(folder), "/usr/bin", "/bin"])
    (tmp_path / "state").mkdir()
    environment = {
        "HOME": str(tmp_path),
        "PATH": path,
        **settings(tmp_path / "state"),
    }
    found = subprocess.run(
        ["pulumi", "version"], check=True, capture_output=True, text=True, env=environment
    )
    assert found.stdout.strip() == version
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert said == [{"create": 3}, ["a", "b"], {"same": 3}, ["a", "b"], {"delete": 3}, []]
    states = [file for file in (tmp_path / "state").rglob("*") if file.is_file()]
    assert states
    assert not any(b"precious" in file.read_bytes() for file in states)

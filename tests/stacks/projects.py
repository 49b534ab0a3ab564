"""Pulumi projects that the real engine runs: the provider is found by the line in Pulumi.yaml."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.homes import run
from tests.labs.pulumi import settings
from tests.stacks.conftest import Site

BIN = Path(sys.executable).parent
PLUGINS = {"providers": [{"name": "perennial", "path": str(BIN)}]}

#: Runs `perennial.stacks.program` or another program as the ordinary command line would.
_INLINE = """
import json, runpy, sys
from pulumi import automation
folder, file, action, options = sys.argv[1:]
def program():
    runpy.run_path(file, run_name="__main__")
stack = automation.select_stack(
    "dev", project_name="project", program=program,
    opts=automation.LocalWorkspaceOptions(work_dir=folder),
)
getattr(stack, action)(on_output=print, **json.loads(options))
"""


class Project:
    """A folder with a Pulumi.yaml, and its stack `dev`."""

    def __init__(self, site: Site, runtime: str = "python", **keys: Any) -> None:
        self.folder = site.root / "project"
        self.folder.mkdir(exist_ok=True)
        self.states = site.root / "states"
        self.states.mkdir(exist_ok=True)
        self.environment = {
            **site.environment,
            **settings(self.states),
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_HOME": str(site.root / "pulumi"),
        }
        self.environment.pop("PULUMI_IGNORE_AMBIENT_PLUGINS", None)
        project = {"name": "project", "runtime": runtime, "plugins": PLUGINS, **keys}
        (self.folder / "Pulumi.yaml").write_text(json.dumps(project))

    def pulumi(self, *words: str, code: int = 0) -> str:
        """Run the ordinary command line."""
        return self._run("pulumi", "--non-interactive", *words, code=code)

    def inline(self, action: str, file: Path, code: int = 0, **options: Any) -> str:
        """Run a Python program, for which no language host is here."""
        words = (str(self.folder), str(file), action, json.dumps(options))
        return self._run(sys.executable, "-c", _INLINE, *words, code=code)

    def kept(self) -> str:
        """Everything that Pulumi has kept of the project, as it stands in its files."""
        files = (path for path in self.states.rglob("*") if path.is_file())
        return "\n".join(path.read_text(errors="replace") for path in files)

    def _run(self, *words: str, code: int) -> str:
        return run(*words, environment=self.environment, folder=self.folder, code=code, timeout=600)

"""`perennial up` and a stack of the user's own, for the same machines; these are folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perennial.state import UP
from tests.stacks.conftest import Site
from tests.stacks.projects import Project

pytestmark = [pytest.mark.lab, pytest.mark.smoke, pytest.mark.timeout(900)]

PROGRAM = """
import json
import pulumi
from perennial.stacks.hosts import HostsCluster
spec = json.loads({spec!r})
HostsCluster("lab", spec, force=pulumi.Config("perennial").get_bool("force") or False)
"""
WAYS = {
    UP: "`perennial up` owns lab there; rename this cluster, take that one down with `perennial"
    " down`, or, to take it over, set `perennial:force` of the stack",
    "project/dev": "Pulumi's stack project/dev owns lab there; rename this cluster, take that one"
    " down with `pulumi destroy`, or, to take it over, add --force",
}


class Both:
    """A cluster file and a program that say the same."""

    def __init__(self, site: Site) -> None:
        self.site, self.project = site, Project(site)
        self.project.pulumi("stack", "init", "dev")

    def pulumi(self, action: str, code: int = 0) -> str:
        """Run the program."""
        file = self.project.folder / "program.py"
        spec = {key: value for key, value in self.site.spec.items() if key != "platform"}
        file.write_text(PROGRAM.format(spec=json.dumps(spec)))
        return self.project.inline(action, file, code=code)

    def owners(self) -> set[str]:
        """Which stacks the machines remember."""
        files = (self.site.root / "owners").iterdir()
        return {json.loads(file.read_text())["stack"] for file in files}

    def stands(self) -> dict[Path, str]:
        """What is on each machine."""
        found = (self.site.root / "machines").rglob("*")
        return {path: path.read_text() for path in found if path.is_file()}


@pytest.fixture
def both(site: Site) -> Both:
    return Both(site)


def refused(said: str, owner: str, *machines: str) -> None:
    for machine in machines or ("ma", "mb", "mc"):
        assert f"{machine}: {WAYS[owner]}" in said


def test_a_stack_gets_no_machine_of_perennial_up(both: Both) -> None:
    both.site.up()
    assert both.owners() == {UP}
    before = both.stands()
    refused(both.pulumi("up", code=1), UP)
    both.pulumi("destroy")
    assert both.stands() == before
    assert both.site.plan() == []


def test_perennial_up_gets_no_machine_of_a_stack_but_by_force(both: Both) -> None:
    both.pulumi("up")
    assert both.owners() == {"project/dev"}
    before = both.stands()
    refused(both.site.up(code=1), "project/dev")
    both.site.run("down", "--force")
    assert both.stands() == before, "not even what may have been half made is removed"

    both.site.run("up", "--yes", "--force")
    assert both.owners() == {UP}
    before = both.stands()
    # What the stack remembers is not its own any more.
    both.site.spec["env"] = {"WORD": "other"}
    refused(both.pulumi("up", code=1), UP, "ma")  # the scheduler's, before which no other begins
    both.pulumi("destroy")
    assert both.stands() == before
    assert "3 changed, 4 unchanged" in both.site.up()

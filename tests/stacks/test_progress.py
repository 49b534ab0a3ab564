"""What the engine is told while machines change: progress passes, what a person must know stays."""

from __future__ import annotations

import json
import sys

import pytest

from tests.homes import run
from tests.stacks.conftest import Site
from tests.stacks.projects import Project

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

#: Deploys a cluster and takes it down; prints each message, and whether it is shown for a moment.
PROGRAM = """
import json, sys
from pulumi import automation
from perennial.stacks.hosts import HostsCluster

def program():
    HostsCluster("lab", json.loads(sys.argv[2]))

stack = automation.create_or_select_stack(
    "dev", project_name="project", program=program,
    opts=automation.LocalWorkspaceOptions(work_dir=sys.argv[1]),
)
for action in ("up", "destroy"):
    def hear(event):
        if (told := event.diagnostic_event) is not None:
            print(json.dumps([action, told.message.strip(), bool(told.ephemeral)]))
    getattr(stack, action)(on_event=hear)
"""


def test_progress_is_shown_for_a_moment_and_what_is_left_stays(site: Site) -> None:
    project = Project(site)
    args = {**site.spec, "jupyter": {"port": 8888}}
    del args["platform"]
    words = (sys.executable, "-c", PROGRAM, str(project.folder), json.dumps(args))
    said = run(*words, environment=project.environment, folder=project.folder, timeout=240)
    told = [json.loads(line) for line in said.splitlines() if line.startswith("[")]
    progress = [each for each in told if each[1].endswith("starting")]
    assert progress
    assert all(passes for _, _, passes in progress), progress
    stays = [each for each in told if "left in place: /home/dask/notebooks" in each[1]]
    assert [action for action, _, passes in stays if not passes] == ["destroy"], told

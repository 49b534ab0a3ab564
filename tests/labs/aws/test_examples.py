"""The example programs for AWS, from nothing to nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.labs.aws.lab import Lab
from tests.labs.aws.programs import example
from tests.labs.aws.stack import Program

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/dask:1"


@pytest.mark.parametrize(
    ("name", "values", "made"),
    [("ec2", {}, "dask-cpu-instances"), ("fargate", {"image": IMAGE}, "dask-cpu-service")],
)
def test_an_example(aws: Lab, tmp_path: Path, name: str, values: dict[str, str], made: str) -> None:
    body = partial(example, name=name, region="eu-central-1", **values)
    program = Program(aws, tmp_path, body)
    preview = program.run("preview")
    assert preview.errors == []
    assert preview.steps[made] == ["create"]
    assert program.run("up").errors == []
    again = program.run("up")
    assert (again.errors, again.steps) == ([], {}), again.paths
    assert program.run("destroy").errors == []
    # The volume with the notebooks stays.
    assert {each.kind for each in aws.leftovers()} <= {"Volumes"}

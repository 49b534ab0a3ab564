"""The example programs, each with the real engine; machines of hosts are folders."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from tests.stacks.conftest import Site
from tests.stacks.projects import Project

pytestmark = pytest.mark.lab

EXAMPLES = Path(__file__).parents[2] / "examples" / "pulumi"

#: What finds drift at each preview and up.
OPTIONS = {"refresh": "always"}


@pytest.fixture
def project(site: Site) -> Project:
    # The engine finds the Python of dynamic providers there.
    site.environment["PATH"] = f"{Path(sys.executable).parent}:{site.environment['PATH']}"
    made = Project(site)
    made.pulumi("stack", "init", "dev")
    return made


def config(project: Project, **values: object) -> None:
    """Set values of the configuration, as `pulumi config set --path` would."""
    kept = project.folder / "Pulumi.dev.yaml"
    salt = yaml.safe_load(kept.read_text()) if kept.exists() else {}
    known = {f"project:{key}": value for key, value in values.items()}
    kept.write_text(yaml.safe_dump({**salt, "config": known}))


@pytest.mark.parametrize("name", [each.name for each in sorted(EXAMPLES.iterdir())])
def test_a_clone_is_enough(name: str) -> None:
    """The provider and the virtual environment are found from the example's folder."""
    folder = EXAMPLES / name
    project = yaml.safe_load((folder / "Pulumi.yaml").read_text())
    [plugin] = project["plugins"]["providers"]
    assert (folder / plugin["path"] / "pulumi-resource-perennial").is_file()
    where = folder / project["runtime"]["options"]["virtualenv"]
    assert where.resolve() == EXAMPLES.parents[1] / ".venv"
    assert project["options"] == OPTIONS


def test_on_hosts(project: Project, site: Site) -> None:
    config(project, machines=["ma", "mb"])
    program = EXAMPLES / "hosts" / "__main__.py"
    project.inline("up", program)
    assert site.machines().keys() == {"ma", "mb"}
    project.inline("up", program, expect_no_changes=True)
    assert project.pulumi("stack", "output", "scheduler_address") == "tls://ma:8786\n"
    project.inline("destroy", program)
    assert site.machines() == {}


@pytest.mark.smoke
def test_with_its_machines_in_one_program(project: Project, site: Site) -> None:
    addresses = {"vm-a": "va", "vm-b": "vb"}
    config(project, addresses=addresses)
    program = EXAMPLES / "vms" / "__main__.py"
    said = project.inline("preview", program)
    for child in ("authority", "vm-a-services", "vm-b-environment"):
        assert f"dask-{child}" in said, "every resource is shown before a machine exists"
    project.inline("up", program)
    assert site.machines().keys() == {"va", "vb"}
    project.inline("up", program, expect_no_changes=True)

    # A machine that is replaced gets another address.
    config(project, addresses={**addresses, "vm-b": "vc"}, image="debian-13")
    said = project.inline("preview", program)
    assert "replace" in said
    assert not any("delete" in line and "perennial:index" in line for line in said.splitlines())
    project.inline("up", program)
    assert site.machines().keys() == {"va", "vc"}
    project.inline("destroy", program)
    assert site.machines() == {}


def test_on_this_machine(project: Project) -> None:
    """Only the preview; what it makes is the life of `test_local`."""
    said = project.inline("preview", EXAMPLES / "local" / "__main__.py")
    assert "perennial:index:LocalServices" in said
    assert "dask-services" in said


def test_drift_is_found_without_a_flag(site: Site) -> None:
    """By the line that the examples and the template have in Pulumi.yaml."""
    project = Project(site, options=OPTIONS)
    project.pulumi("stack", "init", "dev")
    config(project, machines=["ma", "mb"])
    program = EXAMPLES / "hosts" / "__main__.py"
    project.inline("up", program)
    (site.root / "machines" / "mb" / "services").write_text("edited")
    said = project.inline("preview", program)
    assert "dask-mb-services" in said
    assert "1 to update" in said
    project.inline("up", program)
    project.inline("up", program, expect_no_changes=True)
    assert (site.root / "machines" / "mb" / "services").read_text() != "edited"

"""A stack of an earlier version is taken over as it stands: nothing restarts, nothing is lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.stacks.earlier import make_earlier

if TYPE_CHECKING:
    from tests.stacks.conftest import Site

pytestmark = pytest.mark.lab

WHOLE = ["environment", "services"]


@pytest.fixture
def earlier(site: Site) -> Site:
    """A cluster that an earlier version has deployed."""
    site.up()
    make_earlier(site.state / "pulumi/.pulumi/stacks/perennial/lab.json")
    for owner in (site.root / "owners").iterdir():
        # A machine was owned by its name alone, and no stack stood there.
        owner.write_text(json.dumps({"owner": owner.name}))
    return site


def test_it_is_taken_over_unchanged(earlier: Site) -> None:
    assert earlier.plan() == []
    assert "7 unchanged" in earlier.up()
    assert earlier.machines() == dict.fromkeys(("ma", "mb", "mc"), WHOLE)
    assert "7 unchanged" in earlier.up()
    assert earlier.plan() == []
    earlier.run("down", "--force")
    assert earlier.machines() == {}


def test_it_is_changed_while_it_is_taken_over(earlier: Site) -> None:
    earlier.spec["hosts"]["machines"] = ["ma", "mb", "md"]
    earlier.spec["workers"]["cpu"]["memory"] = "2 GiB"
    assert earlier.plan() == [
        "! mb restart cpu-mb-0 changed; drained first",
        "+ md create md new machine: 1 of cpu",
        "+ md create environment uses /opt/dask/bin/python",
        "- mc delete mc no longer in the cluster file; its data moves to other machines; drained"
        " first",
    ]
    assert "2 made, 1 changed, 2 removed, 4 unchanged" in earlier.up()
    assert earlier.machines() == dict.fromkeys(("ma", "mb", "md"), WHOLE)
    assert earlier.plan() == []


def test_it_is_refreshed_and_destroyed_without_being_taken_over(earlier: Site) -> None:
    (earlier.root / "machines" / "mb" / "services").unlink()
    assert "its services are gone" in earlier.run("refresh")
    assert "lab is down" in earlier.run("down", "--force")
    assert earlier.machines() == {}

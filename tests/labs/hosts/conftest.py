"""A machine, or a network of them, for the tests of a module."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.labs.hosts.machine import Machine, UnavailableError, make_base
from tests.labs.hosts.network import Network
from tests.labs.pulumi import engine


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what the tests will need: it takes longer than a test may."""
    needed = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    with contextlib.suppress(UnavailableError):
        if needed & {"machine", "network"} and not session.config.option.collectonly:
            make_base()
            if "network" in needed:
                engine()


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine that has booted; it is gone, disk and all, after the module's last test."""
    try:
        base = make_base()
    except UnavailableError as reason:
        pytest.skip(str(reason))
    with Machine(base) as made:
        made.boot()
        yield made


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """A network with no machine in it yet; its seats have the Pulumi engine on their path."""
    try:
        made = Network(engine())
    except UnavailableError as reason:
        pytest.skip(str(reason))
    with made:
        yield made

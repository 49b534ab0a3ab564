"""A machine for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.labs.hosts.machine import Machine, UnavailableError, make_base


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

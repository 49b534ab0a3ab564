"""Fixtures for tests that start real clusters."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.examples import register
from tests.homes import Home, make_home

if TYPE_CHECKING:
    from tests.labs.aws.lab import Lab

register()

# A shell ignores SIGINT in what it runs in the background; the commands under test would inherit
# that: Ctrl-C would not reach them.
signal.signal(signal.SIGINT, signal.default_int_handler)


#: What tests ask for that start processes.
STARTING = {
    *("home", "jupyter_home", "standing", "whole", "lab", "cluster", "laptop", "place", "site"),
    *("machine", "address", "scaler", "jupyterlab"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files that start many processes first: what comes last should be short."""
    weights: Counter[object] = Counter()
    for item in items:
        if not item.get_closest_marker("lab"):
            weights[item.path] += bool(STARTING & set(getattr(item, "fixturenames", ())))
            weights[item.path] += 10 * bool(item.get_closest_marker("timeout"))
    items.sort(key=lambda item: -weights[item.path])


@pytest.fixture
def home() -> Iterator[Home]:
    """A home whose cluster starts soon: it has one worker, and no Jupyter."""
    yield from make_home(workers=1)


@pytest.fixture
def jupyter_home() -> Iterator[Home]:
    """A home whose cluster has everything."""
    yield from make_home(jupyter=True)


@pytest.fixture(scope="module")
def standing() -> Iterator[Home]:
    """A cluster that stands for all tests of a module; each leaves it as it was."""
    for home in make_home():
        home.up()
        yield home
        home.run("down", "--force")
        assert home.processes() == []


@pytest.fixture(scope="session")
def aws_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """AWS on this machine, with Pulumi's engine and the stand-in for its plugin."""
    from tests.labs.aws.lab import running
    from tests.labs.hosts.base import UnavailableError
    from tests.labs.pulumi import engine

    try:
        folder = engine()
    except UnavailableError:
        folder = None
    with running(tmp_path_factory.mktemp("aws"), folder) as lab:
        yield lab


@pytest.fixture
def aws(aws_server: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The same with an empty account, and set in the environment; see `tests/labs/aws/lab.py`."""
    aws_server.reset()
    for key, text in aws_server.environment.items():
        monkeypatch.setenv(key, text)
    return aws_server

"""The longest files first: with several at once, none is left to run alone at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

LABS = Path(__file__).parent
LONGEST = ("story", "scaler", "security", "killed_deploy", "soak", "faults", "refusals", "drift")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put them in front; `make labs` asks xdist to keep this order."""
    rank = {LABS / f"hosts/test_{name}.py": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))

"""What our preloads keep of ever-new names, in a scheduler beside one of Dask alone."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.memory import BATCH, Figures, measured


@pytest.mark.parametrize(
    "minutes",
    [
        pytest.param(0.5, marks=pytest.mark.timeout(600)),
        pytest.param(60.0, marks=[pytest.mark.soak, pytest.mark.timeout(7200)]),
    ],
)
@pytest.mark.lab
def test_a_scheduler_grows_no_more_than_dasks_own(minutes: float) -> None:
    async def all_of_it() -> list[Figures]:
        return [each async for each in measured(minutes)]

    figures = asyncio.run(all_of_it())
    first, *rest = figures
    assert rest[-1].names >= BATCH
    assert rest[-1].alone > first.alone  # Dask keeps something of each name: see the benchmark
    # Python takes memory from the system in pieces: some MiB more at one moment are no growth.
    assert [each for each in rest if each.ours - each.alone > first.ours - first.alone + 8] == []

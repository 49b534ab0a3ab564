"""A failure is told last."""

from __future__ import annotations

import asyncio

from perennial.stacks.provider.running import Running


def run(script: list[tuple[float, float]], cancel_at: float = 30.0) -> list[str]:
    """Begin and end things at these times beside a failure at 0; return what happened in order."""
    told: list[str] = []

    async def thing(running: Running, begin: float, end: float) -> None:
        await asyncio.sleep(begin)
        with running.doing():
            await asyncio.sleep(end - begin)
            told.append("done")

    async def main() -> None:
        running = Running(pause=0.2)
        rest = [asyncio.create_task(thing(running, *each)) for each in script]
        asyncio.get_running_loop().call_later(cancel_at, running.cancel)
        await asyncio.sleep(0)
        await running.finished()
        told.append("failed")
        await asyncio.gather(*rest)

    asyncio.run(main())
    return told


def test_what_has_begun_ends_first() -> None:
    assert run([(0.0, 0.3), (0.0, 0.6)]) == ["done", "done", "failed"]


def test_what_begins_after_it_ends_first_as_well() -> None:
    assert run([(0.0, 0.3), (0.35, 0.7), (0.75, 0.9)]) == ["done", "done", "done", "failed"]


def test_alone_it_is_told_soon() -> None:
    assert run([(5.0, 5.1)], cancel_at=60.0)[0] == "failed"


def test_nobody_waits_once_it_is_cancelled() -> None:
    assert run([(0.0, 3.0)], cancel_at=0.2) == ["failed", "done"]

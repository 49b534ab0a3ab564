"""Programs that are ended with what they have started."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from perennial.aws import programs

#: Starts a program that hears no SIGTERM, and waits for it.
PARENT = """
import subprocess, sys
child = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(60)"
subprocess.call([sys.executable, "-c", child])
"""


def test_who_hears_no_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "GRACE", 0.5)

    async def story() -> None:
        with (tmp_path / "out").open("wb") as out:
            process = await programs.begin((sys.executable, "-c", PARENT), stdout=out)
        async with asyncio.timeout(20):
            while not (tmp_path / "out").stat().st_size:
                await asyncio.sleep(0.05)
        await programs.end([process])
        async with asyncio.timeout(20):
            while programs._signal(process, 0):
                await asyncio.sleep(0.05)

    asyncio.run(story())

"""Groups of processes: the AWS command line, and the session-manager-plugin that it starts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio.subprocess import Process

#: Seconds in which a group ends by itself, and between two looks at it.
GRACE, LOOK = 5.0, 0.05


async def begin(
    command: Sequence[str],
    *,
    stdin: int = asyncio.subprocess.DEVNULL,
    stdout: int | IO[bytes] = asyncio.subprocess.DEVNULL,
    stderr: int | IO[bytes] = asyncio.subprocess.DEVNULL,
) -> Process:
    """Start a program in a group of its own."""
    return await asyncio.create_subprocess_exec(
        *command, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True
    )


async def end(processes: Sequence[Process]) -> None:
    """End programs with all that they have started: `aws` hands no signal on."""
    for each in processes:
        _signal(each, signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GRACE):
            while any(_signal(each, 0) for each in processes):
                await asyncio.sleep(LOOK)
    for each in processes:
        _signal(each, signal.SIGKILL)
    await asyncio.gather(*(each.wait() for each in processes))


def _signal(process: Process, number: int) -> bool:
    """Send a signal to a group; whether there is one still."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):  # macOS refuses where all have ended
        return False
    return True

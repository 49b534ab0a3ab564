"""Use Dask's protocol in a process of its own, without the operator's secrets.

Whoever has a client's certificate may put code into what a scheduler answers: Dask unpickles every
message. So a command never does so itself. It starts `perennial.isolated.child`, which connects,
and reads plain JSON from its pipe. The child has none of the command's environment but what Python
needs, and the command is closed to its own user's debuggers meanwhile, its environment included.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict
from typing import Any

from perennial.tls import Tls

#: Variables that the child gets, where they are set.
PASSED_ON = ("HOME", "LANG", "PATH", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV")
#: Bytes of one answer; a report of a hundred groups has some 2 MB.
LONGEST = 64 * 2**20
#: Seconds in which the child must be there: it imports distributed.
STARTED = 60.0

_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4


class ChildError(Exception):
    """The child could not answer: a line that says why."""


class Scheduler:
    """A scheduler as the child sees it: each attribute is a question of that name."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def __getattr__(self, name: str) -> Any:
        async def question(**arguments: Any) -> Any:
            return await self._asked(name, arguments)

        return question

    async def _asked(self, name: str, arguments: Mapping[str, Any]) -> Any:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise ChildError("it has no pipes")
        try:
            stdin.write(json.dumps({"ask": name, "with": dict(arguments)}).encode() + b"\n")
            await stdin.drain()
            line = await stdout.readline()
        except (ConnectionError, ValueError) as error:  # ValueError: a line above the limit
            raise ChildError(f"its answer cannot be read: {error}") from None
        return _read(line)


def _read(line: bytes) -> Any:
    """Read one answer of the child; only its form is relied on."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        raise ChildError("it ended without an answer" if not line else "no JSON") from None
    if not isinstance(answer, dict) or len(answer) != 1:
        raise ChildError("an answer of another form")
    if "refused" in answer:
        raise ValueError(str(answer["refused"])[:500])
    if "failed" in answer:
        raise ChildError(" ".join(str(answer["failed"]).split())[:500])
    if "answer" not in answer:
        raise ChildError("an answer of another form")
    return answer["answer"]


@asynccontextmanager
async def scheduler(address: str, tls: Tls | None, timeout: float) -> AsyncIterator[Scheduler]:
    """Reach a scheduler through a child."""
    with undebuggable():
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "perennial.isolated.child"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment(os.environ),
            limit=LONGEST,
            start_new_session=True,
        )
        try:
            asked = Scheduler(process)
            async with asyncio.timeout(STARTED):
                await asked.connect(address=address, tls=tls and asdict(tls), timeout=timeout)
            yield asked
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Choose what the child gets of an environment."""
    return {
        name: value
        for name, value in variables.items()
        if name in PASSED_ON or name.startswith("LC_")
    }


@contextmanager
def undebuggable() -> Iterator[None]:
    """Close this process to debuggers of the same user, and so its memory and its environment."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_PR_SET_DUMPABLE, before, 0, 0, 0)

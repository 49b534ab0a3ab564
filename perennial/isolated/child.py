"""The process that uses Dask's protocol for a command; see `perennial.isolated`.

One line of JSON for each question on its standard input, one for each answer on its output.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from perennial.scheduler_connection import security
from perennial.tls import Tls


async def main() -> None:
    """Answer until the input ends."""
    # Whatever prints in here, an unpickled answer too, must not reach the parent's pipe by chance.
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    asked: Asked | None = None
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        question = json.loads(line)
        try:
            if question["ask"] == "connect":
                asked = Asked(**question["with"])
                answer: dict[str, object] = {"answer": None}
            elif asked is None:
                answer = {"failed": "not connected"}
            else:
                answer = {"answer": await asked.answer(question["ask"], question["with"])}
        except ValueError as error:
            answer = {"refused": str(error)}
        except Exception as error:
            answer = {"failed": str(error) or type(error).__name__}
        output.write(_json(answer) + "\n")
        output.flush()


class Asked:
    """A connection to a scheduler."""

    def __init__(self, address: str, tls: Mapping[str, str] | None, timeout: float) -> None:
        from distributed.core import rpc

        self.address, self.timeout = address, timeout
        self.security = security(Tls(**tls) if tls else None)
        arguments = self.security.get_connection_args("client")
        self.rpc = rpc(address, connection_args=arguments, timeout=timeout)

    async def answer(self, question: str, arguments: Mapping[str, Any]) -> Any:
        """Ask the scheduler, or its workers for their packages."""
        async with asyncio.timeout(self.timeout):
            if question == "packages":
                return await self._packages()
            return await getattr(self.rpc, question)(**arguments)

    async def _packages(self) -> dict[str, dict[str, str]]:
        """Ask one worker of each group: all members run in the same environment."""
        from distributed import Client

        from perennial.isolated.packages import installed

        async with Client(
            self.address,
            security=self.security,
            timeout=self.timeout,
            set_as_default=False,
            asynchronous=True,
        ) as client:
            # Not `scheduler_info`: now and then the client has an answer without workers for it.
            workers = (await client.scheduler.identity(n_workers=-1))["workers"]
            chosen = {str(info["name"]).rsplit("-", 1)[0]: at for at, info in workers.items()}
            found = await client.run(installed, workers=list(chosen.values()))
            return {str(workers[at]["name"]): each for at, each in found.items()}


def _json(answer: Mapping[str, Any]) -> str:
    try:
        return json.dumps(answer)
    except (TypeError, ValueError) as error:
        return json.dumps({"failed": f"an answer that JSON cannot hold: {error}"})


if __name__ == "__main__":
    asyncio.run(main())

"""``python -m perennial.scaler CONFIG.json``: the scaler as a service."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from perennial.errors import PerennialError
from perennial.scaler import settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a scaler until it is told to stop."""
    parser = argparse.ArgumentParser(prog="perennial.scaler", description=__doc__)
    parser.add_argument("config", type=Path, help="the scaler's configuration, a JSON file")
    parser.add_argument("--dry-run", action="store_true", help="decide, and change nothing")
    parser.add_argument("--debug", action="store_true", help="log more; show tracebacks")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("perennial").setLevel(logging.DEBUG if chosen.debug else logging.INFO)
    logging.getLogger("distributed").setLevel(logging.WARNING)
    try:
        configured = settings.read(chosen.config)
        asyncio.run(_run(replace(configured, dry_run=configured.dry_run or chosen.dry_run)))
    except PerennialError as error:
        if chosen.debug:
            raise
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


async def _run(configured: settings.Settings) -> None:
    from perennial.scaler.service import serve

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(configured, stop)


if __name__ == "__main__":
    sys.exit(main())

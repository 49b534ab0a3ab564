"""A scheduler with our preloads, and someone who reports to it as a scaler does."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distributed.core import rpc

from tests import dask_processes
from tests.homes import wait_until

PRELOADS = ("--preload", "perennial.preloads.demand", "--preload", "perennial.preloads.page")


def record(group: str = "cpu", **fields: Any) -> dict[str, Any]:
    """A record of a group that has what it needs."""
    return {
        **{"time": time.time(), "group": group, "seen": 2, "existing": 2, "asked": 2},
        **{"starting": 0, "draining": 0, "queued": 0, "unrunnable": 0, "processing": 4},
        **{"work": 12.0, "busy": 2, "memory": 2**29, "limit": 2**31, "to": 2, "leave": []},
        **{"back": [], "rule": "steady", "reason": "2 members have 4 tasks", "numbers": {}},
        **{"again": None, "partial": "", "trouble": "", "mode": "act", "demand": 4},
        **fields,
    }


class Scaler:
    """Reports at each tick, takes wishes up, and decides nothing by itself."""

    def __init__(self, address: str, security: Any, interval: float = 0.2) -> None:
        self.address, self.security, self.interval = address, security, interval
        self.groups: dict[str, dict[str, Any]] = {"cpu": {}, "gpu": {"seen": 0, "to": 0}}
        self.mode = "act"
        self.infeasible: list[str] = []
        self.fixed: list[str] = []
        self.pins: dict[str, int] = {}
        self.limits: dict[str, Mapping[str, Any]] = {}
        self.taken: list[Mapping[str, Any]] = []
        self.reports = 0
        self._reported, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Scaler:
        self._thread.start()
        assert self._reported.wait(60), "no scheduler"
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(30)

    def heard(self) -> None:
        """Wait until the scheduler has a report that was made after this call."""
        under_way = self.reports + 1
        wait_until(lambda: self.reports > under_way)

    async def _run(self) -> None:
        arguments = self.security.get_connection_args("client")
        async with rpc(self.address, connection_args=arguments) as scheduler:
            done: list[str] = []
            while True:
                last = self._stopped.is_set()
                answer = await scheduler.perennial_demand(report=self.report(), acknowledged=done)
                self.reports += 1
                self._reported.set()
                if last:  # what was wished at the very end is not for the next one
                    names = [wish["id"] for wish in answer["wishes"]]
                    await scheduler.perennial_demand(report=None, acknowledged=names)
                    return
                for wish in answer["wishes"]:
                    if wish["id"] not in done:
                        self.take(wish)
                done = [wish["id"] for wish in answer["wishes"]]
                await asyncio.sleep(self.interval)

    def report(self) -> dict[str, Any]:
        same = {"mode": self.mode, "infeasible": self.infeasible}
        groups = {name: record(name, **same, **more) for name, more in self.groups.items()}
        pins = {name: {"size": size, "left": None} for name, size in self.pins.items()}
        return {
            **{"time": time.time(), "mode": self.mode, "infeasible": self.infeasible},
            **{"groups": groups, "fixed": self.fixed, "trouble": "", "limits": self.limits},
            "wishes": {"paused": self.mode == "paused", "pins": pins, "bounds": {}},
        }

    def take(self, wish: Mapping[str, Any]) -> None:
        self.taken.append({key: wish[key] for key in wish if key not in ("id", "time")})
        if wish["kind"] == "pin":
            self.groups[wish["group"]] |= {"to": wish["size"], "rule": "pin"}
            self.pins[wish["group"]] = wish["size"]
        elif wish["kind"] == "unpin":
            self.groups[wish["group"]] |= {"to": 2, "rule": "steady"}
            self.pins.pop(wish["group"], None)
        elif wish["kind"] in ("pause", "resume"):
            self.mode = "paused" if wish["kind"] == "pause" else "act"


@contextmanager
def scheduler(home: Path, tls: Path | None, *more: str) -> Iterator[str]:
    """A scheduler with our preloads and a dashboard; gives its address."""
    dashboard = ("--dashboard-address", "127.0.0.1:0")
    with dask_processes.scheduler(home, tls, *PRELOADS, *dashboard, *more) as address:
        yield address

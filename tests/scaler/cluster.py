"""A real scheduler, real workers on a platform of the test's own, and a real scaler process."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distributed.core import rpc

from tests.preloads.conftest import Lab, made
from tests.preloads.test_certificates import Authority
from tests.scaler.platform import Platform

ROOT = Path(__file__).parents[2]


class Cluster:
    """All of it, and how the test speaks to it."""

    def __init__(self, lab: Lab, *groups: dict[str, Any], tls: bool = False, **settings: Any):
        self.lab = lab
        self.authority: Authority | None = None
        if tls:
            self.authority = Authority(lab.folder / "tls")
            for role in ("scheduler", "worker", "client"):
                self.authority.write(role)
            lab.protocol = "tls"
            lab.environment |= self.authority.environment()
            paths = {"ca": "ca.pem", "cert": "client.pem", "key": "client.key"}
            settings["tls"] = {key: str(lab.folder / "tls" / name) for key, name in paths.items()}
        lab.scheduler("--preload", "perennial.preloads.demand")
        self.platforms: dict[str, Platform] = {}
        written = []
        for group in groups:
            name = group["name"]
            most = group.pop("most", 8)
            arguments = group.pop("arguments", ())
            self.platforms[name] = Platform(lab, name, *arguments, most=most)
            written.append({**group, "fleet": {"port": self.platforms[name].port}})
        self.state = lab.folder / "state"
        config = {
            **{"cluster": "test", "platform": "test", "scheduler": lab.address, "tls": None},
            **{"interval": 0.5, "state": str(self.state), "groups": written, **settings},
        }
        self.config = lab.folder / "scaler.json"
        self.config.write_text(json.dumps(config))
        self.scaler: subprocess.Popen[bytes] | None = None
        self.kills = 0

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.lab.folder / "scaler.log").open("ab") as log:
            self.scaler = subprocess.Popen(
                [sys.executable, "-m", "tests.scaler.platform", str(self.config), *arguments],
                cwd=ROOT,
                env=self.lab.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self.scaler

    def kill(self) -> None:
        """SIGKILL, and another one at once."""
        assert self.scaler is not None
        self.scaler.send_signal(signal.SIGKILL)
        self.scaler.wait()
        self.kills += 1
        self.start()

    def stop(self) -> int:
        assert self.scaler is not None
        self.scaler.terminate()
        return self.scaler.wait(30)

    def wish(self, **wish: Any) -> None:
        async def ask() -> None:
            secure = (
                self.authority.security().get_connection_args("client") if self.authority else {}
            )
            scheduler = rpc(self.lab.address, connection_args=secure)
            try:
                await scheduler.perennial_wish(wish=wish)
            finally:
                await scheduler.close_rpc()

        asyncio.run(ask())

    def pin(self, group: str, size: int) -> None:
        self.wish(kind="pin", group=group, size=size, seconds=None)

    def records(self) -> list[dict[str, Any]]:
        lines = (self.state / "records.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def log(self) -> str:
        return self.lab.log("scaler")

    def close(self) -> None:
        if self.scaler is not None and self.scaler.poll() is None:
            self.scaler.kill()
            self.scaler.wait()
        for platform in self.platforms.values():
            platform.close()


@contextmanager
def standing(*groups: dict[str, Any], **settings: Any) -> Iterator[Cluster]:
    with made() as lab:
        cluster = Cluster(lab, *groups, **settings)
        try:
            yield cluster
        finally:
            cluster.close()

"""AWS on this machine: moto in its own process, and the stand-in for Pulumi's plugin `aws`.

In a test, the fixture ``aws`` gives a :class:`Lab` whose account is empty::

    def test_it(aws, tmp_path):
        aws.client("ec2").create_vpc(CidrBlock="10.0.0.0/16")   # a client of boto3
        subprocess.run(["perennial", "up"], env=aws.environment_of(tmp_path))
        assert aws.calls()[-1].operation == "DescribeVpcs"      # who called what, with which values
        assert aws.leftovers() == []                            # each resource of each service

``aws.environment`` has the endpoint, credentials and region, and a PATH that begins with the engine
and the plugin; the fixture has set it in the test's own process too.
``aws.environment_of(folder)`` is the whole environment of a process whose Pulumi keeps its states
in that folder.  ``stack.Program`` runs a program of Pulumi inline.

The server refuses what the model of an API refuses (``shapes.py``), the plugin what the SDK's
classes do not know (``provider/schema.py``). A type of resources that the plugin lacks is a class
of ten lines in ``provider/``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.labs.aws.leftovers import Leftover, leftovers

ROOT = Path(__file__).parents[3]
REGION = "eu-central-1"
#: Of somebody who may do everything: moto asks for a key, and no more.
KEY = "AKIAOPERATOR00000000"
PLUGIN = f"""\
#!{sys.executable}
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.labs.aws.provider.main import main
main()
"""


@dataclass(frozen=True)
class Call:
    """A call that reached the server; `key` says whose it was."""

    key: str
    region: str
    service: str
    operation: str
    params: dict[str, Any]
    status: int
    made: list[str]


@dataclass
class Lab:
    """A server of moto, and a folder with the plugin."""

    endpoint: str
    folder: Path
    #: The folder of Pulumi's engine; none where it is not needed.
    engine: Path | None = None
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        paths = [str(self.folder), *([str(self.engine)] if self.engine else [])]
        self.environment = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": "none",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
            "PATH": ":".join([*paths, str(Path(sys.executable).parent), os.environ["PATH"]]),
        }
        self.client = cache(self._client)

    def _client(self, service: str) -> Any:
        """Return a client of boto3, one a service."""
        import boto3

        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id="AKIATEST000000000000",
            aws_secret_access_key="none",
        )

    def environment_of(self, states: Path) -> dict[str, str]:
        """Return all of the environment for a Pulumi whose states stand in a folder."""
        from tests.labs.pulumi import settings

        if self.engine is None:
            pytest.skip("WITHOUT PULUMI'S ENGINE, which could not be built here")
        kept = {
            key: text
            for key, text in os.environ.items()
            if not key.startswith(("PULUMI_", "AWS_", "DASK_"))
        }
        states.mkdir(parents=True, exist_ok=True)
        return {
            **kept,
            **self.environment,
            **settings(states),
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        }

    def calls(self, key: str = "") -> list[Call]:
        """Return the calls since the account was emptied, or those that a key has signed."""
        told = json.loads(_fetched(f"{self.endpoint}/lab/calls"))
        every = [Call(**each) for each in told]
        return [call for call in every if call.key == key] if key else every

    def leftovers(self) -> list[Leftover]:
        """Return every resource that somebody has made, of each service."""
        return leftovers(self.client)

    def reset(self) -> None:
        """Empty the account."""
        _fetched(f"{self.endpoint}/moto-api/reset", b"")


@contextmanager
def running(folder: Path, engine: Path | None = None) -> Iterator[Lab]:
    """Run the lab; end its process, which nobody else has started."""
    plugin = folder / "pulumi-resource-aws"
    plugin.write_text(PLUGIN)
    plugin.chmod(0o755)
    log = folder / "moto.log"
    with log.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-W", "default", "-m", "tests.labs.aws.server"],
            cwd=ROOT,
            env={**os.environ, "MOTO_EC2_LOAD_DEFAULT_AMIS": "true"},
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            start_new_session=True,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("serving on "), log.read_text()[-2000:]
        yield Lab(f"http://127.0.0.1:{line.split()[-1]}", folder, engine)
    finally:
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()
        process.wait()
        process.stdout.close()


def _fetched(url: str, body: bytes | None = None) -> bytes:
    with urllib.request.urlopen(url, body, timeout=60) as answer:
        return bytes(answer.read())

"""Read requests, answer them: one JSON object a line, in both directions.

A request is ``{"do": NAME, ...arguments}``. The answers to it are any number of
``{"say": TEXT}`` and then ``{"ok": RESULT}`` or ``{"error": TEXT}``. As long as a request takes,
``{"alive": true}`` comes now and then: a drain may take hours.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import IO, Any

from perennial.errors import PerennialError
from perennial.files import make_private
from perennial.platforms.hosts.agent import manifest
from perennial.platforms.hosts.agent.operations import OPERATIONS, REPORTING

#: Seconds to wait for another deploy.
LOCK_TIMEOUT = 600.0
#: Seconds between two heartbeats.
HEARTBEAT = 60.0


class Server:
    """Answers requests from one stream on another."""

    def __init__(self, requests: IO[bytes], answers: IO[str]) -> None:
        self._requests = requests
        self._answers = answers
        self._lock: int | None = None
        self._writing = threading.Lock()

    def serve(self) -> None:
        """Answer requests until there are no more."""
        # A login shell's own files may have printed something before.
        self._answer(ready=True)
        for line in self._requests:
            request = json.loads(line)
            try:
                with self._heartbeats():
                    result = self._do(request.pop("do"), request)
                self._answer(ok=result)
            except PerennialError as error:
                self._answer(error=str(error))
            except OSError as error:
                where = f"{error.filename}: " if error.filename else ""
                said = (error.strerror or str(error)).lower()
                again = "fix that there and run the command again"
                self._answer(error=f"{where}{said}; {again}")

    def say(self, text: str) -> None:
        """Tell the operator what happens."""
        self._answer(say=text)

    def _do(self, name: str, request: dict[str, Any]) -> Any:
        if name == "lock":
            if self._lock is None:
                self._lock = _lock(request["cluster"], self.say)
            return None
        if name == "unlock":
            if self._lock is not None:
                os.close(self._lock)
            self._lock = None
            return None
        if name == "load":
            for module, source in request["sources"]:
                sys.modules["__main__"].load(module, source)
            return None
        if name == "upload":  # the file follows
            request["stream"] = self._requests
        if name == "look":  # the address to which the SSH connection came
            request["server"] = sys.argv[1] if len(sys.argv) > 1 else ""
        if name in REPORTING:
            request["say"] = self.say
        module, function = OPERATIONS[name].split(".")
        return getattr(import_module(f"perennial.platforms.hosts.agent.{module}"), function)(
            **request
        )

    @contextmanager
    def _heartbeats(self) -> Iterator[None]:
        """Send heartbeats while a request is at work."""
        done = threading.Event()

        def give() -> None:
            with suppress(OSError):  # the operator has disconnected; the request fails as well
                while not done.wait(HEARTBEAT):
                    self._answer(alive=True)

        thread = threading.Thread(target=give, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _answer(self, **said: Any) -> None:
        with self._writing:
            self._answers.write(json.dumps(said) + "\n")
            self._answers.flush()


def main(requests: IO[bytes]) -> None:
    """Answer the operator, who is at the other end of the requests and of standard output."""
    # What a child of ours prints must not get between our own lines.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    os.umask(0o077)
    if os.geteuid():
        manifest.STATE, manifest.PYTHONS, manifest.LOCKS = manifest.at_home(sys.argv[2])
    Server(requests, answers).serve()


def _lock(cluster: str, say: Callable[[str], None]) -> int:
    """Let nobody else change the cluster's part of this machine until this process ends.

    Whoever was cut off may still be at work here, until its drain has ended.
    """
    path = str(manifest.lock(cluster))
    if os.geteuid() and manifest.is_roots(cluster):
        raise PerennialError(
            f"an earlier version runs {cluster} on this machine as root; run `perennial down` with"
            " that version first"
        )
    end = time.monotonic() + LOCK_TIMEOUT
    while True:
        manifest.LOCKS.parent.mkdir(parents=True, exist_ok=True)
        make_private(manifest.LOCKS)
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # `remove` has just taken the folder away
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.path.samestat(os.fstat(lock), os.stat(path)):
                return lock  # not a file that `remove` has just deleted
        except BlockingIOError:
            say("waiting for another deploy that is at work there")
        os.close(lock)
        if time.monotonic() > end:
            raise PerennialError(
                f"another deploy of {cluster} is at work on this machine since {LOCK_TIMEOUT:g} s;"
                f" `fuser {path}` there shows it"
            )
        time.sleep(0.2)

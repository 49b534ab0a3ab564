"""Drain a worker when its ``dask worker`` process is told to stop. Given with ``--preload-nanny``.

On SIGTERM ``dask worker`` closes its nannies, and a nanny that closes calls `dask_teardown`
before it stops its worker. The drain happens there: the worker is parked (it begins no more
tasks, and those that it has not begun go back to the scheduler), its running tasks end, and
what it holds moves to other workers. Then the nanny stops it as always.

A worker that takes part in a P2P shuffle, or for which tasks are meant that may run nowhere else,
is not parked before these have ended: parked, it would hold them up, and without it Dask would
begin the whole shuffle anew.

A nanny closes for other reasons too. None of them gets here with a worker that is alive and
known to its scheduler: a worker that the scheduler retires or closes, or that loses its
scheduler, ends first and its nanny after it.

A worker that is told to stop together with all others has nobody to hand its data to, so it
leaves at once; so does one whose scheduler is gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from time import monotonic
from typing import Any

import dask.config
from dask.utils import parse_timedelta
from distributed.comm.addressing import get_address_host_port
from distributed.core import Status, clean_exception
from distributed.protocol.pickle import dumps

from perennial.preloads.parking import actors, needed, park, unpark
from perennial.preloads.retiring import move

logger = logging.getLogger("distributed.perennial.drain")

#: Seconds that a worker which is just starting may take to say its address.
STARTUP = 2.0
#: Seconds between two looks at whether there is still a reason to wait.
TICK = 0.5
#: Seconds that the scheduler may take to answer before its port is tried.
ANSWER = 0.5
#: Seconds that the scheduler's port may take to accept a connection. One that is closed says so at
#: once. A busy machine drops the first packets, and they are sent again after 1, 3 and 7 s.
CONNECT = 8.0
#: Seconds that one call to the worker waits for a running task to end.
TASK_WAIT = 10.0
#: Seconds before a step that could not be completed is tried again.
RETRY = 0.2
#: Seconds after which the scheduler is asked again whether a shuffle goes on there.
LOOK = 1.0
#: Steps without unique data after which copies that Dask keeps here are left behind.
SETTLED = 10
#: Seconds for finding out what has to be abandoned.
REPORT = 2.0

#: Said in the log of a drain that was not complete; `perennial restart` on hosts reads it there.
LEAVES = "%s leaves after %.1f s without a complete drain: %s; waited for %s; abandons %s"

#: Addresses of the workers of this process that are draining now.
_draining: set[str] = set()
#: What SIGTERM did before the first of them began.
_usual: list[Any] = []


async def dask_teardown(nanny: Any) -> None:
    """Drain the nanny's worker; return when the nanny may stop it."""
    seconds = parse_timedelta(dask.config.get("perennial.drain", 60), default="s")
    begun = monotonic()
    while _starting(nanny) and monotonic() < begun + STARTUP:
        await asyncio.sleep(0.05)  # a worker can have registered, and its nanny not heard of it
    await _end_start(nanny)
    if seconds <= 0 or nanny.worker_address is None or not nanny.is_alive():
        return
    with _announced(nanny.worker_address):
        try:
            await Drain(nanny).run(seconds)
        except asyncio.CancelledError:
            # A second Ctrl-C: the nanny will not get to stop its worker any more.
            os.kill(nanny.pid, signal.SIGKILL)
            raise


def _starting(nanny: Any) -> bool:
    """Whether its worker has not said yet that it is connected."""
    return nanny.process is not None and nanny.process.status == Status.starting


async def _end_start(nanny: Any) -> None:
    """Kill a worker that is still starting: a nanny would wait until it has found a scheduler."""
    killed = None
    while _starting(nanny):
        if nanny.pid not in (None, killed):  # the process may just be starting
            killed = nanny.pid
            logger.info(
                "%s had not found its scheduler yet: its process (pid %d) is killed, and an error "
                "about its start comes of that",
                *(nanny.name or "worker", killed),
            )
            with suppress(ProcessLookupError):
                os.kill(killed, signal.SIGKILL)
        await asyncio.sleep(0.05)


class Drain:
    """One drain of one worker."""

    def __init__(self, nanny: Any) -> None:
        self.nanny = nanny
        self.scheduler = nanny.scheduler
        self.address: str = nanny.worker_address
        self.title = f"{nanny.name or 'worker'} at {self.address}"
        self.started = monotonic()
        self.running: list[str] = []
        self.waited: set[str] = set()
        self.peers: list[str] = []
        self.settled = 0
        self.alone = False  # without a scheduler
        self.needed = ""  # why it cannot be parked yet
        self.looked = -LOOK
        self.parked = True  # such as by a scaler

    async def run(self, seconds: float) -> None:
        """Drain until it is done, it has become pointless, or the deadline has passed."""
        work = asyncio.create_task(self._work(seconds))
        watch = asyncio.create_task(self._watch())
        try:
            done, _ = await asyncio.wait(
                {work, watch}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            work.cancel()
            watch.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)
        spent = monotonic() - self.started
        if work in done and work.exception() is None:
            logger.info(
                "Drained %s in %.1f s: waited for %s; other workers have its data",
                *(self.title, spent, listed("task", self.waited)),
            )
            return
        if watch in done:
            reason = watch.result() if watch.exception() is None else repr(watch.exception())
        elif work in done:
            reason = repr(work.exception())
        else:
            reason = f"the deadline (perennial.drain: {seconds:g} s) has passed"
            reason += f", in the middle of {self.needed}" if self.needed else ""
        lost = await self._abandoned()
        _note(self.title, lost)
        logger.log(
            logging.WARNING if lost else logging.INFO,
            LEAVES,
            *(self.title, spent, reason, listed("task", self.waited), lost or "nothing"),
        )

    async def _work(self, seconds: float) -> None:
        """Take the steps of the drain until nothing is left on the worker."""
        patience = 0.0  # data moves away at once, beside the running tasks
        while True:
            try:
                if await self._needed(LOOK):
                    continue
                self.parked = True
                self.running = await self._run(park, patience=patience)
                if set(self.running) - self.waited:
                    self.waited.update(self.running)
                    logger.info(
                        "Draining %s: waits up to %g s for %s",
                        *(self.title, seconds, listed("task", self.running)),
                    )
                done = await self._move() and not self.running and await self._is_empty()
                if done and not await self._needed(0.0):  # a shuffle can have begun meanwhile
                    return
                patience = TASK_WAIT
            except (OSError, KeyError) as error:
                # The watch finds out what has become of the scheduler or the worker.
                logger.debug("%s: %r", self.title, error)
            await asyncio.sleep(RETRY)

    async def _needed(self, age: float) -> bool:
        """Whether it must begin tasks still, by an answer not older than that; it does then."""
        if self.needed or monotonic() - self.looked >= age:
            # Once it is known, the scheduler waits with its answer until it is not true any more.
            before, patience = self.needed, TASK_WAIT if self.needed else 0.0
            self.needed = await self._in_scheduler(needed, patience=patience) or ""
            self.looked = monotonic()
            if self.needed and self.needed != before:
                logger.info("Draining %s: waits for %s", self.title, self.needed)
        if self.needed and self.parked:
            await self._run(unpark)
            self.parked = False
        return bool(self.needed)

    async def _in_scheduler(self, function: Callable[..., Any], **arguments: Any) -> Any:
        """Run a function in the scheduler; None where it cannot be run."""
        question = {"address": self.address, **arguments}
        try:
            answer = await self.scheduler.run_function(
                function=dumps(function), kwargs=dumps(question)
            )
            if answer["status"] == "OK":
                return answer["result"]
            error = clean_exception(**answer)[1]  # such as of an earlier release
        # A scheduler that runs no functions, or does not have this one.
        except (ValueError, ImportError, AttributeError) as refusal:
            error = refusal
        logger.debug("%s: %r", self.title, error)
        return None

    async def _run(self, function: Callable[..., Any], **arguments: Any) -> Any:
        """Run a function in the worker."""
        worker = self.nanny.rpc(self.address)
        answer = await worker.run(function=dumps(function), kwargs=dumps(arguments))
        if answer["status"] != "OK":
            _, error, _ = clean_exception(**answer)
            raise error or RuntimeError(answer)
        return answer["result"]

    async def _move(self) -> bool:
        """Have the scheduler move away what only this worker holds; say whether it could."""
        moved = await self._in_scheduler(move)
        if moved is None:
            retired = await self.scheduler.retire_workers(
                workers=[self.address], close_workers=False, remove=False
            )
            moved = self.address in retired
        if not moved and (held := await self._run(actors)):
            await self._copy(held)
        return bool(moved)

    async def _copy(self, actors_here: Collection[str]) -> None:
        """Copy data to a worker that stays: Dask moves nothing away from where an actor lives."""
        keys = (await self.scheduler.has_what(workers=[self.address]))[self.address]
        data = [key for key in keys if str(key) not in actors_here]
        unique = await self._unique(data) if data else []
        if unique and self.peers:
            with suppress(ValueError):  # that worker has been paused or has begun to leave
                await self.scheduler.replicate(
                    keys=unique, workers=self.peers[:1], n=1, delete=False
                )

    async def _is_empty(self) -> bool:
        """Whether the scheduler counts on the worker for nothing any more.

        Holding no copy at all, not even one of what others hold too, is what makes two drains
        at the same time safe: each might count on the other's copy.
        """
        if (await self.scheduler.processing(workers=[self.address]))[self.address]:
            return False
        held = (await self.scheduler.has_what(workers=[self.address]))[self.address]
        self.settled = 0 if held and await self._unique(held) else self.settled + 1
        return not held or self.settled >= SETTLED

    async def _unique(self, keys: Collection[Any]) -> list[Any]:
        """Those of the keys that no worker holds that is going to stay."""
        holders = await self.scheduler.who_has(keys=keys)
        return [key for key in keys if not set(holders[key]) - _draining]

    async def _watch(self) -> str:
        """Wait until there is no reason to go on with the drain; return why."""
        while True:
            reason = await self._pointless()
            if not self.nanny.is_alive():
                return "its process has ended; does it have --preload perennial.preloads.keep?"
            if reason:
                return reason
            await asyncio.sleep(TICK)

    async def _pointless(self) -> str:
        """Say why the drain cannot succeed any more; the empty string when it still can."""
        if self.nanny.status == Status.closing_gracefully:
            # Its worker closes and has told it to close after it. It is closing already, and
            # would close a second time beside the first.
            self.nanny.status = Status.closing
            return "it has begun to close: its scheduler is gone, or has asked it to"
        try:
            if not await self._ask("ncores", workers=[self.address]):
                return "its scheduler does not know it any more"
            if not await self._others_stay():
                return "no other worker is left to take over"
        except OSError:
            self.alone = True
            return f"its scheduler at {self.scheduler.address} is gone"
        return ""

    async def _others_stay(self) -> bool:
        """Whether any other worker is running, or may be again."""
        if self.peers:  # asking about a few is enough, and cheap in a large cluster
            self.peers = list(await self._ask("ncores_running", workers=self.peers))
        self.peers = [peer for peer in self.peers if peer not in _draining]
        if not self.peers:
            running = await self._ask("ncores_running")
            self.peers = [peer for peer in running if peer not in _draining][:5]
        if self.peers:
            return True
        workers = (await self._ask("identity"))["workers"]
        return any(
            worker["status"] in ("running", "paused", "init")
            for peer, worker in workers.items()
            if peer not in _draining
        )

    async def _ask(self, operation: str, **arguments: Any) -> Any:
        """Ask the scheduler; wait for a busy one, but not for one that is not there."""
        for _ in range(3):  # a connection can have broken while nobody used it
            call = asyncio.ensure_future(getattr(self.scheduler, operation)(**arguments))
            try:
                while not (await asyncio.wait({call}, timeout=ANSWER))[0]:
                    await reach(self.scheduler.address)
                with suppress(OSError):
                    return call.result()
            finally:
                call.cancel()
            await reach(self.scheduler.address)
        raise OSError(f"no answer from {self.scheduler.address}")

    async def _abandoned(self) -> str:
        """Name what is lost with the worker; the empty string when it is nothing."""
        if not self.nanny.is_alive():
            return "what it ran and held"
        if self.alone and not self.running:  # the scheduler was gone before it could be parked
            with suppress(OSError):
                async with asyncio.timeout(REPORT):
                    self.running = await self._run(park, patience=0.0)
        unknown = f"{listed('task', self.running)} and what only it holds"
        if self.alone:
            return unknown
        try:
            async with asyncio.timeout(REPORT):
                await reach(self.scheduler.address)
                tasks = (await self.scheduler.processing(workers=[self.address]))[self.address]
                held = (await self.scheduler.has_what(workers=[self.address]))[self.address]
                alive = set(await self._run(actors)) if held else set()
                unique = await self._unique(held) if held else []
        except KeyError:  # the scheduler has given the worker up: nobody counts on it
            return ""
        except OSError:
            return unknown
        data = [key for key in unique if str(key) not in alive]
        lost = [("task", tasks)] * bool(tasks) + [("actor", alive)] * bool(alive)
        lost += [("key", data)] * bool(data)
        return " and ".join(listed(noun, keys) for noun, keys in lost)


async def reach(address: str) -> None:
    """Connect to an address and close the connection; OSError after `CONNECT` seconds."""
    host, port = get_address_host_port(address)
    async with asyncio.timeout(CONNECT):
        _, writer = await asyncio.open_connection(host, port)
    writer.close()


def listed(noun: str, keys: Collection[Any]) -> str:
    """Count and name keys: ``2 tasks (a, b)``; the first ten by name."""
    if not keys:
        return f"no {noun}"
    names = sorted(map(str, keys))
    more = f", and {len(names) - 10} more" if len(names) > 10 else ""
    return f"{len(names)} {noun}{'s' * (len(names) > 1)} ({', '.join(names[:10])}{more})"


def _note(title: str, lost: str) -> None:
    """Write what is abandoned, for `perennial.supervision.single_instance.abandoned_mark`."""
    mark = os.environ.get("PERENNIAL_READY")
    if not mark or not lost:
        return
    try:
        private = partial(os.open, mode=0o600)  # whatever the umask for tasks is
        with open(f"{mark}.abandoned", "a", encoding="utf-8", opener=private) as file:
            file.write(f"{lost}\n")
    except OSError as error:
        logger.warning("%s: cannot write down what it abandons: %s", title, error)


@contextmanager
def _announced(address: str) -> Iterator[None]:
    """Let the drains of this process know of each other, and end by no second SIGTERM.

    Batch systems and people repeat SIGTERM, and ``dask worker`` would die of the second one.
    SIGKILL always ends it, and so does a second Ctrl-C.
    """
    handles = not _draining and threading.current_thread() is threading.main_thread()
    if handles:
        _usual.append(signal.signal(signal.SIGTERM, signal.SIG_IGN))
    _draining.add(address)
    try:
        yield
    finally:
        _draining.discard(address)
        if not _draining and _usual:
            signal.signal(signal.SIGTERM, _usual.pop())

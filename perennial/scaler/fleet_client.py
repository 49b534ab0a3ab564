"""A fleet as the loop calls it: in a thread, with a limit of time, and with pauses after errors."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from perennial.errors import Busy, FleetError
from perennial.fleet import Fleet
from perennial.observation import Member, Observation
from perennial.scaler import timing

logger = logging.getLogger("perennial.scaler.fleets")

Result = TypeVar("Result")


class Slow(FleetError):  # noqa: N818  (as the fleet's other errors)
    """A platform has not answered in time; what was asked of it may still happen."""


class FleetClient:
    """A fleet, asked in a thread: one call at a time."""

    def __init__(
        self,
        name: str,
        opener: Callable[[], Fleet],
        clock: Callable[[], float],
        limit: float = timing.PLATFORM_ANSWER,
    ) -> None:
        self.name = name
        self.clock = clock
        self.limit = limit
        #: Until when nothing may be asked of the platform, and why.
        self.blocked = 0.0
        self.trouble = ""
        #: What the platform has said last, and whether that was just now.
        self.observation: Observation | None = None
        self.errors = 0
        self._opener = opener
        self._fleet: Fleet | None = None
        self._failures = 0
        self._unseen = ""
        self._call: asyncio.Future[Any] | None = None
        self._since = 0.0

    @property
    def chooses(self) -> bool:
        """Whether the caller says who leaves."""
        return self._fleet is None or self._fleet.chooses

    @property
    def free(self) -> bool:
        """Whether something may be asked of the platform now."""
        return self.clock() >= self.blocked

    @property
    def said(self) -> str:
        """What is wrong with the platform; empty when nothing is."""
        return "; ".join(dict.fromkeys(filter(None, (self._unseen, self.trouble))))

    def content(self) -> None:
        """Forget what the platform has refused: nothing more is asked of it."""
        self.trouble = ""
        if self.free:
            self._failures = 0

    async def observe(self) -> Observation | None:
        """Look at the fleet; None when the platform does not say."""
        try:
            self.observation = await self._threaded(lambda fleet: fleet.observe())
            self._unseen = ""
        except Exception as error:
            self._unseen = self._failed("look at", error)
            self.observation = None
        return self.observation

    async def resize(self, to: int, leaving: Sequence[Member] = ()) -> int | None:
        """Ask for a size; None when the platform did not take it, and later may."""
        try:
            size = await self._threaded(lambda fleet: fleet.resize(to, leaving))
        except Exception as error:
            self.trouble = self._failed(f"resize to {to}", error)
            # Somebody else is at work there: that is no failure, and soon over.
            failures = 0 if isinstance(error, Busy) else self._failures
            pause = timing.PLATFORM_AGAIN * 2.0 ** min(failures, 10)
            self._failures += not isinstance(error, Busy)
            self.blocked = self.clock() + min(pause, timing.PLATFORM_AGAIN_MOST)
            return None
        self._failures, self.blocked, self.trouble = 0, 0.0, ""
        return size

    def _failed(self, what: str, error: Exception) -> str:
        self.errors += 1
        line = (str(error).splitlines() or [""])[0]
        if isinstance(error, FleetError):
            said = line
        else:  # a fleet may raise nothing else
            logger.error("%s: cannot %s it", self.name, what, exc_info=error)
            said = f"{self.name}: cannot {what} it: {type(error).__name__}: {line}"
        return said

    async def _threaded(self, function: Callable[[Fleet], Result]) -> Result:
        """Call in a thread that nobody waits for at the end; refuse while one is not back."""
        if self._call is not None and not self._call.done():
            seconds = self.clock() - self._since
            raise Slow(f"{self.name}: the platform has not answered for {seconds:.0f} s")
        loop = asyncio.get_running_loop()
        call: asyncio.Future[Result] = loop.create_future()

        def finish(result: Any, error: BaseException | None) -> None:
            if call.cancelled():
                return
            if error is None:
                call.set_result(result)
            else:
                call.set_exception(error)
                call.exception()  # retrieve it: nobody may look at it later

        def work() -> None:
            try:
                if self._fleet is None:
                    self._fleet = self._opener()
                outcome: tuple[Any, BaseException | None] = function(self._fleet), None
            except BaseException as error:
                outcome = None, error
            if not loop.is_closed():
                loop.call_soon_threadsafe(finish, *outcome)

        self._call, self._since = call, self.clock()
        threading.Thread(target=work, name=f"fleet-{self.name}", daemon=True).start()
        done, _ = await asyncio.wait({call}, timeout=self.limit)
        if not done:
            raise Slow(f"{self.name}: the platform has not answered in {self.limit:g} s")
        return call.result()

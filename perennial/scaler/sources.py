"""Where demand is read: at the scheduler's own preload, or at its dashboard where it has none."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from time import monotonic
from typing import Any

from perennial.preloads.messages import Request
from perennial.scaler import timing
from perennial.scaler.dashboard_demand import HttpSource
from perennial.scaler.demand import NoPreload, PreloadSource, SchedulerAway, Source
from perennial.scaler.values import Demand
from perennial.tls import Tls

logger = logging.getLogger("perennial.scaler.demand")


def opened(
    address: str,
    groups: Mapping[str, int],
    tls: Tls | None = None,
    http: str | None = None,
) -> Source:
    """Make a source of demand that takes what the scheduler has to offer."""
    preload = PreloadSource(address, groups, tls)
    if http is None:
        return preload
    return EitherSource(preload, HttpSource(http, groups))


class EitherSource:
    """Asks the preload, or the dashboard of a scheduler that has none."""

    def __init__(self, preload: Source, http: Source) -> None:
        self.preload = preload
        self.http = http
        self._without = 0.0  # until when the preload is not asked for

    async def read(
        self,
        detail: Collection[str] = (),
        report: Mapping[str, Any] | None = None,
        acknowledged: Collection[str] = (),
    ) -> tuple[Demand, list[Request]]:
        """Read from whichever answers; see `Source.read`."""
        if monotonic() >= self._without:
            try:
                return await self.preload.read(detail, report, acknowledged)
            except NoPreload as error:
                logger.warning("%s; reads its dashboard instead", error)
                self._without = monotonic() + timing.SOURCE_AGAIN
        try:
            return await self.http.read(detail, report, acknowledged)
        except SchedulerAway:
            self._without = 0.0  # the next one may have it
            raise

    async def wait_for_change(self) -> bool:
        """Wait where there are news; see `Source.wait_for_change`."""
        source = self.http if monotonic() < self._without else self.preload
        return await source.wait_for_change()

    async def close(self) -> None:
        """Close the connections of both."""
        await self.preload.close()
        await self.http.close()

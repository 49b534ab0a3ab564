"""Members that could not be drained: why, and for how long they are left alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from perennial.scaler.workers import Who

#: Seconds for which such a member is left alone; twice as long each time.
ALONE, LONGEST = 60.0, 3600.0


@dataclass(slots=True)
class DrainBackoff:
    """Those who are left alone. All times are by the scaler's clock."""

    _stay: dict[Who, tuple[str, float, int]] = field(default_factory=dict)

    def put(self, who: Who, why: str, now: float) -> float:
        """Leave a member alone; say for how many seconds."""
        times = self._stay[who][2] + 1 if who in self._stay else 0
        pause = min(ALONE * 2.0 ** min(times, 10), LONGEST)
        self._stay[who] = (why, now + pause, times)
        return pause

    def alone(self, now: float) -> set[Who]:
        """Name those who are left alone now."""
        return {who for who, (_, until, _) in self._stay.items() if until > now}

    def said(self, group: str, now: float) -> list[str]:
        """Say of each of a group why it stays."""
        return [
            f"{name} stays: {why}"
            for (where, name), (why, until, _) in self._stay.items()
            if where == group and until > now
        ]

    def left(self, group: str, now: float) -> float | None:
        """Say in how many seconds one of a group is tried again; None when there is none."""
        ends = [until for (where, _), (_, until, _) in self._stay.items() if where == group]
        return min((until - now for until in ends if until > now), default=None)

"""A platform in virtual time: what is asked of it starts after a while, and sometimes fails."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.scaler.model import Model
from benchmarks.scaler.tasks import Worker
from perennial.observation import Member, MemberState, Observation
from perennial.scaler.values import Group


@dataclass(slots=True)
class Piece:
    """One member: when it was asked for, and its worker once that has registered."""

    name: str
    asked: float
    state: MemberState = "starting"
    worker: Worker | None = None
    joined: float = 0.0


@dataclass(frozen=True, slots=True)
class Platform:
    """How a platform behaves.

    Parameters
    ----------
    start_up : float
        Seconds from asking for a member until its worker has registered.
    failing : float
        Part of the starts that come to nothing after that time; the platform starts them again.
    """

    start_up: float
    failing: float = 0.05


class SimulatedFleet:
    """The members of one group; the contract of `perennial.fleet.Fleet`.

    Parameters
    ----------
    model : Model
        Whom workers register with.
    group : Group
        The group.
    platform : Platform
        How it behaves.
    seed : int
        Of the starts that fail.
    """

    chooses = True

    def __init__(self, model: Model, group: Group, platform: Platform, seed: int) -> None:
        self.model, self.group, self.platform = model, group, platform
        self.random = random.Random(f"{seed} {group.name}")
        self.pieces: dict[str, Piece] = {}
        self.desired = 0
        self.starts = self.stops = self.failures = 0
        self.paid = self.served = 0.0  # seconds of members that exist, and that have registered
        self._next = self._starting = 0
        self._members: dict[str, Member] = {}
        self._seen: Observation | None = None

    def observe(self) -> Observation:
        """Look."""
        if self._seen is None:
            settled = self._starting == 0
            self._seen = Observation(self.desired, tuple(self._members.values()), settled)
        return self._seen

    def resize(self, to: int, leaving: Sequence[Member] = ()) -> int:
        """Make it so many members; only what is in `leaving` or has not started is stopped."""
        self._seen = None
        for member in leaving:
            if member.id in self.pieces:
                self._stop(self.pieces[member.id])
        if len(self.pieces) > to and self._starting:
            starting = [p for p in self.pieces.values() if p.state == "starting"]
            while len(self.pieces) > to and starting:
                self._stop(starting.pop())
        while len(self.pieces) < to:
            self._start()
        self.desired = max(to, len(self.pieces))
        return self.desired

    def stop(self, names: Sequence[str]) -> None:
        """Stop members by name, whatever they do."""
        gone = [Member(name, name, "leaving") for name in names if name in self.pieces]
        self.resize(len(self.pieces) - len(gone), gone)

    def _start(self) -> None:
        piece = Piece(f"{self.group.name}-{self._next}", self.model.clock.now)
        self._next += 1
        self.starts += 1
        self.pieces[piece.name] = piece
        self._members[piece.name] = Member(piece.name, piece.name, "starting")
        self._starting += 1
        self.model.clock.after(self.platform.start_up, self._up, piece)

    def _up(self, piece: Piece) -> None:
        if piece.name not in self.pieces:
            return  # it was given up
        if self.random.random() < self.platform.failing:
            self.failures += 1
            self.model.clock.after(self.platform.start_up, self._up, piece)
            return
        self._register(piece)

    def _register(self, piece: Piece) -> None:
        if piece.name not in self.pieces:
            return
        group, self._seen = self.group, None
        self._starting -= piece.state == "starting"
        self._members[piece.name] = Member(piece.name, piece.name, "running")
        piece.state, piece.joined = "running", self.model.clock.now
        piece.worker = Worker(
            piece.name, group.name, group.slots, group.memory, dict(group.resources)
        )
        self.model.join(piece.worker)

    def _stop(self, piece: Piece) -> None:
        now = self.model.clock.now
        del self.pieces[piece.name], self._members[piece.name]
        self._starting -= piece.state == "starting"
        self.stops += piece.worker is not None
        self.paid += now - piece.asked
        if piece.worker:
            self.served += now - piece.joined
            self.model.leave(piece.worker)

    def bill(self) -> tuple[float, float]:
        """Seconds until now that members have existed, and that they have served."""
        now = self.model.clock.now
        pieces = self.pieces.values()
        paid = self.paid + sum(now - p.asked for p in pieces)
        return paid, self.served + sum(now - p.joined for p in pieces if p.worker)

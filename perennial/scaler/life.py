"""The life of a member: its states, what happens to it, and one table of what follows.

Pure, of the standard library alone. What the scaler does with a member is in `TRANSITIONS`, and a
step that is not there is refused. What platform and scheduler say of a member is always believed:
where it is not in `TRANSITIONS` it is in `SURPRISES`, which no scaler has caused, and of which a
person wants to know. What is in neither changes nothing. `perennial.scaler.members` has the states.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    """Where a member is in its life."""

    ASKED = "asked"
    """The platform has been asked for it and has not started it yet."""
    STARTING = "starting"
    """Its process runs; the scheduler does not know it yet."""
    RUNNING = "running"
    """The scheduler knows it, and nothing is wanted of it."""
    PARKING = "parking"
    """It begins no more tasks; some still run, or data is still to be moved."""
    PARKED = "parked"
    """Nothing runs there, and others have its data: it can be removed without loss."""
    RETURNING = "returning"
    """Its drain is being undone."""
    LEAVING = "leaving"
    """The platform has been told to remove it."""
    LOST = "lost"
    """It was known to the scheduler and is not any more, though the platform has it."""
    GONE = "gone"
    """The platform does not have it."""


class Event(StrEnum):
    """What happens to a member."""

    # Seen on the platform and at the scheduler, at each tick.
    ASK = "is not started yet"
    START = "is started"
    REGISTER = "is registered"
    LEAVE = "is being removed"
    VANISH = "is gone"
    # Seen of one that was being removed and is not any more; what had been begun with it goes on.
    STAY = "stays"
    # Done by the scaler.
    DRAIN = "begins to drain"
    EMPTY = "is empty"
    REFILL = "has something again"
    UNDO = "is brought back"
    RETURN = "is back"
    REMOVE = "is given to its platform"


#: State → event → the state that follows.
Table = Mapping[State, Mapping[Event, State]]

#: What is expected.
TRANSITIONS: Table = {
    State.ASKED: {
        Event.START: State.STARTING,
        Event.REGISTER: State.RUNNING,
        Event.LEAVE: State.LEAVING,
        Event.VANISH: State.GONE,
    },
    State.STARTING: {
        Event.ASK: State.ASKED,
        Event.REGISTER: State.RUNNING,
        Event.LEAVE: State.LEAVING,
        Event.DRAIN: State.PARKING,
    },
    # One that somebody else has parked is brought back.
    State.RUNNING: {Event.DRAIN: State.PARKING, Event.UNDO: State.RETURNING},
    State.PARKING: {Event.EMPTY: State.PARKED, Event.UNDO: State.RETURNING},
    State.PARKED: {
        Event.REMOVE: State.LEAVING,
        Event.LEAVE: State.LEAVING,  # the scaler was killed before it heard the platform's answer
        Event.REFILL: State.PARKING,
        Event.UNDO: State.RETURNING,
    },
    State.RETURNING: {Event.RETURN: State.RUNNING, Event.DRAIN: State.PARKING},
    State.LEAVING: {Event.VANISH: State.GONE},
    State.LOST: {
        Event.REGISTER: State.RUNNING,
        Event.DRAIN: State.PARKING,
        Event.VANISH: State.GONE,
    },
    State.GONE: {
        Event.ASK: State.ASKED,
        Event.START: State.STARTING,
        Event.REGISTER: State.RUNNING,
    },
}

#: What happens besides, and not by the scaler.
SURPRISES: Table = {
    State.ASKED: {},
    State.STARTING: {Event.VANISH: State.GONE},
    State.RUNNING: {
        Event.ASK: State.LOST,
        Event.START: State.LOST,
        Event.LEAVE: State.LEAVING,
        Event.VANISH: State.GONE,
    },
    State.PARKING: {Event.LEAVE: State.LEAVING, Event.VANISH: State.GONE},
    State.PARKED: {Event.VANISH: State.GONE},
    State.RETURNING: {Event.LEAVE: State.LEAVING, Event.VANISH: State.GONE},
    State.LEAVING: {
        Event.ASK: State.ASKED,
        Event.START: State.STARTING,
        Event.REGISTER: State.RUNNING,
        Event.STAY: State.PARKING,
        Event.UNDO: State.RETURNING,
    },
    State.LOST: {Event.LEAVE: State.LEAVING},
    State.GONE: {Event.LEAVE: State.LEAVING},
}

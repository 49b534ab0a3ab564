"""The life of a member: one table of what may follow what, and how its state is found out.

A state is never remembered, it is derived: from what the platform has, from what the scheduler
knows, and from what the scaler itself has begun. So a scaler that was killed finds the same states
again. The table says which steps are expected; a step that is not, such as a running member that
is gone, is no error of ours, but a person wants to know of it. The steps that the scaler takes by
itself are refused if the table does not have them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from itertools import takewhile

from perennial.observation import Member, Observation
from perennial.scaler.intents import Intent


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


#: State → what may follow it.
TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.ASKED: frozenset({State.STARTING, State.RUNNING, State.LEAVING, State.GONE}),
    State.STARTING: frozenset({State.RUNNING, State.ASKED, State.PARKING, State.LEAVING}),
    # One that somebody else has parked is brought back.
    State.RUNNING: frozenset({State.PARKING, State.RETURNING}),
    State.PARKING: frozenset({State.PARKED, State.RETURNING}),
    State.PARKED: frozenset({State.LEAVING, State.RETURNING, State.PARKING}),
    State.RETURNING: frozenset({State.RUNNING, State.PARKING}),
    State.LEAVING: frozenset({State.GONE}),
    State.LOST: frozenset({State.RUNNING, State.STARTING, State.PARKING, State.GONE}),
    State.GONE: frozenset({State.ASKED, State.STARTING, State.RUNNING}),
}


def allowed(before: State, after: State) -> bool:
    """Say whether a state may follow another one; each may follow itself."""
    return before == after or after in TRANSITIONS[before]


def derive(
    observation: Observation,
    registered: frozenset[str],
    intents: Mapping[str, Intent],
    ready: frozenset[str],
    before: Mapping[str, State],
) -> dict[str, State]:
    """Find out the state of each member of a group."""
    states: dict[str, State] = {}
    for member in observation.members:
        name = member.worker
        intent = intents.get(name)
        if member.state == "leaving":
            states[name] = State.LEAVING
        elif intent is not None:
            states[name] = _begun(intent, name in ready)
        elif name in registered:
            states[name] = State.RUNNING
        elif before.get(name) in (State.RUNNING, State.RETURNING, State.LOST):
            states[name] = State.LOST
        else:
            states[name] = State.STARTING if member.state == "running" else State.ASKED
    gone = [name for name, state in before.items() if name not in states and state != State.GONE]
    return {**states, **dict.fromkeys(gone, State.GONE)}


class Book:
    """The states of a group's members, as they were last found out or made."""

    def __init__(self) -> None:
        self.states: dict[str, State] = {}

    def may(self, name: str, state: State) -> bool:
        """Say whether the scaler may take a member to a state."""
        return name in self.states and allowed(self.states[name], state)

    def take(self, name: str, state: State) -> None:
        """Note that the scaler takes a member to a state."""
        if name in self.states and not allowed(self.states[name], state):
            raise ValueError(f"{name} is {self.states[name]} and cannot be {state}")
        self.states[name] = state

    def find(self, states: Mapping[str, State]) -> dict[str, str]:
        """Take over the states that were found out; describe what the table does not have."""
        before, self.states = self.states, dict(states)
        return {
            name: f"{before[name]} → {state}"
            for name, state in states.items()
            if name in before and not allowed(before[name], state)
        }


def removable(observation: Observation, ready: Collection[str], chooses: bool) -> list[Member]:
    """List those who can be removed now."""
    here = [member for member in observation.members if member.state != "leaving"]
    if chooses:
        return [member for member in here if member.worker in ready]
    return list(takewhile(lambda member: member.worker in ready, here))


def removed_again(intents: Mapping[str, Intent], observation: Observation) -> set[str]:
    """Name members that the platform was told to remove, and that it has all the same."""
    here = {each.worker for each in observation.members if each.state != "leaving"}
    return {name for name in here if name in intents and intents[name].doing == "remove"}


def _begun(intent: Intent, ready: bool) -> State:
    if intent.doing == "return":
        return State.RETURNING
    return State.PARKED if ready or intent.doing == "remove" else State.PARKING

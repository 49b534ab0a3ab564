"""What a kind of resource does for the engine: one class each, without the engine's messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol

from perennial.errors import PerennialError, SpecError
from perennial.plan import Impact, Step

from .values import Values

Say = Callable[[str], None]

#: How a person says in a Pulumi program that a size is meant.
MEANT = "set `perennial:force` of the stack, or `force` of the component, to true"


class Made(NamedTuple):
    """A resource that is there."""

    id: str
    outputs: Values


class Refusal(NamedTuple):
    """Why an input cannot be used."""

    property: str
    reason: str
    #: The same without any value, where some of them are secret.
    unseen: str = ""


class HalfMadeError(PerennialError):
    """A resource is there, but not whole; the next deployment finishes it."""

    def __init__(self, made: Made, message: str) -> None:
        super().__init__(message)
        self.made = made


@dataclass(frozen=True, slots=True)
class State:
    """What the engine remembers of a resource."""

    inputs: Values = field(default_factory=dict, repr=False)
    outputs: Values = field(default_factory=dict, repr=False)
    #: Whether an earlier version wrote the inputs, of which only some can be compared.
    partial: bool = False


class Kind(Protocol):
    """A kind of resource."""

    #: Its type, such as ``perennial:index:Authority``.
    type: ClassVar[str]
    #: Inputs of which another value is no change, or paths in them.
    ignored: ClassVar[tuple[str, ...]] = ()
    #: Inputs that are computed from the others, and named where no other differs.
    derived: ClassVar[tuple[str, ...]] = ()
    #: Outputs that are encrypted wherever they are kept.
    secrets: ClassVar[tuple[str, ...]] = ()
    #: Outputs that are known only when it is there.
    computed: ClassVar[tuple[str, ...]] = ()
    #: Outputs that an update leaves as they are.
    stable: ClassVar[tuple[str, ...]] = ()
    #: Inputs without which it is another resource, as paths: it is deleted before it is made anew.
    identity: ClassVar[tuple[str, ...]] = ()

    def check(self, _old: Values, new: Values) -> tuple[Values, Sequence[Refusal]]:
        """Return the inputs as they are remembered, and what is wrong with them."""
        return new, ()

    def upgraded(self, state: State) -> State:
        """Return what an earlier version has remembered in the words of this one."""
        return state

    def compared(self, state: State, new: Values) -> tuple[Values, Values]:
        """Return old and new inputs, as far as a difference between them is a change."""
        if not state.partial:
            return state.inputs, new
        both = state.inputs.keys() & new.keys()
        return {key: state.inputs[key] for key in both}, {key: new[key] for key in both}

    def pending(self, _state: State, _new: Values) -> Sequence[str]:
        """Return the outputs for which it has to be updated though its inputs are the same."""
        return ()

    def warnings(self, _state: State, _new: Values) -> Sequence[str]:
        """Return what a person has to know of a change before it is made."""
        return ()

    def create(self, new: Values, say: Say) -> Made:
        """Make it."""
        ...

    def read(self, state: State, say: Say) -> Values | None:
        """Return its outputs as they are now; None where it is gone."""
        ...

    def update(self, state: State, new: Values, say: Say) -> Values:
        """Change it; return its outputs."""
        ...

    def delete(self, state: State, say: Say) -> None:
        """Remove it."""
        ...


def lost(where: str, found: Iterable[Step]) -> list[str]:
    """List what people lose by a change."""
    return [
        f"{where}: {step.resource} restarts: running work and results are lost"
        for step in found
        if step.impact is Impact.LOSES_WORK
    ]


def refused(error: SpecError) -> list[Refusal]:
    """List what is wrong with a cluster file; there is no file, so there are no lines."""
    seen, unseen = error.without_lines(), error.without_values("a value beside secrets")
    return [
        Refusal(each.path, each.render("inputs"), other.render("inputs"))
        for each, other in zip(seen.faults, unseen.faults, strict=True)
    ]


def missing(names: Sequence[str], new: Values) -> list[Refusal]:
    """List inputs that are not there."""
    return [Refusal(name, "this input is missing") for name in names if name not in new]

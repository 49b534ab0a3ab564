"""Sizes that Fargate has: pairs of processors and memory. Pure."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 2**20
#: Units of ECS in one virtual processor.
UNITS = 1024
#: Processors in these units → MiB of memory that may stand beside them.
TABLE: dict[int, tuple[int, ...]] = {
    256: (512, 1024, 2048),
    512: tuple(range(1024, 4 * 1024 + 1, 1024)),
    1024: tuple(range(2 * 1024, 8 * 1024 + 1, 1024)),
    2048: tuple(range(4 * 1024, 16 * 1024 + 1, 1024)),
    4096: tuple(range(8 * 1024, 30 * 1024 + 1, 1024)),
    8192: tuple(range(16 * 1024, 60 * 1024 + 1, 4 * 1024)),
    16384: tuple(range(32 * 1024, 120 * 1024 + 1, 8 * 1024)),
}
#: Virtual processors that a task may have.
PROCESSORS = tuple(units / UNITS for units in TABLE)


@dataclass(frozen=True, slots=True, order=True)
class TaskSize:
    """A pair of Fargate's, or one that a cluster file asks for."""

    #: Units of ECS: 1024 are one virtual processor.
    cpu: int
    #: MiB.
    memory: int

    def __str__(self) -> str:
        memory = f"{self.memory // 1024} GiB" if self.memory % 1024 == 0 else f"{self.memory} MiB"
        return f"{self.cpu / UNITS:g} vCPU with {memory}"


EVERY = tuple(TaskSize(cpu, memory) for cpu, memories in TABLE.items() for memory in memories)


@dataclass(frozen=True, slots=True)
class SizeRequest:
    """What a task needs, and what a person has asked for in its place."""

    processors: float
    #: Bytes.
    memory: int
    asked_processors: float | None = None
    asked_memory: int | None = None

    @property
    def asked(self) -> TaskSize:
        """The size in Fargate's units, whether or not Fargate has it."""
        memory = self.asked_memory or self.memory
        return TaskSize(int((self.asked_processors or self.processors) * UNITS), -(-memory // MIB))

    def smallest(self) -> TaskSize | None:
        """Return the smallest size of Fargate's that will do; None where there is none."""
        asked = self.asked
        return min(
            (
                size
                for size in EVERY
                if (size.cpu == asked.cpu if self.asked_processors else size.cpu >= asked.cpu)
                if (
                    size.memory * MIB == self.asked_memory
                    if self.asked_memory
                    else size.memory >= asked.memory
                )
            ),
            default=None,
        )


def nearest(size: TaskSize) -> tuple[TaskSize, ...]:
    """Return the sizes next to one that Fargate does not have.

    The least one with its memory, and with its processors the least and the most memory beside it.
    """
    memories = TABLE.get(size.cpu, ())
    above = min((each for each in memories if each >= size.memory), default=None)
    below = max((each for each in memories if each <= size.memory), default=None)
    beside = {TaskSize(size.cpu, each) for each in (above, below) if each is not None}
    larger = SizeRequest(size.cpu / UNITS, size.memory * MIB).smallest() or EVERY[-1]
    return tuple(sorted({*beside, larger}))

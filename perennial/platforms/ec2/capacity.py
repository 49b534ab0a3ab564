"""What an instance of EC2 has, as far as its type says it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from perennial.spec.units import GIB

#: GiB for each vCPU, by the letter of the families that keep to one ratio.
_RATIOS = {"c": 2, "m": 4, "r": 8}
#: vCPUs and GiB of the small sizes of T instances, which keep to none.
_BURSTABLE = {"micro": (2, 1), "small": (2, 2), "medium": (2, 4), "large": (2, 8)}
_SIZES = {"medium": 1, "large": 2, "xlarge": 4}
_TYPE = re.compile(r"(?P<family>[a-z]+)(?P<number>\d+)(?P<more>[a-z-]*)\.(?P<size>[a-z0-9-]+)")
#: What is tried for a group that names no type, the cheapest memory first.
_FAMILIES = ("c7i", "m7i", "r7i")
_STEPS = ("large", "xlarge", "2xlarge", "4xlarge", "8xlarge", "12xlarge", "16xlarge", "24xlarge")
#: Part of an instance's memory that its kernel keeps, and what the system needs beside.
_KERNEL, _SYSTEM = 0.03, GIB // 2


@dataclass(frozen=True, slots=True)
class Capacity:
    """What an instance has."""

    threads: int
    #: Bytes.
    memory: int

    @property
    def usable(self) -> int:
        """Bytes that Dask's processes can have."""
        return int(self.memory * (1 - _KERNEL)) - _SYSTEM


def capacity(instance_type: str) -> Capacity | None:
    """Return what an instance of a type has; None where the type alone does not say it."""
    parts = _TYPE.fullmatch(instance_type)
    if parts is None:
        return None
    family, size = parts["family"], parts["size"]
    if family == "t" and size in _BURSTABLE:
        threads, memory = _BURSTABLE[size]
        return Capacity(threads, memory * GIB)
    many = re.fullmatch(r"(\d+)xlarge", size)
    threads = 4 * int(many[1]) if many else _SIZES.get(size, 0)
    ratio = _RATIOS.get(family, 4 if family == "t" else 0)
    # The first generations, and those with another letter, as c5n, keep to other ratios.
    if not threads or not ratio or int(parts["number"]) < (3 if family == "t" else 5):
        return None
    if re.search(r"n|e|z", parts["more"]):
        return None
    return Capacity(threads, threads * ratio * GIB)


def architecture(instance_type: str) -> str:
    """Return the processor's architecture as images name it: Graviton's letter is a g."""
    parts = _TYPE.fullmatch(instance_type)
    if parts is None:
        return "x86_64"
    is_arm = "g" in parts["more"] or parts["family"] == "a"
    return "arm64" if is_arm else "x86_64"


def fitting(threads: int, memory: int) -> str | None:
    """Return the smallest type of the usual families with so much; None where none has it."""
    for size in _STEPS:
        for family in _FAMILIES:
            found = capacity(f"{family}.{size}")
            if found and found.threads >= threads and found.usable >= memory:
                return f"{family}.{size}"
    return None

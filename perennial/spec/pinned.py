"""Settings of Dask's that a standing service relies on: what they are, and why nothing else.

Dask also reads ``~/.config/dask`` and the folders of the machine. So each service is given these
settings, over whatever stands there, and a cluster file that says otherwise is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from perennial.spec.units import Refusal

Setting = tuple[str, ...]

#: Pages of the scheduler which its watchdog and `perennial` read, and those that Dask brings.
SCHEDULER_ROUTES = tuple(
    f"distributed.http.{name}"
    for name in (
        "scheduler.prometheus",
        "scheduler.info",
        "scheduler.json",
        "health",
        "proxy",
        "statics",
    )
)
WORKER_ROUTES = tuple(
    f"distributed.http.{name}" for name in ("worker.prometheus", "health", "statics")
)


@dataclass(frozen=True, slots=True)
class Pinned:
    """A setting with one value, and why it has no other."""

    setting: str
    value: Any
    why: str

    def allows(self, value: Any) -> bool:
        """Whether a cluster file may write this value."""
        return bool(value == self.value)

    @property
    def allowed(self) -> str:
        """The value, as a person writes it."""
        return {None: "null", False: "false", True: "true"}.get(self.value, str(self.value))


@dataclass(frozen=True, slots=True)
class Routes(Pinned):
    """A list that may be longer, never shorter."""

    def allows(self, value: Any) -> bool:
        """Whether all that is needed is in the list."""
        return isinstance(value, list) and set(self.value) <= {str(each) for each in value}

    @property
    def allowed(self) -> str:
        """What the list must have."""
        return f"a list with {', '.join(self.value)}"


_STANDS = "a standing scheduler does not end by itself"
_LIFETIME = "a worker that ends by itself is not drained"
_PAGES = "the watchdog and `perennial status` read these pages"
_OWN = "the cluster's own address and certificates are used"

PINNED: tuple[Pinned, ...] = (
    Pinned("distributed.scheduler.idle-timeout", None, _STANDS),
    Pinned("distributed.scheduler.no-workers-timeout", None, "tasks wait until a worker comes"),
    Routes("distributed.scheduler.http.routes", SCHEDULER_ROUTES, _PAGES),
    Routes("distributed.worker.http.routes", WORKER_ROUTES, _PAGES),
    Pinned("distributed.worker.lifetime.duration", None, _LIFETIME),
    Pinned("distributed.worker.lifetime.stagger", "0 seconds", _LIFETIME),
    Pinned("distributed.worker.lifetime.restart", False, _LIFETIME),
)
_NEWEST = (None, 1.3, "1.3")
#: Settings that each service has from the cluster file's own keys.
OURS: tuple[tuple[str, str], ...] = (
    ("scheduler-address", _OWN),
    ("distributed.comm.require-encryption", "`security: {tls: true}` accepts nothing but TLS"),
    ("distributed.comm.tls.ca-file", _OWN),
    *((f"distributed.comm.tls.{role}", _OWN) for role in ("scheduler", "worker", "client")),
)


#: Settings of TLS, which each service has from the cluster: what may stand there, and in words.
TLS: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "distributed.comm.tls.ciphers": ((None,), "those of TLS 1.3, which is all that services use"),
    "distributed.comm.tls.min-version": (_NEWEST, "1.3, which is all that services use"),
    "distributed.comm.tls.max-version": (_NEWEST, "1.3, which is all that services use"),
}


def settings() -> dict[str, Any]:
    """Values of the pinned settings, dotted."""
    return {
        each.setting: list(each.value) if isinstance(each, Routes) else each.value
        for each in PINNED
    }


def refusals(
    leaves: Mapping[Setting, tuple[tuple[str | int, ...], Any]],
) -> Iterator[Refusal]:
    """Refuse values that a standing service cannot live with; each with where it stands."""
    pinned = {tuple(each.setting.split(".")): each for each in PINNED}
    for setting, (location, value) in leaves.items():
        one = pinned.get(setting)
        if one is not None and not one.allows(value):
            yield Refusal(f"{one.allowed}, since {one.why}", "remove the key", location)
        harmless, words = TLS.get(".".join(map(str, setting)), ((value,), ""))
        if value not in harmless:
            yield Refusal(words, "remove it", location)
        for ours, why in OURS:
            if setting[: len(path := ours.split("."))] == tuple(path):
                yield Refusal(f"nothing here, since {why}", "remove the key", location)

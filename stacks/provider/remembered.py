"""What the resources remember, as values; the engine keeps mappings, read here once. Pure.

What an earlier version has not written is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from perennial.platforms.hosts.agent.answers import Environment, Outcome

from .values import Values


@dataclass(frozen=True, slots=True)
class AuthorityOutputs:
    """A certificate authority, the client's certificate and Jupyter's token; PEM and text."""

    ca: str
    ca_key: str
    client: str
    client_key: str
    token: str
    #: When it was made, and when the client's certificate ends; ISO 8601.
    created: str
    ends: str

    def values(self) -> Values:
        """Write them for the engine."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class CertificateOutputs:
    """A certificate and its key, PEM, and when it ends."""

    cert: str
    key: str
    ends: str

    def values(self) -> Values:
        """Write them for the engine."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class EnvironmentOutputs:
    """What a machine's Python environment is, and what was found to be other."""

    facts: Environment | None
    drift: Sequence[str] = ()

    @classmethod
    def read(cls, outputs: Values) -> Self:
        """Read them."""
        return cls(outputs.get("facts") or None, outputs.get("drift") or ())

    @property
    def machine(self) -> str | None:
        """The machine's own id."""
        return self.facts.get("machine") if self.facts else None

    def values(self) -> Values:
        """Write them for the engine."""
        return {"facts": self.facts or {}, "drift": [*self.drift]}


@dataclass(frozen=True, slots=True)
class ServicesOutputs:
    """What came of a machine's services, what was found to be other, and whose they are."""

    #: Empty where they were never whole.
    outcome: Outcome
    drift: Sequence[str] = ()
    #: Which resource has deployed them; empty where an earlier version did not say.
    owner: str = ""

    @classmethod
    def read(cls, outputs: Values) -> Self:
        """Read them."""
        return cls(
            outputs.get("outcome") or {}, outputs.get("drift") or (), outputs.get("owner") or ""
        )

    def values(self) -> Values:
        """Write them for the engine."""
        owner = {"owner": self.owner} if self.owner else {}
        return {"outcome": self.outcome, "drift": [*self.drift], **owner}


@dataclass(frozen=True, slots=True)
class LocalOutputs:
    """How the cluster of this machine is reached, and what was found to be other."""

    #: None where it was never whole.
    connection: Values | None = None
    credentials: Values | None = None
    drift: Sequence[str] = ()
    owner: str = ""

    @classmethod
    def read(cls, outputs: Values) -> Self:
        """Read them."""
        return cls(
            outputs.get("connection"),
            outputs.get("credentials"),
            outputs.get("drift") or (),
            outputs.get("owner") or "",
        )

    def values(self) -> Values:
        """Write them for the engine."""
        known: dict[str, Any] = {"connection": self.connection, "credentials": self.credentials}
        found = {key: value for key, value in known.items() if value is not None}
        return {**found, "drift": [*self.drift], **({"owner": self.owner} if self.owner else {})}

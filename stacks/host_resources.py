"""What versions before the provider have left in a stack: read and removed until it is taken over.

Pulumi's dynamic providers find these classes by their names. An `up` takes their resources over, by
aliases; a stack that is refreshed or destroyed before that still needs them.
"""

from __future__ import annotations

from pulumi.dynamic import DiffResult, ReadResult, ResourceProvider

from .provider.authority import Authority
from .provider.hosts import HostEnvironment, HostServices
from .provider.kinds import Kind, State
from .provider.local import LocalServices
from .provider.values import Values


class _Earlier(ResourceProvider):
    """Reads and removes what a dynamic provider has made."""

    serialize_as_secret_always = False
    kind: Kind

    def diff(self, _id: str, _olds: Values, _news: Values) -> DiffResult:
        """Find no difference: what changes is taken over first."""
        return DiffResult(changes=False)

    def read(self, id_: str, props: Values) -> ReadResult:
        """Look what became of it."""
        found = self.kind.read(self.kind.upgraded(State(props, props)), _say) or {}
        drift = ["it is gone"] if not found else found.get("drift", [])
        return ReadResult(id_, {**props, "drift": drift} if "drift" in props else props)

    def delete(self, _id: str, props: Values) -> None:
        """Remove it."""
        self.kind.delete(self.kind.upgraded(State(props, props)), _say)


class AuthorityProvider(_Earlier):
    """A certificate authority."""

    kind = Authority()


class EnvironmentProvider(_Earlier):
    """A machine's Python environment."""

    kind = HostEnvironment()


class ServicesProvider(_Earlier):
    """A machine's services."""

    kind = HostServices()


class LocalProvider(_Earlier):
    """The services on this machine."""

    kind = LocalServices()


def _say(text: str) -> None:
    print(text.removeprefix("!"), flush=True)

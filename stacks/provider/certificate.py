"""A certificate of a role, signed by the authority of its cluster."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import ClassVar

from perennial import certificates

from .authority import ends_soon, signed
from .kinds import Kind, Made, Refusal, Say, State, missing
from .values import Values, is_known


class Certificate(Kind):
    """Makes a certificate and its key; renews it in time, with the key that it has."""

    type: ClassVar[str] = "perennial:index:Certificate"
    secrets: ClassVar[tuple[str, ...]] = ("key",)
    computed: ClassVar[tuple[str, ...]] = ("cert", "key", "ends")
    identity: ClassVar[tuple[str, ...]] = ("role",)

    def check(self, _old: Values, new: Values) -> tuple[Values, Sequence[Refusal]]:
        """Refuse one that nobody signs, and names that no certificate can hold."""
        refusals = missing(("ca", "ca_key", "role", "names"), new)
        role, names = new.get("role", ""), new.get("names", [])
        if is_known(role) and role not in certificates.SERVERS:
            allowed = ", ".join(certificates.SERVERS)
            refusals.append(Refusal("role", f"found {role!r}; allowed: {allowed}"))
        if is_known(names):
            refusals += [
                Refusal("names", f"found {name!r}; allowed: an address, or a name of DNS")
                for name in names
                if not certificates.is_name(name)
            ]
        return new, refusals

    def pending(self, state: State, _new: Values) -> Sequence[str]:
        """Renew it in time."""
        return ["ends"] if ends_soon(state.outputs.get("ends")) else ()

    def create(self, new: Values, _say: Say) -> Made:
        """Make the certificate and its key."""
        return Made(new["role"], _signed(new, ""))

    def read(self, state: State, _say: Say) -> Values:
        """Nothing of it is anywhere else."""
        return {key: state.outputs[key] for key in self.computed if key in state.outputs}

    def update(self, state: State, new: Values, _say: Say) -> Values:
        """Sign it anew; another authority gets another key."""
        same = state.inputs.get("ca") == new["ca"]
        return _signed(new, state.outputs.get("key", "") if same else "")

    def delete(self, _state: State, _say: Say) -> None:
        """Forget it."""


def _signed(wanted: Values, key: str) -> Values:
    pair = certificates.Pair(wanted["ca"].encode(), wanted["ca_key"].encode())
    made = certificates.make_certificate(
        pair, wanted["role"], wanted["names"], datetime.now(UTC), key.encode()
    )
    return signed(made).values()

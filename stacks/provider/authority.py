"""The certificate authority of a cluster: its secrets are in the engine's state alone."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import ClassVar

from perennial import certificates
from perennial.authority import RENEW_WITHIN

from .kinds import Kind, Made, Refusal, Say, State, missing
from .remembered import AuthorityOutputs, CertificateOutputs
from .values import Values


class Authority(Kind):
    """Makes the authority, the client's certificate and Jupyter's token."""

    type: ClassVar[str] = "perennial:index:Authority"
    secrets: ClassVar[tuple[str, ...]] = ("ca_key", "client_key", "token")
    computed: ClassVar[tuple[str, ...]] = (
        *("ca", "ca_key", "client", "client_key", "token", "created", "ends"),
    )
    stable: ClassVar[tuple[str, ...]] = ("ca", "ca_key", "client_key", "token", "created")
    identity: ClassVar[tuple[str, ...]] = ("cluster",)

    def check(self, _old: Values, new: Values) -> tuple[Values, Sequence[Refusal]]:
        """Refuse one that is nobody's."""
        return new, missing(("cluster",), new)

    def upgraded(self, state: State) -> State:
        """Leave out what Pulumi's dynamic providers add."""
        return replace(state, inputs={"cluster": state.inputs.get("cluster")})

    def pending(self, state: State, _new: Values) -> Sequence[str]:
        """Renew the client's certificate in time."""
        return ["ends"] if ends_soon(state.outputs.get("ends")) else []

    def create(self, new: Values, _say: Say) -> Made:
        """Make the authority, the client's certificate and Jupyter's token."""
        now = datetime.now(UTC)
        authority = certificates.make_authority(new["cluster"], now)
        client = _client(authority, now)
        outputs = AuthorityOutputs(
            ca=authority.cert.decode(),
            ca_key=authority.key.decode(),
            client=client.cert,
            client_key=client.key,
            token=secrets.token_hex(24),
            created=now.isoformat(timespec="seconds"),
            ends=client.ends,
        )
        return Made(new["cluster"], outputs.values())

    def read(self, state: State, _say: Say) -> Values:
        """Nothing of it is anywhere else."""
        return {key: state.outputs[key] for key in self.computed if key in state.outputs}

    def update(self, state: State, _new: Values, say: Say) -> Values:
        """Renew the client's certificate, with the key that it has."""
        outputs = self.read(state, say)
        authority = certificates.Pair(outputs["ca"].encode(), outputs["ca_key"].encode())
        client = _client(authority, datetime.now(UTC), outputs.get("client_key", ""))
        return {**outputs, "client": client.cert, "client_key": client.key, "ends": client.ends}

    def delete(self, _state: State, _say: Say) -> None:
        """Forget it."""


def _client(authority: certificates.Pair, now: datetime, key: str = "") -> CertificateOutputs:
    """Make the client's certificate, with the key that it has."""
    client = certificates.make_certificate(authority, "client", (), now, key.encode())
    return signed(client)


def signed(made: certificates.Pair) -> CertificateOutputs:
    """Describe a certificate that was made."""
    end = certificates.ends(made.cert)
    return CertificateOutputs(made.cert.decode(), made.key.decode(), end.isoformat() if end else "")


def ends_soon(end: str | None) -> bool:
    """Whether a certificate which ends at this time of ISO 8601 is to be renewed by now."""
    if not end:
        return False
    moment = datetime.fromisoformat(end)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment - datetime.now(UTC) < RENEW_WITHIN

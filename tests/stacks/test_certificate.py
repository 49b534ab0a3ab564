"""The certificate of a role: signed by its authority, renewed in time with the key that it has."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pulumi.runtime.rpc import UNKNOWN

from perennial import certificates
from perennial.stacks.provider.authority import Authority
from perennial.stacks.provider.certificate import Certificate
from perennial.stacks.provider.kinds import State

KIND = Certificate()


def inputs(**changes: Any) -> dict[str, Any]:
    made = Authority().create({"cluster": "lab"}, print).outputs
    wanted = {"role": "scheduler", "names": ["lab-scheduler.dask.svc"]}
    return {"ca": made["ca"], "ca_key": made["ca_key"], **wanted, **changes}


def pair(outputs: dict[str, Any]) -> certificates.Pair:
    return certificates.Pair(outputs["cert"].encode(), outputs["key"].encode())


def test_it_is_of_its_authority_and_has_its_names() -> None:
    wanted = inputs()
    made = KIND.create(wanted, print).outputs
    assert certificates.fault(wanted["ca"].encode(), pair(made)) is None
    assert certificates.covers(pair(made).cert, wanted["names"])
    assert KIND.read(State(wanted, made), print) == made


def test_it_is_renewed_with_its_key_and_made_anew_under_another_authority() -> None:
    wanted = inputs()
    made = KIND.create(wanted, print).outputs
    assert KIND.pending(State(wanted, made), wanted) == ()
    soon = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    assert KIND.pending(State(wanted, {**made, "ends": soon}), wanted) == ["ends"]
    more = {**wanted, "names": [*wanted["names"], "192.0.2.1"]}
    renewed = KIND.update(State(wanted, made), more, print)
    assert renewed["key"] == made["key"]
    assert certificates.covers(pair(renewed).cert, more["names"])
    other = inputs()
    anew = KIND.update(State(wanted, made), other, print)
    assert anew["key"] != made["key"]
    assert certificates.fault(other["ca"].encode(), pair(anew)) is None


def test_what_cannot_be_signed_is_refused_by_its_input() -> None:
    def refused(new: dict[str, Any]) -> list[str]:
        return [one.property for one in KIND.check({}, new)[1]]

    assert refused(inputs()) == []
    assert refused(inputs(role="client")) == ["role"]
    assert refused(inputs(names=["a..b"])) == ["names"]
    assert refused({"role": "worker"}) == ["ca", "ca_key", "names"]
    assert refused(inputs(ca=UNKNOWN, ca_key=UNKNOWN, names=UNKNOWN)) == []

"""Rights of roles, as IAM writes them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Version of IAM's language.
VERSION = "2012-10-17"


@dataclass(frozen=True, slots=True)
class Statement:
    """What may be done with what."""

    #: Such as ``ecs:UpdateService``.
    actions: tuple[str, ...]
    #: ARNs; ``*`` only where an API knows no resource.
    resources: tuple[str, ...]
    #: Operator → key → value, such as ``{"ArnEquals": {"ecs:cluster": "arn:…"}}``.
    conditions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Write it as IAM does."""
        conditions = {key: dict(inner) for key, inner in sorted(self.conditions.items())}
        return {
            "Effect": "Allow",
            "Action": sorted(self.actions),
            "Resource": sorted(self.resources),
            **({"Condition": conditions} if conditions else {}),
        }


def document(statements: Iterable[Statement]) -> str:
    """Write a policy."""
    return _policy([each.to_json() for each in statements])


def trust(service: str) -> str:
    """Write who may have a role: a service of AWS, such as ``ecs-tasks``."""
    principal = {"Service": f"{service}.amazonaws.com"}
    return _policy([{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal}])


def _policy(statements: list[dict[str, Any]]) -> str:
    return json.dumps({"Version": VERSION, "Statement": statements}, sort_keys=True)

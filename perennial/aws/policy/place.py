"""Statements about resources of one cluster in one account and region. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from perennial.aws import names
from perennial.aws.rights import Statement

#: Letters at the end of a name that tell parts of a cluster apart, see `names.name_of`.
_DIGEST = 9


@dataclass(frozen=True, slots=True)
class Place:
    """Whose resources they are, and where: what their ARNs are written with."""

    cluster: str
    region: str
    #: Number of the account; ``*`` for the one that the policy is attached in.
    account: str = "*"

    @property
    def partition(self) -> str:
        """The partition of the region, with which its ARNs begin."""
        found = {"cn": "aws-cn", "us-gov": "aws-us-gov"}
        return next((each for key, each in found.items() if self.region.startswith(key)), "aws")

    def arn(self, service: str, resource: str) -> str:
        """Write the ARN of a resource, or of several by a pattern."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"

    def iam(self, resource: str) -> str:
        """Write the ARN of a resource of IAM, which knows no region."""
        return f"arn:{self.partition}:iam::{self.account}:{resource}"

    def everywhere(self, service: str, resource: str) -> str:
        """Write the ARN of a resource whose service knows neither account nor region."""
        return f"arn:{self.partition}:{service}:::{resource}"

    def named(self, longest: int = names.USUAL) -> str:
        """Return the pattern of all names of the cluster."""
        begin = f"{names.OURS}-{self.cluster}-"
        return f"{begin[: longest - _DIGEST]}*"

    def created(self, service: str, kinds: tuple[str, ...], *actions: str) -> Statement:
        """Let resources be made that have the cluster's tag from the first."""
        tagged = {f"aws:RequestTag/{names.CLUSTER}": self.cluster}
        return Statement(
            prefixed(service, actions), self._kinds(service, kinds), {"StringEquals": tagged}
        )

    def tagged(self, service: str, kinds: tuple[str, ...], *actions: str) -> Statement:
        """Let resources be used and changed that have the cluster's tag."""
        tagged = {f"aws:ResourceTag/{names.CLUSTER}": self.cluster}
        return Statement(
            prefixed(service, actions), self._kinds(service, kinds), {"StringEquals": tagged}
        )

    def _kinds(self, service: str, kinds: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(self.arn(service, f"{kind}/*") for kind in kinds) or ("*",)


def prefixed(service: str, actions: tuple[str, ...]) -> tuple[str, ...]:
    """Write actions of a service as IAM does."""
    return tuple(f"{service}:{action}" for action in actions)


def unscoped(service: str, *actions: str) -> Statement:
    """Let be done what the API knows no resource for."""
    return Statement(prefixed(service, actions), ("*",))

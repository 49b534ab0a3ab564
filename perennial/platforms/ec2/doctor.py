"""Check a cluster on EC2 for problems: its account, groups, instances, image, certificates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from perennial.aws import names
from perennial.aws.client import Aws
from perennial.doctor import Finding, checks, guarded
from perennial.paths import cluster_state
from perennial.platforms.ec2 import groups
from perennial.platforms.ec2.checks import check
from perennial.platforms.ec2.parts import SCHEDULER
from perennial.state import command

if TYPE_CHECKING:
    from perennial.spec import ClusterSpec


class Running(Protocol):
    """What is looked at: a cluster that runs, see `perennial.platforms.ec2.runtime`."""

    @property
    def spec(self) -> ClusterSpec:
        """The cluster as it was deployed."""

    @property
    def aws(self) -> Aws:
        """Its account."""


def examine(running: Running, python: str | None) -> Iterator[Finding]:
    """Run every check on a cluster of this user's."""
    spec, aws = running.spec, running.aws
    yield from guarded("account", lambda: account(spec, aws))
    yield from guarded("groups", lambda: standing(spec, aws))
    yield checks.secrets(cluster_state(spec.name).root)
    cut = not any(each.key == SCHEDULER and each.is_up for each in groups.instances(aws, spec))
    yield from guarded("client", lambda: checks.as_client(spec.name, python, cut))


def account(spec: ClusterSpec, aws: Aws) -> Iterator[Finding]:
    """Ask whether what the cluster needs is still there."""
    check(spec, aws)
    yield Finding("account", "ok", f"network, images and types are there in {aws.region}")


def standing(spec: ClusterSpec, aws: Aws) -> Iterator[Finding]:
    """Compare what each group has with what it should have."""
    found, instances = groups.groups(aws, spec), groups.instances(aws, spec)
    for key in groups.keys(spec):
        if key not in found:
            name, up = names.name_of(spec.name, key), command("up", spec.name)
            text = f"{key}: no Auto Scaling group {name}; {up} makes it"
            yield Finding("groups", "error", text)
            continue
        own = [each for each in instances if each.key == key]
        desired, there = int(found[key]["DesiredCapacity"]), sum(each.is_up for each in own)
        if there >= desired:
            yield Finding("groups", "ok", f"{key}: {there} of {desired} instances in service")
            continue
        why = groups.failed(aws, names.name_of(spec.name, key))
        waiting = ", ".join(sorted({each.state for each in own if not each.is_up}))
        said = why or (f"the others are {waiting}" if waiting else "AWS has started no more yet")
        text = f"{key}: {there} of {desired} instances in service: {said}"
        yield Finding("groups", "error" if why or key == SCHEDULER else "warning", text)

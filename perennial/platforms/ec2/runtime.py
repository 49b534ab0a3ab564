"""A cluster on EC2 that runs, as the command line asks it."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from perennial import connect, contracts, render, tunnel
from perennial.aws import names
from perennial.aws.client import Aws
from perennial.contracts import (
    LogLine,
    Lost,
    Overview,
    Resized,
    Say,
    ServiceStatus,
    Status,
    WebPage,
)
from perennial.errors import PerennialError
from perennial.pages import Counts, counts_of, socket_of
from perennial.paths import cluster_state
from perennial.platforms.ec2 import commands, groups, parts
from perennial.platforms.ec2.bundle import fetch_keys
from perennial.platforms.ec2.fleet import Ec2Fleet
from perennial.platforms.ec2.groups import Standing
from perennial.platforms.ec2.parts import SCHEDULER
from perennial.services import scheduler_address
from perennial.stacked import CANNOT, deployed, token_file

if TYPE_CHECKING:
    from perennial.doctor import Finding
    from perennial.spec import ClusterSpec

#: Seconds between two looks at logs that are followed.
FOLLOW = 3.0
#: States of an instance in its group → what `status` says.
_STATES = {"InService": "RUNNING", "Pending": "STARTING", "Terminating": "STOPPING"}
#: How a group's instances are replaced: a new one is there before an old one drains.
REFRESH = {
    "MinHealthyPercentage": 100,
    "MaxHealthyPercentage": 110,
    "ScaleInProtectedInstances": "Refresh",
    "StandbyInstances": "Ignore",
}


class Ec2Runtime(contracts.Runtime):
    """Instances of a cluster, as AWS sees them."""

    cannot: ClassVar = {
        **CANNOT,
        "rotate": "{name}: {up} renews what ends within 30 days; `perennial restart` reads it",
        "dashboard": "{name}: JupyterLab has the dashboard behind its login; `perennial open`",
        "enable": "{name}: Auto Scaling starts its instances by itself",
        "disable": "{name}: Auto Scaling keeps its instances running until {down}",
    }

    @cached_property
    def spec(self) -> ClusterSpec:
        """The cluster as it was deployed."""
        return deployed(cluster_state(self.name))

    @cached_property
    def aws(self) -> Aws:
        """The account of the cluster."""
        return Aws(self.spec.options.region, self.spec.options.profile)

    def overview(self) -> Overview:
        """Ask whether the scheduler's instance is in service."""
        return Overview(
            bool(self._scheduler()), scheduler_address(self.spec, parts.site(self.spec))
        )

    def status(self) -> Status:
        """Look at every instance, and ask the scheduler for its numbers."""
        standing = groups.instances(self.aws, self.spec)
        sizes = {
            key: sum(each.key == key and each.is_up for each in standing)
            for key in self.spec.workers
        }
        return Status(None, sizes, [row(each) for each in standing], self._counts(standing))

    def counts(self) -> Counts | None:
        """Ask on the scheduler's instance: nobody else reaches its pages."""
        return self._counts(groups.instances(self.aws, self.spec))

    def logs(self, service: str | None, lines: int, follow: bool) -> Iterator[LogLine]:
        """Read the logs of instances in CloudWatch."""
        client, group = self.aws.client("logs"), names.log_group(self.name)
        prefix = self._stream(service)
        streams = self.aws.pages(
            f"list the logs of {self.name}",
            client.describe_log_streams,
            "logStreams",
            logGroupName=group,
            **({"logStreamNamePrefix": prefix} if prefix else {}),
        )
        for stream in sorted(each["logStreamName"] for each in streams):
            told = self.aws.call(
                f"read the log of {stream}",
                client.get_log_events,
                logGroupName=group,
                logStreamName=stream,
                limit=min(max(lines, 1), 10_000),
                startFromHead=False,
            )["events"]
            yield from (LogLine(stream, str(each["message"])) for each in told[-lines:])
        if follow:
            yield from self._follow(client, group, prefix)

    def restart(self, service: str, say: Say, _lost: Lost) -> int:
        """Replace the instances of a group, or restart one service; nobody waits for the drain."""
        if service in self.spec.workers:
            say(f"replacing the instances of {service}, one after another")
            client = self.aws.client("autoscaling")
            self.aws.call(
                f"replace the instances of {service}",
                client.start_instance_refresh,
                AutoScalingGroupName=names.name_of(self.name, service),
                Strategy="Rolling",
                Preferences=REFRESH,
            )
            return sum(each.key == service for each in groups.instances(self.aws, self.spec))
        instance, unit = self._unit(service)
        say(f"restarting {unit} on {instance}")
        restart = f"systemctl restart --no-block {shlex.quote(unit)}"
        # An earlier `up` may have renewed them, and the service reads them when it starts.
        commands.run(self.aws, instance, f"{fetch_keys(self.name)} && {restart}")
        return 1

    def scale(
        self, wanted: Mapping[str, int], _force: bool, say: Say, _lost: Lost
    ) -> Mapping[str, Resized]:
        """Size groups; each instance that goes drains, and nobody waits for it."""
        found = {}
        for group, size in wanted.items():
            say(f"sizing the Auto Scaling group of {group}")
            self._allow(group, size)
            fleet = Ec2Fleet(**dict(parts.fleets(self.spec)[group]), aws=self.aws)
            seen = fleet.observe()
            there = [one for one in seen.members if one.state == "running"]
            leaving = there[size:] if size < seen.desired else []
            found[group] = Resized(seen.desired, fleet.resize(size, leaving))
        return found

    def checks(self, python: str | None) -> Iterator[Finding]:
        """Run the checks of `doctor`."""
        from perennial.platforms.ec2.doctor import examine

        return examine(self, python)

    def jupyter(self) -> WebPage | None:
        """Find JupyterLab, through a forwarded port."""
        state = cluster_state(self.name)
        link = connect.load(state)
        if link.jupyter_url is None:
            return None
        link = tunnel.forwarded(link)
        return WebPage(str(link.jupyter_url), token_file(state), state.secrets)

    # Inside

    def _scheduler(self, standing: list[Standing] | None = None) -> str:
        """Return the instance of the scheduler; empty where none is in service."""
        every = groups.instances(self.aws, self.spec) if standing is None else standing
        return next((each.id for each in every if each.key == SCHEDULER and each.is_up), "")

    def _counts(self, standing: list[Standing]) -> Counts | None:
        instance = self._scheduler(standing)
        if not instance:
            return None
        socket = socket_of(parts.site(self.spec).pages)
        argv = (parts.python(self.spec), "-P", "-m", "perennial.counts_page", socket)
        try:
            return counts_of(*json.loads(commands.run(self.aws, instance, shlex.join(argv), 20.0)))
        except (PerennialError, ValueError, TypeError):
            return None

    def _allow(self, group: str, size: int) -> None:
        """Let a group of fixed size be as large as a person says; `up` sets it back."""
        if group in self.spec.scaled or size <= self.spec.workers[group].most:
            return
        client = self.aws.client("autoscaling")
        self.aws.call(
            f"raise the largest size of {group}",
            client.update_auto_scaling_group,
            AutoScalingGroupName=names.name_of(self.name, group),
            MaxSize=size,
        )

    def _stream(self, service: str | None) -> str:
        """Return the beginning of the names of log streams: a part, or one instance's."""
        if service is None:
            return ""
        for key in groups.keys(self.spec):
            if service == key:
                return f"{key}/"
            if service.startswith(f"{key}-i-"):
                return f"{key}/{service.removeprefix(f'{key}-')}"
        if service in ("jupyter", "scaler"):
            return f"{SCHEDULER}/"
        raise self._unknown(service)

    def _unit(self, service: str) -> tuple[str, str]:
        """Return the instance of a service, and its unit there."""
        standing = groups.instances(self.aws, self.spec)
        for machine in parts.machines(self.spec):
            for one in machine.services:
                unit = render.unit_name(self.name, one)
                if one.name == service:
                    if found := self._scheduler(standing):
                        return found, unit
                    raise PerennialError(f"{self.name}: no instance of the scheduler is in service")
                for each in standing:
                    if machine.is_group and each.key == machine.key and service == name_of(each):
                        return each.id, unit.replace("@.", f"@{each.id}.")
        raise self._unknown(service)

    def _unknown(self, service: str) -> PerennialError:
        others = [each for each in ("jupyter", "scaler") if getattr(self.spec, each) is not None]
        known = ", ".join([*groups.keys(self.spec), *others])
        return PerennialError(f"{self.name} has no service or group {service!r}; it has {known}")

    def _follow(self, client: Any, group: str, prefix: str) -> Iterator[LogLine]:
        since, seen = int(time.time() * 1000), set[str]()
        while True:
            time.sleep(FOLLOW)
            told = self.aws.pages(
                f"follow the logs of {self.name}",
                client.filter_log_events,
                "events",
                logGroupName=group,
                startTime=since,
                **({"logStreamNamePrefix": prefix} if prefix else {}),
            )
            for each in told:
                if each["eventId"] not in seen:
                    seen.add(each["eventId"])
                    yield LogLine(str(each["logStreamName"]), str(each["message"]))


def name_of(standing: Standing) -> str:
    """Name an instance as its worker is called; the scheduler's as its service."""
    return SCHEDULER if standing.key == SCHEDULER else f"{standing.key}-{standing.id}"


def row(standing: Standing) -> ServiceStatus:
    """Describe an instance. Pure."""
    state = _STATES.get(standing.state.partition(":")[0], standing.state.upper())
    notes = [standing.reason] if standing.reason and state != "RUNNING" else []
    if not standing.healthy:
        notes.append("unhealthy: its group replaces it")
    return ServiceStatus(
        name_of(standing),
        " ".join(filter(None, (standing.address, standing.type))) or None,
        state,
        uptime=standing.uptime,
        note="; ".join(notes) or None,
    )


def stop(spec: ClusterSpec) -> None:
    """Stop the scheduler's instance; its group stays."""
    aws = Aws(spec.options.region, spec.options.profile)
    client = aws.client("autoscaling")
    aws.call(
        f"stop the scheduler of {spec.name}",
        client.update_auto_scaling_group,
        AutoScalingGroupName=names.name_of(spec.name, SCHEDULER),
        MinSize=0,
        DesiredCapacity=0,
    )

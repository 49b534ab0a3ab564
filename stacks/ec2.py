"""A cluster on EC2: a scheduler's instance that comes back, and an Auto Scaling group a group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi_aws import cloudwatch, ebs, ec2, iam, route53, s3

from perennial.aws import names
from perennial.aws.rights import Statement, document
from perennial.fleet import written
from perennial.platforms.ec2 import parts, rights
from perennial.platforms.ec2.alarms import rules
from perennial.platforms.ec2.costs import ENDPOINTS
from perennial.platforms.ec2.parts import SCHEDULER
from perennial.services import scheduler_address
from perennial.spec import ClusterSpec
from perennial.spec.units import GIB

from .args import (
    AwsAlarmsArgs,
    AwsLogsArgs,
    AwsNetworkArgs,
    AwsNotebooksArgs,
    Ec2ClusterArgs,
    Ec2OptionsArgs,
    EnvironmentArgs,
    GroupInstancesArgs,
    JupyterArgs,
    ScaleArgs,
    SchedulerArgs,
    SchedulerInstanceArgs,
    SpotInstancesArgs,
    WorkerGroupArgs,
)
from .aws import PATH, PLUGINS, Account, Grants, SecretFiles, gathered, whole
from .aws_alarms import alarms
from .aws_network import (
    Opening,
    PlacedNetwork,
    clients,
    members,
    network,
    open_to,
    security_group,
    with_given,
)
from .base import ClusterComponent, outputs_of
from .ec2_groups import Instances, scheduler_group, template, worker_group
from .ec2_planning import described, stop_scheduler
from .inputs import Inputs
from .resources import Authority

__all__ = [
    "PLUGINS",
    "AwsAlarmsArgs",
    "AwsLogsArgs",
    "AwsNetworkArgs",
    "AwsNotebooksArgs",
    "Cluster",
    "Ec2Cluster",
    "Ec2ClusterArgs",
    "Ec2OptionsArgs",
    "EnvironmentArgs",
    "GroupInstancesArgs",
    "JupyterArgs",
    "ScaleArgs",
    "SchedulerArgs",
    "SchedulerInstanceArgs",
    "SpotInstancesArgs",
    "WorkerGroupArgs",
    "described",
    "stop_scheduler",
]


class Ec2Cluster(ClusterComponent):
    """A scheduler, worker groups, Jupyter and the scaler on instances of EC2.

    Its children are ``<name>-authority``, ``<name>-<role>-certificate``, ``<name>-<role>-secret``,
    and for the scheduler and each group ``<name>-<part>-bundle``, ``-role``, ``-profile``,
    ``-template`` and ``-instances``. A provider of pulumi-aws in the options reaches all of them.

    Parameters
    ----------
    name : str
        Name of the component.
    args : Ec2ClusterArgs, mapping or ClusterSpec
        The keys of a cluster file. Names, groups, counts, types and which resources there are is
        known when the program runs; any other value may be an Output, such as the VPC, its subnets
        or the image.
    opts : pulumi.ResourceOptions or None
        Pulumi's own options.
    force : bool
        Without meaning here: AWS says what there is room for.

    Raises
    ------
    pulumi.RunError
        Where the arguments are no valid cluster file; one line for each fault.
    """

    platform = "ec2"
    component_type = "perennial:index:Ec2Cluster"

    def deploy(self, name: str, given: Inputs, force: bool) -> dict[str, Any]:
        """Register the authority, the network, the rights, and the instances of each part."""
        account = Account(self, name, given)
        authority = account.authority()
        secrets = _secrets(account, authority)
        where = network(account, ENDPOINTS)
        groups = _security_groups(account, where)
        bucket, logs = _bucket(account), account.log_group()
        ready = [*where.ready, *(each.version for each in secrets.values()), logs]

        role = _role(account, SCHEDULER, bucket, logs, secrets)
        made = _Scheduler(account, where, role)
        told: pulumi.Output[dict[str, str]] = gathered(dict, **made.told(groups["scheduler"]))
        instances = Instances(SCHEDULER, role, with_given(account, groups["scheduler"]), told)
        first = template(account, instances, bucket)
        after = [*ready, *made.ready]
        standing = {
            SCHEDULER: scheduler_group(account, first, where.subnets[0][1], after),
        }
        for group in given.spec.workers:
            role = _role(account, group, bucket, logs, secrets)
            instances = Instances(
                group, role, with_given(account, groups["workers"]), pulumi.Output.from_input({})
            )
            launched = template(account, instances, bucket)
            standing[group] = worker_group(account, group, launched, where.every_subnet, ready)
        alarms(account, rules(given.spec), standing, logs)
        return _outputs(account, authority)


class _Scheduler:
    """What the scheduler's instance has beside: its name, its volume, and the scaler's role."""

    def __init__(self, account: Account, where: PlacedNetwork, role: iam.Role) -> None:
        self._account = account
        self._where = where
        subnet = where.subnets[0][1]
        self.zone = route53.Zone(
            account.title("domain"),
            name=account.value(parts.domain, "options.network.domain"),
            comment=f"Names of the Dask cluster {account.spec.name}",
            vpcs=[route53.ZoneVpcArgs(vpc_id=where.vpc)],
            # The record in it is the instance's own.
            force_destroy=True,
            tags=account.tags("network"),
            opts=account.options(),
        )
        self.volume, self._volume_arn = self._data(subnet)
        self.scaler = self._scaler(role) if account.spec.scaled else None
        self._rights(role)
        self.ready: tuple[pulumi.Resource, ...] = ()

    def _data(self, subnet: pulumi.Input[str]) -> tuple[pulumi.Input[str], pulumi.Input[str]]:
        """Register the volume that outlives the instance, or take the one that is given."""
        account, own = self._account, self._account.spec.options.scheduler
        if own.volume_id is not None:
            return (
                account.at("options.scheduler.volume_id"),
                account.value(rights.given_volume, "options.scheduler.volume_id"),
            )
        volume = ebs.Volume(
            account.title("volume"),
            availability_zone=_zone(account, self._where, subnet),
            size=account.value(
                lambda spec: -(-spec.options.scheduler.volume // GIB), "options.scheduler.volume"
            ),
            type="gp3",
            encrypted=True,
            tags=account.tags("notebooks"),
            opts=account.options(retain_on_delete=own.keep_volume),
        )
        return volume.id, volume.arn

    def told(self, group: ec2.SecurityGroup) -> dict[str, pulumi.Input[str]]:
        """Return what the instance is told of them."""
        found: dict[str, pulumi.Input[str]] = {
            "volume": self.volume,
            "zone": self.zone.zone_id,
        }
        if self.scaler is not None:
            found["role"] = self.scaler.arn
        account, subnets = self._account, self._where.subnets
        # Whoever owns the folder of an access point is not asked: an instance mounts all of it.
        system = account.notebooks(subnets, group.id, user=0)
        if system is not None:
            self.ready = system.targets
            region = account.spec.options.region
            named = pulumi.Output.from_input(system.id)
            found["export"] = named.apply(lambda known: f"{known}.efs.{region}.amazonaws.com")
        return found

    def _scaler(self, instance: iam.Role) -> iam.Role:
        """Register the role of the scaler, which the scheduler's instance alone may take."""
        account = self._account
        boundary = account.at("options.permissions_boundary")
        role = iam.Role(
            account.title("scaler-role"),
            name=names.role_name(account.spec.name, account.spec.options.region, "scaler"),
            path=PATH,
            description=f"scaler of the Dask cluster {account.spec.name}",
            assume_role_policy=instance.arn.apply(rights.trusted),
            **({} if boundary is None else {"permissions_boundary": boundary}),
            tags=account.tags("scaler"),
            opts=account.options(),
        )
        iam.RolePolicy(
            account.title("scaler-rights"),
            name="scaler",
            role=role.name,
            policy=document(rights.scaler(account.spec)),
            opts=account.options(),
        )
        return role

    def _rights(self, role: iam.Role) -> None:
        """Let the instance use them."""
        policy = gathered(
            _scheduler_rights,
            spec=self._account.value(whole, "options.network.domain"),
            zone=self.zone.arn,
            volume=self._volume_arn,
            scaler=self.scaler.arn if self.scaler is not None else None,
        )
        iam.RolePolicy(
            self._account.title("scheduler-place"),
            name="place",
            role=role.name,
            policy=policy,
            opts=self._account.options(),
        )


def _role(
    account: Account,
    key: str,
    bucket: s3.Bucket,
    logs: cloudwatch.LogGroup,
    secrets: Mapping[str, SecretFiles],
) -> iam.Role:
    """Register the role of one kind of instances."""
    machine = next(each for each in parts.machines(account.spec) if each.key == key)
    statements = gathered(
        _instance_rights,
        spec=account.spec,
        key=key,
        bucket=bucket.arn,
        secrets=pulumi.Output.all(*(secrets[role].secret.arn for role in machine.secrets)),
        logs=logs.arn,
    )
    count = len(account.spec.options.group(key).policies) if machine.is_group else 0
    own = pulumi.Output.from_input(
        account.value(
            lambda spec: [*spec.options.group(key).policies] if count else [],
            f"options.workers.{key}.policies",
        )
    )
    granted = Grants(statements, tuple(own[place] for place in range(count)))
    return account.role(key, "ec2", granted)


def _instance_rights(
    spec: ClusterSpec, key: str, bucket: str, secrets: list[str], logs: str
) -> list[Statement]:
    found = rights.instance(key, bucket, secrets, logs)
    return [*found, *(rights.worker(spec, key) if key != SCHEDULER else [])]


def _scheduler_rights(spec: ClusterSpec, zone: str, volume: str, scaler: str | None) -> str:
    return document(rights.scheduler(spec, zone, volume, scaler))


def _secrets(account: Account, authority: Authority) -> dict[str, SecretFiles]:
    """Register the certificates, and a secret for each role that reads some."""
    known: dict[str, pulumi.Output[str]] = {
        "ca.pem": authority.ca,
        "client.pem": authority.client,
        "client-key.pem": authority.client_key,
        "jupyter-token": authority.token,
    }
    contents = parts.contents(account.spec)
    for role in contents:
        if role != "client":
            made = account.certificate(authority, role, _reached(role))
            known |= {f"{role}.pem": made.cert, f"{role}-key.pem": made.key}
    return {
        role: account.secret(role, {file: known[file] for file in files})
        for role, files in contents.items()
    }


def _reached(role: str) -> Any:
    return lambda spec: parts.reached_by(spec, role)


def _security_groups(account: Account, where: PlacedNetwork) -> dict[str, ec2.SecurityGroup]:
    """Register who reaches whom: nobody from outside but the clients that the file names."""
    spec = account.spec
    scheduler = security_group(account, "scheduler", where)
    workers = security_group(account, "workers", where)
    port = account.at("scheduler.port")
    own = [Opening("workers", port, port, group=workers.id), *clients(account, "scheduler")]
    if spec.jupyter is not None:
        own += clients(account, "jupyter")
    if spec.options.notebooks is not None and spec.options.notebooks.file_system is None:
        own.append(Opening("notebooks", 2049, 2049, group=scheduler.id))
    open_to(account, "scheduler", scheduler, own)
    reached = members(account, parts.ports_of, {"scheduler": scheduler, "workers": workers})
    open_to(account, "workers", workers, reached)
    return {"scheduler": scheduler, "workers": workers}


def _zone(account: Account, where: PlacedNetwork, subnet: pulumi.Input[str]) -> pulumi.Input[str]:
    """Return the availability zone of a subnet: the volume has to be in the same."""
    options = account.spec.options
    if options.network.is_made:
        return f"{options.region}{where.subnets[0][0]}"
    found: pulumi.Output[str] = ec2.get_subnet_output(
        id=subnet, opts=account.invoked()
    ).availability_zone
    return found


def _bucket(account: Account) -> s3.Bucket:
    """Register the bucket of what instances fetch, which nobody else reads."""
    made = s3.Bucket(
        account.title("bucket"),
        bucket_prefix=f"perennial-{account.spec.name}"[:36] + "-",
        force_destroy=True,
        tags=account.tags("bucket"),
        opts=account.options(),
    )
    s3.BucketPublicAccessBlock(
        account.title("bucket-private"),
        bucket=made.bucket,
        block_public_acls=True,
        block_public_policy=True,
        ignore_public_acls=True,
        restrict_public_buckets=True,
        opts=account.options(),
    )
    return made


def _outputs(account: Account, authority: Authority) -> dict[str, Any]:
    def told(spec: ClusterSpec) -> dict[str, Any]:
        return {
            "scheduler_address": scheduler_address(spec, parts.site(spec)),
            # Through JupyterLab's login, or a forwarded port.
            "dashboard_url": None,
            "jupyter_url": parts.jupyter_url(spec),
            "fleets": written(parts.fleets(spec)),
        }

    read = account.value(told, *account.common, "options.network.domain")
    found = pulumi.Output.from_input(read)
    return outputs_of(account.spec, found, authority, found["scheduler_address"])


#: What the registry of stacks looks for.
Cluster = Ec2Cluster

"""Launch templates and Auto Scaling groups of a cluster on EC2."""

from __future__ import annotations

import atexit
import base64
import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
from pulumi_aws import autoscaling, ec2, iam, s3

from perennial.aws import names
from perennial.files import write_atomic
from perennial.platforms.ec2 import bundle, parts
from perennial.platforms.ec2.options import GroupInstances, Options, SchedulerInstance
from perennial.platforms.ec2.parts import SCHEDULER, Machine
from perennial.spec import ClusterSpec
from perennial.spec.units import GIB

from .aws import Account, gathered, whole

#: Seconds in which an instance must have booted, and between heartbeats of one that drains.
BOOTS, ALIVE = 1800, 300
#: Keys of the platform's own that a bundle is made of.
_BUNDLED = ("metadata", "network.domain", "notebooks", "python")
#: Metrics of a group, which cost nothing; alarms look at them.
METRICS = [
    autoscaling.Metric.GROUP_IN_SERVICE_INSTANCES,
    autoscaling.Metric.GROUP_DESIRED_CAPACITY,
    autoscaling.Metric.GROUP_TERMINATING_INSTANCES,
]


@dataclass(frozen=True, slots=True)
class Instances:
    """What the instances of one kind are made with."""

    key: str
    role: iam.Role
    security_groups: pulumi.Input[Sequence[pulumi.Input[str]]]
    #: What an instance is told of resources, see `bundle.settings`.
    told: pulumi.Input[dict[str, str]]


def machine_of(spec: ClusterSpec, key: str) -> Machine:
    """Return one kind of instances of a cluster."""
    return next(each for each in parts.machines(spec) if each.key == key)


def own(spec: ClusterSpec, key: str) -> SchedulerInstance | GroupInstances:
    """Return what is said of one kind of instances."""
    options: Options = spec.options
    return options.scheduler if key == SCHEDULER else options.group(key)


def types(spec: ClusterSpec, key: str) -> tuple[str, ...]:
    """Return the types of one kind of instances, the preferred first."""
    options: Options = spec.options
    if key == SCHEDULER:
        return (options.scheduler.instance_type,)
    return options.types(key, spec.workers[key])


def _below(key: str) -> str:
    """Return the key of the cluster file below which one kind of instances is described."""
    return "options.scheduler" if key == SCHEDULER else f"options.workers.{key}"


def _typed(key: str) -> tuple[str, ...]:
    """List the keys of the cluster file by which the types of instances are chosen."""
    sizes = (f"workers.{key}.{each}" for each in ("threads", "processes", "memory"))
    return f"{_below(key)}.instance_type", f"{_below(key)}.instance_types", *sizes


def image(spec: ClusterSpec, key: str) -> str:
    """Return the image of one kind of instances."""
    found: str = spec.options.image_of(own(spec, key), types(spec, key)[0])
    return found


def template(account: Account, made_of: Instances, bucket: s3.Bucket) -> ec2.LaunchTemplate:
    """Register the bundle of one kind of instances, and the template that fetches it."""
    key = made_of.key
    stored, user_data = _bundle(account, made_of, bucket)
    profile = iam.InstanceProfile(
        account.title(f"{key}-profile"),
        name=names.role_name(account.spec.name, account.spec.options.region, key),
        path=f"/{names.OURS}/",
        role=made_of.role.name,
        tags=account.tags(key),
        opts=account.options(),
    )
    tags = account.tags(key, key if key != SCHEDULER else None)
    return ec2.LaunchTemplate(
        account.title(f"{key}-template"),
        name=names.name_of(account.spec.name, key),
        update_default_version=True,
        image_id=account.value(
            lambda spec: image(spec, key), "options.image", f"{_below(key)}.image", *_typed(key)
        ),
        instance_type=account.value(lambda spec: types(spec, key)[0], *_typed(key)),
        key_name=account.value(
            lambda spec: own(spec, key).key_pair or spec.options.key_pair,
            "options.key_pair",
            f"{_below(key)}.key_pair",
        ),
        iam_instance_profile=ec2.LaunchTemplateIamInstanceProfileArgs(arn=profile.arn),
        # Version 2 of the metadata alone, and nothing beyond the instance, such as a container.
        metadata_options=ec2.LaunchTemplateMetadataOptionsArgs(
            http_endpoint="enabled", http_tokens="required", http_put_response_hop_limit=1
        ),
        block_device_mappings=[_disk(account, key)],
        network_interfaces=[
            ec2.LaunchTemplateNetworkInterfaceArgs(
                device_index=0,
                associate_public_ip_address="false",
                security_groups=made_of.security_groups,
                delete_on_termination="true",
            )
        ],
        tag_specifications=[
            ec2.LaunchTemplateTagSpecificationArgs(resource_type=kind, tags=tags)
            for kind in ("instance", "volume", "network-interface")
        ],
        user_data=user_data,
        tags=tags,
        opts=account.options(stored),
    )


def _bundle(
    account: Account, made_of: Instances, bucket: s3.Bucket
) -> tuple[s3.BucketObjectv2, pulumi.Output[str]]:
    """Register the bundle of one kind of instances; return it, and the user data that names it."""
    key = made_of.key
    keys = (*account.common, *(f"options.{each}" for each in _BUNDLED))
    packed = account.value(lambda spec: _packed(spec, key), *keys)
    known = pulumi.Output.from_input(packed)
    stored = s3.BucketObjectv2(
        account.title(f"{key}-bundle"),
        bucket=bucket.bucket,
        key=known.apply(lambda each: each[0]),
        source=known.apply(lambda each: pulumi.FileAsset(each[1])),
        tags=account.tags(key),
        # Instances that are still the old ones boot from the old one.
        opts=account.options(renewed=True),
    )
    user_data = gathered(
        _user_data,
        spec=account.value(whole, *keys),
        key=key,
        packed=packed,
        bucket=bucket.bucket,
        told=made_of.told,
    )
    return stored, user_data


def _disk(account: Account, key: str) -> ec2.LaunchTemplateBlockDeviceMappingArgs:
    """Describe the root disk: encrypted, and gone with its instance."""
    keys = (f"{at}.{each}" for at in ("options", _below(key)) for each in ("disk", "root_device"))
    disk = account.value(lambda spec: spec.options.disk_of(own(spec, key)), *keys)
    root = pulumi.Output.from_input(disk)
    return ec2.LaunchTemplateBlockDeviceMappingArgs(
        device_name=root.apply(lambda each: each[0]),
        ebs=ec2.LaunchTemplateBlockDeviceMappingEbsArgs(
            volume_type="gp3",
            volume_size=root.apply(lambda each: -(-each[1] // GIB)),
            encrypted="true",
            delete_on_termination="true",
        ),
    )


def scheduler_group(
    account: Account,
    made: ec2.LaunchTemplate,
    subnet: pulumi.Input[str],
    after: Sequence[pulumi.Resource],
) -> autoscaling.Group:
    """Register the group of one that brings the scheduler's instance back."""
    return autoscaling.Group(
        account.title(f"{SCHEDULER}-instances"),
        name=names.name_of(account.spec.name, SCHEDULER),
        min_size=1,
        max_size=1,
        desired_capacity=1,
        vpc_zone_identifiers=[subnet],
        launch_template=_newest(made),
        # The volume and the name are one instance's: the old one goes first.
        instance_refresh=autoscaling.GroupInstanceRefreshArgs(
            strategy="Rolling",
            preferences=autoscaling.GroupInstanceRefreshPreferencesArgs(
                min_healthy_percentage=0, max_healthy_percentage=100
            ),
        ),
        health_check_type="EC2",
        enabled_metrics=METRICS,
        force_delete=True,
        tags=_tags(account, SCHEDULER, None),
        opts=account.options(*after),
    )


def worker_group(
    account: Account,
    key: str,
    made: ec2.LaunchTemplate,
    subnets: pulumi.Input[Sequence[pulumi.Input[str]]],
    after: Sequence[pulumi.Resource],
) -> autoscaling.Group:
    """Register the group whose instances are the members of a worker group."""
    spec = account.spec
    group, instances = spec.workers[key], spec.options.group(key)
    many = bool(instances.spot) or len(types(spec, key)) > 1
    launched: dict[str, Any] = {"launch_template": _newest(made)}
    if many:
        launched = {"mixed_instances_policy": _mixed(account, key, made)}
    return autoscaling.Group(
        account.title(f"{key}-instances"),
        name=names.name_of(spec.name, key),
        min_size=0,
        max_size=group.most,
        desired_capacity=group.count,
        vpc_zone_identifiers=subnets,
        # Of what the scaler sizes only who is named leaves. Balancing zones would take others.
        protect_from_scale_in=key in spec.scaled,
        suspended_processes=["AZRebalance"],
        capacity_rebalance=bool(instances.spot),
        warm_pool=_warm_pool(instances),
        # There before the first instance is, which has to boot and to drain.
        initial_lifecycle_hooks=[
            autoscaling.GroupInitialLifecycleHookArgs(
                name=bundle.LAUNCHED,
                lifecycle_transition="autoscaling:EC2_INSTANCE_LAUNCHING",
                heartbeat_timeout=BOOTS,
                default_result="ABANDON",
            ),
            autoscaling.GroupInitialLifecycleHookArgs(
                name=bundle.TERMINATING,
                lifecycle_transition="autoscaling:EC2_INSTANCE_TERMINATING",
                heartbeat_timeout=ALIVE,
                default_result="CONTINUE",
            ),
        ],
        instance_refresh=autoscaling.GroupInstanceRefreshArgs(
            strategy="Rolling",
            preferences=autoscaling.GroupInstanceRefreshPreferencesArgs(
                # A new one is there before an old one drains; one after another.
                min_healthy_percentage=100,
                max_healthy_percentage=110,
                scale_in_protected_instances="Refresh",
                standby_instances="Ignore",
            ),
        ),
        health_check_type="EC2",
        default_instance_warmup=0,
        enabled_metrics=METRICS,
        # Capacity may be missing for long: the group goes on trying, and nobody waits here.
        wait_for_capacity_timeout="0",
        force_delete=True,
        tags=_tags(account, key, key),
        opts=account.options(
            *after, ignore_changes=["desiredCapacity"] if key in spec.scaled else []
        ),
        **launched,
    )


def _warm_pool(instances: GroupInstances) -> autoscaling.GroupWarmPoolArgs | None:
    """Describe the stopped instances beside the members of a group."""
    if instances.warm is None:
        return None
    return autoscaling.GroupWarmPoolArgs(
        pool_state="Stopped",
        min_size=instances.warm.min,
        max_group_prepared_capacity=instances.warm.prepared,
    )


def _mixed(
    account: Account, key: str, made: ec2.LaunchTemplate
) -> autoscaling.GroupMixedInstancesPolicyArgs:
    """Describe the types of a group, and how many of its members are spot."""
    spot = account.spec.options.group(key).spot
    every = len(types(account.spec, key))
    chosen = pulumi.Output.from_input(account.value(lambda spec: types(spec, key), *_typed(key)))
    return autoscaling.GroupMixedInstancesPolicyArgs(
        launch_template=autoscaling.GroupMixedInstancesPolicyLaunchTemplateArgs(
            launch_template_specification=(
                autoscaling.GroupMixedInstancesPolicyLaunchTemplateLaunchTemplateSpecificationArgs(
                    launch_template_id=made.id, version=_version(made)
                )
            ),
            overrides=[
                autoscaling.GroupMixedInstancesPolicyLaunchTemplateOverrideArgs(
                    instance_type=chosen[place]
                )
                for place in range(every)
            ],
        ),
        instances_distribution=autoscaling.GroupMixedInstancesPolicyInstancesDistributionArgs(
            on_demand_allocation_strategy="prioritized",
            on_demand_base_capacity=spot.base if spot else 0,
            on_demand_percentage_above_base_capacity=100 - spot.share if spot else 100,
            spot_allocation_strategy="price-capacity-optimized",
        ),
    )


def _newest(made: ec2.LaunchTemplate) -> autoscaling.GroupLaunchTemplateArgs:
    return autoscaling.GroupLaunchTemplateArgs(id=made.id, version=_version(made))


def _version(made: ec2.LaunchTemplate) -> pulumi.Output[str]:
    """Return the number of the template's version: a new one begins the replacement."""
    return made.latest_version.apply(str)


def _tags(account: Account, part: str, group: str | None) -> Any:
    """Return the tags of an Auto Scaling group; its instances have theirs from the template."""
    given = pulumi.Output.from_input(account.tags(part, group))
    return given.apply(
        lambda known: [
            autoscaling.GroupTagArgs(key=key, value=value, propagate_at_launch=False)
            for key, value in sorted(known.items())
        ]
    )


def _packed(spec: ClusterSpec, key: str) -> tuple[str, str, str]:
    """Pack a bundle into a file that the engine reads; return its key, its path and its digest."""
    machine = machine_of(spec, key)
    data = bundle.bundle(spec, machine).data
    digest = hashlib.sha256(data).hexdigest()
    path = Path(tempfile.gettempdir(), f"perennial-{digest[:32]}.tar")
    if not path.exists():
        write_atomic(path, data)
        # The engine has read it before the program ends.
        atexit.register(path.unlink, missing_ok=True)
    return bundle.bundle_key(machine, digest), str(path), digest


def _user_data(
    spec: ClusterSpec, key: str, packed: Sequence[str], bucket: str, told: dict[str, str]
) -> str:
    """Write the user data as the API takes it."""
    machine = machine_of(spec, key)
    settings = bundle.settings(spec, machine, told)
    text = bundle.user_data(spec, machine, bucket, packed[2], settings)
    return base64.b64encode(text.encode()).decode()

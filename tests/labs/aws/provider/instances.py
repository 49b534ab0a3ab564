"""Launch templates, Auto Scaling groups and volumes."""

from __future__ import annotations

from typing import Any

from tests.labs.aws.provider.kind import (
    Aws,
    Kind,
    UnsupportedError,
    Values,
    absent,
    changed,
    first,
    found,
    pairs,
    request,
    shaped,
    tags_of,
)
from tests.labs.aws.provider.network import Ec2, specification


class LaunchTemplate(Ec2):
    token = "aws:ec2/launchTemplate:LaunchTemplate"
    named = ("name", 125)
    replaces = ("name", "namePrefix")
    moving = ("latestVersion", "defaultVersion")
    listed = (
        *("describe_launch_templates", "LaunchTemplateIds"),
        *("LaunchTemplates", "LaunchTemplateId"),
    )
    removed, resource = "delete_launch_template", "launch-template"
    renamed = {
        **{"name": "LaunchTemplateName", "latestVersion": "LatestVersionNumber"},
        "defaultVersion": "DefaultVersionNumber",
    }
    own = ("name", "namePrefix", "description", "updateDefaultVersion", "tags", "region")
    names = {
        **{"vpcSecurityGroupIds": "SecurityGroupIds", "securityGroupNames": "SecurityGroups"},
        **{"networkInterfaces.securityGroups": "Groups"},
        **{"networkInterfaces.ipv4Addresses": "PrivateIpAddresses"},
    }

    def check(self, inputs: Values) -> list[tuple[str, str]]:
        # EC2 takes 16 KiB of user data, before it is written in base64.
        if len(str(inputs.get("userData") or "")) * 3 / 4 > 16384:
            return [("userData", "User data is limited to 16384 bytes")]
        return []

    def create(self, aws: Aws, inputs: Values) -> str:
        client = aws.client("ec2")
        tags = specification("launch-template", inputs.get("tags"))
        made = client.create_launch_template(
            LaunchTemplateName=inputs["name"], LaunchTemplateData=self._data(client, inputs), **tags
        )
        return str(made["LaunchTemplate"]["LaunchTemplateId"])

    def _data(self, client: Any, inputs: Values) -> Values:
        model = client.meta.service_model.operation_model("CreateLaunchTemplate").input_shape
        given = {key: value for key, value in inputs.items() if key not in self.own}
        specifications = given.pop("tagSpecifications", None) or []
        shape = model.members["LaunchTemplateData"]
        data: Values = shaped(shape, given, "LaunchTemplateData", **self.names)
        if specifications:
            data["TagSpecifications"] = [
                {"ResourceType": each["resourceType"], "Tags": pairs(each.get("tags"))}
                for each in specifications
            ]
        return data

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        client = aws.client("ec2")
        if not {*changed(old, new)} & (schema_inputs(self.token) - {*self.own}):
            return
        made = client.create_launch_template_version(
            LaunchTemplateId=id_, LaunchTemplateData=self._data(client, new)
        )
        if new.get("updateDefaultVersion"):
            version = str(made["LaunchTemplateVersion"]["VersionNumber"])
            client.modify_launch_template(LaunchTemplateId=id_, DefaultVersion=version)


def schema_inputs(token: str) -> set[str]:
    """Return the names of a type's inputs."""
    from tests.labs.aws.provider.schema import schema

    return {*schema(token).inputs}


#: What the plugin reads of a warm pool.
POOL = ("maxGroupPreparedCapacity", "minSize", "poolState")


class Group(Kind):
    token = "aws:autoscaling/group:Group"
    named = ("name", 255)
    replaces = ("name", "namePrefix", "initialLifecycleHooks")
    defaults = {
        **{"forceDelete": False, "forceDeleteWarmPool": False, "healthCheckGracePeriod": 300},
        **{"ignoreFailedScalingActivities": False, "metricsGranularity": "1Minute"},
        **{"protectFromScaleIn": False, "waitForCapacityTimeout": "10m"},
    }
    #: Inputs of other calls, or of the plugin's own.
    elsewhere = dict.fromkeys(
        (
            *("forceDelete", "forceDeleteWarmPool", "ignoreFailedScalingActivities"),
            *("metricsGranularity", "waitForCapacityTimeout", "enabledMetrics", "instanceRefresh"),
            *("suspendedProcesses", "initialLifecycleHooks", "warmPool", "waitForElbCapacity"),
            "minElbCapacity",
        ),
        "",
    )
    names = {
        **{"name": "AutoScalingGroupName", "maxInstanceLifetime": "MaxInstanceLifetime"},
        **{"protectFromScaleIn": "NewInstancesProtectedFromScaleIn"},
        **{"defaultCooldown": "DefaultCooldown", "capacityRebalance": "CapacityRebalance"},
        **{"vpcZoneIdentifiers": "", "launchTemplate.id": "LaunchTemplateId", "tags": ""},
        "launchTemplate.name": "LaunchTemplateName",
    }

    def _request(self, client: Any, call: str, inputs: Values) -> Values:
        given = request(client, call, inputs, **self.elsewhere, **self.names)
        if zones := inputs.get("vpcZoneIdentifiers"):
            given["VPCZoneIdentifier"] = ",".join(zones)
        return given

    def create(self, aws: Aws, inputs: Values) -> str:
        client, name = aws.client("autoscaling"), str(inputs["name"])
        hooks = inputs.get("initialLifecycleHooks") or []
        given = self._request(client, "create_auto_scaling_group", inputs)
        # With hooks the plugin makes the group empty, adds them, and gives it its size then.
        sizes = {
            key: given.pop(key) for key in ("MinSize", "MaxSize", "DesiredCapacity") if key in given
        }
        first_sizes = {"MinSize": 0, "MaxSize": 0} if hooks else sizes
        client.create_auto_scaling_group(
            **given, **first_sizes, Tags=_tags(name, inputs.get("tags"))
        )
        for hook in hooks:
            own = request(client, "put_lifecycle_hook", hook, name="LifecycleHookName")
            client.put_lifecycle_hook(AutoScalingGroupName=name, **own)
        if hooks:
            client.update_auto_scaling_group(AutoScalingGroupName=name, **sizes)
        self._pooled(client, name, {}, inputs)
        self._switched(client, name, {}, inputs)
        return name

    def _pooled(self, client: Any, name: str, old: Values, new: Values) -> None:
        """Put or remove the warm pool, as the plugin does in calls of their own."""
        before, after = old.get("warmPool"), new.get("warmPool")
        if after and after != before:
            given = request(client, "put_warm_pool", after)
            client.put_warm_pool(AutoScalingGroupName=name, **given)
        if before and not after:
            force = bool(old.get("forceDelete"))
            client.delete_warm_pool(AutoScalingGroupName=name, ForceDelete=force)

    def _switched(self, client: Any, name: str, old: Values, new: Values) -> None:
        before, after = (set(one.get("suspendedProcesses") or ()) for one in (old, new))
        if after - before:
            client.suspend_processes(
                AutoScalingGroupName=name, ScalingProcesses=sorted(after - before)
            )
        if before - after:
            client.resume_processes(
                AutoScalingGroupName=name, ScalingProcesses=sorted(before - after)
            )
        if new.get("enabledMetrics") and new["enabledMetrics"] != old.get("enabledMetrics"):
            client.enable_metrics_collection(
                AutoScalingGroupName=name,
                Metrics=new["enabledMetrics"],
                Granularity=new["metricsGranularity"],
            )

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        call = aws.client("autoscaling").describe_auto_scaling_groups
        now = first(call, "AutoScalingGroups", AutoScalingGroupNames=[id_])
        if now is None:
            return None
        values = found(self.token, now, name="AutoScalingGroupName", arn="AutoScalingGroupARN")
        zones = (now.get("VPCZoneIdentifier") or "").split(",")
        tags = [
            {
                **{"key": each["Key"], "value": each["Value"]},
                "propagateAtLaunch": each["PropagateAtLaunch"],
            }
            for each in now.get("Tags") or []
        ]
        suspended = [each["ProcessName"] for each in now.get("SuspendedProcesses") or []]
        pool = now.get("WarmPoolConfiguration")
        unread = ("serviceLinkedRoleArn", "predictedCapacity", "loadBalancers")
        return {
            **{key: value for key, value in values.items() if key not in unread},
            **{"vpcZoneIdentifiers": zones, "tags": tags, "suspendedProcesses": suspended},
            "protectFromScaleIn": bool(now.get("NewInstancesProtectedFromScaleIn")),
            "warmPool": pool and {key: pool[key[0].upper() + key[1:]] for key in POOL},
        }

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        client = aws.client("autoscaling")
        keys = {*changed(old, new)} & schema_inputs(self.token) - self.elsewhere.keys()
        if keys:
            only = {key: new.get(key) for key in keys}
            given = self._request(client, "update_auto_scaling_group", {**only, "name": id_})
            client.update_auto_scaling_group(**given)
        self._pooled(client, id_, old, new)
        self._switched(client, id_, old, new)
        if old.get("tags") != new.get("tags"):
            kept = {each["key"] for each in new.get("tags") or []}
            lost = [each for each in old.get("tags") or [] if each["key"] not in kept]
            if lost:
                client.delete_tags(Tags=_tags(id_, lost))
            client.create_or_update_tags(Tags=_tags(id_, new.get("tags")))
        launched = {"launchTemplate", "mixedInstancesPolicy", "launchConfiguration"}
        refresh = new.get("instanceRefresh")
        if refresh and keys & {*launched, *(refresh.get("triggers") or ())}:
            given = request(client, "start_instance_refresh", refresh, triggers="")
            client.start_instance_refresh(AutoScalingGroupName=id_, **given)

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        client = aws.client("autoscaling")
        self._pooled(client, id_, known, {})
        if not known.get("forceDelete"):
            client.update_auto_scaling_group(
                **{"AutoScalingGroupName": id_, "MinSize": 0, "MaxSize": 0, "DesiredCapacity": 0}
            )
        force = {"ForceDelete": bool(known.get("forceDelete"))}
        absent(client.delete_auto_scaling_group, AutoScalingGroupName=id_, **force)


def _tags(group: str, tags: Any) -> list[Values]:
    return [
        {
            **{"ResourceId": group, "ResourceType": "auto-scaling-group"},
            **{"Key": each["key"], "Value": each["value"]},
            "PropagateAtLaunch": each["propagateAtLaunch"],
        }
        for each in tags or []
    ]


class LifecycleHook(Kind):
    token = "aws:autoscaling/lifecycleHook:LifecycleHook"
    named = ("name", 255)
    replaces = ("name", "autoscalingGroupName")

    def create(self, aws: Aws, inputs: Values) -> str:
        self.update(aws, "", {}, inputs)
        return str(inputs["name"])

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        client = aws.client("autoscaling")
        names = {"name": "LifecycleHookName", "autoscalingGroupName": "AutoScalingGroupName"}
        client.put_lifecycle_hook(**request(client, "put_lifecycle_hook", new, **names))

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        now = first(
            aws.client("autoscaling").describe_lifecycle_hooks,
            "LifecycleHooks",
            AutoScalingGroupName=known["autoscalingGroupName"],
            LifecycleHookNames=[id_],
        )
        return now and found(self.token, now, name="LifecycleHookName")

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        absent(
            aws.client("autoscaling").delete_lifecycle_hook,
            AutoScalingGroupName=known["autoscalingGroupName"],
            LifecycleHookName=id_,
        )


class Schedule(Kind):
    token = "aws:autoscaling/schedule:Schedule"
    replaces = ("scheduledActionName", "autoscalingGroupName")
    names = {"autoscalingGroupName": "AutoScalingGroupName"}

    def create(self, aws: Aws, inputs: Values) -> str:
        self.update(aws, "", {}, inputs)
        return str(inputs["scheduledActionName"])

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        client = aws.client("autoscaling")
        call = "put_scheduled_update_group_action"
        client.put_scheduled_update_group_action(**request(client, call, new, **self.names))

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        now = first(
            aws.client("autoscaling").describe_scheduled_actions,
            "ScheduledUpdateGroupActions",
            AutoScalingGroupName=known["autoscalingGroupName"],
            ScheduledActionNames=[id_],
        )
        return now and found(self.token, now, arn="ScheduledActionARN")

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        absent(
            aws.client("autoscaling").delete_scheduled_action,
            AutoScalingGroupName=known["autoscalingGroupName"],
            ScheduledActionName=id_,
        )


class Volume(Ec2):
    token = "aws:ebs/volume:Volume"
    replaces = ("availabilityZone", "encrypted", "kmsKeyId", "snapshotId")
    listed = ("describe_volumes", "VolumeIds", "Volumes", "VolumeId")
    removed, resource = "delete_volume", "volume"
    renamed = {"type": "VolumeType"}

    def create(self, aws: Aws, inputs: Values) -> str:
        client, tags = aws.client("ec2"), specification("volume", inputs.get("tags"))
        given = request(client, "create_volume", inputs, type="VolumeType", finalSnapshot="")
        return str(client.create_volume(**given, **tags)["VolumeId"])

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        client = aws.client("ec2")
        only = {key: new.get(key) for key in changed(old, new) if key in {"size", "type", "iops"}}
        if int(new.get("size") or 0) < int(old.get("size") or 0):
            raise UnsupportedError(f"{id_}: a volume cannot become smaller")
        if only:
            given = request(client, "modify_volume", only, type="VolumeType")
            client.modify_volume(VolumeId=id_, **given)

    def more(self, aws: Aws, now: Any) -> Values:
        return {"tags": tags_of(now.get("Tags"))}

"""Load balancers."""

from __future__ import annotations

from typing import Any

from tests.labs.aws.provider.kind import (
    Aws,
    Kind,
    Values,
    absent,
    changed,
    first,
    found,
    pairs,
    request,
    tags_of,
)

Attributes = dict[str, str]


class _Balancing(Kind):
    """Whatever Elastic Load Balancing tags by its ARN, and describes by it."""

    listed: tuple[str, str, str]
    #: Attributes of another call, by the inputs' names.
    attributes: Attributes = {}

    def tagged(self, inputs: Values) -> Values:
        return {"Tags": pairs(inputs["tags"])} if inputs.get("tags") else {}

    def given(self, attributes: Values) -> list[Any]:
        """Return inputs as attributes."""
        return [
            {"Key": self.attributes[key], "Value": str(value).lower()}
            for key, value in sorted(attributes.items())
            if key in self.attributes and value is not None
        ]

    def here(self, aws: Aws, id_: str) -> Any:
        call, ids, key = self.listed
        return first(getattr(aws.client("elbv2"), call), key, **{ids: [id_]})

    def tags(self, aws: Aws, id_: str) -> Values:
        told = aws.client("elbv2").describe_tags(ResourceArns=[id_])["TagDescriptions"]
        return {"tags": tags_of(told[0]["Tags"])}

    def retag(self, aws: Aws, id_: str, known: Values, gone: list[str], tags: Values) -> None:
        if gone:
            aws.client("elbv2").remove_tags(ResourceArns=[id_], TagKeys=gone)
        if tags:
            aws.client("elbv2").add_tags(ResourceArns=[id_], Tags=pairs(tags))


class LoadBalancer(_Balancing):
    token = "aws:lb/loadBalancer:LoadBalancer"
    named = ("name", 32)
    replaces = ("name", "namePrefix", "internal", "loadBalancerType")
    defaults = {
        **{"enableDeletionProtection": False, "loadBalancerType": "application"},
        **{"enableCrossZoneLoadBalancing": False},
    }
    listed = ("describe_load_balancers", "LoadBalancerArns", "LoadBalancers")
    attributes = {
        "enableDeletionProtection": "deletion_protection.enabled",
        "enableCrossZoneLoadBalancing": "load_balancing.cross_zone.enabled",
    }

    def create(self, aws: Aws, inputs: Values) -> str:
        client = aws.client("elbv2")
        names = {"loadBalancerType": "Type", "internal": ""}
        elsewhere = dict.fromkeys(self.attributes, "")
        given = request(client, "create_load_balancer", inputs, **names, **elsewhere)
        given["Scheme"] = "internal" if inputs.get("internal") else "internet-facing"
        made = client.create_load_balancer(**given, **self.tagged(inputs))
        arn = str(made["LoadBalancers"][0]["LoadBalancerArn"])
        client.modify_load_balancer_attributes(LoadBalancerArn=arn, Attributes=self.given(inputs))
        return arn

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        now = self.here(aws, id_)
        if now is None:
            return None
        names = {"name": "LoadBalancerName", "arn": "LoadBalancerArn", "loadBalancerType": "Type"}
        return {
            **found(self.token, now, **names, zoneId="CanonicalHostedZoneId", dnsName="DNSName"),
            "internal": now["Scheme"] == "internal",
            "arnSuffix": id_.partition("loadbalancer/")[2],
            **self.tags(aws, id_),
        }

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        client, keys = aws.client("elbv2"), changed(old, new)
        if "securityGroups" in keys:
            client.set_security_groups(LoadBalancerArn=id_, SecurityGroups=new["securityGroups"])
        if "subnets" in keys:
            client.set_subnets(LoadBalancerArn=id_, Subnets=new["subnets"])
        if given := self.given({key: new.get(key) for key in keys}):
            client.modify_load_balancer_attributes(LoadBalancerArn=id_, Attributes=given)

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        absent(aws.client("elbv2").delete_load_balancer, LoadBalancerArn=id_)


class TargetGroup(_Balancing):
    token = "aws:lb/targetGroup:TargetGroup"
    named = ("name", 32)
    replaces = ("name", "namePrefix", "port", "protocol", "targetType", "vpcId")
    defaults = {"targetType": "instance", "deregistrationDelay": 300}
    listed = ("describe_target_groups", "TargetGroupArns", "TargetGroups")
    attributes = {
        "deregistrationDelay": "deregistration_delay.timeout_seconds",
        "connectionTermination": "deregistration_delay.connection_termination.enabled",
        "preserveClientIp": "preserve_client_ip.enabled",
    }
    checked = {
        **{"protocol": "HealthCheckProtocol", "interval": "HealthCheckIntervalSeconds"},
        **{"port": "HealthCheckPort", "timeout": "HealthCheckTimeoutSeconds"},
        **{"path": "HealthCheckPath", "healthyThreshold": "HealthyThresholdCount"},
        **{"unhealthyThreshold": "UnhealthyThresholdCount", "enabled": "HealthCheckEnabled"},
    }

    def create(self, aws: Aws, inputs: Values) -> str:
        client = aws.client("elbv2")
        elsewhere = dict.fromkeys((*self.attributes, "healthCheck"), "")
        given = request(client, "create_target_group", inputs, **elsewhere)
        check = self._check(client, "create_target_group", inputs)
        made = client.create_target_group(**given, **check, **self.tagged(inputs))
        arn = str(made["TargetGroups"][0]["TargetGroupArn"])
        client.modify_target_group_attributes(TargetGroupArn=arn, Attributes=self.given(inputs))
        return arn

    def _check(self, client: Any, call: str, inputs: Values) -> Values:
        return request(client, call, inputs.get("healthCheck") or {}, **self.checked)

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        now = self.here(aws, id_)
        if now is None:
            return None
        names = {"name": "TargetGroupName", "arn": "TargetGroupArn"}
        return {
            **found(self.token, now, **names),
            "arnSuffix": id_.rpartition(":")[2],
            **self.tags(aws, id_),
        }

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        client, keys = aws.client("elbv2"), changed(old, new)
        if "healthCheck" in keys:
            check = self._check(client, "modify_target_group", new)
            client.modify_target_group(TargetGroupArn=id_, **check)
        if given := self.given({key: new.get(key) for key in keys}):
            client.modify_target_group_attributes(TargetGroupArn=id_, Attributes=given)

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        absent(aws.client("elbv2").delete_target_group, TargetGroupArn=id_)


class Listener(_Balancing):
    token = "aws:lb/listener:Listener"
    replaces = ("loadBalancerArn",)
    listed = ("describe_listeners", "ListenerArns", "Listeners")

    def create(self, aws: Aws, inputs: Values) -> str:
        client = aws.client("elbv2")
        given = request(client, "create_listener", inputs)
        made = client.create_listener(**given, **self.tagged(inputs))
        return str(made["Listeners"][0]["ListenerArn"])

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        now = self.here(aws, id_)
        return now and {**found(self.token, now, arn="ListenerArn"), **self.tags(aws, id_)}

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        client = aws.client("elbv2")
        given = request(client, "modify_listener", new, loadBalancerArn="")
        client.modify_listener(ListenerArn=id_, **given)

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        absent(aws.client("elbv2").delete_listener, ListenerArn=id_)

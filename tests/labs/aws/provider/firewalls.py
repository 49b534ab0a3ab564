"""Security groups and their rules."""

from __future__ import annotations

from typing import Any

from tests.labs.aws.provider.kind import (
    Aws,
    Kind,
    UnsupportedError,
    Values,
    absent,
    first,
    found,
    request,
    tags_of,
)
from tests.labs.aws.provider.network import Ec2, specification


class SecurityGroup(Ec2):
    token = "aws:ec2/securityGroup:SecurityGroup"
    named = ("name", 255)
    replaces = ("name", "namePrefix", "description", "vpcId")
    defaults = {"description": "Managed by Pulumi", "revokeRulesOnDelete": False}
    listed = ("describe_security_groups", "GroupIds", "SecurityGroups", "GroupId")
    removed, resource = "delete_security_group", "security-group"
    renamed = {"name": "GroupName"}
    elsewhere = dict.fromkeys(("ingress", "egress", "revokeRulesOnDelete"), "")

    def create(self, aws: Aws, inputs: Values) -> str:
        client, tags = aws.client("ec2"), specification("security-group", inputs.get("tags"))
        given = request(client, "create_security_group", inputs, name="GroupName", **self.elsewhere)
        id_ = str(client.create_security_group(**given, **tags)["GroupId"])
        # The plugin removes the rule that a new group has: out to everywhere.
        everywhere = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
        client.revoke_security_group_egress(GroupId=id_, IpPermissions=[everywhere])
        self.update(aws, id_, {}, inputs)
        return id_

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        client = aws.client("ec2")
        for way in ("ingress", "egress"):
            before, after = (
                [_permission(id_, rule) for rule in given.get(way) or []] for given in (old, new)
            )
            if lost := [rule for rule in before if rule not in after]:
                call = getattr(client, f"revoke_security_group_{way}")
                call(GroupId=id_, IpPermissions=lost)
            if more := [rule for rule in after if rule not in before]:
                call = getattr(client, f"authorize_security_group_{way}")
                call(GroupId=id_, IpPermissions=more)

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        # Moto removes a group that is used; EC2 does not.
        client, where = aws.behind("ec2"), [{"Name": "group-id", "Values": [id_]}]
        used = client.describe_network_interfaces(Filters=where)["NetworkInterfaces"]
        named = [
            rule
            for rule in client.describe_security_group_rules()["SecurityGroupRules"]
            if rule.get("ReferencedGroupInfo", {}).get("GroupId") == id_ != rule["GroupId"]
        ]
        if used or named:
            raise UnsupportedError(f"DependencyViolation: {id_} is used: {used or named}")
        super().delete(aws, id_, known)


def _permission(group: str, rule: Values) -> Values:
    """Return an inline rule as EC2 takes it."""
    about = {"Description": rule["description"]} if rule.get("description") else {}
    groups = [*(rule.get("securityGroups") or []), *([group] if rule.get("self") else [])]
    parts: Values = {
        "IpRanges": [{"CidrIp": block, **about} for block in rule.get("cidrBlocks") or []],
        "Ipv6Ranges": [{"CidrIpv6": block, **about} for block in rule.get("ipv6CidrBlocks") or []],
        "PrefixListIds": [
            {"PrefixListId": id_, **about} for id_ in rule.get("prefixListIds") or []
        ],
        "UserIdGroupPairs": [{"GroupId": id_, **about} for id_ in groups],
    }
    permission = {key: value for key, value in parts.items() if value}
    permission["IpProtocol"] = rule["protocol"]
    if rule["protocol"] not in {"-1", "all"}:
        permission |= {"FromPort": rule["fromPort"], "ToPort": rule["toPort"]}
    return permission


class _Rule(Kind):
    replaces = ("securityGroupId",)
    way = "ingress"
    sources = {
        "cidrIpv4": ("IpRanges", "CidrIp"),
        "cidrIpv6": ("Ipv6Ranges", "CidrIpv6"),
        "prefixListId": ("PrefixListIds", "PrefixListId"),
        "referencedSecurityGroupId": ("UserIdGroupPairs", "GroupId"),
    }

    def check(self, inputs: Values) -> list[tuple[str, str]]:
        given = [key for key in self.sources if inputs.get(key)]
        if len(given) != 1:
            return [(key, "exactly one source or destination is needed") for key in given or [""]]
        return []

    def create(self, aws: Aws, inputs: Values) -> str:
        client, tags = aws.client("ec2"), specification("security-group-rule", inputs.get("tags"))
        call = getattr(client, f"authorize_security_group_{self.way}")
        made = call(
            GroupId=inputs["securityGroupId"], IpPermissions=[self._permission(inputs)], **tags
        )
        return str(made["SecurityGroupRules"][0]["SecurityGroupRuleId"])

    def _permission(self, inputs: Values) -> Values:
        source = next(key for key in self.sources if inputs.get(key))
        parts, name = self.sources[source]
        about = {"Description": inputs["description"]} if inputs.get("description") else {}
        ports = {
            parameter: int(inputs[key])
            for key, parameter in (("fromPort", "FromPort"), ("toPort", "ToPort"))
            if inputs.get(key) is not None
        }
        return {
            "IpProtocol": inputs["ipProtocol"],
            **ports,
            parts: [{name: inputs[source], **about}],
        }

    def _here(self, aws: Aws, id_: str) -> Any:
        call = aws.client("ec2").describe_security_group_rules
        return first(call, "SecurityGroupRules", SecurityGroupRuleIds=[id_])

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        now = self._here(aws, id_)
        if now is None:
            return None
        values = found(self.token, now, securityGroupId="GroupId")
        if other := now.get("ReferencedGroupInfo"):
            values["referencedSecurityGroupId"] = other["GroupId"]
        if values.get("ipProtocol") == "-1":
            values = {
                key: each for key, each in values.items() if key not in {"fromPort", "toPort"}
            }
        return {
            **values,
            "tags": tags_of(now.get("Tags")),
            "arn": aws.arn("ec2", f"security-group-rule/{id_}"),
            "securityGroupRuleId": id_,
        }

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        client = aws.client("ec2")
        names = {
            **{"cidrIpv4": "CidrIpv4", "cidrIpv6": "CidrIpv6", "prefixListId": "PrefixListId"},
            **{"referencedSecurityGroupId": "ReferencedGroupId", "description": "Description"},
            **{"ipProtocol": "IpProtocol", "fromPort": "FromPort", "toPort": "ToPort"},
        }
        rule = {name: new[key] for key, name in names.items() if new.get(key) is not None}
        client.modify_security_group_rules(
            GroupId=new["securityGroupId"],
            SecurityGroupRules=[{"SecurityGroupRuleId": id_, "SecurityGroupRule": rule}],
        )

    def retag(self, aws: Aws, id_: str, known: Values, gone: list[str], tags: Values) -> None:
        SecurityGroup().retag(aws, id_, known, gone, tags)

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        call = getattr(aws.client("ec2"), f"revoke_security_group_{self.way}")
        absent(call, GroupId=known["securityGroupId"], SecurityGroupRuleIds=[id_])


class IngressRule(_Rule):
    token = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"


class EgressRule(_Rule):
    token = "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"
    way = "egress"

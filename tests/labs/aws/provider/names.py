"""Zones and records of Route 53."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from tests.labs.aws.provider.kind import (
    Aws,
    Kind,
    UnsupportedError,
    Values,
    absent,
    gone,
    pairs,
    tags_of,
)


class Zone(Kind):
    token = "aws:route53/zone:Zone"
    replaces = ("name", "delegationSetId")
    defaults = {"comment": "Managed by Pulumi", "forceDestroy": False}

    def create(self, aws: Aws, inputs: Values) -> str:
        client = aws.client("route53")
        vpcs = [
            {"VPCId": each["vpcId"], "VPCRegion": each.get("vpcRegion") or aws.region}
            for each in inputs.get("vpcs") or []
        ]
        made = client.create_hosted_zone(
            Name=inputs["name"],
            CallerReference=f"{inputs['name']}-{vpcs}"[:128],
            HostedZoneConfig={"Comment": inputs["comment"], "PrivateZone": bool(vpcs)},
            **({"VPC": vpcs[0]} if vpcs else {}),
        )
        id_ = str(made["HostedZone"]["Id"]).rpartition("/")[2]
        for each in vpcs[1:]:
            client.associate_vpc_with_hosted_zone(HostedZoneId=id_, VPC=each)
        if inputs.get("tags"):
            self.retag(aws, id_, inputs, [], inputs["tags"])
        return id_

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        client = aws.client("route53")
        try:
            now = client.get_hosted_zone(Id=id_)
        except ClientError as error:
            if gone(error):
                return None
            raise
        told = client.list_tags_for_resource(ResourceType="hostedzone", ResourceId=id_)
        return {
            **{"zoneId": id_, "arn": f"arn:aws:route53:::hostedzone/{id_}"},
            "name": now["HostedZone"]["Name"].rstrip("."),
            "comment": now["HostedZone"]["Config"].get("Comment", ""),
            "tags": tags_of(told["ResourceTagSet"]["Tags"]),
        }

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        if old.get("comment") != new.get("comment"):
            aws.client("route53").update_hosted_zone_comment(Id=id_, Comment=new["comment"])
        if old.get("vpcs") != new.get("vpcs"):
            raise UnsupportedError("another VPC of a zone")

    def retag(self, aws: Aws, id_: str, known: Values, gone: list[str], tags: Values) -> None:
        client, of = aws.client("route53"), {"ResourceType": "hostedzone", "ResourceId": id_}
        if gone:
            client.change_tags_for_resource(**of, RemoveTagKeys=gone)
        if tags:
            client.change_tags_for_resource(**of, AddTags=pairs(tags))

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        client = aws.client("route53")
        if known.get("forceDestroy"):
            listed = client.list_resource_record_sets(HostedZoneId=id_)["ResourceRecordSets"]
            changes = [
                {"Action": "DELETE", "ResourceRecordSet": each}
                for each in listed
                if each["Type"] not in {"NS", "SOA"}
            ]
            if changes:
                client.change_resource_record_sets(
                    HostedZoneId=id_, ChangeBatch={"Changes": changes}
                )
        absent(client.delete_hosted_zone, Id=id_)


class Record(Kind):
    token = "aws:route53/record:Record"
    replaces = ("name", "type", "zoneId")

    def create(self, aws: Aws, inputs: Values) -> str:
        self._change(aws, "UPSERT" if inputs.get("allowOverwrite") else "CREATE", inputs)
        return f"{inputs['zoneId']}_{inputs['name']}_{inputs['type']}"

    def _change(self, aws: Aws, action: str, inputs: Values) -> None:
        record: dict[str, Any] = {"Name": inputs["name"], "Type": inputs["type"]}
        if known := inputs.keys() - {
            *("name", "type", "zoneId", "ttl", "records", "aliases", "allowOverwrite", "fqdn"),
            *("__defaults", "id", "region"),
        }:
            raise UnsupportedError(f"a record's {sorted(known)}")
        if inputs.get("aliases"):
            alias = inputs["aliases"][0]
            record["AliasTarget"] = {
                **{"DNSName": alias["name"], "HostedZoneId": alias["zoneId"]},
                "EvaluateTargetHealth": alias["evaluateTargetHealth"],
            }
        else:
            record["TTL"] = int(inputs["ttl"])
            record["ResourceRecords"] = [{"Value": each} for each in inputs["records"]]
        aws.client("route53").change_resource_record_sets(
            HostedZoneId=inputs["zoneId"],
            ChangeBatch={"Changes": [{"Action": action, "ResourceRecordSet": record}]},
        )

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        self._change(aws, "UPSERT", new)

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        listed = aws.client("route53").list_resource_record_sets(
            HostedZoneId=known["zoneId"],
            StartRecordName=known["name"],
            StartRecordType=known["type"],
            MaxItems="1",
        )["ResourceRecordSets"]
        for each in listed:
            if (each["Name"].rstrip("."), each["Type"]) == (known["name"], known["type"]):
                values = [one["Value"] for one in each.get("ResourceRecords", ())]
                plain = {"ttl": each["TTL"], "records": values} if values else {}
                return {**plain, "fqdn": known["name"]}
        return None

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        if self.read(aws, id_, known) is not None:
            self._change(aws, "DELETE", known)

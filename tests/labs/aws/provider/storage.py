"""File systems, buckets and their objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from tests.labs.aws.provider.kind import (
    Aws,
    Kind,
    UnsupportedError,
    Values,
    absent,
    changed,
    first,
    found,
    gone,
    pairs,
    request,
    tags_of,
)


class _Efs(Kind):
    """Whatever EFS tags by its id."""

    def retag(self, aws: Aws, id_: str, known: Values, gone: list[str], tags: Values) -> None:
        if gone:
            aws.client("efs").untag_resource(ResourceId=id_, TagKeys=gone)
        if tags:
            aws.client("efs").tag_resource(ResourceId=id_, Tags=pairs(tags))


def _tags(inputs: Values) -> Values:
    return {"Tags": pairs(inputs["tags"])} if inputs.get("tags") else {}


class FileSystem(_Efs):
    token = "aws:efs/fileSystem:FileSystem"
    named = ("creationToken", 64)
    replaces = ("creationToken", "encrypted", "kmsKeyId", "performanceMode", "availabilityZoneName")

    def create(self, aws: Aws, inputs: Values) -> str:
        client = aws.client("efs")
        elsewhere = {"lifecyclePolicies": "", "protection": ""}
        given = request(client, "create_file_system", inputs, **elsewhere)
        id_ = str(client.create_file_system(**given, **_tags(inputs))["FileSystemId"])
        if policies := inputs.get("lifecyclePolicies"):
            named = request(client, "put_lifecycle_configuration", {"lifecyclePolicies": policies})
            client.put_lifecycle_configuration(FileSystemId=id_, **named)
        return id_

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        now = first(aws.client("efs").describe_file_systems, "FileSystems", FileSystemId=id_)
        if now is None:
            return None
        return {
            **found(self.token, now, arn="FileSystemArn"),
            "dnsName": f"{id_}.efs.{aws.region}.amazonaws.com",
            "tags": tags_of(now.get("Tags")),
        }

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        absent(aws.client("efs").delete_file_system, FileSystemId=id_)


class MountTarget(_Efs):
    token = "aws:efs/mountTarget:MountTarget"
    replaces = ("fileSystemId", "ipAddress", "subnetId")

    def create(self, aws: Aws, inputs: Values) -> str:
        client = aws.client("efs")
        made = client.create_mount_target(**request(client, "create_mount_target", inputs))
        return str(made["MountTargetId"])

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        client = aws.client("efs")
        now = first(client.describe_mount_targets, "MountTargets", MountTargetId=id_)
        if now is None:
            return None
        groups = client.describe_mount_target_security_groups(MountTargetId=id_)
        return {**found(self.token, now), "securityGroups": groups["SecurityGroups"]}

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        aws.client("efs").modify_mount_target_security_groups(
            MountTargetId=id_, SecurityGroups=new["securityGroups"]
        )

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        absent(aws.client("efs").delete_mount_target, MountTargetId=id_)


class AccessPoint(_Efs):
    token = "aws:efs/accessPoint:AccessPoint"
    replaces = ("fileSystemId", "posixUser", "rootDirectory")

    def create(self, aws: Aws, inputs: Values) -> str:
        client = aws.client("efs")
        given = request(client, "create_access_point", inputs)
        token = {"ClientToken": f"{inputs['fileSystemId']}-{len(inputs)}"}
        return str(client.create_access_point(**token, **given, **_tags(inputs))["AccessPointId"])

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        now = first(aws.client("efs").describe_access_points, "AccessPoints", AccessPointId=id_)
        if now is None:
            return None
        values = found(self.token, now, arn="AccessPointArn")
        return {**values, "tags": tags_of(now.get("Tags"))}

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        absent(aws.client("efs").delete_access_point, AccessPointId=id_)


class Bucket(Kind):
    token = "aws:s3/bucket:Bucket"
    named = ("bucket", 63)
    replaces = ("bucket", "bucketPrefix")
    defaults = {"forceDestroy": False}

    def check(self, inputs: Values) -> list[tuple[str, str]]:
        allowed = {"bucket", "bucketPrefix", "forceDestroy", "tags"}
        # The others are deprecated: each is a resource of its own.
        return [(key, "deprecated; use its own resource") for key in inputs.keys() - allowed]

    def create(self, aws: Aws, inputs: Values) -> str:
        client, name = aws.client("s3"), str(inputs["bucket"])
        where = {"CreateBucketConfiguration": {"LocationConstraint": aws.region}}
        client.create_bucket(Bucket=name, **({} if aws.region == "us-east-1" else where))
        if inputs.get("tags"):
            self.retag(aws, name, inputs, [], inputs["tags"])
        return name

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        client = aws.client("s3")
        try:
            client.head_bucket(Bucket=id_)
        except ClientError as error:
            if gone(error):
                return None
            raise
        try:
            tags = client.get_bucket_tagging(Bucket=id_)["TagSet"]
        except ClientError:
            tags = []
        return {
            **{"bucket": id_, "arn": f"arn:aws:s3:::{id_}", "tags": tags_of(tags)},
            "bucketDomainName": f"{id_}.s3.amazonaws.com",
            "bucketRegionalDomainName": f"{id_}.s3.{aws.region}.amazonaws.com",
        }

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        if strange := {*changed(old, new)} & {"bucket", "bucketPrefix"}:
            raise UnsupportedError(f"an update of {strange}")

    def retag(self, aws: Aws, id_: str, known: Values, gone: list[str], tags: Values) -> None:
        client = aws.client("s3")
        if tags:
            client.put_bucket_tagging(Bucket=id_, Tagging={"TagSet": pairs(tags)})
        else:
            client.delete_bucket_tagging(Bucket=id_)

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        client = aws.client("s3")
        if known.get("forceDestroy"):
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=id_):
                keys = [{"Key": each["Key"]} for each in page.get("Contents", ())]
                if keys:
                    client.delete_objects(Bucket=id_, Delete={"Objects": keys})
        absent(client.delete_bucket, Bucket=id_)


class PublicAccessBlock(Kind):
    token = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
    replaces = ("bucket",)

    def create(self, aws: Aws, inputs: Values) -> str:
        self.update(aws, "", {}, inputs)
        return str(inputs["bucket"])

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        client = aws.client("s3")
        how = {key: value for key, value in new.items() if key not in {"bucket", "skipDestroy"}}
        nested = {"bucket": new["bucket"], "publicAccessBlockConfiguration": how}
        client.put_public_access_block(**request(client, "put_public_access_block", nested))

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        call = aws.client("s3").get_public_access_block
        now = first(lambda **of: {"one": [call(**of)]}, "one", Bucket=id_)
        if now is None:
            return None
        return {**found(self.token, now["PublicAccessBlockConfiguration"]), "bucket": id_}

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        absent(aws.client("s3").delete_public_access_block, Bucket=id_)


class BucketObject(Kind):
    token = "aws:s3/bucketObjectv2:BucketObjectv2"
    replaces = ("bucket", "key")
    moving = ("etag", "versionId")

    def create(self, aws: Aws, inputs: Values) -> str:
        self.update(aws, "", {}, inputs)
        return f"{inputs['bucket']}/{inputs['key']}"

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        client = aws.client("s3")
        given = dict(new)
        source, text = given.pop("source", None), given.pop("content", None)
        tags = "&".join(f"{key}={value}" for key, value in (given.get("tags") or {}).items())
        call = request(client, "put_object", given, forceDestroy="", etag="", sourceHash="")
        body = _asset(source) if source is not None else str(text or "").encode()
        client.put_object(**call, Body=body, **({"Tagging": tags} if tags else {}))

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        bucket, key = known["bucket"], known["key"]
        try:
            now = aws.client("s3").head_object(Bucket=bucket, Key=key)
            tags = aws.client("s3").get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
        except ClientError as error:
            if gone(error):
                return None
            raise
        return {
            **{"bucket": bucket, "key": key, "etag": now["ETag"].strip('"')},
            **{"arn": f"arn:aws:s3:::{bucket}/{key}", "tags": tags_of(tags)},
        }

    def retag(self, aws: Aws, id_: str, known: Values, gone: list[str], tags: Values) -> None:
        where = {"Bucket": known["bucket"], "Key": known["key"]}
        aws.client("s3").put_object_tagging(**where, Tagging={"TagSet": pairs(tags)})

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        absent(aws.client("s3").delete_object, Bucket=known["bucket"], Key=known["key"])


def _asset(given: Any) -> bytes:
    """Read one of Pulumi's assets."""
    if given.get("path"):
        return Path(given["path"]).read_bytes()
    if given.get("text") is not None:
        return str(given["text"]).encode()
    raise UnsupportedError(f"an asset of {sorted(given)}")

"""IAM and Secrets Manager."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

from botocore.exceptions import ClientError

from tests.labs.aws.provider.kind import (
    Aws,
    Kind,
    Values,
    absent,
    found,
    gone,
    pairs,
    request,
    same_json,
    tags_of,
)


def document(text: Any) -> str:
    """Return a policy as text, as IAM gives it."""
    return text if isinstance(text, str) else json.dumps(text)


class Role(Kind):
    token = "aws:iam/role:Role"
    named = ("name", 64)
    replaces = ("name", "namePrefix", "path")
    defaults = {"forceDetachPolicies": False, "maxSessionDuration": 3600, "path": "/"}

    def check(self, inputs: Values) -> list[tuple[str, str]]:
        if len(str(inputs.get("name", ""))) > 64:
            return [("name", "expected length of name to be in the range (1 - 64)")]
        return []

    def create(self, aws: Aws, inputs: Values) -> str:
        client = aws.client("iam")
        names = {
            **{"name": "RoleName", "assumeRolePolicy": "AssumeRolePolicyDocument"},
            **{"forceDetachPolicies": "", "managedPolicyArns": "", "inlinePolicies": ""},
        }
        given = request(client, "create_role", inputs, **names)
        client.create_role(**given, **_tags(inputs))
        for arn in inputs.get("managedPolicyArns") or []:
            client.attach_role_policy(RoleName=inputs["name"], PolicyArn=arn)
        for one in inputs.get("inlinePolicies") or []:
            client.put_role_policy(
                RoleName=inputs["name"], PolicyName=one["name"], PolicyDocument=one["policy"]
            )
        return str(inputs["name"])

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        try:
            now = aws.client("iam").get_role(RoleName=id_)["Role"]
        except ClientError as error:
            if gone(error):
                return None
            raise
        trust = document(now["AssumeRolePolicyDocument"])
        if same_json(trust, known.get("assumeRolePolicy")):
            trust = known["assumeRolePolicy"]
        boundary = now.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn")
        return {
            **found(self.token, now, name="RoleName", uniqueId="RoleId"),
            "assumeRolePolicy": trust,
            **({"permissionsBoundary": boundary} if boundary else {}),
            "tags": tags_of(now.get("Tags")),
        }

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        client = aws.client("iam")
        if not same_json(old.get("assumeRolePolicy"), new.get("assumeRolePolicy")):
            client.update_assume_role_policy(RoleName=id_, PolicyDocument=new["assumeRolePolicy"])
        kept = ("description", "maxSessionDuration")
        if any(old.get(key) != new.get(key) for key in kept):
            given = request(client, "update_role", {key: new.get(key) for key in kept})
            client.update_role(RoleName=id_, **given)
        if old.get("permissionsBoundary") != new.get("permissionsBoundary"):
            if new.get("permissionsBoundary"):
                client.put_role_permissions_boundary(
                    RoleName=id_, PermissionsBoundary=new["permissionsBoundary"]
                )
            else:
                client.delete_role_permissions_boundary(RoleName=id_)
        before, after = (set(given.get("managedPolicyArns") or ()) for given in (old, new))
        for arn in before - after:
            client.detach_role_policy(RoleName=id_, PolicyArn=arn)
        for arn in after - before:
            client.attach_role_policy(RoleName=id_, PolicyArn=arn)

    def retag(self, aws: Aws, id_: str, known: Values, gone: list[str], tags: Values) -> None:
        if gone:
            aws.client("iam").untag_role(RoleName=id_, TagKeys=gone)
        if tags:
            aws.client("iam").tag_role(RoleName=id_, Tags=pairs(tags))

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        client = aws.client("iam")
        for arn in known.get("managedPolicyArns") or []:
            absent(client.detach_role_policy, RoleName=id_, PolicyArn=arn)
        for one in known.get("inlinePolicies") or []:
            absent(client.delete_role_policy, RoleName=id_, PolicyName=one["name"])
        absent(client.delete_role, RoleName=id_)


class RolePolicy(Kind):
    token = "aws:iam/rolePolicy:RolePolicy"
    named = ("name", 128)
    replaces = ("name", "namePrefix", "role")

    def create(self, aws: Aws, inputs: Values) -> str:
        self.update(aws, "", {}, inputs)
        return f"{inputs['role']}:{inputs['name']}"

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        aws.client("iam").put_role_policy(
            RoleName=new["role"], PolicyName=new["name"], PolicyDocument=document(new["policy"])
        )

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        role, _, name = id_.partition(":")
        try:
            now = aws.client("iam").get_role_policy(RoleName=role, PolicyName=name)
        except ClientError as error:
            if gone(error):
                return None
            raise
        policy = document(now["PolicyDocument"])
        if same_json(policy, known.get("policy")):
            policy = known["policy"]
        return {"role": role, "name": name, "policy": policy}

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        role, _, name = id_.partition(":")
        absent(aws.client("iam").delete_role_policy, RoleName=role, PolicyName=name)


class RolePolicyAttachment(Kind):
    token = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
    replaces = ("role", "policyArn")

    def create(self, aws: Aws, inputs: Values) -> str:
        arn = inputs["policyArn"]
        aws.client("iam").attach_role_policy(RoleName=inputs["role"], PolicyArn=arn)
        return f"{inputs['role']}/{arn}"

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        role, _, arn = id_.partition("/")
        try:
            listed = aws.client("iam").list_attached_role_policies(RoleName=role)
        except ClientError as error:
            if gone(error):
                return None
            raise
        here = {each["PolicyArn"] for each in listed["AttachedPolicies"]}
        return {"role": role, "policyArn": arn} if arn in here else None

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        role, _, arn = id_.partition("/")
        absent(aws.client("iam").detach_role_policy, RoleName=role, PolicyArn=arn)


class InstanceProfile(Kind):
    token = "aws:iam/instanceProfile:InstanceProfile"
    named = ("name", 128)
    replaces = ("name", "namePrefix", "path")
    defaults = {"path": "/"}

    def create(self, aws: Aws, inputs: Values) -> str:
        client = aws.client("iam")
        given = request(
            client, "create_instance_profile", inputs, name="InstanceProfileName", role=""
        )
        client.create_instance_profile(**given, **_tags(inputs))
        self.update(aws, inputs["name"], {}, inputs)
        return str(inputs["name"])

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        client = aws.client("iam")
        if old.get("role"):
            client.remove_role_from_instance_profile(InstanceProfileName=id_, RoleName=old["role"])
        if new.get("role"):
            client.add_role_to_instance_profile(InstanceProfileName=id_, RoleName=new["role"])

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        try:
            now = aws.client("iam").get_instance_profile(InstanceProfileName=id_)["InstanceProfile"]
        except ClientError as error:
            if gone(error):
                return None
            raise
        roles = {"role": now["Roles"][0]["RoleName"]} if now["Roles"] else {}
        values = found(self.token, now, name="InstanceProfileName", uniqueId="InstanceProfileId")
        return {**values, **roles, "tags": tags_of(now.get("Tags"))}

    def retag(self, aws: Aws, id_: str, known: Values, gone: list[str], tags: Values) -> None:
        client = aws.client("iam")
        if gone:
            client.untag_instance_profile(InstanceProfileName=id_, TagKeys=gone)
        client.tag_instance_profile(InstanceProfileName=id_, Tags=pairs(tags))

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        client = aws.client("iam")
        if known.get("role"):
            absent(
                client.remove_role_from_instance_profile,
                **{"InstanceProfileName": id_, "RoleName": known["role"]},
            )
        absent(client.delete_instance_profile, InstanceProfileName=id_)


class Policy(Kind):
    token = "aws:iam/policy:Policy"
    named = ("name", 128)
    replaces = ("name", "namePrefix", "path", "description")
    defaults = {"path": "/"}

    def create(self, aws: Aws, inputs: Values) -> str:
        client = aws.client("iam")
        names = {"name": "PolicyName", "policy": "PolicyDocument"}
        given = request(client, "create_policy", inputs, **names)
        return str(client.create_policy(**given, **_tags(inputs))["Policy"]["Arn"])

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        client = aws.client("iam")
        try:
            now = client.get_policy(PolicyArn=id_)["Policy"]
        except ClientError as error:
            if gone(error):
                return None
            raise
        version = client.get_policy_version(PolicyArn=id_, VersionId=now["DefaultVersionId"])
        policy = document(version["PolicyVersion"]["Document"])
        if same_json(unquote(policy), known.get("policy")):
            policy = known["policy"]
        values = found(self.token, now, name="PolicyName")
        return {**values, "policy": policy, "tags": tags_of(now.get("Tags"))}

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        absent(aws.client("iam").delete_policy, PolicyArn=id_)


class Secret(Kind):
    token = "aws:secretsmanager/secret:Secret"
    named = ("name", 512)
    replaces = ("name", "namePrefix")
    defaults = {"forceOverwriteReplicaSecret": False, "recoveryWindowInDays": 30}
    elsewhere = dict.fromkeys(("recoveryWindowInDays", "forceOverwriteReplicaSecret", "policy"), "")

    def check(self, inputs: Values) -> list[tuple[str, str]]:
        days = inputs.get("recoveryWindowInDays", 30)
        if days != 0 and not 7 <= days <= 30:
            return [("recoveryWindowInDays", "expected to be 0 or in the range (7 - 30)")]
        return []

    def create(self, aws: Aws, inputs: Values) -> str:
        client = aws.client("secretsmanager")
        given = request(client, "create_secret", inputs, **self.elsewhere)
        arn = str(client.create_secret(**given, **_tags(inputs))["ARN"])
        if inputs.get("policy"):
            client.put_resource_policy(SecretId=arn, ResourcePolicy=inputs["policy"])
        return arn

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        try:
            now = aws.client("secretsmanager").describe_secret(SecretId=id_)
        except ClientError as error:
            if gone(error):
                return None
            raise
        if now.get("DeletedDate"):
            return None
        return {**found(self.token, now, arn="ARN"), "tags": tags_of(now.get("Tags"))}

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        client = aws.client("secretsmanager")
        given = {key: new.get(key) for key in ("description", "kmsKeyId")}
        if any(old.get(key) != value for key, value in given.items()):
            client.update_secret(SecretId=id_, **request(client, "update_secret", given))
        if new.get("policy") and old.get("policy") != new["policy"]:
            client.put_resource_policy(SecretId=id_, ResourcePolicy=new["policy"])

    def retag(self, aws: Aws, id_: str, known: Values, gone: list[str], tags: Values) -> None:
        client = aws.client("secretsmanager")
        if gone:
            client.untag_resource(SecretId=id_, TagKeys=gone)
        if tags:
            client.tag_resource(SecretId=id_, Tags=pairs(tags))

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        days = int(known.get("recoveryWindowInDays", 30))
        how: Values = {"RecoveryWindowInDays": days} if days else {}
        how = how or {"ForceDeleteWithoutRecovery": True}
        absent(aws.client("secretsmanager").delete_secret, SecretId=id_, **how)


class SecretVersion(Kind):
    token = "aws:secretsmanager/secretVersion:SecretVersion"
    replaces = ("secretId", "secretString", "secretBinary")

    def create(self, aws: Aws, inputs: Values) -> str:
        client = aws.client("secretsmanager")
        made = client.put_secret_value(**request(client, "put_secret_value", inputs))
        return f"{inputs['secretId']}|{made['VersionId']}"

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        secret, _, version = id_.partition("|")
        try:
            now = aws.client("secretsmanager").get_secret_value(SecretId=secret, VersionId=version)
        except ClientError as error:
            if gone(error) or error.response["Error"]["Code"] == "InvalidRequestException":
                return None
            raise
        return {
            **found(self.token, now, arn="ARN", secretString="SecretString"),
            **{"secretId": secret, "versionId": version},
        }

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        # The current version cannot be taken from a secret; it goes with it.
        secret, _, version = id_.partition("|")
        client = aws.client("secretsmanager")
        try:
            listed = client.describe_secret(SecretId=secret)["VersionIdsToStages"]
        except ClientError as error:
            if gone(error):
                return
            raise
        for stage in listed.get(version, ()):
            if stage != "AWSCURRENT":
                client.update_secret_version_stage(
                    SecretId=secret, VersionStage=stage, RemoveFromVersionId=version
                )


def _tags(inputs: Values) -> Values:
    return {"Tags": pairs(inputs["tags"])} if inputs.get("tags") else {}

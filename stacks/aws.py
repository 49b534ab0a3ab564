"""What the components on AWS share: how they register, secrets, roles, logs, a file system.

Resources are pulumi-aws's own classes, so that mypy checks the names and types of what is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar

import pulumi
from pulumi_aws import Provider, cloudwatch, efs, get_caller_identity_output, iam, secretsmanager

from perennial.aws import names
from perennial.aws.rights import Statement, document, trust
from perennial.spec import ClusterSpec

from .base import ClusterComponent
from .inputs import Inputs, has_outputs, resolved
from .resources import Authority, Certificate

Value = TypeVar("Value")
Files = Mapping[str, pulumi.Output[str]]

#: Plugins that the engine needs beside our own, and where their versions come from.
PLUGINS = {"aws": "pulumi-aws"}
#: Path of the roles in IAM.
PATH = f"/{names.OURS}/"


class Account:
    """Registers a cluster's resources of AWS as children of its component.

    Their logical names begin with the component's. They have the region of the cluster file by a
    provider of their own, unless the component was given one.
    """

    def __init__(self, component: ClusterComponent, name: str, given: Inputs) -> None:
        self.name = name
        self.spec = given.spec
        #: Rights and rules without which nothing starts: whatever runs depends on them.
        self.needed: list[pulumi.Resource] = []
        #: When each certificate of the cluster ends.
        self.ends: list[pulumi.Output[str]] = []
        #: All keys of the cluster file but the platform's own.
        self.common = tuple(key for key in given.tree if key != given.spec.platform)
        self._component = component
        self._given, self._whole = given, resolved(given)
        self._provider: Provider | None = None
        if component.get_provider("aws:index/provider:Provider") is None:
            options = given.spec.options
            self._provider = Provider(
                f"{name}-provider",
                region=options.region,
                profile=options.profile,
                opts=component.child(),
            )

    def title(self, own: str) -> str:
        """Return the logical name of a resource."""
        return f"{self.name}-{own}"

    def value(self, read: Callable[[ClusterSpec], Value], *keys: str) -> pulumi.Input[Value]:
        """Read the cluster file; where a value in it is an Output, once all are known.

        ``keys`` are all that is read, as ``options.tags``, so that a preview shows what does not
        depend on an Output; without any it is the whole file.
        """
        if isinstance(self._whole, pulumi.Output) and has_outputs(self._given, keys):
            found: pulumi.Output[Value] = self._whole.apply(read)
            return found
        return read(self.spec)

    def at(self, key: str) -> pulumi.Input[Any]:
        """Read one key of the cluster file, such as ``options.network.vpc``."""
        return self.value(attrgetter(key), key)

    def tags(self, part: str, group: str | None = None) -> pulumi.Input[Mapping[str, str]]:
        """Return the tags of a resource."""
        return self.value(
            lambda spec: names.tags(spec.name, part, spec.options.tags, group), "options.tags"
        )

    def options(
        self, *after: pulumi.Resource, renewed: bool = False, **more: Any
    ) -> pulumi.ResourceOptions:
        """Return the options of a resource.

        With ``renewed`` a new one is there before the old one goes, as its users expect of what has
        versions; all others have names that two cannot share.
        """
        own = pulumi.ResourceOptions(provider=self._provider, **more)
        merged = pulumi.ResourceOptions.merge(self._component.child(*after), own)
        if renewed:
            merged.delete_before_replace = False
        return merged

    def invoked(self) -> pulumi.InvokeOptions:
        """Return the options of a question to AWS."""
        return pulumi.InvokeOptions(parent=self._component, provider=self._provider)

    def authority(self) -> Authority:
        """Register the certificate authority of the cluster."""
        props = {"cluster": self.spec.name}
        made = Authority(self.title("authority"), props, opts=self._component.child())
        self.ends.append(made.ends)
        return made

    def certificate(
        self, authority: Authority, role: str, reached: Callable[[ClusterSpec], Sequence[str]]
    ) -> Certificate:
        """Register the certificate of a role that serves, with the names it is reached by."""
        props = {
            "ca": authority.ca,
            "ca_key": authority.ca_key,
            "role": role,
            "names": self.value(lambda spec: [*reached(spec)], "options.network.domain"),
        }
        title = self.title(f"{role}-certificate")
        made = Certificate(title, props, opts=self._component.child())
        self.ends.append(made.ends)
        return made

    def secret(self, role: str, files: Files) -> SecretFiles:
        """Register the secret that one role reads: its files, in one JSON text."""
        secret = secretsmanager.Secret(
            self.title(f"{role}-secret"),
            name=names.secret_name(self.spec.name, role),
            description=f"Keys of the {role} of the Dask cluster {self.spec.name}",
            # The authority has them all, so nothing is lost; and the name is free at once.
            recovery_window_in_days=0,
            tags=self.tags(role),
            opts=self.options(),
        )
        version = secretsmanager.SecretVersion(
            self.title(f"{role}-secret-version"),
            secret_id=secret.id,
            secret_string=pulumi.Output.json_dumps(dict(sorted(files.items()))),
            opts=self.options(renewed=True, additional_secret_outputs=["secret_string"]),
        )
        return SecretFiles(secret, version)

    def role(self, part: str, service: str, granted: Grants) -> iam.Role:
        """Register a role that a service of AWS takes on, with no more than what is granted."""
        boundary = self.at("options.permissions_boundary")
        made = iam.Role(
            self.title(f"{part}-role"),
            name=names.role_name(self.spec.name, self.spec.options.region, part),
            path=PATH,
            description=f"{part} of the Dask cluster {self.spec.name}",
            assume_role_policy=trust(service),
            # One that is None would be an empty text to IAM.
            **({} if boundary is None else {"permissions_boundary": boundary}),
            tags=self.tags(part),
            opts=self.options(),
        )
        if granted.statements is not None:
            text = pulumi.Output.from_input(granted.statements).apply(document)
            title = self.title(f"{part}-rights")
            policy = iam.RolePolicy(
                title, name=part, role=made.name, policy=text, opts=self.options()
            )
            self.needed.append(policy)
        for place, arn in enumerate(granted.policies):
            attached = iam.RolePolicyAttachment(
                self.title(f"{part}-policy-{place}"),
                role=made.name,
                policy_arn=arn,
                opts=self.options(),
            )
            self.needed.append(attached)
        return made

    def log_group(self) -> cloudwatch.LogGroup:
        """Register the log group of the cluster."""
        keep = self.spec.options.logs.keep
        return cloudwatch.LogGroup(
            self.title("logs"),
            name=names.log_group(self.spec.name),
            retention_in_days=self.at("options.logs.retention"),
            tags=self.tags("logs"),
            opts=self.options(retain_on_delete=keep),
        )

    def notebooks(
        self, subnets: Iterable[tuple[str, pulumi.Input[str]]], group: pulumi.Input[str], user: int
    ) -> FileSystem | None:
        """Register the file system of the notebooks, which outlives the cluster; None for none."""
        wanted = self.spec.options.notebooks
        if wanted is None:
            return None
        if wanted.file_system is not None:
            found = self.at("options.notebooks.file_system")
            given = wanted.access_point is not None
            own = self.at("options.notebooks.access_point")
            region = self.spec.options.region
            who = pulumi.Output.from_input(get_caller_identity_output(opts=self.invoked()))
            arn = pulumi.Output.concat(
                f"arn:aws:elasticfilesystem:{region}:", who.account_id, ":file-system/", found
            )
            return FileSystem(found, arn, own if given else None)
        kept = self.options(retain_on_delete=True)
        system = efs.FileSystem(
            self.title("notebooks"), encrypted=True, tags=self.tags("notebooks"), opts=kept
        )
        owner = efs.AccessPointPosixUserArgs(uid=user, gid=user)
        folder = efs.AccessPointRootDirectoryArgs(
            path="/notebooks",
            creation_info=efs.AccessPointRootDirectoryCreationInfoArgs(
                owner_uid=user, owner_gid=user, permissions="0700"
            ),
        )
        point = efs.AccessPoint(
            self.title("notebooks-access"),
            file_system_id=system.id,
            posix_user=owner,
            root_directory=folder,
            tags=self.tags("notebooks"),
            opts=kept,
        )
        targets = [
            efs.MountTarget(
                self.title(f"notebooks-{zone}"),
                file_system_id=system.id,
                subnet_id=subnet,
                security_groups=[group],
                opts=self.options(),
            )
            for zone, subnet in subnets
        ]
        return FileSystem(system.id, system.arn, point.id, (*targets,))


@dataclass(frozen=True, slots=True)
class Grants:
    """What a role may do."""

    #: Statements, which may be known only later; None for none.
    statements: pulumi.Input[Sequence[Statement]] | None = None
    #: Managed policies of the user's own.
    policies: Sequence[pulumi.Input[str]] = ()


@dataclass(frozen=True, slots=True)
class SecretFiles:
    """A secret, and the version of what stands in it."""

    secret: secretsmanager.Secret
    version: secretsmanager.SecretVersion


@dataclass(frozen=True, slots=True)
class FileSystem:
    """A file system of EFS, as a container or an instance mounts it."""

    id: pulumi.Input[str]
    #: Its name for all of AWS.
    arn: pulumi.Input[str]
    access_point: pulumi.Input[str] | None
    #: What has to be there before it can be mounted.
    targets: tuple[pulumi.Resource, ...] = field(default=())


def whole(spec: ClusterSpec) -> ClusterSpec:
    """Return a cluster file as a whole, for `Account.value`."""
    return spec


def gathered(function: Callable[..., Value], **parts: pulumi.Input[Any]) -> pulumi.Output[Value]:
    """Call a function with values that may be Outputs, once all are known."""
    every = pulumi.Output.all(**parts)
    found: pulumi.Output[Value] = every.apply(partial(_called, function))
    return found


def _called(function: Callable[..., Value], known: Mapping[str, Any]) -> Value:
    return function(**known)

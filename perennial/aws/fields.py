"""Texts that AWS takes in a cluster file, each with what is said of a wrong one."""

from __future__ import annotations

from typing import Annotated, Literal

from perennial.spec.units import Worded


def _identity(kind: str, prefix: str) -> Worded:
    """Describe the number that AWS gives a resource, such as ``vpc-0a1b2c3d``."""
    return Worded(
        f"Number of a {kind}.",
        f"{prefix}-0a1b2c3d",
        rf"{prefix}-[0-9a-f]{{8,17}}",
        f"the number of a {kind}, such as {prefix}-0a1b2c3d",
        "correct the number",
    )


VpcId = Annotated[str, _identity("VPC", "vpc")]
SubnetId = Annotated[str, _identity("subnet", "subnet")]
SecurityGroupId = Annotated[str, _identity("security group", "sg")]
FileSystemId = Annotated[str, _identity("file system of EFS", "fs")]
AccessPointId = Annotated[str, _identity("access point of EFS", "fsap")]
VolumeId = Annotated[str, _identity("volume of EBS", "vol")]

Region = Annotated[
    str,
    Worded(
        "A region of AWS.",
        "eu-central-1",
        r"[a-z]{2,3}(-[a-z]+)+-[1-9]",
        "a region such as eu-central-1",
        "correct the region",
    ),
]
Profile = Annotated[
    str,
    Worded(
        "A profile of the AWS command line.",
        "lab",
        r"[A-Za-z0-9][A-Za-z0-9_.@/+-]{0,99}",
        "the name of a profile, as `aws configure list-profiles` lists them",
        "correct the name",
    ),
]
Zone = Annotated[
    str,
    Worded(
        "Letter of an availability zone.",
        "a",
        r"[a-g]",
        "the letter of an availability zone, such as a",
        "write one letter of a to g",
    ),
]
Arn = Annotated[
    str,
    Worded(
        "Name of a resource for all of AWS.",
        "arn:aws:sns:eu-central-1:123456789012:alarms",
        r"arn:aws[a-z-]*:[a-z0-9-]+:[a-z0-9-]*:([0-9]{12}|aws)?:[A-Za-z0-9_./:+=,@*{}\[\]-]{1,500}",
        "an ARN such as arn:aws:sns:eu-central-1:123456789012:alarms",
        "copy the ARN from the console of AWS",
    ),
]
Domain = Annotated[
    str,
    Worded(
        "A private domain.",
        "lab.internal",
        r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+",
        "a domain of two or more labels, such as lab.internal",
        "correct the domain",
    ),
]
_OCTET = r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
Cidr = Annotated[
    str,
    Worded(
        "Addresses of a network.",
        "10.86.0.0/16",
        rf"({_OCTET}\.){{3}}{_OCTET}/(3[0-2]|[12]?[0-9])",
        "addresses of a network, such as 10.86.0.0/16",
        "write an address and the bits of its network",
    ),
]
TagKey = Annotated[
    str,
    Worded(
        "Key of a tag.",
        "cost-centre",
        r"(?!aws:|perennial:)[A-Za-z0-9 _.:/=+@-]{1,128}",
        "a key of at most 128 letters, digits, spaces and _.:/=+@-, without aws: or perennial:"
        " at its beginning",
        "correct the key",
    ),
]
TagValue = Annotated[
    str,
    Worded(
        "Value of a tag.",
        "physics",
        r"[A-Za-z0-9 _.:/=+@-]{0,256}",
        "at most 256 letters, digits, spaces and _.:/=+@-",
        "correct the value",
    ),
]
#: Days that CloudWatch can keep logs; it takes no others.
Retention = Literal[
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653,
]  # fmt: skip

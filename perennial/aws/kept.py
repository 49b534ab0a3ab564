"""What a cluster that is taken down leaves in the account. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from perennial.aws import names
from perennial.aws.options import AwsOptions


def logs(cluster: str, options: AwsOptions) -> Iterator[str]:
    """Say that the logs stay, and that the next cluster of this name needs them removed."""
    if options.logs.keep:
        yield (
            f"logs stay in CloudWatch for {options.logs.retention} days;"
            f" `{removal(cluster, options.region)}` removes them, which is needed before the next"
            f" `perennial up` of {cluster}"
        )


def removal(cluster: str, region: str) -> str:
    """Write the command that removes the logs of a cluster."""
    group = names.log_group(cluster)
    return f"aws logs delete-log-group --region {region} --log-group-name {group}"

"""Commands on an instance, through Systems Manager: nobody needs SSH, or a way there."""

from __future__ import annotations

import time

from perennial.aws.client import Aws, unless
from perennial.aws.failures import Cause
from perennial.errors import PerennialError

#: Seconds in which a command must have ended, and between two looks.
ENDS, LOOK = 120.0, 0.5
_WAITING = ("Pending", "InProgress", "Delayed")


def run(aws: Aws, instance: str, script: str, ends: float = ENDS) -> str:
    """Run a shell script as root; return what it prints. AWS keeps both for a month."""
    client = aws.client("ssm")
    sent = aws.call(
        f"run a command on {instance}",
        client.send_command,
        InstanceIds=[instance],
        DocumentName="AWS-RunShellScript",
        Parameters={"commands": [script], "executionTimeout": [f"{ends:.0f}"]},
    )["Command"]["CommandId"]
    until = time.monotonic() + ends + 30
    while time.monotonic() < until:
        told = unless(
            Cause.OTHER,  # not there yet: the call took effect, and is not seen everywhere
            lambda: aws.call(
                f"read the result of the command on {instance}",
                client.get_command_invocation,
                CommandId=sent,
                InstanceId=instance,
            ),
        )
        if told is not None and told["Status"] not in _WAITING:
            return _ended(instance, told["Status"], told)
        time.sleep(LOOK)
    raise PerennialError(
        f"{instance}: a command has not ended after {ends:.0f} s; `aws ssm"
        f" get-command-invocation --command-id {sent} --instance-id {instance}` shows more"
    )


def _ended(instance: str, status: str, told: dict[str, str]) -> str:
    if status == "Success":
        return told["StandardOutputContent"]
    said = " ".join(told["StandardErrorContent"].split())[-200:] or status
    raise PerennialError(f"{instance}: a command ended with {status}: {said}")

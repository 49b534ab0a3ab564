"""Watches the metadata for the end of this instance, and drains its workers before it comes.

Stopping a worker's unit is what drains it, see `perennial.preloads.drain`. The Auto Scaling group
waits for `complete` as long as its lifecycle hook says. Standard library alone; runs as root.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any

from perennial.platforms.ec2.instance.aws import Aws, CallError, Metadata

AUTOSCALING = "2011-01-01"
#: Seconds between two looks, as AWS asks for, and between two signs of life to the group.
LOOK, HEARTBEAT = 5.0, 60.0
#: What the metadata says of the end of an instance.
STATE = "latest/meta-data/autoscaling/target-lifecycle-state"
SPOT = "latest/meta-data/spot/instance-action"
REBALANCE = "latest/meta-data/events/recommendations/rebalance"


class Watch:
    """What one instance has heard of its end, and what it has done about it."""

    def __init__(self, look: Callable[[str], str | None], end: Callable[[str], None]) -> None:
        self._look = look
        self._end = end
        self._advised = False

    def once(self) -> bool:
        """Look once; whether the end has come, and what was to be done is done."""
        if self._look(STATE) == "Terminated":
            self._end("its Auto Scaling group removes it")
            return True
        if told := self._look(SPOT):
            found = json.loads(told)
            self._end(f"spot: {found.get('action')} at {found.get('time')}")
            return True
        if not self._advised and self._look(REBALANCE):
            # The group starts another one first; then it removes this one, and says so.
            self._advised = True
            say("spot: an interruption is likely; the group replaces this instance")
        return False


class Leaving:
    """Stops the services of the instance, and lets its group go on."""

    def __init__(self, aws: Callable[[], Aws], instance: str, bundle: Mapping[str, Any]) -> None:
        self._aws = aws
        self._hook = {
            "AutoScalingGroupName": bundle["group"],
            "LifecycleHookName": bundle["terminating"],
            "InstanceId": instance,
        }
        self._units = [unit.replace("@.", f"@{instance}.") for unit in bundle["units"]["drained"]]

    def end(self, why: str) -> None:
        """Drain the workers, with a sign of life to the group each minute."""
        say(f"draining: {why}")
        began = time.monotonic()
        stopping = subprocess.Popen(["systemctl", "stop", *self._units])
        while True:
            try:
                stopping.wait(HEARTBEAT)
                break
            except subprocess.TimeoutExpired:
                self._tell("RecordLifecycleActionHeartbeat", {})
        say(f"drained in {time.monotonic() - began:.1f} s")

    def complete(self) -> bool:
        """Let the group terminate the instance; whether it was asked."""
        return self._tell("CompleteLifecycleAction", {"LifecycleActionResult": "CONTINUE"})

    def _tell(self, action: str, more: Mapping[str, str]) -> bool:
        try:
            self._aws().query("autoscaling", AUTOSCALING, action, {**self._hook, **more})
        except (CallError, OSError) as error:
            # Without an active hook: a spot interruption that the group has not heard of yet.
            say(str(error))
            return False
        return True


def say(text: str) -> None:
    """Write a line into the journal."""
    print(text, flush=True)


def main() -> None:
    """Watch until the end, then tell the group until it has heard it."""
    with open("bundle.json") as file:
        bundle = json.load(file)
    metadata = Metadata()
    leaving = Leaving(lambda: Aws(metadata), metadata.wanted("instance-id"), bundle)
    watch = Watch(metadata.get, leaving.end)
    ended = False
    while True:
        try:
            ended = ended or watch.once()
            if ended and metadata.get(STATE) == "Terminated" and leaving.complete():
                say("its Auto Scaling group may go on")
                return
        except OSError as error:
            say(f"metadata: {error}")
        time.sleep(LOOK)


if __name__ == "__main__":
    main()

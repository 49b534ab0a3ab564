"""Sends the journal of a cluster's services to CloudWatch. Standard library alone; runs as root.

journald keeps the lines; where CloudWatch does not answer, they are sent later. How far it has got
stands in a file, journald's own cursor, which outlives a reboot.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from perennial.platforms.ec2.instance.aws import Aws, CallError, Metadata, patiently

#: What CloudWatch takes at once: events, and bytes with what it adds to each.
EVENTS, BYTES, ADDED, LONGEST = 1_000, 900_000, 26, 250_000
#: Seconds between two looks at the journal.
LOOK = 5.0


def read(units: Sequence[str], cursor: str) -> Iterator[dict[str, str]]:
    """Yield what the journal has of some units since a cursor."""
    chosen = [f"--unit={unit}" for unit in units]
    since = [f"--after-cursor={cursor}"] if cursor else []
    command = ["journalctl", "--output=json", "--no-pager", *since, *chosen]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as journal:
        for line in journal.stdout or ():
            yield json.loads(line)


def text_of(entry: Mapping[str, Any]) -> str:
    """Return the line of an entry; journald writes bytes that are no text as numbers."""
    said = entry.get("MESSAGE") or ""
    if isinstance(said, list):
        said = bytes(said).decode(errors="replace")
    return str(said)[:LONGEST] or " "


def batches(entries: Iterator[Mapping[str, Any]]) -> Iterator[tuple[list[dict[str, Any]], str]]:
    """Divide entries into what CloudWatch takes at once, each with the cursor of its last."""
    events: list[dict[str, Any]] = []
    size, cursor = 0, ""
    for entry in entries:
        text = f"{entry.get('_SYSTEMD_UNIT', '-')}: {text_of(entry)}"
        cost = len(text.encode()) + ADDED
        if events and (len(events) == EVENTS or size + cost > BYTES):
            yield sorted(events, key=lambda each: each["timestamp"]), cursor
            events, size = [], 0
        stamp = int(entry["__REALTIME_TIMESTAMP"]) // 1000
        events.append({"timestamp": stamp, "message": text})
        size, cursor = size + cost, str(entry["__CURSOR"])
    if events:
        yield sorted(events, key=lambda each: each["timestamp"]), cursor


def send(aws: Aws, group: str, stream: str, events: Sequence[Mapping[str, Any]]) -> Any:
    """Send some events; the stream is made where it is missing."""
    told = {"logGroupName": group, "logStreamName": stream}
    values = {**told, "logEvents": list(events)}
    try:
        return aws.json("logs", "Logs_20140328.PutLogEvents", values)
    except CallError as error:
        if error.code != "ResourceNotFoundException":
            raise
        aws.json("logs", "Logs_20140328.CreateLogStream", told)
        return aws.json("logs", "Logs_20140328.PutLogEvents", values)


def main() -> None:
    """Send what is new, for ever."""
    with open("bundle.json") as file:
        logs = json.load(file)["logs"]
    metadata = Metadata()
    aws, stream = Aws(metadata), f"{logs['stream']}/{metadata.wanted('instance-id')}"
    cursor = ""
    if os.path.exists(logs["cursor"]):
        with open(logs["cursor"]) as file:
            cursor = file.read()
    while True:
        for events, last in batches(read(logs["units"], cursor)):
            patiently("logs", partial(send, aws, logs["group"], stream, events))
            cursor = last
            with open(f"{logs['cursor']}.new", "w") as file:
                file.write(cursor)
            os.replace(f"{logs['cursor']}.new", logs["cursor"])
        time.sleep(LOOK)


if __name__ == "__main__":
    main()

"""The files of a service manager for every machine of a cluster, to read or to install by hand.

Pure. What `perennial up` puts on a machine differs in one thing: there a service listens on the
address that the machine was found to have, here on the one that the cluster file names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perennial import render
from perennial.platforms.hosts.environment import python
from perennial.platforms.hosts.machine_spec import machine_specs, read
from perennial.platforms.hosts.program import carried
from perennial.platforms.hosts.share import Share, members, share
from perennial.spec import ClusterSpec
from perennial.templating import Format


def files(spec: ClusterSpec, form: Format) -> dict[str, str]:
    """Render the files of every machine, path and text; the machine's name stands first."""
    return {
        f"{name}/{path.lstrip('/')}": text
        for name, values in machine_specs(spec).items()
        for path, text in _of_machine(share(read(_by_hand(spec, values))), form).items()
    }


def _by_hand(spec: ClusterSpec, values: Mapping[str, Any]) -> dict[str, Any]:
    """Let all be at fixed paths: the home folder of who installs them is not known here."""
    machine = {key: value for key, value in values["machine"].items() if key != "init"}
    return {**values, "machine": machine, "python": python(spec)}


def _of_machine(share: Share, form: Format) -> dict[str, str]:
    address = share.target.internal or share.target.address
    if form == "systemd":
        parts = [part.at(address) for part in share.services]
        counts = {name: None if name in share.kept else n for name, n in share.counts.items()}
        return render.systemd(carried(parts), share.cluster, counts)
    found: dict[str, str] = {}
    for name, anywhere in members(share).items():
        if anywhere.role in ("scaler", "relay", "keeper"):
            continue  # a keeper needs systemd; by hand, a group has the size that was rendered
        member = anywhere.at(address)
        found |= {file.path: file.text for file in member.files}
        log = f"/var/log/dask-perennial/{share.cluster}/{name}.log"
        found[f"conf.d/{name}.conf"] = render.program(member, log)
    return found

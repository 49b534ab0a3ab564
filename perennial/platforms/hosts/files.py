"""The files of a service manager for every machine of a cluster, to read or to install by hand.

Pure. What `perennial up` puts on a machine differs in one thing: there a service listens on the
address that the machine was found to have, here on the one that the cluster file names.
"""

from __future__ import annotations

from perennial import render
from perennial.platforms.hosts.environment import python
from perennial.platforms.hosts.machine_services import MachineServices, members, services_of
from perennial.platforms.hosts.machine_spec import MachineInputs, machine_specs, read
from perennial.platforms.hosts.program import with_program
from perennial.spec import ClusterSpec
from perennial.templating import Format


def files(spec: ClusterSpec, form: Format) -> dict[str, str]:
    """Render the files of every machine, path and text; the machine's name stands first."""
    return {
        f"{name}/{path.lstrip('/')}": text
        for name, values in machine_specs(spec).items()
        for path, text in _of_machine(services_of(read(_by_hand(spec, values))), form).items()
    }


def _by_hand(spec: ClusterSpec, values: MachineInputs) -> MachineInputs:
    """Let all be at fixed paths: the home folder of who installs them is not known here."""
    machine = {key: value for key, value in values["machine"].items() if key != "init"}
    return {**values, "machine": machine, "python": python(spec)}


def _of_machine(assigned: MachineServices, form: Format) -> dict[str, str]:
    address = assigned.target.internal or assigned.target.address
    if form == "systemd":
        parts = [part.at(address) for part in assigned.services]
        counts = {
            name: None if name in assigned.scaled else n for name, n in assigned.counts.items()
        }
        return render.systemd(with_program(parts), assigned.cluster, counts)
    found: dict[str, str] = {}
    for name, anywhere in members(assigned).items():
        if anywhere.role in ("scaler", "relay", "keeper"):
            continue  # a keeper needs systemd; by hand, a group has the size that was rendered
        member = anywhere.at(address)
        found |= {file.path: file.text for file in member.files}
        log = f"/var/log/dask-perennial/{assigned.cluster}/{name}.log"
        found[f"conf.d/{name}.conf"] = render.program(member, log)
    return found

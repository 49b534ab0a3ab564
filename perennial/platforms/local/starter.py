"""The cluster file that a new user begins with, fitted to a machine. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from perennial.capacity import MachineResources
from perennial.spec.scalars import is_plain
from perennial.spec.units import NAME_PATTERN, about, format_size

_MIB = 2**20
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Ports:
    """Free ports for the services of a new cluster."""

    scheduler: int
    dashboard: int
    jupyter: int


def fit(machine: MachineResources) -> tuple[int, int, int]:
    """Choose workers for a machine: all cores, three quarters of its memory or what is free."""
    threads = 1 if machine.cores <= 4 else 2 if machine.cores <= 16 else 4
    # On a machine that others use, too, what they have is not ours to promise.
    budget = min(machine.memory * 3 // 4, machine.available * 9 // 10)
    # Dask itself takes some 150 MiB in each worker.
    count = max(1, min(machine.cores // threads, budget // (512 * _MIB)))
    memory = budget // count
    step = _GIB if memory >= 4 * _GIB else 256 * _MIB
    return count, threads, max(memory // step * step, 256 * _MIB)


def starter(name: str, machine: MachineResources, ports: Ports, schema: str, jupyter: bool) -> str:
    """Write a commented cluster file."""
    count, threads, memory = fit(machine)
    return _TEXT.format(
        schema=schema,
        name=name if _is_word(name) else json.dumps(name),
        cores="1 core" if machine.cores == 1 else f"{machine.cores} cores",
        machine_memory=about(machine.memory),
        ports=ports,
        count=count,
        threads=threads,
        memory=format_size(memory),
        jupyter=(_JUPYTER if jupyter else _NO_JUPYTER).format(ports=ports),
    )


def _is_word(name: str) -> bool:
    """Whether a name needs no quotes; `no` does, and what is no name must stay one value."""
    return re.fullmatch(NAME_PATTERN, name) is not None and is_plain(name)


_TEXT = """\
# yaml-language-server: $schema={schema}
#
# A standing Dask cluster. `perennial check` validates this file, `perennial up` starts the
# cluster or changes it into what stands here, `perennial down` stops it.

name: {name}
platform: local            # on this machine: {cores}, {machine_memory} of memory

scheduler:
  port: {ports.scheduler}               # clients and workers reach the scheduler here
  dashboard_port: {ports.dashboard}     # Dask's dashboard: on loopback, and through Jupyter's login

workers:
  cpu:                     # a group of identical workers: cpu-0, cpu-1 and so on
    count: {count}
    threads: {threads}             # tasks that a worker runs at the same time
    memory: {memory}          # of one worker; above it Dask spills to disk, then restarts it
    drain: 60 s            # a worker that is told to stop may finish its tasks for so long

{jupyter}
# Dask's own configuration, for every service:
# dask:
#   distributed.worker.memory.target: 0.6

# Clients and workers need the cluster's certificates. `false` lets anybody who reaches the
# scheduler's port run code as you.
security:
  tls: true
"""

_JUPYTER = """\
jupyter:                   # `jupyter: null` for none
  port: {ports.jupyter}
  directory: ~/notebooks   # stays when the cluster goes
"""

_NO_JUPYTER = """\
# JupyterLab is not installed here: pip install 'dask-perennial[jupyter]', then remove this line.
jupyter: null
"""

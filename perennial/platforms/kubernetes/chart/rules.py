"""How a value of the chart is taken over where copying it won't do. Pure.

Each function takes a `Value`; `perennial.platforms.kubernetes.chart.table` names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from math import ceil
from typing import Any

from perennial.errors import Fault
from perennial.platforms.kubernetes.chart.draft import Draft
from perennial.platforms.kubernetes.chart.monitors import metrics, monitor
from perennial.platforms.kubernetes.chart.value import Value
from perennial.platforms.kubernetes.quotas import quantity
from perennial.spec import dask_config
from perennial.spec.units import format_size, parse_size
from perennial.spec.variables import WORKER_FLAGS

#: Variables by which the entry point of Dask's images installs packages.
_PACKAGES = re.compile(r"EXTRA_(PIP|CONDA|APT)_PACKAGES|USE_MAMBA")
_TAKEN = re.compile(r"PERENNIAL_.*|NOTIFY_SOCKET|WATCHDOG_.*|HOME|POD_NAME|POD_IP")
#: Folders that every container has, and where the chart's notebooks are.
_FOLDERS = ("/tmp", "/run/dask-perennial", "/etc/dask-perennial")  # noqa: S108
_NOTEBOOKS = "/home/jovyan"
_VOLUMES = ("tmp", "home", "jupyter", "token")
#: Flags of `dask worker` that take no value.
_BARE = {"--dashboard", "--no-dashboard", "--nanny", "--no-nanny"}
_BARE |= {"--lifetime-restart", "--no-lifetime-restart"}
#: Flags that a key of a group stands for.
_KEYS = {
    "--nworkers": "processes",
    "--nprocs": "processes",
    "--nthreads": "threads",
    "--memory-limit": "memory",
    "--resources": "resources",
    "--worker-port": "ports",
    "--preload": "preload",
    "--preload-nanny": "nanny_preload",
}


def copied(of: Value) -> None:
    """Copy what is there, unless it is what both have."""
    if of.value not in ({}, [], "", of.row.usual):
        of.put(of.value)


def part_of(_: Value) -> None:
    """Leave it to the value that it belongs to."""


def count(of: Value) -> None:
    """Take a size, also 0, which the chart cannot see in a further group."""
    of.put(of.value)
    if of.value == 0 and of.key.startswith("additional"):
        of.differ("0 members here; the chart starts as many as worker.replicas says")


def integer(of: Value) -> None:
    """Take a number that may stand in quotes."""
    of.put(int(of.value))


def size(of: Value) -> None:
    """Take an amount of memory."""
    of.put(format_size(int(quantity(str(of.value)))))


def image(of: Value) -> None:
    """Take an image: that of the scheduler for all, another one where it differs."""
    own = of.part["image"]
    name = f"{own['repository']}:{own['tag']}"
    if of.row.section == "scheduler":
        of.put(name)
        of.draft.differ("scheduler.image", f"kubernetes.image is {name}; {of.row.why}")
    elif name != of.draft.get("kubernetes.image"):
        of.put(name)


def pull_secrets(of: Value) -> None:
    """Take the names of Secrets."""
    found = [each.get("name") for each in of.value]
    if not all(isinstance(name, str) for name in found):
        of.draft.refuse(of.key, of.value, "a list such as [{name: regcred}]")
    elif found:
        of.put(found)


def limits(of: Value) -> None:
    """Take limits beside the memory, which the cluster file says.

    Where an argument says what a process may use, the limit is that of the pod alone.
    """
    memory = of.draft.origins.get(("workers", of.group, "memory"), "")
    apart = ("memory",) if not memory.endswith(".extraArgs") else ()
    rest = {name: str(each) for name, each in of.value.items() if name not in apart}
    if rest:
        of.put(rest)
    if "cpu" in rest and "cpu" not in (of.part["resources"].get("requests") or {}):
        # As Kubernetes does; ours would be that of the threads, which may be above the limit.
        of.put({"cpu": rest["cpu"]}, of.row.ours.replace(".limits", ".requests"))


def requests(of: Value) -> None:
    """Take requests; without limits they are all that is known of the size of a pod."""
    most = of.part["resources"].get("limits") or {}
    rest = {name: str(each) for name, each in of.value.items()}
    memory, cpu = rest.pop("memory", None), rest.get("cpu")
    if memory is not None and "memory" in most and memory != str(most["memory"]):
        rest["memory"] = memory
    if not of.group and memory is not None and "memory" not in most:
        of.put(format_size(int(quantity(memory))), f"{of.row.section}.memory")
    if of.group and not most:
        if memory is not None:
            processes = of.draft.get("workers.NAME.processes", NAME=of.group) or 1
            of.put(format_size(int(quantity(memory) // processes)), "workers.NAME.memory")
        if cpu is not None:
            of.put(max(1, ceil(quantity(cpu))), "workers.NAME.threads")
        of.differ("threads and memory are what it requests; the chart gives it the whole node")
    if rest and not of.put(rest):
        of.draft.get(of.row.ours, NAME=of.group).update(rest)


def processors(of: Value) -> None:
    """Take a limit of processors as threads."""
    threads = max(1, ceil(quantity(str(of.value))))
    if of.put(threads) and quantity(str(of.value)) != threads:
        of.differ(f"{threads} threads, and the limit of {of.value} is kept")


def process_memory(of: Value) -> None:
    """Share a pod's memory among its processes."""
    processes = of.draft.get("workers.NAME.processes", NAME=of.group) or 1
    of.put(format_size(int(quantity(str(of.value)) // processes)))


def default_cpu(of: Value) -> None:
    """Take what the chart takes where there are limits without processors."""
    if (most := of.part["resources"].get("limits")) and "cpu" not in most:
        of.put(max(1, ceil(quantity(str(of.value)))))


def default_memory(of: Value) -> None:
    """Take what the chart takes where there are limits without memory."""
    if (most := of.part["resources"].get("limits")) and "memory" not in most:
        try:
            of.put(format_size(parse_size(of.value)))
        except ValueError:
            of.draft.refuse(of.key, of.value, "a size such as 4GiB")


def jupyter(of: Value) -> None:
    """Leave JupyterLab out where the chart has none."""
    if not of.value:
        of.put(None)


def configuration(of: Value) -> None:
    """Say that Jupyter's configuration is not taken, unless it is but comments."""
    lines = (line.strip() for line in str(of.value).splitlines())
    if any(line and not line.startswith("#") for line in lines):
        of.lose(of.row.why)


def ingress(of: Value) -> None:
    """Take JupyterLab's Ingress."""
    own = of.part["ingress"]
    if not of.value:
        return
    made: dict[str, Any] = {"host": own["hostname"]}
    if own.get("ingressClassName"):
        made["class_name"] = own["ingressClassName"]
    if own.get("tls"):
        made["tls_secret"] = own.get("secretName") or "dask-jupyter-tls"
        if not own.get("secretName"):
            of.differ("the Secret of its certificate is called dask-jupyter-tls; correct the name")
    if own.get("annotations"):
        made["annotations"] = dict(own["annotations"])
    of.put(made)
    of.differ(of.row.why)


def ports(of: Value) -> None:
    """Take the port of a worker, with those that its processes and their nannies need."""
    processes = of.draft.get("workers.NAME.processes", NAME=of.group) or 1
    first = int(of.value)
    if of.put(f"{first}:{first + 2 * processes - 1}"):
        of.differ(f"{2 * processes} ports: each process and its nanny take one")


def env(of: Value) -> None:
    """Take variables: Dask's own as its configuration, and the others as they are."""
    for index, each in enumerate(of.value):
        key, name = f"{of.key}[{index}]", each.get("name")
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", name):
            of.draft.refuse(key, name, "a variable with a name of letters, digits and _")
        elif _PACKAGES.fullmatch(name):
            _say(of, key, f"{name}: packages are put into the image when it is built")
        elif _TAKEN.fullmatch(name):
            _say(of, key, f"{name}: the cluster's services are given it themselves")
        elif name.startswith("DASK_"):
            _setting(of, key, name, each.get("value"))
        else:
            _variable(of, each)


def arguments(of: Value) -> None:
    """Take arguments of `dask worker`: those that have a key as that key."""
    rest, words = [], [str(word) for word in of.value]
    for flag, value in _flags(words):
        name = _KEYS.get(flag)
        if name and (found := _parsed(name, value)) is not None:
            place = f"workers.NAME.{name}"
            if isinstance(found, list) and (before := of.draft.get(place, NAME=of.group)):
                before.extend(found)
            else:
                of.put(found, place)
        elif flag in WORKER_FLAGS or name:
            shown = " ".join(filter(None, (flag, value)))
            of.lose(f"{shown}: {WORKER_FLAGS.get(flag, 'not what the flag takes')}")
        else:
            rest += [flag, *([value] if value else [])]
    if rest:
        of.put(rest)


def volumes(of: Value) -> None:
    """Take volumes; a claim that holds the notebooks is the storage of JupyterLab."""
    home = _home(of)
    found = [_renamed(each) for each in of.value if each.get("name") != home]
    if home is not None:
        claims = (each for each in of.value if each.get("name") == home)
        claim = next(claims)["persistentVolumeClaim"].get("claimName")
        of.put({"claim": claim}, "kubernetes.jupyter.storage")
        of.differ("the claim holds JupyterLab's home, where notebooks stand in jupyter.directory")
    if found:
        of.put(found)


def mounts(of: Value) -> None:
    """Take where volumes are mounted."""
    found, home = [], _home(of)
    for index, each in enumerate(of.value):
        path = str(each.get("mountPath", "")).rstrip("/")
        if any(path == own or path.startswith(f"{own}/") for own in _FOLDERS):
            _say(of, f"{of.key}[{index}]", f"{path}: every container has a folder of its own there")
        elif home is None or each.get("name") != home:
            found.append(_renamed(each))
    if found:
        of.put(found)


RULES: Mapping[str, Callable[[Value], None]] = {
    each.__name__: each
    for each in (
        *(copied, part_of, count, integer, size, image, pull_secrets, limits, requests, processors),
        *(process_memory, default_cpu, default_memory, jupyter, configuration, ingress, env),
        *(arguments, volumes, mounts, ports, metrics, monitor),
    )
}


def _say(of: Value, key: str, why: str) -> None:
    if of.written:
        of.draft.lose(key, why)


def _variable(of: Value, variable: Mapping[str, Any]) -> None:
    """Put a variable under the group's own, or into its container where it is no plain text."""
    value = variable.get("value", "")
    plain = "valueFrom" not in variable and str(value).isprintable() and "$(" not in str(value)
    if of.group and plain:
        of.put(str(value), f"workers.NAME.env.{variable['name']}")
        return
    place = "kubernetes.workers.NAME" if of.group else f"kubernetes.{of.row.section}"
    path = f"{place}.extra_pod_spec.containers"
    entry = dict(variable) if "valueFrom" in variable else {**variable, "value": str(value)}
    if containers := of.draft.get(path, NAME=of.group):
        containers[0]["env"].append(entry)
    else:
        name = "jupyter" if of.row.section == "jupyter" else "dask"
        of.put([{"name": name, "env": [entry]}], path)


def _setting(of: Value, key: str, name: str, value: Any) -> None:
    """Put a setting of Dask's where the cluster file has it."""
    from dask.config import interpret_value

    setting = name.removeprefix("DASK_").lower().replace("__", ".").replace("_", "-")
    if value is None:
        _say(of, key, f"{name}: a setting of Dask's comes from no Secret; write it under `dask`")
        return
    wanted = {setting: interpret_value(str(value))}
    try:
        dask_config.check(wanted)
    except ValueError as error:
        why = error.context["allowed"] if hasattr(error, "context") else str(error)
        _say(of, key, f"{name}: allowed is {why}")
        return
    place = "workers.NAME.dask" if of.group else "dask"
    settings = of.draft.get(place, NAME=of.group) or {}
    if settings.get(setting, wanted[setting]) != wanted[setting]:
        _say(of, key, f"{name}: all services have {settings[setting]!r}, said before")
        return
    of.put({**settings, **wanted}, place) or settings.update(wanted)
    if not of.group and of.written:
        of.draft.differ(key, f"{name}: holds for every service under `dask`")


def _flags(words: list[str]) -> Iterator[tuple[str, str]]:
    """Yield flags with their values, and words without a flag."""
    while words:
        flag, joined, value = words.pop(0).partition("=")
        bare = not flag.startswith("--") or flag in _BARE
        if not joined and not bare and words and not words[0].startswith("--"):
            value = words.pop(0)
        yield (flag, value) if flag.startswith("--") else (flag + joined + value, "")


def _parsed(name: str, value: str) -> Any:
    """Read a flag's value; None where it is no such value."""
    try:
        if name in ("processes", "threads"):
            return int(value) if int(value) > 0 else None
        if name == "memory":
            return format_size(parse_size(value))
        if name == "resources":
            pairs = (pair.partition("=") for pair in value.replace(",", " ").split())
            return {key: float(amount) for key, _, amount in pairs}
        if name == "ports":
            first, _, last = value.partition(":")
            return f"{int(first)}:{int(last or first) + (not last)}"
    except ValueError:
        return None
    return [value] if value else None


def _home(of: Value) -> str | None:
    """Name the volume, of a claim, that is mounted as the home of the chart's JupyterLab."""
    own = of.part["mounts"]
    if of.group:
        return None
    at = {
        each.get("name")
        for each in own.get("volumeMounts") or ()
        if str(each.get("mountPath", "")).rstrip("/") == _NOTEBOOKS and not each.get("subPath")
    }
    found = (
        each["name"]
        for each in own.get("volumes") or ()
        if each.get("name") in at and isinstance(each.get("persistentVolumeClaim"), Mapping)
    )
    return next(found, None)


def _renamed(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Rename a volume whose name one of ours has."""
    name = entry.get("name")
    return {**entry, "name": f"{name}-own"} if name in _VOLUMES else dict(entry)


def located(fault: Fault, draft: Draft) -> Fault:
    """Say of a fault of the cluster file which value of the chart it comes from."""
    if key := draft.origin(fault.path):
        return Fault(key, fault.found, fault.allowed, fault.fix, draft.line(key))
    return fault

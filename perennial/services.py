"""From a cluster file to services: the one place that knows Dask's command line. Pure.

A `Service` is a platform-neutral value: one process that must be kept running. A worker
group is one service with `INSTANCE` in the place of the member's number, so that a group's
text does not change with its size; `Service.member` fills the number in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address, ip_address
from typing import Any, Literal

import yaml

from perennial import jupyter as notebooks
from perennial.spec import ClusterSpec, WorkerGroup

#: Stands for a member's number, until a platform or a unit format puts its own in place. A
#: letter of Unicode's private use area: nothing that a person writes contains it.
INSTANCE = "\ue000"


@dataclass(frozen=True, slots=True)
class Site:
    """Where things are on the machine that runs the services. A platform decides them.

    Parameters
    ----------
    python : str
        Interpreter that runs the services.
    config : str
        Folder of rendered configuration files.
    tls : str
        Folder of the certificates and keys.
    secrets : str
        Folder of other secrets (Jupyter's token).
    scratch : str
        Folder for what workers spill to disk.
    address : str
        IP address or host name on which the scheduler is reached and workers listen.
    home : str
        Home folder of the user that runs the services.
    """

    python: str
    config: str
    tls: str
    secrets: str
    scratch: str
    address: str
    home: str


@dataclass(frozen=True, slots=True)
class File:
    """A configuration file that a service reads; holds no secret."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """What is run.

    Parameters
    ----------
    argv : tuple of str
        Program and arguments; never a secret.
    environment : tuple of (str, str)
        Variables beside those of the service manager; never a secret.
    directory : str
        Working folder.
    """

    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    directory: str = "/"


@dataclass(frozen=True, slots=True)
class Access:
    """What a service touches outside its process.

    Parameters
    ----------
    secrets : tuple of str
        Secret files that it reads.
    writes : tuple of str
        Folders that it writes to.
    ports : tuple of int
        Fixed TCP ports that it listens on.
    """

    secrets: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a service may use.

    Parameters
    ----------
    memory : int
        Bytes, where the service manager can limit memory. For a worker above the sum of its
        processes' ``--memory-limit``: Dask cannot see this limit.
    open_files : int
        Open files.
    """

    memory: int
    open_files: int = 65536


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """How a service starts, lives and stops.

    Parameters
    ----------
    stop_timeout : float
        Seconds from SIGTERM to SIGKILL; above the drain deadline.
    notifies : bool
        The process tells systemd when it is ready and that it is alive (``sd_notify``).
    watchdog : float
        Seconds without a sign of life after which it is restarted; 0 for never.
    health : str or None
        URL on loopback that answers 200 while the process is well.
    """

    stop_timeout: float
    notifies: bool = False
    watchdog: float = 0.0
    health: str | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """One process that must be kept running; for a worker group, one of its members.

    Parameters
    ----------
    name : str
        ``scheduler``, ``jupyter`` or ``<group>-<INSTANCE>``.
    role : str
        What it is.
    description : str
        One line for a person.
    command, access, limits, lifecycle
        See their classes.
    files : tuple of File
        Configuration that it reads.
    """

    name: str
    role: Literal["scheduler", "worker", "jupyter"]
    description: str
    command: Command
    access: Access
    limits: Limits
    lifecycle: Lifecycle
    files: tuple[File, ...] = field(default=())

    @property
    def group(self) -> str | None:
        """Name of the worker group, or None."""
        return self.name.removesuffix(f"-{INSTANCE}") if INSTANCE in self.name else None

    def member(self, instance: str) -> Service:
        """Put a member's number (or a unit format's word for it) in the place of `INSTANCE`.

        Parameters
        ----------
        instance : str
            ``0``, ``1``, …; or ``%i`` in a systemd template unit.
        """

        def fill(text: str) -> str:
            return text.replace(INSTANCE, instance)

        return replace(
            self,
            name=fill(self.name),
            description=fill(self.description),
            command=Command(
                tuple(map(fill, self.command.argv)),
                tuple((key, fill(value)) for key, value in self.command.environment),
                fill(self.command.directory),
            ),
            access=replace(self.access, writes=tuple(map(fill, self.access.writes))),
        )


def services(spec: ClusterSpec, site: Site) -> tuple[Service, ...]:
    """List what a cluster consists of: the scheduler, each worker group, Jupyter.

    Parameters
    ----------
    spec : ClusterSpec
        The cluster file.
    site : Site
        Where things are.
    """
    workers = [worker(spec, site, name, group) for name, group in spec.workers.items()]
    labs = [jupyter(spec, site)] if spec.jupyter is not None else []
    return (scheduler(spec, site), *workers, *labs)


def scheduler(spec: ClusterSpec, site: Site) -> Service:
    """Describe the cluster's scheduler."""
    config = f"{site.config}/scheduler.yaml"
    health = f"http://127.0.0.1:{spec.scheduler.dashboard_port}/health"
    preloads = ["perennial.preloads.ready", *_tls_preloads(spec)]
    argv = (
        *(site.python, "-m", "dask", "scheduler"),
        *("--host", site.address, "--port", str(spec.scheduler.port)),
        *("--dashboard-address", f"127.0.0.1:{spec.scheduler.dashboard_port}"),
        *_tls_flags(spec, site, "scheduler"),
        *_repeat("--preload", preloads + _own_preloads(spec.dask, "scheduler")),
    )
    return Service(
        name="scheduler",
        role="scheduler",
        description=f"Dask scheduler of the cluster {spec.name}",
        command=Command(argv, (("DASK_CONFIG", config),), site.scratch),
        access=Access(
            secrets=_tls_files(spec, site, "scheduler"),
            writes=(site.scratch,),
            ports=(spec.scheduler.port, spec.scheduler.dashboard_port),
        ),
        limits=Limits(memory=spec.scheduler.memory),
        lifecycle=Lifecycle(
            stop_timeout=20.0, notifies=True, watchdog=spec.scheduler.watchdog, health=health
        ),
        files=(File(config, _config(spec, site, spec.dask)),),
    )


def worker(spec: ClusterSpec, site: Site, name: str, group: WorkerGroup) -> Service:
    """Describe a member of a worker group."""
    config = f"{site.config}/{name}.yaml"
    dask = merge(nested(spec.dask), nested(group.dask))
    instance = f"{name}-{INSTANCE}"
    directory = f"{site.scratch}/{instance}"
    tls = _tls_preloads(spec)
    ports = f"{group.ports[0]}:{group.ports[1]}" if group.ports else "0"
    resources = " ".join(f"{key}={amount:.15g}" for key, amount in sorted(group.resources.items()))
    argv = (
        *(site.python, "-m", "dask", "worker", scheduler_address(spec, site)),
        *("--name", instance, "--host", site.address),
        *("--nworkers", str(group.processes), "--nthreads", str(group.threads)),
        *("--memory-limit", str(group.memory), "--local-directory", directory),
        *("--worker-port", ports, "--nanny-port", ports),
        # A worker's own pages repeat the scheduler's; its plain /health stays on loopback.
        *("--no-dashboard", "--dashboard-address", "127.0.0.1:0"),
        *(("--resources", resources) if resources else ()),
        *_tls_flags(spec, site, "worker"),
        *_repeat("--preload", ["perennial.preloads.keep", *tls, *_own_preloads(dask, "worker")]),
        *_repeat(
            "--preload-nanny",
            [
                "perennial.preloads.drain",
                "perennial.preloads.ready",
                *tls,
                *_own_preloads(dask, "nanny"),
            ],
        ),
    )
    return Service(
        name=instance,
        role="worker",
        description=f"Dask worker {instance} of the cluster {spec.name}",
        command=Command(argv, (("DASK_CONFIG", config),), site.scratch),
        access=Access(secrets=_tls_files(spec, site, "worker"), writes=(site.scratch,)),
        # A tenth for what Dask does not count, and room for the nanny.
        limits=Limits(memory=int(group.processes * group.memory * 1.1) + 256 * 2**20),
        # The drain ends by itself at its deadline; the rest is for the process to leave.
        lifecycle=Lifecycle(stop_timeout=group.drain + 30.0, notifies=True),
        files=(File(config, _config(spec, site, dask, drain=group.drain)),),
    )


def jupyter(spec: ClusterSpec, site: Site) -> Service:
    """Describe JupyterLab, in whose notebooks a plain ``Client()`` reaches the cluster."""
    if spec.jupyter is None:
        raise ValueError("the cluster has no Jupyter")
    config = f"{site.config}/jupyter.yaml"
    dask = merge(
        nested(spec.dask),
        {"distributed": {"dashboard": {"link": notebooks.DASHBOARD_LINK}}},
    )
    rendered = notebooks.jupyter_files(spec.jupyter, site, spec.scheduler.dashboard_port)
    return Service(
        name="jupyter",
        role="jupyter",
        description=f"JupyterLab of the cluster {spec.name}",
        command=Command(
            argv=notebooks.jupyter_argv(site),
            environment=(
                ("DASK_CONFIG", config),
                *notebooks.jupyter_environment(site),
                *_client_tls(spec, site),
            ),
            directory=notebooks.notebook_directory(spec.jupyter, site),
        ),
        access=Access(
            secrets=(*_tls_files(spec, site, "client"), notebooks.token_file(site)),
            writes=(
                site.home,
                notebooks.notebook_directory(spec.jupyter, site),
                notebooks.state_directory(site),
            ),
            ports=(spec.jupyter.port,),
        ),
        limits=Limits(memory=spec.jupyter.memory),
        lifecycle=Lifecycle(stop_timeout=20.0),
        files=(File(config, _config(spec, site, dask)), *(File(*file) for file in rendered)),
    )


def scheduler_address(spec: ClusterSpec, site: Site) -> str:
    """Address that clients and workers use: ``tls://127.0.0.1:8786``."""
    scheme = "tls" if spec.security.tls else "tcp"
    return f"{scheme}://{_host(site.address)}:{spec.scheduler.port}"


def worker_names(group: WorkerGroup, member: str) -> tuple[str, ...]:
    """Names under which a member's processes register with the scheduler."""
    if group.processes == 1:
        return (member,)
    return tuple(f"{member}-{process}" for process in range(group.processes))


def nested(config: Mapping[str, Any]) -> dict[str, Any]:
    """Expand dotted keys, as people write them, into Dask's nested form."""
    result: dict[str, Any] = {}
    for key, value in config.items():
        inner: Any = nested(value) if isinstance(value, Mapping) else value
        for part in reversed(str(key).split(".")):
            inner = {part: inner}
        result = merge(result, inner)
    return result


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one nested configuration over another."""
    result = dict(below)
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merge(result[key], value)
        else:
            result[key] = value
    return result


def _config(spec: ClusterSpec, site: Site, dask: Mapping[str, Any], **ours: Any) -> str:
    """Dask's configuration for a service, over the user's own in their home.

    Dask reads ``~/.config/dask`` as well, where `perennial connect` may have put the address
    and the certificate of another cluster; so these keys are always set, also to nothing.
    """
    # Not `true`: it would forbid a user's own LocalCluster in a notebook. With certificates on
    # their command line, the scheduler and the workers accept nothing but TLS anyway.
    comm: dict[str, Any] = {"require-encryption": None}
    if not spec.security.tls:
        comm["tls"] = {"ca-file": None, "client": {"cert": None, "key": None}}
    fixed = {
        "scheduler-address": scheduler_address(spec, site),
        "distributed": {"comm": comm},
        "perennial": {"cluster": spec.name, **ours},
    }
    return yaml.safe_dump(merge(nested(dask), fixed), sort_keys=True, allow_unicode=True)


def _own_preloads(dask: Mapping[str, Any], part: str) -> list[str]:
    """List preloads of the user's own: flags on the command line would hide them."""
    found = nested(dask).get("distributed", {}).get(part, {}).get("preload", [])
    return [found] if isinstance(found, str) else list(found)


def _repeat(flag: str, values: list[str]) -> tuple[str, ...]:
    return tuple(word for value in values for word in (flag, value))


def _tls_preloads(spec: ClusterSpec) -> list[str]:
    return ["perennial.preloads.certificates"] if spec.security.tls else []


def _tls_files(spec: ClusterSpec, site: Site, role: str) -> tuple[str, ...]:
    if not spec.security.tls:
        return ()
    return tuple(f"{site.tls}/{name}.pem" for name in ("ca", role, f"{role}-key"))


def _tls_flags(spec: ClusterSpec, site: Site, role: str) -> tuple[str, ...]:
    if not spec.security.tls:
        return ("--protocol", "tcp")
    ca, cert, key = _tls_files(spec, site, role)
    return ("--protocol", "tls", "--tls-ca-file", ca, "--tls-cert", cert, "--tls-key", key)


def _client_tls(spec: ClusterSpec, site: Site) -> tuple[tuple[str, str], ...]:
    """Name a client's certificate to Dask; in variables, so that a unit can put its own path."""
    files = _tls_files(spec, site, "client")
    keys = ("CA_FILE", "CLIENT__CERT", "CLIENT__KEY")
    return tuple(
        (f"DASK_DISTRIBUTED__COMM__TLS__{key}", file)
        for key, file in zip(keys, files, strict=False)
    )


def _host(address: str) -> str:
    try:
        return f"[{address}]" if isinstance(ip_address(address), IPv6Address) else address
    except ValueError:
        return address

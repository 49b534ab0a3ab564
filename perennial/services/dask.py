"""From a cluster file to services: the one place that knows Dask's command line. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from typing import Any

import yaml

from perennial import jupyter as notebooks
from perennial.services.configuration import Config, merge, nested
from perennial.services.values import (
    INSTANCE,
    Access,
    Command,
    File,
    Lifecycle,
    Limits,
    Service,
    Site,
)
from perennial.spec import ClusterSpec, WorkerGroup, pinned

#: Seconds after which a nanny whose event loop hangs is ended, and its workers with it. A worker
#: that hangs is Dask's part: it has its nanny restart it after as long (scheduler.worker-ttl).
NANNY_WATCHDOG = 300.0

#: The one in C, where PyYAML has it: a plan of many machines writes thousands of these files.
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

#: Where the system's programs are: what systemd gives its services as well.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def scheduler(spec: ClusterSpec, site: Site) -> Service:
    """Describe the cluster's scheduler."""
    config = f"{site.config}/scheduler.yaml"
    health = f"http://127.0.0.1:{spec.scheduler.dashboard_port}/health"
    # Dask gives every server a folder for files, by default one in /tmp that it leaves behind.
    dask = merge({"temporary-directory": site.scratch, **_ucx(spec)}, nested(spec.dask))
    ours = ("gate", "ready", "demand", "page", "roster")
    preloads = [*(f"perennial.preloads.{name}" for name in ours), *_tls_preloads(spec)]
    pages = _pages(spec, site) if site.pages else None
    preloads += _metrics_preloads(site)
    if site.keeper:  # scaled or not: a preload that is added restarts the scheduler
        preloads.append("perennial.preloads.fleets")
    argv = (
        *(*site.running("dask"), "scheduler"),
        *("--host", host(site.address), "--port", str(spec.scheduler.port)),
        *("--dashboard-address", f"127.0.0.1:{spec.scheduler.dashboard_port}"),
        *_tls_flags(spec, site, "scheduler"),
        *_repeat("--preload", preloads + _own_preloads(spec.dask, "scheduler")),
    )
    return Service(
        name="scheduler",
        role="scheduler",
        description=f"Dask scheduler of the cluster {spec.name}",
        command=Command(argv, _variables(config, site, spec.env), site.work or site.scratch),
        access=Access(
            secrets=(*tls_files(spec, site, "scheduler"), *metrics_files(site)),
            writes=(*_writes(site), *filter(None, [site.pages])),
            ports=(spec.scheduler.port, spec.scheduler.dashboard_port),
        ),
        limits=Limits(memory=spec.scheduler.memory),
        lifecycle=Lifecycle(
            stop_timeout=20.0, notifies=True, watchdog=spec.scheduler.watchdog, health=health
        ),
        files=(File(config, dask_config(spec, site, dask, pages=pages, **_metrics(site))),),
    )


def _pages(spec: ClusterSpec, site: Site) -> Config:
    """Say where the scheduler serves its pages, see `perennial.preloads.gate`."""
    found: Config = {"folder": site.pages, "shared": site.shared}
    if spec.security.open_dashboard:
        names = sorted({site.address, site.scheduler or site.address})
        found["open"] = {"address": site.address, "names": names}
    return found


def worker(spec: ClusterSpec, site: Site, name: str, group: WorkerGroup) -> Service:
    """Describe a member of a worker group."""
    config = f"{site.config}/{name}.yaml"
    dask = merge(nested(spec.dask), nested(group.dask))
    instance = "-".join(filter(None, (name, site.machine, INSTANCE)))
    ours = {
        **{"group": name, "processes": group.processes, "drain": group.drain},
        **_metrics(site),
    }
    return Service(
        name=instance,
        role="worker",
        description=f"Dask worker {instance} of the cluster {spec.name}",
        command=Command(
            _worker_argv(spec, site, instance, group, dask),
            _variables(config, site, {**spec.env, **group.env}),
            site.work or site.scratch,
            spec.umask,
        ),
        access=Access(
            secrets=(*tls_files(spec, site, "worker"), *metrics_files(site)),
            writes=_writes(site),
            hidden=tuple(filter(None, [site.pages])),  # tasks do not read the dashboard
        ),
        limits=Limits(memory=worker_memory(group)),
        # The drain ends by itself at its deadline; the rest is for the process to leave.
        lifecycle=Lifecycle(
            stop_timeout=group.drain + 30.0, notifies=True, watchdog=NANNY_WATCHDOG
        ),
        files=(File(config, dask_config(spec, site, dask, **ours)),),
        group=name,
    )


def worker_memory(group: WorkerGroup) -> int:
    """Bytes that a member may use: a tenth for what Dask does not count, room for the nanny."""
    return int(group.processes * group.memory * 1.1) + 256 * 2**20


def _worker_argv(
    spec: ClusterSpec, site: Site, instance: str, group: WorkerGroup, dask: Config
) -> tuple[str, ...]:
    tls = _tls_preloads(spec)
    ports = f"{group.ports[0]}:{group.ports[1]}" if group.ports else "0"
    resources = " ".join(f"{key}={amount:.15g}" for key, amount in sorted(group.resources.items()))
    in_worker = ["perennial.preloads.keep", "perennial.preloads.member", *tls]
    in_worker += _metrics_preloads(site)
    in_nanny = ["perennial.preloads.drain", "perennial.preloads.ready", *tls]
    return (
        *(*site.running("dask"), "worker", scheduler_address(spec, site)),
        *("--name", instance, "--host", host(site.address)),
        *("--nworkers", str(group.processes), "--nthreads", str(group.threads)),
        *("--memory-limit", str(group.memory)),
        *("--local-directory", f"{site.scratch}/{instance}"),
        *("--worker-port", ports, "--nanny-port", ports),
        # A worker's own pages repeat the scheduler's; its plain /health stays on loopback.
        *("--no-dashboard", "--dashboard-address", "127.0.0.1:0"),
        *(("--resources", resources) if resources else ()),
        *_tls_flags(spec, site, "worker"),
        *_repeat("--preload", [*in_worker, *_own_preloads(dask, "worker"), *group.preload]),
        *_repeat(
            "--preload-nanny", [*in_nanny, *_own_preloads(dask, "nanny"), *group.nanny_preload]
        ),
        *group.extra_args,
    )


def jupyter(spec: ClusterSpec, site: Site) -> Service:
    """Describe JupyterLab, in whose notebooks a plain ``Client()`` reaches the cluster."""
    if spec.jupyter is None:
        raise ValueError("the cluster has no Jupyter")
    config = f"{site.config}/jupyter.yaml"
    dask = merge(_ucx(spec), nested(spec.dask))
    if site.dashboard:
        dask = merge(dask, {"distributed": {"dashboard": {"link": notebooks.DASHBOARD_LINK}}})
    port = spec.scheduler.dashboard_port
    clusters = site.dashboard and bool(spec.scaled)
    if clusters:
        group = spec.scaled[0]
        title = spec.name if len(spec.scaled) == 1 else f"{spec.name}: {group}"
        dask = merge(dask, notebooks.dask_sidebar(title, group, port))
    rendered = notebooks.jupyter_files(spec.jupyter, site, clusters)
    return Service(
        name="jupyter",
        role="jupyter",
        description=f"JupyterLab of the cluster {spec.name}",
        command=Command(
            argv=notebooks.jupyter_argv(site),
            environment=(
                *_variables(config, site, spec.env),
                *notebooks.jupyter_environment(site),
                *_client_tls(spec, site),
            ),
            directory=notebooks.notebook_directory(spec.jupyter, site),
            umask=spec.umask,
        ),
        access=Access(
            secrets=(
                *tls_files(spec, site, "client"),
                notebooks.token_file(site),
                *notebooks.certificate_files(site),
            ),
            writes=(
                site.home,
                notebooks.notebook_directory(spec.jupyter, site),
                notebooks.state_directory(site),
            ),
            ports=(spec.jupyter.port,),
            peers=site.dashboard and site.shared,
        ),
        limits=Limits(memory=spec.jupyter.memory),
        lifecycle=Lifecycle(stop_timeout=20.0),
        files=(File(config, dask_config(spec, site, dask)), *(File(*file) for file in rendered)),
    )


def scheduler_address(spec: ClusterSpec, site: Site) -> str:
    """Address that clients and workers use: ``tls://127.0.0.1:8786``."""
    scheme = "tls" if spec.security.tls else spec.protocol
    return f"{scheme}://{host(site.scheduler or site.address)}:{spec.scheduler.port}"


def host(address: str) -> str:
    """Write an IP address or a host name as it stands in a URL: IPv6 in brackets.

    Parameters
    ----------
    address : str
        The address.
    """
    try:
        return f"[{address}]" if isinstance(ip_address(address), IPv6Address) else address
    except ValueError:
        return address


def worker_names(group: WorkerGroup, member: str) -> tuple[str, ...]:
    """Names under which a member's processes register with the scheduler."""
    if group.processes == 1:
        return (member,)
    return tuple(f"{member}-{process}" for process in range(group.processes))


def dask_config(spec: ClusterSpec, site: Site, dask: Mapping[str, Any], **ours: Any) -> str:
    """Dask's configuration for a service, over the user's own in their home.

    Dask reads ``~/.config/dask`` as well, where `perennial connect` may have put the address
    and the certificate of another cluster, and a person an idle timeout; so what a standing
    service relies on is always set, also to nothing. Our preloads read ``ours``.
    """
    # Not `true`: it would forbid a user's own LocalCluster in a notebook. With certificates on
    # their command line, the scheduler and the workers accept nothing but TLS anyway.
    comm: Config = {"require-encryption": None}
    if not spec.security.tls:
        comm["tls"] = {"ca-file": None, "client": {"cert": None, "key": None}}
    else:
        # Every Python that Dask runs in has it, and it has no weak ciphers to choose.
        comm["tls"] = {"min-version": 1.3, "max-version": None, "ciphers": None}
    fixed = {
        "scheduler-address": scheduler_address(spec, site),
        "distributed": {"comm": comm},
        "perennial": {"cluster": spec.name, **ours},
    }
    chosen = merge(nested(pinned.settings()), nested(dask))
    return yaml.dump(merge(chosen, fixed), Dumper=_Dumper, sort_keys=True, allow_unicode=True)


def _variables(config: str, site: Site, own: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Name Dask's configuration and the user's own variables; PATH whoever starts the service."""
    programs = f"{site.python.rpartition('/')[0]}:{SYSTEM_PATH}".lstrip(":")
    return (("DASK_CONFIG", config), *sorted({"PATH": programs, **own}.items()))


def _own_preloads(dask: Mapping[str, Any], part: str) -> list[str]:
    """List preloads of the user's own: flags on the command line would hide them."""
    found = nested(dask).get("distributed", {}).get(part, {}).get("preload", [])
    return [found] if isinstance(found, str) else list(found)


def _writes(site: Site) -> tuple[str, ...]:
    return (site.scratch, *((site.work,) if site.work else ()))


def _repeat(flag: str, values: list[str]) -> tuple[str, ...]:
    return tuple(word for value in values for word in (flag, value))


def _tls_preloads(spec: ClusterSpec) -> list[str]:
    return ["perennial.preloads.certificates"] if spec.security.tls else []


def _metrics_preloads(site: Site) -> list[str]:
    return ["perennial.preloads.metrics"] if site.metrics else []


def _metrics(site: Site) -> Config:
    """Say where the metrics are served, see `perennial.preloads.metrics`."""
    files = metrics_files(site)
    return {"metrics": {"port": site.metrics, "token": files[0]}} if files else {}


def metrics_files(site: Site) -> tuple[str, ...]:
    """File with the token that opens the metrics; none where nobody reads them."""
    return (f"{site.tls}/metrics-token",) if site.metrics else ()


def tls_files(spec: ClusterSpec, site: Site, role: str) -> tuple[str, ...]:
    """Files of a role's certificate: the authority's, its own, and its key; none without TLS."""
    if not spec.security.tls:
        return ()
    return tuple(f"{site.tls}/{name}.pem" for name in ("ca", role, f"{role}-key"))


def _tls_flags(spec: ClusterSpec, site: Site, role: str) -> tuple[str, ...]:
    if not spec.security.tls:
        return ("--protocol", spec.protocol)
    ca, cert, key = tls_files(spec, site, role)
    return ("--protocol", "tls", "--tls-ca-file", ca, "--tls-cert", cert, "--tls-key", key)


def _client_tls(spec: ClusterSpec, site: Site) -> tuple[tuple[str, str], ...]:
    """Name a client's certificate to Dask; in variables, so that a unit can put its own path."""
    files = tls_files(spec, site, "client")
    keys = ("CA_FILE", "CLIENT__CERT", "CLIENT__KEY")
    return tuple(
        (f"DASK_DISTRIBUTED__COMM__TLS__{key}", file)
        for key, file in zip(keys, files, strict=False)
    )


def _ucx(spec: ClusterSpec) -> Config:
    """Let a process that is given no task make a CUDA context: UCX needs one before it starts.

    A worker group has what its own machines have; its `dask` says so.
    """
    return {"distributed-ucxx": {"create-cuda-context": True}} if spec.protocol == "ucx" else {}

"""The services of a cluster as they stand in tasks: paths, names and variables. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from posixpath import basename

from perennial.aws import names
from perennial.fleet import Handle
from perennial.platforms.fargate.options import FargateTask, Options
from perennial.platforms.fargate.sizes import TaskSize
from perennial.services import ADDRESS, INSTANCE, Service, Site, filled, scheduler, services
from perennial.spec import ClusterSpec

#: Where a container keeps keys: in memory, and gone with it.
KEYS = "/dev/shm/perennial"  # noqa: S108 - of this container alone
#: Where it keeps all the rest; its user owns no other folder.
STATE = "/tmp/perennial"  # noqa: S108
RUN = f"{STATE}/run"
#: Made by Dask's process once it is ready, see `perennial.preloads.ready`.
READY = f"{RUN}/ready"

#: What `perennial.platforms.fargate.start` fills in: only a running task knows it.
ADDRESS_HERE, TASK_HERE = "$(ADDRESS)", "$(TASK)"
#: First port of a worker's processes and their nannies: each task has an address of its own. Each
#: process has two, and two more for when it is restarted before the first are free.
WORKER_PORT, PORTS = 40_000, 4


@dataclass(frozen=True, slots=True)
class Part:
    """A service in its tasks."""

    service: Service
    #: What the cluster file says of its tasks.
    task: FargateTask
    size: TaskSize

    @property
    def key(self) -> str:
        """Name of the service, or of the group: the ECS service is called so as well."""
        return self.service.group or self.service.name

    @property
    def secrets(self) -> tuple[str, ...]:
        """Names of the files in its secret."""
        return tuple(basename(path) for path in self.service.access.secrets)


def site(spec: ClusterSpec) -> Site:
    """Say where things are in a container."""
    return Site(
        python=spec.environment.python or "python",
        config=f"{STATE}/config",
        tls=f"{KEYS}/tls",
        secrets=f"{KEYS}/secrets",
        scratch=f"{STATE}/scratch",
        address=ADDRESS,
        home=f"{STATE}/home",
        scheduler=host(spec, "scheduler"),
        jupyter_address="0.0.0.0",  # noqa: S104 - with HTTPS and a token; the groups say who
        dashboard=False,
        scaler=f"{STATE}/scaler",
        pages=f"{RUN}/pages",
    )


def host(spec: ClusterSpec, part: str) -> str:
    """Name of a service in the private domain."""
    return f"{part}.{spec.options.network.domain or names.domain(spec.name)}"


def parts(spec: ClusterSpec) -> tuple[Part, ...]:
    """List the services of a cluster in their tasks."""
    pinned, options = _pinned(spec), spec.options
    place = site(spec)
    # Forwarded ports arrive on loopback, so the scheduler listens on all addresses of its task.
    first = scheduler(pinned, replace(place, address="0.0.0.0"))  # noqa: S104
    others = services(pinned, place, fleets(spec))[1:]
    every = ((service.group or service.name, service) for service in (first, *others))
    return tuple(
        Part(_in_task(service), options.task(key), options.size(spec, key))
        for key, service in every
    )


class FargateHandle(Handle):
    """Where the service of a group is; see `perennial.platforms.fargate.fleet.FargateFleet`."""

    group: str
    region: str
    cluster: str
    service: str
    fixed: bool = False


def fleets(spec: ClusterSpec) -> dict[str, FargateHandle]:
    """Say how the scaler reaches each group."""
    return {
        group: FargateHandle(
            group=group,
            region=spec.options.region,
            cluster=ecs_cluster(spec.name),
            service=group,
            fixed=group not in spec.scaled,
        )
        for group in spec.workers
    }


def ecs_cluster(cluster: str) -> str:
    """Name the cluster of ECS."""
    return names.name_of(cluster, "ecs")


def ports_of(spec: ClusterSpec, group: str) -> tuple[int, int]:
    """Return the first and the last port of a member's processes."""
    own = spec.workers[group]
    return own.ports or (WORKER_PORT, WORKER_PORT + PORTS * own.processes - 1)


def jupyter_url(spec: ClusterSpec) -> str | None:
    """Where JupyterLab is found in the VPC; None where there is none."""
    if spec.jupyter is None:
        return None
    return f"https://{host(spec, 'jupyter')}:{spec.jupyter.port}/lab"


def reached_by(spec: ClusterSpec, role: str) -> tuple[str, ...]:
    """Names under which a server of a role is reached: those in its certificate."""
    here = ("localhost", "127.0.0.1")  # a forwarded port's
    return (host(spec, "jupyter"), *here) if role == "jupyter" else (host(spec, "scheduler"),)


def _pinned(spec: ClusterSpec) -> ClusterSpec:
    """Give each group its ports, which its security group opens and no others."""
    groups = {
        name: group.model_copy(update={"ports": ports_of(spec, name)})
        for name, group in spec.workers.items()
    }
    return spec.model_copy(update={"workers": groups})


def _in_task(service: Service) -> Service:
    """Leave what only a task knows to its start, and nothing else that looks like it."""

    def plain(text: str) -> str:
        return text.replace("$", "$$")

    command = service.command
    escaped = replace(
        service,
        command=replace(
            command,
            argv=tuple(map(plain, command.argv)),
            environment=tuple((name, plain(value)) for name, value in command.environment),
        ),
    )
    return filled(filled(escaped, INSTANCE, TASK_HERE), ADDRESS, ADDRESS_HERE)


def is_scaled(spec: ClusterSpec, part: Part) -> bool:
    """Whether the size of a part is the scaler's."""
    return part.key in spec.scaled


def count(spec: ClusterSpec, part: Part) -> int:
    """Return the first number of tasks of a part."""
    return spec.workers[part.key].count if part.service.group else 1


def options_of(spec: ClusterSpec) -> Options:
    """Return the options of a cluster on Fargate, typed."""
    found: Options = spec.options
    return found

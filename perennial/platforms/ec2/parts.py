"""The services of a cluster as they stand on instances: paths, names and secrets. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

from perennial import services as values
from perennial.aws import names
from perennial.fleet import Handle
from perennial.own_wheel import own_wheel
from perennial.platforms.ec2.options import Options
from perennial.render import STATE
from perennial.requirements import requirements
from perennial.services import ADDRESS, Service, Site
from perennial.spec import ClusterSpec
from perennial.spec.environment import hashed
from perennial.spec.environment import names as named

#: Part of a cluster whose instance has the scheduler, JupyterLab and the scaler.
SCHEDULER = "scheduler"
#: Folder of the bundle and of the environment, on the root disk of each instance.
OPT = "/opt/dask-perennial"
#: First port of workers and nannies, and how many there are for each process: a restarted one may
#: find the last one's still taken.
PORTS, PORTS_EACH = 40000, 4
#: Seconds beyond its drain in which an instance may leave: its services stop, the group hears it.
LEAVES = 120


@dataclass(frozen=True, slots=True)
class Machine:
    """What runs on one kind of instance."""

    #: `SCHEDULER`, or the name of a worker group.
    key: str
    services: tuple[Service, ...]
    #: Roles whose secrets it reads.
    secrets: tuple[str, ...]

    @property
    def is_group(self) -> bool:
        """Whether its instances are the members of a group."""
        return self.key != SCHEDULER


def keys(cluster: str) -> str:
    """Folder in memory of what is secret."""
    return f"/run/dask-perennial/{cluster}"


def directory(cluster: str) -> str:
    """Folder of the bundle, in which an instance's own programs run."""
    return f"{OPT}/{cluster}/bundle"


def state(cluster: str) -> str:
    """Folder of what outlives the scheduler's instance."""
    return f"{STATE}/dask-perennial/{cluster}"


def domain(spec: ClusterSpec) -> str:
    """Return the private domain of a cluster."""
    return spec.options.network.domain or names.domain(spec.name)


def scheduler_host(spec: ClusterSpec) -> str:
    """Name by which the scheduler and JupyterLab are reached."""
    return f"{SCHEDULER}.{domain(spec)}"


def requirements_of(spec: ClusterSpec) -> str:
    """Write what the instances install; empty where their image has a Python of its own."""
    lines = spec.environment.requirements
    if lines is None:
        return ""
    wheel = own_wheel()
    text = requirements(spec, f"{directory(spec.name)}/{wheel.name}")
    if not hashed(lines):
        # pip wants hashes of all or of none; that of the bundle covers our own wheel.
        text = text.replace(f" --hash=sha256:{wheel.digest}", "")
    needs_boto = bool(spec.scaled) and not named(lines, "boto3")
    return f"{text}boto3>=1.40\n" if needs_boto else text


def environment(spec: ClusterSpec) -> dict[str, Any]:
    """Say how the Python environment of an instance is made."""
    text, options = requirements_of(spec), spec.options
    if not text:
        return {"folder": "", "python": spec.environment.python, "options": []}
    build = spec.environment.build
    digest = hashlib.sha256(f"{options.python}\n{build}\n{text}".encode()).hexdigest()[:16]
    return {
        "folder": f"{OPT}/{spec.name}/env-{digest}",
        "python": options.python,
        "options": [] if build else ["--only-binary=:all:"],
    }


def python(spec: ClusterSpec) -> str:
    """Interpreter of the services."""
    made = environment(spec)
    return f"{made['folder']}/bin/python" if made["folder"] else str(made["python"])


def site(spec: ClusterSpec) -> Site:
    """Say where things are on an instance."""
    folder, secret = state(spec.name), keys(spec.name)
    return Site(
        python=python(spec),
        config=f"/etc/dask-perennial/{spec.name}",
        tls=secret,
        secrets=secret,
        scratch=f"{folder}/scratch",
        address=ADDRESS,
        home=f"{folder}/jupyter",
        scheduler=scheduler_host(spec),
        jupyter_address=ADDRESS,
        scaler=f"{folder}/scaler",
        pages=f"{folder}/pages",
        shared=True,
    )


def ports_of(spec: ClusterSpec, group: str) -> tuple[int, int]:
    """Return the first and the last port of a member's processes, which a security group names."""
    own = spec.workers[group]
    return own.ports or (PORTS, PORTS + PORTS_EACH * own.processes - 1)


def pinned(spec: ClusterSpec) -> ClusterSpec:
    """Give each group fixed ports."""
    workers = {
        name: group.model_copy(update={"ports": ports_of(spec, name)})
        for name, group in spec.workers.items()
    }
    return spec.model_copy(update={"workers": workers})


def machines(spec: ClusterSpec) -> tuple[Machine, ...]:
    """List the kinds of instances of a cluster."""
    spec, place = pinned(spec), site(spec)
    first = [values.scheduler(spec, place)]
    if spec.jupyter is not None:
        first.append(values.jupyter(spec, place))
    if spec.scaled:
        first.append(_scaler(spec, place))
    groups = (
        Machine(name, (values.worker(spec, place, name, group),), ("worker",))
        for name, group in spec.workers.items()
    )
    return (Machine(SCHEDULER, tuple(first), _secrets(spec)), *groups)


def _scaler(spec: ClusterSpec, place: Site) -> Service:
    """Describe the scaler, with a role of its own; see `aws_config`."""
    service = values.scaler(spec, place, fleets(spec))
    own = (("AWS_CONFIG_FILE", aws_config(spec)), ("AWS_PROFILE", "scaler"))
    command = replace(service.command, environment=(*service.command.environment, *own))
    return replace(service, command=command)


def aws_config(spec: ClusterSpec) -> str:
    """File that names the scaler's role, as Amazon's SDKs read it."""
    return f"{site(spec).config}/aws.conf"


def aws_config_text(role: str, region: str) -> str:
    """Let the scaler take its role by the rights of the instance."""
    return (
        f"[profile scaler]\nrole_arn = {role}\ncredential_source = Ec2InstanceMetadata\n"
        f"region = {region}\nsts_regional_endpoints = regional\n"
    )


def _secrets(spec: ClusterSpec) -> tuple[str, ...]:
    others = spec.jupyter is not None or bool(spec.scaled)
    own = ["jupyter"] if spec.jupyter is not None else []
    return ("scheduler", *(["client"] if others else []), *own)


def contents(spec: ClusterSpec) -> dict[str, tuple[str, ...]]:
    """Say which files each secret holds, by role; the authority's key is in none."""
    roles = {role for machine in machines(spec) for role in machine.secrets}
    found: dict[str, tuple[str, ...]] = {
        role: ("ca.pem", f"{role}.pem", f"{role}-key.pem")
        for role in ("scheduler", "worker", "client")
        if role in roles
    }
    if "jupyter" in roles:
        found["jupyter"] = ("jupyter.pem", "jupyter-key.pem", "jupyter-token")
    return found


def reached_by(spec: ClusterSpec, role: str) -> list[str]:
    """Names under which a server of a role is reached: those in its certificate."""
    here = ["localhost", "127.0.0.1"] if role == "jupyter" else []  # a forwarded port's
    return [scheduler_host(spec), *here]


class Ec2Handle(Handle):
    """Where the instances of a group are; see `perennial.platforms.ec2.fleet.Ec2Fleet`."""

    group: str
    region: str
    #: Of the Auto Scaling group.
    name: str
    fixed: bool = False


def fleets(spec: ClusterSpec) -> dict[str, Ec2Handle]:
    """Say how the scaler reaches each group."""
    options: Options = spec.options
    return {
        group: Ec2Handle(
            group=group,
            region=options.region,
            name=names.name_of(spec.name, group),
            fixed=group not in spec.scaled,
        )
        for group in spec.workers
    }


def jupyter_url(spec: ClusterSpec) -> str | None:
    """Where JupyterLab is found; None where there is none."""
    if spec.jupyter is None:
        return None
    return f"https://{scheduler_host(spec)}:{spec.jupyter.port}/lab"

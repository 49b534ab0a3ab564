"""From a service to the pod that runs it. Pure."""

from __future__ import annotations

from pathlib import PurePosixPath
from posixpath import basename

from perennial.jupyter import notebook_directory
from perennial.pages import socket_of
from perennial.platforms.kubernetes import code, names
from perennial.platforms.kubernetes.merging import Manifest, merged
from perennial.platforms.kubernetes.parts import (
    CONFIG,
    FIELDS,
    HOME,
    READY,
    RUN,
    SCALER,
    SCRATCH,
    SECRETS,
    TLS,
    Part,
    in_pod,
    site,
)
from perennial.services import START_TIMEOUT, Service, fingerprint
from perennial.spec import ClusterSpec

#: Processors that a service asks for, where the file does not say it.
CPU = {"scheduler": "500m", "jupyter": "250m", "scaler": "50m"}
#: Seconds between two looks at whether a service is ready.
LOOK = 5
#: Seconds between two questions whether one is alive; each may take as long.
ALIVE = 15
#: Annotations that keep autoscalers of nodes away from a pod.
STAY = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}


def template(spec: ClusterSpec, part: Part) -> Manifest:
    """Describe the pods of a part."""
    service, pod = part.service, part.pod
    labels = names.labels(spec.name, service.role, part.key)
    stays = (
        service.role in ("scheduler", "jupyter")
        and not getattr(spec.options, service.role).evictable
    )
    annotations = {
        **pod.annotations,
        **(STAY if stays else {}),
        names.FINGERPRINT: fingerprint(service),
    }
    return {
        "metadata": {"labels": {**pod.labels, **labels}, "annotations": annotations},
        "spec": merged(pod_spec(spec, part), pod.extra_pod_spec),
    }


def pod_spec(spec: ClusterSpec, part: Part) -> Manifest:
    """Describe a pod, before what the file lays over it."""
    service, pod = part.service, part.pod
    volumes, mounts = _volumes(spec, part)
    wanted = {
        "serviceAccountName": pod.service_account or part.name,
        # Only the scaler asks the API server.
        "automountServiceAccountToken": service.role == "scaler",
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": int(service.lifecycle.stop_timeout),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": spec.options.user,
            "runAsGroup": spec.options.user,
            "fsGroup": spec.options.user,
            # A large volume is not walked through at each start.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "imagePullSecrets": [{"name": name} for name in pod.image_pull_secrets],
        "nodeSelector": pod.node_selector,
        "tolerations": pod.tolerations,
        "affinity": pod.affinity,
        "topologySpreadConstraints": [_spread(spec, part, each) for each in pod.spread],
        "priorityClassName": pod.priority_class,
        "containers": [_container(spec, part, mounts)],
        "volumes": [*volumes, *pod.volumes],
    }
    return {key: value for key, value in wanted.items() if value not in (None, [], {})}


def _container(spec: ClusterSpec, part: Part, mounts: list[Manifest]) -> Manifest:
    filled, pod = in_pod(part.service), part.pod
    container: Manifest = {
        "name": names.container_of(filled.role),
        "image": pod.image,
        "imagePullPolicy": pod.image_pull_policy,
        # `command` and no `args`: what the image would run is of no interest.
        "command": list(filled.command.argv),
        "workingDir": filled.command.directory,
        "env": _environment(spec, filled),
        "ports": _ports(spec, filled),
        "resources": _resources(spec, part),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        **_probes(filled),
        "volumeMounts": [*mounts, *pod.volume_mounts],
    }
    return {key: value for key, value in container.items() if value not in (None, [], {})}


def _environment(spec: ClusterSpec, service: Service) -> list[Manifest]:
    """Say the variables: what a pod knows of itself first, since others may name it."""
    own = dict(service.command.environment)
    group = spec.workers[service.group].env if service.group else {}
    if spec.environment.python is None and "PATH" not in {**spec.env, **group}:
        own.pop("PATH", None)  # the image knows where its programs are
    home = HOME if service.role == "jupyter" else SCRATCH
    ready = {"PERENNIAL_READY": READY} if service.role in ("scheduler", "worker") else {}
    fields: list[Manifest] = [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
        for name, path in FIELDS.items()
    ]
    texts = {"HOME": home, **ready, **own}
    return [*fields, *({"name": name, "value": value} for name, value in texts.items())]


def _ports(spec: ClusterSpec, service: Service) -> list[Manifest]:
    """Name the ports that are reached from outside the pod."""
    metrics = spec.options.metrics
    processes = spec.workers[service.group].processes if service.group else 1
    served = metrics is not None and service.role in ("scheduler", "worker")
    found: list[Manifest] = [
        {"name": name, "containerPort": metrics.port + number}
        for number, name in enumerate(names.metrics_ports(processes) if served else ())
    ]
    if service.role == "scheduler":
        found.insert(0, {"name": "comm", "containerPort": spec.scheduler.port})
    if service.role == "jupyter" and spec.jupyter is not None:
        return [{"name": "https", "containerPort": spec.jupyter.port}]
    return found


def _resources(spec: ClusterSpec, part: Part) -> Manifest:
    service, own = part.service, part.pod.resources
    mebibytes = -(-service.limits.memory // 2**20)
    memory = f"{mebibytes // 1024}Gi" if mebibytes % 1024 == 0 else f"{mebibytes}Mi"
    group = spec.workers[service.group] if service.group else None
    cpu = str(group.threads * group.processes) if group else CPU[service.role]
    limits = {"memory": memory, **own.limits}
    # What is above its request is killed first when the node has none left.
    return {"requests": {"cpu": cpu, "memory": limits["memory"], **own.requests}, "limits": limits}


def _probes(service: Service) -> Manifest:
    """Say how a service is looked at; nothing here can end a worker that is busy.

    A worker that hangs is ended by its nanny and by the scheduler, which know more of it.
    """
    ready: Manifest = {"exec": {"command": ["cat", READY]}, "periodSeconds": LOOK}
    if service.role == "worker":
        return {"readinessProbe": {**ready, "failureThreshold": 3}}
    if service.role == "jupyter":
        page = {"path": "/login", "port": "https", "scheme": "HTTPS"}
        return {"readinessProbe": {"httpGet": page, "periodSeconds": LOOK, "timeoutSeconds": 5}}
    scheduler = service.role == "scheduler"
    started = {**ready, "failureThreshold": int(START_TIMEOUT / LOOK)} if scheduler else None
    where = socket_of(f"{RUN}/pages") if scheduler else f"127.0.0.1:{service.access.ports[0]}"
    alive = _alive(service, where)
    return {"startupProbe": started, "readinessProbe": ready if scheduler else None} | (
        {"livenessProbe": alive} if alive else {}
    )


def _alive(service: Service, where: str) -> Manifest | None:
    """Ask whether the event loop answers, for as long as the watchdog waits."""
    seconds = service.lifecycle.watchdog
    if not seconds:
        return None
    python, module = service.command.argv[0], "perennial.platforms.kubernetes.health"
    # What the scaler's image has itself, and what is mounted in the others.
    run = ["-m"] if service.role == "scaler" else [code.START]
    return {
        "exec": {"command": [python, "-P", *run, module, where]},
        "initialDelaySeconds": ALIVE,
        "periodSeconds": ALIVE,
        "timeoutSeconds": ALIVE,
        "failureThreshold": max(2, round(seconds / ALIVE)),
    }


def _spread(spec: ClusterSpec, part: Part, own: Manifest) -> Manifest:
    return {
        "maxSkew": 1,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": names.selector(spec.name, part.key)},
        **own,
    }


def _volumes(spec: ClusterSpec, part: Part) -> tuple[list[Manifest], list[Manifest]]:
    """List the volumes of a pod, and where its container has them."""
    service = part.service
    # As paths: a file of the configuration may stand in a folder below.
    items = [
        {"key": key_of(file.path), "path": file.path.removeprefix(f"{CONFIG}/")}
        for file in service.files
    ]
    found: list[tuple[str, Manifest, bool]] = [
        (CONFIG, {"configMap": {"name": part.name, "items": items}}, True),
        ("/tmp", {"emptyDir": {}}, False),  # noqa: S108 - the container's own
        (RUN, {"emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}, False),
    ]
    if service.role != "jupyter":
        found.append((code.CODE, code.volume(spec.name, service.role != "scaler"), True))
    if sources := _secrets(spec, part):
        projected = {"sources": sources, "defaultMode": 0o440}
        found.append((TLS, {"projected": projected}, True))
    if service.role in ("scheduler", "worker"):
        size = spec.options.group(service.group).scratch if service.group else None
        found.append((SCRATCH, {"emptyDir": {"sizeLimit": size} if size else {}}, False))
    if service.role == "scaler":
        found.append((SCALER, {"emptyDir": {}}, False))
    volumes = [{"name": names.volume_name(path), **source} for path, source, _ in found]
    mounts: list[Manifest] = [
        {"name": names.volume_name(path), "mountPath": path} | ({"readOnly": True} if fixed else {})
        for path, _, fixed in found
    ]
    if service.role == "jupyter":
        more = _notebook_volumes(spec, part)
        volumes, mounts = [*volumes, *more[0]], [*mounts, *more[1]]
    return volumes, mounts


def _notebook_volumes(spec: ClusterSpec, part: Part) -> tuple[list[Manifest], list[Manifest]]:
    """Add what JupyterLab alone has: its home, its own files, and its token among these."""
    storage = spec.options.jupyter.storage
    home: Manifest = {"emptyDir": {}}
    if storage is not None:
        home = {"persistentVolumeClaim": {"claimName": storage.claim or part.name}}
    secret = {"secretName": names.secret_names(spec.name)["jupyter"], "defaultMode": 0o440}
    token = {"items": [{"key": "jupyter-token", "path": "jupyter-token"}]}
    volumes = [
        {"name": "home", **home},
        {"name": "jupyter", "emptyDir": {}},
        {"name": "token", "secret": {**secret, **token}},
    ]
    mounts: list[Manifest] = [
        {"name": "home", "mountPath": HOME},
        *_notebook_folder(spec),
        {"name": "jupyter", "mountPath": SECRETS},
        {
            "name": "token",
            "mountPath": f"{SECRETS}/jupyter-token",
            "subPath": "jupyter-token",
            "readOnly": True,
        },
    ]
    return volumes, mounts


def _notebook_folder(spec: ClusterSpec) -> list[Manifest]:
    """Have the folder of the notebooks made where it is missing, by the kubelet.

    It gives a `subPath` the mode of its volume; a working folder would be root's.
    """
    if spec.jupyter is None:
        return []
    folder = PurePosixPath(notebook_directory(spec.jupyter, site(spec)))
    if folder == PurePosixPath(HOME) or not folder.is_relative_to(HOME):
        return []
    below = str(folder.relative_to(HOME))
    return [{"name": "home", "mountPath": str(folder), "subPath": below}]


def _secrets(spec: ClusterSpec, part: Part) -> list[Manifest]:
    """Take from each Secret the files that the service reads, and no others."""
    wanted = [basename(path) for path in part.service.access.secrets if path.startswith(f"{TLS}/")]
    role = {"scheduler": "scheduler", "worker": "worker"}.get(part.service.role, "client")
    known = names.secret_names(spec.name)
    by_secret: dict[str, list[str]] = {}
    for name in wanted:
        own = next((one for one in ("jupyter", "metrics") if name.startswith(one)), role)
        secret = known[own]
        by_secret.setdefault(secret, []).append(name)
    return [
        {"secret": {"name": secret, "items": [{"key": name, "path": name} for name in files]}}
        for secret, files in by_secret.items()
    ]


def key_of(path: str) -> str:
    """Key of a file in a ConfigMap, where no folder can be."""
    return path.removeprefix(f"{CONFIG}/").replace("/", "--")

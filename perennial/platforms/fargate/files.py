"""The task definitions and the services of a cluster as files for the AWS command line. Pure."""

from __future__ import annotations

import json
import shlex
from functools import cache
from importlib import resources

from perennial.aws import names
from perennial.aws.rights import document, trust
from perennial.platforms.fargate import rights
from perennial.platforms.fargate.parts import ecs_cluster, host, parts, site
from perennial.platforms.fargate.tasks import References, service_definition, task_definition
from perennial.services import scheduler_address
from perennial.spec import ClusterSpec
from perennial.templating import make_environment

#: What stands for what only AWS knows; the README says how it is put in its place.
ACCOUNT, SECRET, FILE_SYSTEM, ACCESS_POINT = "ACCOUNT", "SECRET", "FILE_SYSTEM", "ACCESS_POINT"
#: Folder of the recipe for images.
RECIPE = "container"
#: What stands there for Kubernetes, and what for AWS.
_OTHERWISE = {
    "# The scaler's client of the API server. The extra `kubernetes` would bring Pulumi as well.\n"
    "kubernetes\n": "# The scaler's client. The extra `aws` would bring Pulumi as well.\nboto3\n",
    "  kubernetes:\n    image:": "  fargate:\n    image:",
}


def files(spec: ClusterSpec) -> dict[str, str]:
    """Render a cluster: a task definition, a service and two policies for each part."""
    found: dict[str, str] = {}
    every = parts(spec)
    for part in every:
        role = part.service.role
        refers = _references(spec, role)
        found[f"tasks/{part.key}.json"] = _written(task_definition(spec, part, refers))
        service = service_definition(spec, part, ecs_cluster(spec.name))
        found[f"services/{part.key}.json"] = _written(service)
    region = spec.options.region
    logs = f"arn:aws:logs:{region}:{ACCOUNT}:log-group:{names.log_group(spec.name)}"
    cluster = f"arn:aws:ecs:{region}:{ACCOUNT}:cluster/{ecs_cluster(spec.name)}"
    for role in dict.fromkeys(part.service.role for part in every):
        system = f"arn:aws:elasticfilesystem:{region}:{ACCOUNT}:file-system/{FILE_SYSTEM}"
        own = rights.task(spec, role, cluster, system if spec.options.notebooks else "")
        start = rights.execution(spec, role, logs, f"{SECRET}_{role}")
        found[f"policies/{role}-execution.json"] = _indented(document(start))
        if own:
            found[f"policies/{role}.json"] = _indented(document(own))
    found["policies/trust.json"] = _indented(trust("ecs-tasks"))
    readme = make_environment("perennial.templates", {"shell": shlex.quote})
    found["README.txt"] = readme.get_template("fargate-README.txt.j2").render(
        cluster=spec.name,
        region=region,
        ecs=ecs_cluster(spec.name),
        domain=host(spec, "").lstrip("."),
        address=scheduler_address(spec, site(spec)),
        parts=[part.key for part in every],
        roles=list(dict.fromkeys(part.service.role for part in every)),
        logs=names.log_group(spec.name),
        notebooks=spec.options.notebooks is not None and spec.jupyter is not None,
    )
    return {**found, **{f"{RECIPE}/{name}": text for name, text in _recipe().items()}}


def _references(spec: ClusterSpec, role: str) -> References:
    """Name what a task definition refers to: by names that are known, or by words."""
    region = spec.options.region
    arn = f"arn:aws:iam::{ACCOUNT}:role/{names.OURS}/"
    kept = spec.options.notebooks is not None and role == "jupyter"
    return References(
        execution_role=f"{arn}{names.role_name(spec.name, region, f'{role}-execution')}",
        task_role=f"{arn}{names.role_name(spec.name, region, role)}",
        secret=f"{SECRET}_{role}",
        file_system=FILE_SYSTEM if kept else "",
        access_point=ACCESS_POINT if kept else "",
    )


@cache
def _recipe() -> dict[str, str]:
    """Read the recipe for images; here the scaler asks AWS, and no other API server."""
    folder = resources.files("perennial.templates") / RECIPE
    found = {}
    for each in sorted(folder.iterdir(), key=lambda each: each.name):
        text = each.read_text(encoding="utf-8")
        for there, here in _OTHERWISE.items():
            text = text.replace(there, here)
        found[each.name] = text
    return found


def _written(made: object) -> str:
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


def _indented(policy: str) -> str:
    return _written(json.loads(policy))

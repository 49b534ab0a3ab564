"""ECS, and the names that Cloud Map gives its tasks."""

from __future__ import annotations

import json
from typing import Any

from tests.labs.aws.provider.kind import (
    Aws,
    Kind,
    UnsupportedError,
    Values,
    absent,
    changed,
    first,
    found,
    pairs,
    request,
    shaped,
    tags_of,
)


class _Ecs(Kind):
    """Whatever ECS tags by its ARN."""

    def retag(self, aws: Aws, id_: str, known: Values, gone: list[str], tags: Values) -> None:
        client = aws.client("ecs")
        if gone:
            client.untag_resource(resourceArn=known["arn"], tagKeys=gone)
        if tags:
            client.tag_resource(resourceArn=known["arn"], tags=pairs(tags, "key", "value"))


def _tags(inputs: Values) -> Values:
    return {"tags": pairs(inputs["tags"], "key", "value")} if inputs.get("tags") else {}


class Cluster(_Ecs):
    token = "aws:ecs/cluster:Cluster"
    named = ("name", 255)
    replaces = ("name",)

    def create(self, aws: Aws, inputs: Values) -> str:
        client = aws.client("ecs")
        given = request(client, "create_cluster", inputs, name="clusterName")
        return str(client.create_cluster(**given, **_tags(inputs))["cluster"]["clusterArn"])

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        client = aws.client("ecs")
        given = request(client, "update_cluster", new, name="")
        client.update_cluster(cluster=id_, **given)

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        call = aws.client("ecs").describe_clusters
        now = first(call, "clusters", clusters=[id_], include=["TAGS", "SETTINGS"])
        if now is None or now["status"] == "INACTIVE":
            return None
        values = found(self.token, now, name="clusterName", arn="clusterArn")
        return {**values, "tags": tags_of(now.get("tags"))}

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        client = aws.client("ecs")
        if left := standing(aws.behind("ecs"), id_):
            raise UnsupportedError(f"ClusterContainsServicesException: {left}")
        absent(client.delete_cluster, cluster=id_)


def standing(client: Any, cluster: str) -> list[str]:
    """Return the services of a cluster; moto lists removed ones too."""
    pages = client.get_paginator("list_services").paginate(cluster=cluster)
    arns = [arn for page in pages for arn in page["serviceArns"]]
    found = []
    for number in range(0, len(arns), 10):
        told = client.describe_services(cluster=cluster, services=arns[number : number + 10])
        found += [one["serviceArn"] for one in told["services"] if one["status"] != "INACTIVE"]
    return found


class CapacityProviders(Kind):
    token = "aws:ecs/clusterCapacityProviders:ClusterCapacityProviders"
    replaces = ("clusterName",)

    def create(self, aws: Aws, inputs: Values) -> str:
        self.update(aws, "", {}, inputs)
        return str(inputs["clusterName"])

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        client, names = aws.client("ecs"), {"clusterName": "cluster"}
        names["defaultCapacityProviderStrategies"] = "defaultCapacityProviderStrategy"
        given = request(client, "put_cluster_capacity_providers", new, **names)
        client.put_cluster_capacity_providers(
            **{"capacityProviders": [], "defaultCapacityProviderStrategy": [], **given}
        )

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        now = first(aws.client("ecs").describe_clusters, "clusters", clusters=[id_])
        if now is None or now["status"] == "INACTIVE":
            return None
        return {"clusterName": id_, "capacityProviders": now.get("capacityProviders") or []}

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        absent(
            aws.client("ecs").put_cluster_capacity_providers,
            **{"cluster": id_, "capacityProviders": [], "defaultCapacityProviderStrategy": []},
        )


class TaskDefinition(_Ecs):
    token = "aws:ecs/taskDefinition:TaskDefinition"
    #: Every change is another revision.
    replaces = (
        *("family", "containerDefinitions", "cpu", "memory", "networkMode", "taskRoleArn"),
        *("executionRoleArn", "requiresCompatibilities", "volumes", "runtimePlatform"),
        *("ephemeralStorage", "ipcMode", "pidMode", "enableFaultInjection"),
    )
    defaults = {"skipDestroy": False, "trackLatest": False}
    names = {
        **{"skipDestroy": "", "trackLatest": "", "containerDefinitions": ""},
        **{"efsVolumeConfiguration": "efsVolumeConfiguration", "configureAtLaunch": ""},
    }

    def check(self, inputs: Values) -> list[tuple[str, str]]:
        try:
            listed = json.loads(inputs["containerDefinitions"])
        except ValueError as error:
            if "04da6b54" in inputs["containerDefinitions"]:
                return []
            return [("containerDefinitions", f"not JSON: {error}")]
        fargate = "FARGATE" in (inputs.get("requiresCompatibilities") or [])
        needed = ("cpu", "memory", "networkMode") if fargate else ()
        missing = [(key, "FARGATE needs it") for key in needed if not inputs.get(key)]
        return missing if isinstance(listed, list) else [("containerDefinitions", "not a list")]

    def create(self, aws: Aws, inputs: Values) -> str:
        client = aws.client("ecs")
        given = request(client, "register_task_definition", inputs, **self.names)
        model = client.meta.service_model.operation_model("RegisterTaskDefinition").input_shape
        containers = json.loads(inputs["containerDefinitions"])
        shape = model.members["containerDefinitions"]
        given["containerDefinitions"] = [_as_given(shape.member, each) for each in containers]
        made = client.register_task_definition(**given, **_tags(inputs))["taskDefinition"]
        return str(made["taskDefinitionArn"])

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        client = aws.client("ecs")
        describe = client.describe_task_definition
        now = first(lambda **of: {"one": [describe(**of)]}, "one", taskDefinition=id_)
        if now is None or now["taskDefinition"].get("status") == "INACTIVE":
            return None
        one = now["taskDefinition"]
        tags = client.list_tags_for_resource(resourceArn=id_)["tags"]
        return {
            "arn": id_,
            "arnWithoutRevision": id_.rpartition(":")[0],
            "family": one["family"],
            "revision": one["revision"],
            "tags": tags_of(tags),
        }

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        if not known.get("skipDestroy"):
            absent(aws.client("ecs").deregister_task_definition, taskDefinition=id_)


def _as_given(shape: Any, container: Values) -> Values:
    """Return a container: its JSON has the API's own names, to the letter."""
    if strange := container.keys() - shape.members.keys():
        raise UnsupportedError(f"containerDefinitions: unknown {', '.join(sorted(strange))}")
    result: Values = shaped(shape, container, "containerDefinitions")
    return result


class Service(_Ecs):
    token = "aws:ecs/service:Service"
    named = ("name", 255)
    replaces = ("name", "cluster", "launchType", "schedulingStrategy", "enableEcsManagedTags")
    defaults = {
        **{"deploymentMaximumPercent": 200, "deploymentMinimumHealthyPercent": 100},
        **{"enableEcsManagedTags": False, "schedulingStrategy": "REPLICA"},
        **{"waitForSteadyState": False},
    }
    names = {
        **{"name": "serviceName", "capacityProviderStrategies": "capacityProviderStrategy"},
        **{"orderedPlacementStrategies": "placementStrategy", "iamRole": "role"},
        **{"enableEcsManagedTags": "enableECSManagedTags", "triggers": "", "alarms": ""},
        **{"waitForSteadyState": "", "forceDelete": "", "deploymentCircuitBreaker": ""},
        **{"deploymentMaximumPercent": "", "deploymentMinimumHealthyPercent": ""},
    }

    def replaced(self, old: Values, new: Values) -> Any:
        strategy = "capacityProviderStrategies"
        # Between a launch type and capacity providers, only by a new deployment.
        if bool(old.get(strategy)) != bool(new.get(strategy)) and not new.get("forceNewDeployment"):
            return (*self.replaces, strategy)
        return self.replaces

    def create(self, aws: Aws, inputs: Values) -> str:
        client = aws.client("ecs")
        given = request(
            client, "create_service", _networked(inputs), **self.names, forceNewDeployment=""
        )
        made = client.create_service(**given, **_deployment(client, inputs), **_tags(inputs))
        return str(made["service"]["serviceArn"])

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        client = aws.client("ecs")
        fixed = dict.fromkeys((*self.replaces, "name"), "")
        only = {key: new.get(key) for key in changed(old, new)}
        if "forceNewDeployment" in new:
            only["forceNewDeployment"] = new["forceNewDeployment"]
        given = request(client, "update_service", _networked(only), **{**self.names, **fixed})
        client.update_service(
            cluster=new.get("cluster"), service=id_, **given, **_deployment(client, new)
        )

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        call, of = aws.client("ecs").describe_services, known.get("cluster") or "default"
        now = first(call, "services", services=[id_], cluster=of, include=["TAGS"])
        if now is None or now["status"] == "INACTIVE":
            return None
        return {
            "arn": id_,
            "name": now["serviceName"],
            "desiredCount": now["desiredCount"],
            "taskDefinition": now["taskDefinition"],
            "tags": tags_of(now.get("tags")),
        }

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        client = aws.client("ecs")
        of = {"cluster": known.get("cluster") or "default", "service": id_}
        if known.get("schedulingStrategy") != "DAEMON":
            absent(client.update_service, **of, desiredCount=0)
        absent(client.delete_service, **of, force=bool(known.get("forceDelete")))


def _networked(inputs: Values) -> Values:
    """Return inputs with the network as ECS nests it."""
    given = inputs.get("networkConfiguration")
    if not given:
        return inputs
    public = "ENABLED" if given.get("assignPublicIp") else "DISABLED"
    inner = {**given, "assignPublicIp": public}
    return {**inputs, "networkConfiguration": {"awsvpcConfiguration": inner}}


def _deployment(client: Any, inputs: Values) -> Values:
    """Return how ECS replaces tasks: one structure there, four inputs here."""
    breaker = inputs.get("deploymentCircuitBreaker")
    found: Values = {
        "maximumPercent": int(inputs.get("deploymentMaximumPercent", 200)),
        "minimumHealthyPercent": int(inputs.get("deploymentMinimumHealthyPercent", 100)),
    }
    if breaker:
        found["deploymentCircuitBreaker"] = breaker
    if alarms := inputs.get("alarms"):
        found["alarms"] = {
            "alarmNames": alarms["alarmNames"],
            "enable": alarms["enable"],
            "rollback": alarms["rollback"],
        }
    return {"deploymentConfiguration": found}


class Namespace(Kind):
    token = "aws:servicediscovery/privateDnsNamespace:PrivateDnsNamespace"
    named = ("name", 253)
    replaces = ("name", "vpc")

    def create(self, aws: Aws, inputs: Values) -> str:
        client = aws.client("servicediscovery")
        given = request(client, "create_private_dns_namespace", inputs)
        tags = {"Tags": pairs(inputs["tags"])} if inputs.get("tags") else {}
        operation = client.create_private_dns_namespace(**given, **tags)["OperationId"]
        done = client.get_operation(OperationId=operation)["Operation"]
        return str(done["Targets"]["NAMESPACE"])

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        client = aws.client("servicediscovery")
        now = first(lambda **of: {"one": [client.get_namespace(**of)]}, "one", Id=id_)
        if now is None:
            return None
        one = now["Namespace"]
        tags = client.list_tags_for_resource(ResourceARN=one["Arn"])["Tags"]
        zone = one["Properties"]["DnsProperties"]["HostedZoneId"]
        values = {key: one[key] for key in ("Description",) if one.get(key)}
        return {
            **{key.lower(): value for key, value in values.items()},
            **{"name": one["Name"], "arn": one["Arn"], "hostedZone": zone},
            "tags": tags_of(tags),
        }

    def retag(self, aws: Aws, id_: str, known: Values, gone: list[str], tags: Values) -> None:
        client = aws.client("servicediscovery")
        if gone:
            client.untag_resource(ResourceARN=known["arn"], TagKeys=gone)
        if tags:
            client.tag_resource(ResourceARN=known["arn"], Tags=pairs(tags))

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        absent(aws.client("servicediscovery").delete_namespace, Id=id_)
        # Cloud Map removes the zone with its namespace; moto leaves it.
        absent(aws.behind("route53").delete_hosted_zone, Id=known["hostedZone"])


class DiscoveryService(Kind):
    token = "aws:servicediscovery/service:Service"
    named = ("name", 127)
    replaces = ("name", "namespaceId", "type")
    defaults = {"forceDestroy": False}

    def create(self, aws: Aws, inputs: Values) -> str:
        client = aws.client("servicediscovery")
        given = request(client, "create_service", inputs, forceDestroy="")
        tags = {"Tags": pairs(inputs["tags"])} if inputs.get("tags") else {}
        return str(client.create_service(**given, **tags)["Service"]["Id"])

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        client = aws.client("servicediscovery")
        kept = ("description", "dnsConfig", "healthCheckConfig")
        given = {key: new[key] for key in kept if new.get(key)}
        model = client.meta.service_model.operation_model("UpdateService").input_shape
        change = model.members["Service"]
        client.update_service(
            Id=id_, Service=shaped(change, _ttl(given), "Service", namespaceId="")
        )

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        client = aws.client("servicediscovery")
        now = first(lambda **of: {"one": [client.get_service(**of)]}, "one", Id=id_)
        if now is None:
            return None
        one = now["Service"]
        tags = client.list_tags_for_resource(ResourceARN=one["Arn"])["Tags"]
        values = {"description": one["Description"]} if one.get("Description") else {}
        return {**values, "name": one["Name"], "arn": one["Arn"], "tags": tags_of(tags)}

    def retag(self, aws: Aws, id_: str, known: Values, gone: list[str], tags: Values) -> None:
        Namespace().retag(aws, id_, known, gone, tags)

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        absent(aws.client("servicediscovery").delete_service, Id=id_)


def _ttl(given: Values) -> Values:
    """Return a change of a service without what only its making takes."""
    config = given.get("dnsConfig")
    if not config:
        return given
    return {**given, "dnsConfig": {"dnsRecords": config["dnsRecords"]}}

"""Rights of whoever deploys and operates a cluster on Fargate. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from perennial.aws import names
from perennial.aws.policy import Place, linked, quotas, shared
from perennial.aws.policy.place import prefixed, unscoped
from perennial.aws.rights import Statement
from perennial.platforms.fargate.parts import ecs_cluster
from perennial.spec import ClusterSpec


def deployer(spec: ClusterSpec, account: str = "*") -> Iterator[Statement]:
    """List the rights."""
    place = Place(spec.name, spec.options.region, account)
    yield from shared(place, spec.options, ("ecs-tasks",))
    services = ("ecs", *(("elasticloadbalancing",) if spec.options.load_balancer else ()))
    yield linked(place, *services)
    yield quotas(place, "fargate", *(["ec2", "vpc"] if spec.options.network.is_made else []))
    yield from _services(place)
    yield from _sessions(place)
    yield from _names(place)
    if spec.options.load_balancer:
        yield from _balancer(place)


def _services(place: Place) -> Iterator[Statement]:
    cluster = ecs_cluster(place.cluster)
    tags = ("ListTagsForResource", "TagResource", "UntagResource")
    actions = ("CreateCluster", "DeleteCluster", "DescribeClusters", "PutClusterCapacityProviders")
    yield Statement(
        prefixed("ecs", (*actions, "UpdateCluster", *tags)),
        (place.arn("ecs", f"cluster/{cluster}"),),
    )
    actions = ("CreateService", "DeleteService", "DescribeServices", "UpdateService")
    yield Statement(prefixed("ecs", (*actions, *tags)), (place.arn("ecs", f"service/{cluster}/*"),))
    definitions = place.arn("ecs", f"task-definition/{place.named()}:*")
    yield Statement(prefixed("ecs", ("RegisterTaskDefinition", *tags)), (definitions,))
    yield unscoped("ecs", "DeregisterTaskDefinition", "DescribeTaskDefinition")
    tasks = ("DescribeTasks", "GetTaskProtection", "StopTask", "UpdateTaskProtection")
    yield Statement(prefixed("ecs", tasks), (place.arn("ecs", f"task/{cluster}/*"),))
    here = {"ArnLike": {"ecs:cluster": place.arn("ecs", f"cluster/{cluster}")}}
    yield Statement(("ecs:ListTasks",), ("*",), here)


def _sessions(place: Place) -> Iterator[Statement]:
    """List what `perennial connect --port-forward`, `perennial open` and `perennial status` do."""
    document = f"arn:{place.partition}:ssm:{place.region}::document/AWS-StartPortForwardingSession*"
    cluster = ecs_cluster(place.cluster)
    task = place.arn("ecs", f"task/{cluster}/*")
    yield Statement(("ssm:StartSession",), (task, document))
    yield Statement(("ecs:ExecuteCommand",), (place.arn("ecs", f"cluster/{cluster}"), task))
    own = place.arn("ssm", "session/${aws:userid}-*")
    yield Statement(("ssm:TerminateSession",), (own,))


def _names(place: Place) -> Iterator[Statement]:
    """List what Cloud Map does, and what it does in Route 53 in the name of who asks."""
    service, kinds = "servicediscovery", ("namespace", "service")
    yield place.created(service, (), "CreatePrivateDnsNamespace", "TagResource")
    yield place.created(service, ("service",), "CreateService")
    yield place.tagged(
        service,
        kinds,
        *("CreateService", "DeleteNamespace", "DeleteService", "GetNamespace", "GetOperation"),
        *("GetService", "UpdatePrivateDnsNamespace", "UpdateService"),
    )
    # What an operation makes or removes has no tag of the cluster's then.
    every = tuple(place.arn(service, f"{kind}/*") for kind in kinds)
    yield Statement(prefixed(service, ("GetOperation",)), every)
    yield unscoped(service, "ListTagsForResource", "UntagResource")
    yield unscoped("route53", "CreateHostedZone", "ListHostedZonesByName")
    yield Statement(("route53:GetChange",), (place.everywhere("route53", "change/*"),))
    zones = (
        *("ChangeResourceRecordSets", "DeleteHostedZone", "GetHostedZone"),
        *("ListResourceRecordSets", "AssociateVPCWithHostedZone"),
    )
    yield Statement(prefixed("route53", zones), (place.everywhere("route53", "hostedzone/*"),))
    yield unscoped("ec2", "DescribeRegions")


def _balancer(place: Place) -> Iterator[Statement]:
    service, pattern = "elasticloadbalancing", place.named(names.LOAD_BALANCER)
    kinds = ("loadbalancer/net/", "listener/net/", "targetgroup/")
    every = tuple(place.arn(service, f"{kind}{pattern}") for kind in kinds)
    reads = (
        *("DescribeListeners", "DescribeLoadBalancerAttributes", "DescribeLoadBalancers"),
        *("DescribeTags", "DescribeTargetGroupAttributes", "DescribeTargetGroups"),
        *("DescribeCapacityReservation", "DescribeListenerAttributes"),
    )
    yield unscoped(service, *reads, "DescribeTargetHealth")
    actions = (
        *("AddTags", "CreateListener", "CreateLoadBalancer", "CreateTargetGroup"),
        *("DeleteListener", "DeleteLoadBalancer", "DeleteTargetGroup"),
        *("ModifyListener", "ModifyLoadBalancerAttributes", "ModifyTargetGroup"),
        *("ModifyTargetGroupAttributes", "RemoveTags", "SetSecurityGroups"),
    )
    yield Statement(prefixed(service, (*actions, "SetSubnets")), every)

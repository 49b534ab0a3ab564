"""Networks: VPCs and what stands in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

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
    same_json,
    tags_of,
)


def specification(resource: str, tags: Mapping[str, str] | None) -> Values:
    """Return the parameter with which EC2 makes something with tags."""
    named = {"ResourceType": resource, "Tags": pairs(tags)}
    return {"TagSpecifications": [named]} if tags else {}


class Ec2(Kind):
    """Whatever EC2 lists by ids."""

    #: The call that lists it, the parameter of ids, the key of the list, and of the id in it.
    listed: ClassVar[tuple[str, str, str, str]]
    #: The call that removes it.
    removed: ClassVar[str]
    #: The part of its ARN.
    resource: ClassVar[str] = ""
    #: Names of AWS that differ from the engine's.
    renamed: ClassVar[dict[str, str]] = {}

    def here(self, aws: Aws, id_: str) -> Any:
        """Return what EC2 lists of one."""
        call, ids, key, _ = self.listed
        return first(getattr(aws.client("ec2"), call), key, **{ids: [id_]})

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        now = self.here(aws, id_)
        if now is None or now.get("State") in {"deleted", "deleting"}:
            return None
        values = found(self.token, now, **self.renamed)
        values["tags"] = tags_of(now.get("Tags"))
        if self.resource:
            values["arn"] = aws.arn("ec2", f"{self.resource}/{id_}")
        return {**values, **self.more(aws, now)}

    def more(self, aws: Aws, now: Any) -> Values:
        """Return outputs that have other names, or come from other calls."""
        return {}

    def retag(self, aws: Aws, id_: str, known: Values, gone: list[str], tags: Values) -> None:
        if gone:
            aws.client("ec2").delete_tags(Resources=[id_], Tags=[{"Key": key} for key in gone])
        if tags:
            aws.client("ec2").create_tags(Resources=[id_], Tags=pairs(tags))

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        absent(getattr(aws.client("ec2"), self.removed), **{self.listed[3]: id_})


class Vpc(Ec2):
    token = "aws:ec2/vpc:Vpc"
    replaces = ("cidrBlock", "instanceTenancy")
    defaults = {"enableDnsSupport": True, "instanceTenancy": "default"}
    listed = ("describe_vpcs", "VpcIds", "Vpcs", "VpcId")
    removed, resource = "delete_vpc", "vpc"
    switches = ("enableDnsSupport", "enableDnsHostnames")

    def create(self, aws: Aws, inputs: Values) -> str:
        given = request(aws.client("ec2"), "create_vpc", inputs, **dict.fromkeys(self.switches, ""))
        made = aws.client("ec2").create_vpc(**given, **specification("vpc", inputs.get("tags")))
        id_ = str(made["Vpc"]["VpcId"])
        self.update(aws, id_, {"enableDnsSupport": True}, inputs)
        return id_

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        for key in self.switches:
            if bool(old.get(key)) != bool(new.get(key)):
                name, value = key[0].upper() + key[1:], {"Value": bool(new.get(key))}
                aws.client("ec2").modify_vpc_attribute(VpcId=id_, **{name: value})

    def more(self, aws: Aws, now: Any) -> Values:
        client, where = aws.client("ec2"), [{"Name": "vpc-id", "Values": [now["VpcId"]]}]
        tables = client.describe_route_tables(
            Filters=[*where, {"Name": "association.main", "Values": ["true"]}]
        )["RouteTables"]
        groups = client.describe_security_groups(
            Filters=[*where, {"Name": "group-name", "Values": ["default"]}]
        )["SecurityGroups"]
        found = {
            key: client.describe_vpc_attribute(VpcId=now["VpcId"], Attribute=key)[
                key[0].upper() + key[1:]
            ]["Value"]
            for key in self.switches
        }
        return {
            **found,
            "mainRouteTableId": tables[0]["RouteTableId"],
            "defaultSecurityGroupId": groups[0]["GroupId"],
        }

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        # Moto removes a network with what is in it; EC2 does not.
        client, where = aws.behind("ec2"), [{"Name": "vpc-id", "Values": [id_]}]
        left = [
            *client.describe_subnets(Filters=where)["Subnets"],
            *client.describe_network_interfaces(Filters=where)["NetworkInterfaces"],
            *(
                group
                for group in client.describe_security_groups(Filters=where)["SecurityGroups"]
                if group["GroupName"] != "default"
            ),
        ]
        if left:
            raise UnsupportedError(f"DependencyViolation: {id_} has dependencies: {left}")
        super().delete(aws, id_, known)


class Subnet(Ec2):
    token = "aws:ec2/subnet:Subnet"
    replaces = ("cidrBlock", "vpcId", "availabilityZone")
    listed = ("describe_subnets", "SubnetIds", "Subnets", "SubnetId")
    removed, resource = "delete_subnet", "subnet"

    def create(self, aws: Aws, inputs: Values) -> str:
        client = aws.client("ec2")
        given = request(client, "create_subnet", inputs, mapPublicIpOnLaunch="")
        made = client.create_subnet(**given, **specification("subnet", inputs.get("tags")))
        id_ = str(made["Subnet"]["SubnetId"])
        self.update(aws, id_, {}, inputs)
        return id_

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        key = "mapPublicIpOnLaunch"
        if bool(old.get(key)) != bool(new.get(key)):
            aws.client("ec2").modify_subnet_attribute(
                SubnetId=id_, MapPublicIpOnLaunch={"Value": bool(new.get(key))}
            )

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        used = aws.behind("ec2").describe_network_interfaces(
            Filters=[{"Name": "subnet-id", "Values": [id_]}]
        )["NetworkInterfaces"]
        if used:
            raise UnsupportedError(f"DependencyViolation: {id_} has interfaces: {used}")
        super().delete(aws, id_, known)


class InternetGateway(Ec2):
    token = "aws:ec2/internetGateway:InternetGateway"
    listed = (
        *("describe_internet_gateways", "InternetGatewayIds"),
        *("InternetGateways", "InternetGatewayId"),
    )
    removed, resource = "delete_internet_gateway", "internet-gateway"

    def create(self, aws: Aws, inputs: Values) -> str:
        client, tags = aws.client("ec2"), specification("internet-gateway", inputs.get("tags"))
        id_ = str(client.create_internet_gateway(**tags)["InternetGateway"]["InternetGatewayId"])
        if inputs.get("vpcId"):
            client.attach_internet_gateway(InternetGatewayId=id_, VpcId=inputs["vpcId"])
        return id_

    def more(self, aws: Aws, now: Any) -> Values:
        return {"vpcId": now["Attachments"][0]["VpcId"]} if now["Attachments"] else {}

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        if known.get("vpcId"):
            absent(
                aws.client("ec2").detach_internet_gateway,
                **{"InternetGatewayId": id_, "VpcId": known["vpcId"]},
            )
        super().delete(aws, id_, known)


class RouteTable(Ec2):
    token = "aws:ec2/routeTable:RouteTable"
    replaces = ("vpcId",)
    listed = ("describe_route_tables", "RouteTableIds", "RouteTables", "RouteTableId")
    removed, resource = "delete_route_table", "route-table"

    def create(self, aws: Aws, inputs: Values) -> str:
        client = aws.client("ec2")
        given = request(client, "create_route_table", inputs, routes="")
        made = client.create_route_table(
            **given, **specification("route-table", inputs.get("tags"))
        )
        id_ = str(made["RouteTable"]["RouteTableId"])
        self.update(aws, id_, {}, inputs)
        return id_

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        client = aws.client("ec2")
        before, after = (
            {route["cidrBlock"]: route for route in given.get("routes") or []}
            for given in (old, new)
        )
        for block in before.keys() - after:
            client.delete_route(RouteTableId=id_, DestinationCidrBlock=block)
        for block, route in after.items():
            if before.get(block) != route:
                way = request(client, "create_route", route, cidrBlock="DestinationCidrBlock")
                call = client.replace_route if block in before else client.create_route
                call(RouteTableId=id_, **way)

    def more(self, aws: Aws, now: Any) -> Values:
        ways = ("GatewayId", "NatGatewayId", "NetworkInterfaceId")
        routes = [
            {
                "cidrBlock": each["DestinationCidrBlock"],
                **{way[0].lower() + way[1:]: each[way] for way in ways if each.get(way)},
            }
            for each in now["Routes"]
            if each.get("GatewayId") != "local" and "DestinationCidrBlock" in each
        ]
        return {"routes": routes}


class Route(Kind):
    token = "aws:ec2/route:Route"
    replaces = ("routeTableId", "destinationCidrBlock")

    def create(self, aws: Aws, inputs: Values) -> str:
        aws.client("ec2").create_route(**request(aws.client("ec2"), "create_route", inputs))
        return f"r-{inputs['routeTableId']}{inputs['destinationCidrBlock']}"

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        table = RouteTable().here(aws, known["routeTableId"])
        for each in table["Routes"] if table else ():
            if each.get("DestinationCidrBlock") == known["destinationCidrBlock"]:
                return found(self.token, each)
        return None

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        aws.client("ec2").replace_route(**request(aws.client("ec2"), "replace_route", new))

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        absent(
            aws.client("ec2").delete_route,
            RouteTableId=known["routeTableId"],
            DestinationCidrBlock=known["destinationCidrBlock"],
        )


class RouteTableAssociation(Kind):
    token = "aws:ec2/routeTableAssociation:RouteTableAssociation"
    replaces = ("subnetId", "gatewayId")

    def create(self, aws: Aws, inputs: Values) -> str:
        client = aws.client("ec2")
        given = request(client, "associate_route_table", inputs)
        return str(client.associate_route_table(**given)["AssociationId"])

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        where = [{"Name": "association.route-table-association-id", "Values": [id_]}]
        table = first(aws.client("ec2").describe_route_tables, "RouteTables", Filters=where)
        for each in table["Associations"] if table else ():
            if each["RouteTableAssociationId"] == id_:
                return found(self.token, each)
        return None

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        absent(aws.client("ec2").disassociate_route_table, AssociationId=id_)


class Eip(Ec2):
    token = "aws:ec2/eip:Eip"
    replaces = ("domain",)
    listed = ("describe_addresses", "AllocationIds", "Addresses", "AllocationId")
    removed, resource = "release_address", "elastic-ip"

    def create(self, aws: Aws, inputs: Values) -> str:
        client = aws.client("ec2")
        given = request(client, "allocate_address", inputs)
        tags = specification("elastic-ip", inputs.get("tags"))
        return str(client.allocate_address(**given, **tags)["AllocationId"])


class NatGateway(Ec2):
    token = "aws:ec2/natGateway:NatGateway"
    replaces = ("allocationId", "connectivityType", "subnetId")
    defaults = {"connectivityType": "public"}
    listed = ("describe_nat_gateways", "NatGatewayIds", "NatGateways", "NatGatewayId")
    removed = "delete_nat_gateway"

    def create(self, aws: Aws, inputs: Values) -> str:
        client, tags = aws.client("ec2"), specification("natgateway", inputs.get("tags"))
        given = request(client, "create_nat_gateway", inputs)
        return str(client.create_nat_gateway(**given, **tags)["NatGateway"]["NatGatewayId"])

    def more(self, aws: Aws, now: Any) -> Values:
        return {"allocationId": now["NatGatewayAddresses"][0]["AllocationId"]}

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        now = self.here(aws, id_)
        super().delete(aws, id_, known)
        # EC2 removes the interface with its gateway; moto leaves it.
        for each in now["NatGatewayAddresses"] if now else ():
            interface = each["NetworkInterfaceId"]
            absent(aws.behind("ec2").delete_network_interface, NetworkInterfaceId=interface)


class VpcEndpoint(Ec2):
    token = "aws:ec2/vpcEndpoint:VpcEndpoint"
    replaces = ("serviceName", "vpcEndpointType", "vpcId")
    defaults = {"vpcEndpointType": "Gateway"}
    listed = ("describe_vpc_endpoints", "VpcEndpointIds", "VpcEndpoints", "VpcEndpointId")
    removed, resource = "delete_vpc_endpoints", "vpc-endpoint"
    renamed = {"policy": "PolicyDocument"}
    lists = {
        "securityGroupIds": "SecurityGroupIds",
        "subnetIds": "SubnetIds",
        "routeTableIds": "RouteTableIds",
    }

    def create(self, aws: Aws, inputs: Values) -> str:
        client, tags = aws.client("ec2"), specification("vpc-endpoint", inputs.get("tags"))
        given = request(client, "create_vpc_endpoint", inputs, policy="PolicyDocument")
        return str(client.create_vpc_endpoint(**given, **tags)["VpcEndpoint"]["VpcEndpointId"])

    def more(self, aws: Aws, now: Any) -> Values:
        groups = {"securityGroupIds": [each["GroupId"] for each in now.get("Groups") or []]}
        return groups if now.get("Groups") else {}

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        given: Values = {}
        for key in changed(old, new):
            if key in self.lists:
                before, after = set(old.get(key) or ()), set(new.get(key) or ())
                for verb, values in (("Add", after - before), ("Remove", before - after)):
                    if values:
                        given[f"{verb}{self.lists[key]}"] = sorted(values)
            elif key == "policy":
                given["PolicyDocument"] = new[key]
            elif key == "privateDnsEnabled":
                given["PrivateDnsEnabled"] = new[key]
        if given:
            aws.client("ec2").modify_vpc_endpoint(VpcEndpointId=id_, **given)

    def delete(self, aws: Aws, id_: str, known: Values) -> None:
        aws.client("ec2").delete_vpc_endpoints(VpcEndpointIds=[id_])

    def read(self, aws: Aws, id_: str, known: Values) -> Values | None:
        now = super().read(aws, id_, known)
        if now and same_json(now.get("policy"), known.get("policy")):
            now["policy"] = known["policy"]
        return now


class NetworkInterface(Ec2):
    token = "aws:ec2/networkInterface:NetworkInterface"
    replaces = ("subnetId", "privateIps", "interfaceType")
    listed = (
        *("describe_network_interfaces", "NetworkInterfaceIds"),
        *("NetworkInterfaces", "NetworkInterfaceId"),
    )
    removed, resource = "delete_network_interface", "network-interface"
    renamed = {"privateIp": "PrivateIpAddress"}

    def create(self, aws: Aws, inputs: Values) -> str:
        client, tags = aws.client("ec2"), specification("network-interface", inputs.get("tags"))
        given = request(
            client, "create_network_interface", inputs, securityGroups="Groups", privateIps=""
        )
        if own := inputs.get("privateIps"):
            given["PrivateIpAddress"] = own[0]
        made = client.create_network_interface(**given, **tags)
        return str(made["NetworkInterface"]["NetworkInterfaceId"])

    def more(self, aws: Aws, now: Any) -> Values:
        return {
            "tags": tags_of(now.get("TagSet")),
            "privateIps": [each["PrivateIpAddress"] for each in now["PrivateIpAddresses"]],
            "securityGroups": [each["GroupId"] for each in now["Groups"]],
        }

    def update(self, aws: Aws, id_: str, old: Values, new: Values) -> None:
        client = aws.client("ec2")
        if old.get("securityGroups") != new.get("securityGroups"):
            client.modify_network_interface_attribute(
                NetworkInterfaceId=id_, Groups=new["securityGroups"]
            )
        if old.get("description") != new.get("description"):
            client.modify_network_interface_attribute(
                NetworkInterfaceId=id_, Description={"Value": new.get("description") or ""}
            )

"""Virtual machines and a standing Dask cluster on them, in one program.

`VirtualMachine` stands in for what a cloud would make, so that this needs no account: its address
is one that you set, as `pulumi config set --path 'addresses.vm-a' 192.0.2.10`. Write your cloud's
resource in its place, such as `aws.ec2.Instance` with its `private_ip`.

The names of the machines are known when the program runs, so a preview shows every resource before
the machines exist. Their addresses are Outputs: a machine that is replaced updates its services.
"""

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from perennial.stacks.hosts import (
    EnvironmentArgs,
    HostsCluster,
    HostsClusterArgs,
    HostsOptionsArgs,
    MachineArgs,
    WorkerGroupArgs,
)

config = pulumi.Config()
addresses = config.require_object("addresses")


class _Machines(ResourceProvider):
    def create(self, props):
        return CreateResult(props["name"], {**props, "address": props["given"]})

    def diff(self, _id, old, new):
        replaced = ["image"] if old["image"] != new["image"] else []
        return DiffResult(changes=old != {**new, "address": old["address"]}, replaces=replaced)

    def update(self, _id, _old, new):
        return UpdateResult({**new, "address": new["given"]})


class VirtualMachine(Resource):
    """A machine whose address is known only when it is there."""

    address: pulumi.Output[str]

    def __init__(self, name, image):
        given = {"name": name, "image": image, "given": addresses[name], "address": None}
        super().__init__(_Machines(), name, given)


image = config.get("image") or "debian-12"
machines = {name: VirtualMachine(name, image) for name in ("vm-a", "vm-b")}

cluster = HostsCluster(
    "dask",
    HostsClusterArgs(
        name="lab",
        environment=EnvironmentArgs(python=config.get("python") or "/opt/dask/bin/python"),
        workers={"cpu": WorkerGroupArgs(count=4, memory="2 GiB")},
        jupyter=None,
        hosts=HostsOptionsArgs(
            # They have just been created, and answer when they have booted.
            connect_timeout="5 min",
            machines=[MachineArgs(name=name, address=vm.address) for name, vm in machines.items()],
        ),
    ),
)

pulumi.export("scheduler_address", cluster.scheduler_address)
pulumi.export("dashboard_url", cluster.dashboard_url)
pulumi.export("connection", cluster.connection)
pulumi.export("cluster", cluster.cluster)  # for `perennial connect --stack`

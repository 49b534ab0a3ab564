"""A standing Dask cluster on machines that you have and reach by `ssh`.

    pulumi config set --path 'machines[0]' machine-a.example.org
    pulumi config set --path 'machines[1]' machine-b.example.org

The first machine has the scheduler, and each has workers.
"""

import pulumi

from perennial.stacks.hosts import (
    EnvironmentArgs,
    HostsCluster,
    HostsClusterArgs,
    HostsOptionsArgs,
    WorkerGroupArgs,
)

config = pulumi.Config()
machines = config.require_object("machines")

cluster = HostsCluster(
    "dask",
    HostsClusterArgs(
        name="lab",
        # Python of the machines, which has dask-perennial; or `requirements` to make one.
        environment=EnvironmentArgs(python=config.get("python") or "/opt/dask/bin/python"),
        workers={"cpu": WorkerGroupArgs(count=2 * len(machines), memory="2 GiB")},
        jupyter=None,
        hosts=HostsOptionsArgs(machines=machines),
    ),
)

pulumi.export("scheduler_address", cluster.scheduler_address)
pulumi.export("dashboard_url", cluster.dashboard_url)
pulumi.export("connection", cluster.connection)
pulumi.export("cluster", cluster.cluster)  # for `perennial connect --stack`

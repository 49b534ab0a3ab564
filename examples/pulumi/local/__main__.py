"""A standing Dask cluster on the machine that runs Pulumi."""

import pulumi

from perennial.stacks.local import LocalCluster, LocalClusterArgs, ScaleArgs, WorkerGroupArgs

cluster = LocalCluster(
    "dask",
    LocalClusterArgs(
        name="lab",
        workers={"cpu": WorkerGroupArgs(memory="1 GiB", scale=ScaleArgs(min=1, max=3))},
        jupyter=None,  # leave this line out for JupyterLab
    ),
)

pulumi.export("scheduler_address", cluster.scheduler_address)
pulumi.export("dashboard_url", cluster.dashboard_url)
pulumi.export("connection", cluster.connection)
pulumi.export("cluster", cluster.cluster)  # for `perennial connect --stack`

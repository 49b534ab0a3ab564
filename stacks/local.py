"""A cluster on the machine that runs Pulumi: the same code as `perennial up`, as one resource."""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    ConfigureRequest,
    CreateResult,
    DiffResult,
    ReadResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)

from perennial.errors import PerennialError
from perennial.paths import cluster_state
from perennial.platforms.local import deploy
from perennial.platforms.local.layout import fleets
from perennial.spec import ClusterSpec, dump, parse

from . import process
from .room import MEANT

Values = dict[str, Any]


class LocalProvider(ResourceProvider):
    """Starts, changes and stops a cluster on this machine."""

    serialize_as_secret_always = False

    def configure(self, req: ConfigureRequest) -> None:
        """Begin to work for an engine."""
        process.prepare()

    def check(self, olds: Values, news: Values) -> CheckResult:
        """Refuse what this machine cannot hold; the spec was validated before."""
        failures = []
        if olds.get("spec") != news["spec"]:
            try:
                deploy.check_room(_spec(news["spec"]), force=_forced(news), meant=MEANT)
            except PerennialError as error:
                failures.append(CheckFailure("spec", str(error)))
        return CheckResult({key: news[key] for key in ("spec", "force") if key in news}, failures)

    def diff(self, _id: str, olds: Values, news: Values) -> DiffResult:
        """Compare what is asked for with what was done and with what was found."""
        other = _spec(olds["spec"]).name != _spec(news["spec"]).name
        changed = olds["spec"] != news["spec"] or bool(olds.get("drift"))
        return DiffResult(
            changes=changed, replaces=["spec"] if other else [], delete_before_replace=True
        )

    def create(self, props: Values) -> CreateResult:
        """Start the cluster."""
        spec = _apply(props)
        return CreateResult(spec.name, {"spec": props["spec"], "drift": []})

    def update(self, _id: str, _olds: Values, news: Values) -> UpdateResult:
        """Change what runs into what the spec says."""
        _apply(news)
        return UpdateResult({"spec": news["spec"], "drift": []})

    def read(self, id_: str, props: Values) -> ReadResult:
        """Look what is not as the spec says."""
        spec = _spec(props["spec"])
        deployment = deploy.prepare(spec, None, _say)
        drift = [f"{step.name}: {step.reason}" for step in deployment.steps]
        if deploy.secrets_missing(spec, deployment.paths):
            drift.append("certificates or token are missing")
        return ReadResult(id_, {"spec": props["spec"], "drift": drift})

    def delete(self, id_: str, _props: Values) -> None:
        """Stop the cluster; certificates, token, logs and notebooks stay."""
        from perennial.lock import exclusive
        from perennial.platforms.local.operate import take_down

        paths = cluster_state(id_)
        if paths.spec.exists():
            with exclusive(paths.lock, _say):
                take_down(deploy.find(id_, _say), purge=False)


def _apply(props: Values) -> ClusterSpec:
    from perennial.lock import exclusive

    spec = _spec(props["spec"])
    with exclusive(cluster_state(spec.name).lock, _say):
        deploy.check_room(spec, force=_forced(props), meant=MEANT)
        deployment = deploy.prepare(spec, None, _say)
        if deployment.steps or deploy.secrets_missing(spec, deployment.paths):
            deploy.apply(deployment)
        else:
            deploy.settle(deployment)
    return spec


def _spec(text: str) -> ClusterSpec:
    """Read what `dump` wrote: the files that it names were read then."""
    return parse(text, remembered=True).spec


def _forced(props: Values) -> bool:
    return bool(props.get("force"))


def _say(text: str) -> None:
    print(text, flush=True)


class LocalServices(Resource, module="perennial", name="LocalServices"):
    """The services of a cluster on this machine."""

    drift: pulumi.Output[list[str]]

    def __init__(
        self, name: str, spec: str, force: bool, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        props = {"spec": spec, "force": force, "drift": None}
        super().__init__(LocalProvider(), name, props, opts)


class LocalCluster(pulumi.ComponentResource):
    """A scheduler, worker groups and Jupyter on this machine. Its one child is ``services``.

    Parameters
    ----------
    name : str
        Name of the component.
    spec : ClusterSpec
        The cluster file.
    opts : pulumi.ResourceOptions or None
        Pulumi's own options.
    force : bool
        Deploy members although this machine cannot hold what they may use.
    """

    def __init__(
        self,
        name: str,
        spec: ClusterSpec,
        opts: pulumi.ResourceOptions | None = None,
        *,
        force: bool = False,
    ) -> None:
        super().__init__("perennial:local:LocalCluster", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        services = LocalServices("services", dump(spec), force, child)
        connection = deploy.connection(spec, cluster_state(spec.name))

        def done(value: Any) -> pulumi.Output[Any]:
            # Known before, but told only when it stands.
            return services.id.apply(lambda _id: value)

        self.scheduler_address = done(connection.scheduler_address)
        self.dashboard_url = done(connection.dashboard_link)
        self.jupyter_url = done(connection.jupyter_url)
        self.connection = pulumi.Output.secret(done(connection.to_json()))
        self.fleets = done(fleets(spec, cluster_state(spec.name)))
        self.register_outputs(
            {
                "scheduler_address": self.scheduler_address,
                "dashboard_url": self.dashboard_url,
                "jupyter_url": self.jupyter_url,
                "connection": self.connection,
                "fleets": self.fleets,
            }
        )


#: What the registry of stacks looks for.
Cluster = LocalCluster

"""A platform that exists in the tests alone, with as little as a new one begins with."""

from __future__ import annotations

from perennial import contracts
from perennial.connect import Connection, save
from perennial.contracts import Deployed, Observer, Overview, Removed, Say, ServiceStatus, Status
from perennial.paths import cluster_state
from perennial.plan import Impact, Plan, Step
from perennial.spec import ClusterSpec, dump
from perennial.spec.options import PlatformOptions


class Options(PlatformOptions):
    """What a person writes under `toy`."""

    colour: str = "red"
    """Its colour."""


class Deployer(contracts.Deployer):
    def plan(self, spec: ClusterSpec, _file: str, _say: Say) -> Plan:
        return Plan([Step("replace", "", "scheduler", spec.options.colour, Impact.LOSES_WORK)])

    def up(self, spec: ClusterSpec, file: str, watched: Observer) -> Deployed:
        paths = cluster_state(spec.name)
        watched.planned(self.plan(spec, file, watched.say))
        paths.spec.write_text(dump(spec))
        connection = Connection(spec.name, "tcp://127.0.0.1:1")
        save(paths, connection)
        return Deployed(connection, "1 painted", changed=True)

    def down(self, name: str, _purge: bool, _say: Say) -> Removed:
        for path in (cluster_state(name).spec, cluster_state(name).connection):
            path.unlink()
        return Removed(["the paint stays"])


class Runtime(contracts.Runtime):
    def overview(self) -> Overview:
        return Overview(True, "tcp://127.0.0.1:1", 2)

    def status(self) -> Status:
        return Status(None, {"cpu": 2}, [ServiceStatus("cpu-0", None, "RUNNING")], None)

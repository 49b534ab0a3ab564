"""The life of a cluster that Pulumi deploys, on any platform: its engine is driven from here."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial import connect, contracts
from perennial.connect import Connection
from perennial.contracts import Deployed, Lacking, Observer, Removed, Say
from perennial.errors import PerennialError
from perennial.files import make_private, write_atomic
from perennial.paths import ClusterPaths, cluster_state, left_behind
from perennial.plan import Plan
from perennial.registry import PLATFORMS
from perennial.spec import dump, load
from perennial.state import Stack, State

if TYPE_CHECKING:
    from perennial.spec import ClusterSpec

#: Part of the certificate that a stack gives a client → its file.
_TLS = {"ca": "ca.pem", "cert": "client.pem", "key": "client-key.pem"}

_REVOKE = "{name}: no single certificate can be revoked on {platform}"
#: What no cluster of a stack can do, see `perennial.contracts.PlatformPart.cannot`.
CANNOT = {
    "rotate_authority": "{name}: its authority is in Pulumi's state and is not replaced under"
    " running services; {down} and then {up} make a new one, which makes all bundles invalid",
    "issue": f"{_REVOKE}, so none is issued to one person; export without --for, which hands out"
    " the cluster's own client certificate",
    "revoke": f"{_REVOKE}; {{down}} and then {{up}} make a new authority, which makes all bundles"
    " invalid",
    "supervisor": "{name}: --wait is for the platform local, found {platform}",
}


class StackDeployer(contracts.Deployer):
    """Deploys the component that the registry names. A platform may know more of its cluster."""

    def _part(self, name: str) -> Any:
        """Load a module of Pulumi's part by name: nothing else here knows Pulumi."""
        try:
            return import_module(f"perennial.stacks.{name}")
        except ModuleNotFoundError as error:
            extra = PLATFORMS[self.platform].extra
            raise PerennialError(
                f"{error.name} is not installed here; `pip install 'dask-perennial[{extra}]'`"
                " brings it"
            ) from None

    def lacking(self) -> Lacking | None:
        """Look for Pulumi's command line, and for the plugins of the stack."""
        driver = self._part("driver")
        try:
            driver.find_command()
        except driver.MissingEngineError as error:
            return Lacking("pulumi", str(error), driver.installable())
        return self._lacking_plugin()

    def _lacking_plugin(self) -> Lacking | None:
        engine, stack = self._part("engine"), self._part(self.platform)
        for name, package in getattr(stack, "PLUGINS", {}).items():
            try:
                engine.find_plugin(name, package)
            except engine.MissingEngineError as error:
                return Lacking(name, str(error), installable=False)
        return None

    def install(self, say: Say) -> None:
        """Download Pulumi's command line."""
        say("downloading Pulumi's command line")
        driver = self._part("driver")
        driver.install()
        driver.find_command()

    def plan(self, spec: ClusterSpec, _file: str, say: Say) -> Plan:
        """Ask the engine what it would do, unless the cluster is new and its platform knows."""
        planning, driver = self._part("planning"), self._part("driver")
        if not cluster_state(spec.name).spec.exists():
            return Plan(planning.first(spec, lambda: driver.plan(spec, say)))
        return Plan(planning.planned(spec, driver.plan(spec, say).log))

    def up(self, spec: ClusterSpec, file: str, watched: Observer) -> Deployed:
        """Deploy a cluster, or change what runs into what the file says."""
        driver, paths = self._part("driver"), cluster_state(spec.name)
        # A plan costs as much as half the deployment.
        watched.planned(self.plan(spec, file, watched.say) if watched.asks else None)
        remember(spec, file, paths)
        known = token_file(paths).exists()
        try:
            fresh = not paths.connection.exists()
            done = driver.up(spec, watched.say, fresh, self.hopeless(spec), watched.force)
        except driver.PartlyError as error:
            # Those machines that are as they should be can be used all the same.
            store_outputs(spec, paths, error.outputs)
            for member, what in error.log.abandoned.items():
                watched.lost(member, what)
            raise
        for member, what in done.log.abandoned.items():
            watched.lost(member, what)
        store_outputs(spec, paths, done.outputs)
        token = token_file(paths)
        return Deployed(
            connection=connect.load(paths),
            summary=self._part("events").summary(done.log, done.seconds),
            changed=bool(done.log.steps),
            token=token if token.exists() and not known else None,
            uncleaned=done.warnings,
        )

    def hopeless(self, _spec: ClusterSpec) -> Callable[[], Sequence[str]] | None:
        """Return what says, while pods or machines are waited for, which can never be ready."""
        return None

    def refresh(self, name: str, say: Say) -> Plan:
        """Look what became of the resources, and remember it."""
        spec, driver = deployed(cluster_state(name)), self._part("driver")
        driver.refresh(spec, say)
        return Plan(self._part("planning").planned(spec, driver.plan(spec, say).log))

    def losses(self, name: str) -> str:
        """Say what ends: also the authority, and with it every bundle."""
        return f"{name}: running work and results are lost"

    def down(self, name: str, purge: bool, say: Say) -> Removed:
        """Take a cluster down: nothing of it stays on its machines but notebooks."""
        paths = cluster_state(name)
        done = self._part("driver").down(deployed(paths), say)
        remove_state(paths, purge)
        note = f"the client's certificate and the token stay in {paths.root}; --purge removes them"
        return Removed([*done.log.notes, *([] if purge else [note])], done.warnings)

    def machines(self, name: str) -> Sequence[str]:
        """Return the machines that the engine or the journal knows."""
        known: Sequence[str] = self._part("driver").machines(deployed(cluster_state(name)))
        return known

    def attach(self, spec: ClusterSpec, connection: Mapping[str, Any], stack: Stack) -> Connection:
        """Remember what `up` would: the cluster file, the connection, and whose it is."""
        paths = cluster_state(spec.name)
        if Stack.load(paths) is None:
            if paths.spec.exists():
                raise PerennialError(
                    f"{spec.name}: deployed from here by `perennial up`; `perennial down -c"
                    f" {spec.name}` takes that one down, or give one of the two another name"
                )
            if spec.name in left_behind():
                raise PerennialError(
                    f"{spec.name}: certificates of one that is down are in {paths.root};"
                    f" `perennial down -c {spec.name} --purge` removes them"
                )
        stack.save(paths)
        store_outputs(spec, paths, {"connection": connection})
        remember(spec, None, paths)  # last: a cluster that is known is complete
        return connect.load(paths)

    def detach(self, name: str) -> None:
        """Remove what `attach` has written."""
        shutil.rmtree(cluster_state(name).root)

    def forget(self, name: str, machine: str, say: Say) -> None:
        """Forget a machine that will never answer again, so that nothing waits for it."""
        self._part("driver").forget(deployed(cluster_state(name)), machine, say)


def deployed(paths: ClusterPaths) -> ClusterSpec:
    """Read a cluster as it was deployed."""
    return load(paths.spec, remembered=True)


def token_file(paths: ClusterPaths) -> Path:
    """File of Jupyter's token on this machine."""
    return paths.secrets / "jupyter-token"


def remember(spec: ClusterSpec, file: str | None, paths: ClusterPaths) -> None:
    """Remember a cluster before anything is done to it: cut off, `down` knows it."""
    make_private(paths.root)
    _write(paths.spec, dump(spec))
    State(file, {name: group.count for name, group in spec.workers.items()}).save(paths)


def store_outputs(spec: ClusterSpec, paths: ClusterPaths, outputs: Mapping[str, Any]) -> None:
    """Keep what a client needs: its certificate, Jupyter's token, and where everything is."""
    parts = outputs.get("connection")
    if not parts:
        return
    if parts.get("tls"):
        for part, name in _TLS.items():
            _write(paths.tls / name, parts["tls"][part])
    if parts.get("token"):
        _write(token_file(paths), parts["token"])
    connection = Connection(
        cluster=spec.name,
        scheduler_address=parts["scheduler_address"],
        dashboard_link=parts.get("dashboard_link"),
        tls=connect.Tls.in_folder(paths.tls) if parts.get("tls") else None,
        jupyter_url=parts.get("jupyter_url"),
    )
    if not paths.connection.exists() or connect.load(paths) != connection:
        connect.save(paths, connection)


def remove_state(paths: ClusterPaths, purge: bool) -> None:
    """Forget a cluster that is down."""
    current = connect.current()
    if current is not None and current.cluster == paths.root.name:
        connect.remove(paths.root.name)
    for path in (paths.spec, paths.state, paths.connection):
        path.unlink(missing_ok=True)
    if purge:
        shutil.rmtree(paths.root)


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text)

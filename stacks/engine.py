"""Pulumi's engine for a cluster of its own: its command, its folder, its left-overs.

Everything stands in the cluster's state folder: the file backend, the passphrase that encrypts
the secrets in it (a file that only this user reads), and Pulumi's own home. An operator needs
no account and no login, and `pulumi` run by hand elsewhere sees nothing of it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import psutil
from pulumi import automation
from pulumi.automation import errors
from pulumi.automation._stack import StackInitMode

from perennial.errors import PerennialError
from perennial.files import make_private, read_json, write_atomic

from .fetching import DIGESTS, fetch, here

if TYPE_CHECKING:
    from .provider.values import Values

#: Name of Pulumi's project, and so a part of every resource's URN.
PROJECT = "perennial"

#: Variables of the user's own Pulumi that would lead ours elsewhere.
FOREIGN = (
    "PULUMI_ACCESS_TOKEN",
    "PULUMI_BACKEND_URL",
    "PULUMI_CONFIG_PASSPHRASE",
    "PULUMI_CONFIG_PASSPHRASE_FILE",
    "PULUMI_STACK",
    # Where and how it writes the state, which is read here as well.
    *(
        f"PULUMI_{prefix}_{key}"
        for prefix in ("DIY_BACKEND", "SELF_MANAGED_STATE")
        for key in ("LEGACY_LAYOUT", "GZIP", "ZSTD")
    ),
)

#: Types of a machine's resources; those of an earlier version end alike.
MACHINE_KINDS = ("HostEnvironment", "HostServices")

#: Seconds that an engine which was told to stop has for what it is in the middle of.
GRACE = 60.0


class MissingEngineError(PerennialError):
    """There is no Pulumi command line on this machine."""


class Command(automation.PulumiCommand):
    """Pulumi's command line, in a process group of its own: Ctrl-C in a terminal is ours.

    It reaches the engine once, and what a provider is in the middle of comes to its end.
    """

    _running: subprocess.Popen[str] | None = None

    def interrupt(self) -> None:
        """Have the engine wait no longer; what it has made stays, and its command fails."""
        if self._running is not None:
            self._running.send_signal(signal.SIGINT)

    def run(
        self,
        args: list[str],
        cwd: str,
        additional_env: Mapping[str, str],
        on_output: Any = None,
        on_error: Any = None,
    ) -> automation.CommandResult:
        """Run a command of Pulumi's; raise what its Automation API raises when it fails."""
        environment = {name: text for name, text in os.environ.items() if name not in FOREIGN}
        environment |= {**additional_env, "PULUMI_AUTOMATION_API": "true"}
        if os.path.isabs(self.command):
            folder = os.path.dirname(self.command)
            environment["PATH"] = os.pathsep.join([folder, environment.get("PATH", "")])
        process = subprocess.Popen(
            [self.command, "--non-interactive", *args],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            process_group=0,
        )
        said: tuple[list[str], list[str]] = ([], [])
        readers = [
            threading.Thread(target=_read, args=(process.stdout, said[0], on_output), daemon=True),
            threading.Thread(target=_read, args=(process.stderr, said[1], on_error), daemon=True),
        ]
        for reader in readers:
            reader.start()
        self._running = process
        try:
            process.wait()
        except BaseException:
            _end(process)
            raise
        finally:
            self._running = None
        for reader in readers:
            reader.join(5.0)  # what a killed provider still holds open is not waited for
        result = automation.CommandResult(
            "\n".join(said[0]), "\n".join(said[1]), process.returncode
        )
        if result.code:
            raise errors.create_command_error(result)
        return result


def _read(stream: Any, lines: list[str], tell: Any) -> None:
    for line in stream:
        lines.append(line.rstrip())
        if tell is not None:
            tell(line.rstrip())


def _end(process: subprocess.Popen[str]) -> None:
    """Let the engine finish what it is in the middle of; a second Ctrl-C does not wait."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(GRACE)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        process.kill()
        process.wait()


class Workspace(automation.LocalWorkspace):
    """A workspace that asks the engine only what it has to: each question costs 0.3 s."""

    def select_stack(self, stack_name: str) -> None:
        """Do nothing where the stack is there: every command names it."""
        if not state_file(Path(self.work_dir), stack_name).exists():
            raise errors.StackNotFoundError(automation.CommandResult("", "", 255))


class Project(automation.ProjectSettings):
    """A project that says where its providers are: ours is beside the Python that runs this."""

    #: Name → folder, of those that a platform needs as well.
    others: Mapping[str, Path] = MappingProxyType({})

    def to_dict(self) -> dict[str, object]:
        """Write what stands in Pulumi.yaml."""
        folders = {"perennial": Path(sys.prefix, "bin"), **self.others}
        providers = [{"name": name, "path": str(path)} for name, path in folders.items()]
        return {**super().to_dict(), "plugins": {"providers": providers}}


class Stack(automation.Stack):
    """A stack whose outputs are read when somebody needs them, not after each command."""

    def outputs(self) -> automation.OutputMap:
        """Nothing; see `secret_outputs`."""
        return {}

    def info(self, show_secrets: bool = True) -> automation.UpdateSummary:
        """Nothing of interest: the events have told it."""
        return automation.UpdateSummary("update", datetime.now(UTC), "", {}, {}, "succeeded")

    def secret_outputs(self) -> Values:
        """Read the stack's outputs, the secret ones as well."""
        result = self._run_pulumi_cmd_sync(["stack", "output", "--json", "--show-secrets"])
        found: Values = json.loads(result.stdout)
        return found


@cache
def find_command() -> Command:
    """Find Pulumi's command line: on PATH, or where `install` puts it."""
    places: list[str | None] = [None] if shutil.which("pulumi") else []
    root = install_root()
    if (root / "bin" / "pulumi").exists():
        places.append(str(root))
    problem = "it is neither on PATH nor in " + str(root)
    for place in places:
        try:
            return Command(root=place)
        except (automation.InvalidVersionError, OSError, subprocess.CalledProcessError) as error:
            problem = str(error).strip().splitlines()[0]
    offer = "`perennial up --install` downloads and checks it, or " if installable() else ""
    raise MissingEngineError(
        f"pulumi: no usable command line of Pulumi's: {problem}; {offer}install it as"
        " https://www.pulumi.com/docs/install says"
    )


def find_plugin(name: str, package: str) -> Path:
    """Find the folder of a plugin: on PATH, or where Pulumi installs the version of a package."""
    from importlib.metadata import version

    command, wanted = f"pulumi-resource-{name}", version(package)
    if found := shutil.which(command):
        return Path(found).parent
    home = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
    folder = home / "plugins" / f"resource-{name}-v{wanted}"
    if not (folder / command).exists():
        raise MissingEngineError(
            f"{command}: it is neither on PATH nor in {folder};"
            f" `pulumi plugin install resource {name} {wanted}` installs it"
        )
    return folder


def install_root() -> Path:
    """Folder into which `install` puts Pulumi's command line."""
    from pulumi._version import version

    return Path.home() / ".pulumi" / "versions" / str(version)


def installable() -> bool:
    """Whether a checksum is known, without which `install` refuses."""
    return (install_root().name, here()) in DIGESTS


def install() -> None:
    """Download Pulumi's command line into the user's home, checked before it is run."""
    root = install_root()
    fetch(root.name, root)


def environment(folder: Path) -> dict[str, str]:
    """Variables with which Pulumi works in a cluster's folder."""
    return {
        "PULUMI_BACKEND_URL": folder.as_uri(),
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(folder / "passphrase"),
        "PULUMI_HOME": str(folder / "home"),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DIY_BACKEND_DISABLE_CHECKPOINT_BACKUPS": "true",
        # Nothing is downloaded during a deployment.
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        # The providers run in the Python that runs this; Pulumi starts them by these names.
        "PULUMI_PYTHON_CMD": sys.executable,
        "PULUMI_RUNTIME_VIRTUALENV": sys.prefix,
    }


def open_stack(
    folder: Path,
    name: str,
    program: Any,
    plugins: Mapping[str, str] = MappingProxyType({}),
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Stack:
    """Open a cluster's stack, made where it is not there yet; its plugins get some variables."""
    command = find_command()
    others = {plugin: find_plugin(plugin, package) for plugin, package in plugins.items()}
    make_private(folder)
    phrase = folder / "passphrase"
    if not phrase.exists():
        if state_file(folder, name).exists():
            raise PerennialError(
                f"{phrase}: missing, and without it nothing in {folder} can be read; restore it"
                " from a backup"
            )
        write_atomic(phrase, secrets.token_hex(32))
    runtime = automation.ProjectRuntimeInfo("python", {"virtualenv": sys.prefix})
    settings = Project(PROJECT, runtime, main=str(folder))
    settings.others = others
    workspace = Workspace(
        work_dir=str(folder),
        program=program,
        env_vars={**environment(folder), **variables},
        secrets_provider="passphrase",
        project_settings=settings,
        pulumi_command=command,
    )
    return Stack(name, workspace, StackInitMode.CREATE_OR_SELECT)


def settle(stack: Stack, folder: Path) -> None:
    """Clear away what a deployment that was killed has left. The caller holds the lock.

    The cluster's lock is ours, so whatever still works for this folder works for nobody: an
    engine whose `perennial` was killed, or providers whose engine was.
    """
    if not locks(folder):
        return
    deadline = time.monotonic() + 10.0
    while _kill_all(folder.as_uri()) and time.monotonic() < deadline:
        time.sleep(0.02)
    stack.cancel()


def locks(folder: Path) -> list[Path]:
    """List the engine's own locks, which a killed engine leaves."""
    return list((folder / ".pulumi" / "locks").rglob("*.json"))


def _kill_all(backend: str) -> bool:
    """Kill what works for a backend; whether there was something."""
    found = False
    for process in psutil.process_iter():
        try:
            # What is dead and not yet buried has no environment any more.
            if process.environ().get("PULUMI_BACKEND_URL") == backend:
                process.kill()
                found = True
        except psutil.Error:
            continue
    return found


def prune(folder: Path) -> None:
    """Remove the history that the engine writes with each deployment: nobody reads it."""
    for name in ("history", "backups"):
        shutil.rmtree(folder / ".pulumi" / name, ignore_errors=True)


def state_file(folder: Path, name: str) -> Path:
    """File of the stack's state in the file backend."""
    return folder / ".pulumi" / "stacks" / PROJECT / f"{name}.json"


def state(folder: Path, name: str) -> Values:
    """Read what the engine remembers of a cluster; empty before the first deployment."""
    found = read_json(state_file(folder, name), {})
    latest = found.get("checkpoint", {}).get("latest")
    return latest if isinstance(latest, dict) else {}


def resources(latest: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """List what the engine remembers of machines: the machine, the kind, and the resource."""
    for resource in latest.get("resources") or []:
        kind = kind_of(resource["type"])
        if kind in MACHINE_KINDS:
            yield machine_of(resource), kind, resource


def kind_of(token: str) -> str:
    """Return the kind of one of our resources, such as ``HostServices``; empty for another."""
    ours = token.startswith(("perennial:index:", "pulumi-python:dynamic/perennial:"))
    return token.rpartition(":")[2] if ours else ""


def machine_of(resource: Mapping[str, Any]) -> str:
    """Return the machine of a resource."""
    inputs = resource.get("inputs") or {}
    entry = inputs.get("machine") or inputs.get("target")
    if isinstance(entry, dict) and "name" in entry:
        return str(entry["name"])
    # An earlier version has written it into the name alone.
    name = str(resource["urn"]).rpartition("::")[2]
    return name.removesuffix("-environment").removesuffix("-services")


def machines(latest: Mapping[str, Any], kinds: Sequence[str] = MACHINE_KINDS) -> set[str]:
    """Machines of which the engine remembers something."""
    return {machine for machine, kind, _ in resources(latest) if kind in kinds}


def half_made(latest: Mapping[str, Any]) -> bool:
    """Whether something was being made when a deployment was killed."""
    return any(each["type"] == "creating" for each in latest.get("pending_operations") or [])

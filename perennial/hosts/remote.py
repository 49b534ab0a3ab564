"""The operator's end of the program that runs on a machine while it is looked at or changed.

The modules of `perennial.hosts.agent` and what they import are sent over the SSH connection to
the machine's Python, which runs them as root (by ``sudo -n`` where the login is not root's) and
keeps nothing of them. So the machine always runs the operator's version.
"""

from __future__ import annotations

import ast
import json
import shlex
import zlib
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from perennial.errors import FleetError
from perennial.hosts.share import Target
from perennial.hosts.ssh import Channel, Session, UnreachableError

#: What is sent, each before those that import it.
MODULES = (
    "perennial.errors",
    "perennial.files",
    "perennial.local.hold",
    "perennial.local.supervisor",
    "perennial.hosts.probing",
    "perennial.hosts.agent.manifest",
    "perennial.hosts.agent.systemd",
    "perennial.hosts.agent.supervisord",
    "perennial.hosts.agent.store",
    "perennial.hosts.agent.facts",
    "perennial.hosts.agent.environments",
    "perennial.hosts.agent.journal",
    "perennial.hosts.agent.usage",
    "perennial.hosts.agent.main",
)
#: Oldest Python that runs the services, and so the agent.
OLDEST = (3, 11)
#: Seconds without any word from the machine after which it counts as lost. A drain may take
#: long, but the agent speaks before it; SSH itself notices a cut connection much sooner.
SILENCE = 7200.0

_NO_PYTHON, _OLD_PYTHON = 90, 91

_BOOTSTRAP = f"""
import sys
if sys.version_info < {OLDEST}:
    sys.stderr.write("%s.%s.%s" % sys.version_info[:3])
    sys.exit({_OLD_PYTHON})
import json, types, zlib
stdin = sys.stdin.buffer
for name, source in json.loads(zlib.decompress(stdin.read(int(stdin.readline())))):
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        path = ".".join(parts[:end])
        if path not in sys.modules:
            sys.modules[path] = types.ModuleType(path)
            sys.modules[path].__path__ = []
            if end > 1:
                setattr(sys.modules[".".join(parts[:end - 1])], parts[end - 1], sys.modules[path])
    exec(compile(source, "<" + name + ">", "exec"), sys.modules[name].__dict__)
sys.modules["perennial.hosts.agent.main"].main()
"""


class Agent:
    """A connection to a machine on which requests are answered; a context manager.

    Parameters
    ----------
    target : Target
        The machine.
    say : callable
        Told what happens there.

    Raises
    ------
    FleetError
        When the machine is not reached, or lacks what is needed; one line that names it.
    """

    def __init__(self, target: Target, say: Callable[[str], None] = lambda _text: None) -> None:
        self.target = target
        self._say = say
        self._session = Session(target)
        self._channel: Channel | None = None
        self._said = ""
        self._ready = False

    def __enter__(self) -> Self:
        self._session.__enter__()
        try:
            self._channel = self._session.start(_command())
            archive = _archive()
            self._channel.write(b"%d\n" % len(archive) + archive)
        except BaseException:
            self._session.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session.__exit__(kind, error, trace)

    @property
    def name(self) -> str:
        """The machine, for messages."""
        return self.target.name

    @property
    def sent(self) -> int:
        """Bytes sent to the machine, SSH's own among them."""
        return self._session.sent

    @property
    def received(self) -> int:
        """Bytes received from the machine, SSH's own among them."""
        return self._session.received

    def ask(self, do: str, **arguments: Any) -> Any:
        """Have something done and wait for the answer.

        Parameters
        ----------
        do : str
            A name of `perennial.hosts.agent.main.OPERATIONS`.
        **arguments
            For it; what JSON can hold.

        Raises
        ------
        FleetError
            With the machine's name and what it says.
        """
        self._write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        return self._answer()

    def upload(self, source: Path, path: str, mode: int = 0o644) -> None:
        """Send a file.

        Parameters
        ----------
        source : pathlib.Path
            The file here.
        path : str
            Where it belongs there.
        mode : int
            Its permissions.
        """
        size = source.stat().st_size
        request = {"do": "upload", "path": path, "size": size, "mode": mode}
        self._write(json.dumps(request).encode() + b"\n")
        with source.open("rb") as file:
            left = size
            while left:
                part = file.read(min(left, 1 << 20))
                if not part:
                    raise FleetError(f"{source}: became shorter while it was sent; run this again")
                left -= len(part)
                self._write(part)
        self._answer()

    @property
    def _open(self) -> Channel:
        if self._channel is None:
            raise RuntimeError("an Agent is used in a with statement")
        return self._channel

    def _write(self, data: bytes) -> None:
        try:
            self._open.write(data)
        except UnreachableError:
            raise
        except FleetError:
            raise self._ended() from None

    def _answer(self) -> Any:
        while True:
            line = self._open.readline(timeout=SILENCE)
            if not line.endswith(b"\n"):
                raise self._ended()
            if not self._ready:
                # Whatever a login shell's own files print comes before the agent's first line.
                self._ready = line == b'{"ready": true}\n'
                continue
            said = json.loads(line)
            if "say" in said:
                if said["say"] != self._said:
                    self._say(said["say"])
                self._said = said["say"]
            elif "error" in said:
                raise FleetError(f"{self.name}: {said['error']}")
            else:
                return said["ok"]

    def _ended(self) -> FleetError:
        """Say why the program on the machine has ended."""
        status = self._open.wait(timeout=10.0)
        said = " ".join(self._open.stderr.split())[-400:]
        oldest = ".".join(map(str, OLDEST))
        if status == _NO_PYTHON:
            return FleetError(
                f"{self.name}: found no python3; install Python {oldest} or newer there, such as"
                " Debian's package python3"
            )
        if status == _OLD_PYTHON:
            return FleetError(
                f"{self.name}: found Python {said}; allowed: {oldest} or newer, as `python3` or"
                " beside it as `python3.11` and the like; install one there"
            )
        if "sudo" in said:
            user = self.target.user or "the SSH user"
            return FleetError(
                f"{self.name}: sudo does not let {user} become root without a password ({said});"
                " allow it in /etc/sudoers.d, or log in as root"
            )
        return FleetError(
            f"{self.name}: the program there ended with {status}: {said or 'nothing'}"
        )


def _command() -> str:
    """Write what the login shell runs: the best Python there is, as root."""
    python = " ".join(f"python3.{minor}" for minor in range(15, OLDEST[1] - 1, -1))
    run = f'"$python" -I -c {shlex.quote(_BOOTSTRAP)} "$(echo "$SSH_CONNECTION" | cut -d" " -f3)"'
    script = (
        f"for python in {python} python3; do command -v $python >/dev/null 2>&1 && break; done; "
        f"command -v $python >/dev/null 2>&1 || exit {_NO_PYTHON}; "
        f'if [ "$(id -u)" = 0 ]; then exec {run}; else exec sudo -n {run}; fi'
    )
    return f"exec /bin/sh -c {shlex.quote(script)}"


@cache
def _archive() -> bytes:
    sources = []
    for name in MODULES:
        package, _, module = name.rpartition(".")
        text = files(package).joinpath(f"{module}.py").read_text(encoding="utf-8")
        sources.append((name, _bare(text)))
    return zlib.compress(json.dumps(sources).encode(), 9)


def _bare(source: str) -> str:
    """Leave comments and docstrings at home: they are a third of what would be sent."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)

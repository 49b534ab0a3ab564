"""The operator's end of the program that runs on a machine while it is looked at or changed.

The modules of `perennial.platforms.hosts.agent` and what they import are sent over the SSH
connection to the machine's Python, which runs them as root (by ``sudo -n`` where the login is not
root's), or as the login user where no root is needed, and keeps nothing of them. So the machine
always runs the operator's version.
"""

from __future__ import annotations

import ast
import atexit
import json
import shlex
import sys
import threading
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from perennial.errors import FleetError
from perennial.platforms.hosts.agent.operations import OPERATIONS
from perennial.platforms.hosts.machine_services import Target
from perennial.platforms.hosts.program import LOADER
from perennial.services import FOLDER
from perennial.ssh import Channel, Session, Stop, UnreachableError, Wait

#: What is sent to every machine, each before those that import it.
MODULES = (
    "perennial.errors",
    "perennial.files",
    "perennial.unix",
    "perennial.platforms.hosts.agent.manifest",
    "perennial.platforms.hosts.agent.processes",
    "perennial.platforms.hosts.agent.systemd",
    "perennial.platforms.hosts.agent.states",
    "perennial.platforms.hosts.agent.facts",
    "perennial.platforms.hosts.agent.unprivileged",
    "perennial.platforms.hosts.agent.environments",
    "perennial.platforms.hosts.agent.operations",
    "perennial.platforms.hosts.agent.main",
)
#: What is sent beside them where the services run under supervisord.
SUPERVISED = (
    "perennial.supervision.single_instance",
    "perennial.supervision.supervisor",
    "perennial.platforms.hosts.agent.boot",
    "perennial.platforms.hosts.agent.supervisord",
)
_STORE = (
    "perennial.platforms.hosts.agent.folders",
    "perennial.platforms.hosts.agent.accounts",
    "perennial.platforms.hosts.agent.installer",
    "perennial.platforms.hosts.agent.store",
)
#: What is sent before the first question that needs it, by the module that answers.
LATER = {
    "store": _STORE,
    "making": (*_STORE, "perennial.platforms.hosts.agent.making"),
    "firewall": ("perennial.platforms.hosts.agent.firewall",),
    "journal": ("perennial.supervision.single_instance", "perennial.platforms.hosts.agent.journal"),
    "examining": (
        "perennial.fetching",
        "perennial.doctor.probing",
        "perennial.platforms.hosts.agent.examining",
    ),
    "usage": ("perennial.platforms.hosts.agent.usage",),
    "machine": (
        "perennial.capacity",
        "perennial.cgroups",
        "perennial.platforms.hosts.agent.machine",
    ),
}
#: Oldest Python that runs the services, and so the agent.
OLDEST = (3, 11)
#: Seconds without an answer after which a machine counts as lost: ten heartbeats of its agent. SSH
#: itself notices a cut connection much sooner.
SILENCE = 600.0

_NO_PYTHON, _OLD_PYTHON, _IS_ROOT = 90, 91, 92

# What the operator says, secrets among it, is for the agent alone: its children read nothing.
_BOOTSTRAP = f"""
import sys
if sys.version_info < {OLDEST}:
    sys.stderr.write("%s.%s.%s" % sys.version_info[:3])
    sys.exit({_OLD_PYTHON})
import json, os, zlib
stdin = os.fdopen(os.dup(0), "rb")
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
{LOADER}for name, source in json.loads(zlib.decompress(stdin.read(int(stdin.readline())))):
    load(name, source)
sys.modules["perennial.platforms.hosts.agent.main"].main(stdin)
"""


class Agent:
    """A connection to a machine on which requests are answered; a context manager."""

    def __init__(
        self,
        target: Target,
        say: Callable[[str], None] = lambda _text: None,
        wait: Wait | None = None,
    ) -> None:
        self.target = target
        self._say = say
        self._session = Session(target, wait=wait)
        self._channel: Channel | None = None
        self._said = ""
        self._folder = ""
        self._ready = False
        self._sent = set() if target.needs_root else set(SUPERVISED)

    @property
    def alive(self) -> bool:
        """Whether the connection is there, as far as is known."""
        return self._channel is not None and not self._session.lost()

    def send(self, say: Callable[[str], None]) -> None:
        """Change where its progress is reported."""
        self._say, self._said = say, ""

    def __enter__(self) -> Self:
        self._session.__enter__()
        try:
            self._channel = self._session.start(_command(self.target))
            archive = _archive(self.target.needs_root)
            self._write(b"%d\n" % len(archive) + archive)
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

    def retire(self) -> None:
        """Close the connection, and let no other process of this run find it."""
        self._session.last = True
        self.__exit__(None, None, None)

    def cut(self) -> None:
        """End the program there while another thread waits for its answer."""
        if self._channel is not None:
            self._channel.cut()

    @property
    def name(self) -> str:
        """The machine, for messages."""
        return self.target.name

    def ask(self, do: str, **arguments: Any) -> Any:
        """Have something done and wait for the answer."""
        self._send_later(do)
        self._write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        return self._answer()

    def _send_later(self, do: str) -> None:
        """Send what answers a question, if it is not there yet."""
        module = OPERATIONS[do].partition(".")[0] if do in OPERATIONS else ""
        missing = [name for name in LATER.get(module, ()) if name not in self._sent]
        if missing:
            self._sent.update(missing)
            self.ask("load", sources=[(name, _source(name)) for name in missing])

    def here(self, text: str) -> str:
        """Put the folder of the login user's clusters in the place of `FOLDER`."""
        if FOLDER in text and not self._folder:
            self._folder = self.ask("folder")
        return text.replace(FOLDER, self._folder)

    def upload(self, source: Path, path: str, mode: int = 0o644) -> None:
        """Send a file."""
        size = source.stat().st_size
        self._send_later("upload")
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
            said = self._parsed(line)
            if "say" in said:
                if said["say"] != self._said:
                    self._say(said["say"])
                self._said = said["say"]
            elif "error" in said:
                raise FleetError(f"{self.name}: {said['error']}")
            elif "ok" in said:
                return said["ok"]

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            said = None
        if isinstance(said, dict):
            return said
        raise FleetError(
            f"{self.name}: the program there answered {line[:60]!r}, which is no JSON object; run"
            " the same command again"
        )

    def _ended(self) -> FleetError:
        """Say why the program on the machine has ended."""
        status = self._open.wait(timeout=10.0)
        said = " ".join(self._open.stderr.split())[-400:]
        oldest = ".".join(map(str, OLDEST))
        if status == _NO_PYTHON:
            return FleetError(
                f"{self.name}: python3 not found; install Python {oldest} or newer there, such as"
                " Debian's package python3"
            )
        if status == _OLD_PYTHON:
            return FleetError(
                f"{self.name}: found Python {said}; allowed: {oldest} or newer, as `python3` or"
                " beside it as `python3.11` and the like; install one there"
            )
        if status == _IS_ROOT:
            return FleetError(
                f"{self.name}: the login user is root, as whom all tasks would run under"
                " supervisord; log in as another user (`user: NAME`), or write `init: systemd`"
            )
        if "sudo: not found" in said:
            return FleetError(
                f"{self.name}: sudo not found; install it there, log in as root (`user: root`), or"
                " write `init: supervisord`, which needs no root"
            )
        if "sudo" in said:
            user = self.target.user or "the SSH user"
            return FleetError(
                f"{self.name}: sudo does not let {user} become root without a password ({said});"
                " allow it in /etc/sudoers.d, log in as root, or write `init: supervisord`, which"
                " needs no root"
            )
        return FleetError(
            f"{self.name}: the program there ended with {status} ({said or 'no output'}); run"
            " the same command again"
        )


#: Python before 3.12 cannot parse in two threads at once (python/cpython#106905).
_parsing = threading.Lock()
#: Connections that are kept for a next question; each is an `ssh` process.
KEPT = 64
_pool: dict[Target, Agent] = {}
_busy: defaultdict[Target, threading.Lock] = defaultdict(threading.Lock)


@contextmanager
def borrowed(
    target: Target,
    say: Callable[[str], None] = lambda _text: None,
    waits: bool = False,
) -> Iterator[Agent]:
    """Lend the one connection that this process has to a machine; makes it the first time.

    Where `waits` is true, a machine that does not answer yet has its `connect_timeout`.

    A deploy asks a machine several times, and a connection costs far more than a question.
    It is closed after an error, when the process ends, and where `KEPT` others were used since.
    """
    stop = Stop.current()
    with _busy[target]:
        stop.refuse(target.name)
        agent = _pool.pop(target, None)
        if agent is not None and not agent.alive:
            agent.__exit__(None, None, None)
            agent = None
        if agent is None:
            wait = Wait(target.connect_timeout, say) if waits and target.connect_timeout else None
            agent = Agent(target, wait=wait).__enter__()
        agent.send(say)
        try:
            with stop.cutting(agent.name, agent.cut):
                yield agent
        except BaseException:
            agent.__exit__(*sys.exc_info())
            raise
        _pool[target] = agent
    while len(_pool) > KEPT:
        with suppress(StopIteration, KeyError, RuntimeError):  # another thread was quicker
            _pool.pop(next(iter(_pool))).retire()


@atexit.register
def close() -> None:
    """Close the connections that nobody uses."""
    while _pool:
        _pool.popitem()[1].__exit__(None, None, None)


def _command(target: Target) -> str:
    """Write what the login shell runs: the best Python there is, as root where that is needed."""
    python = " ".join(f"python3.{minor}" for minor in range(15, OLDEST[1] - 1, -1))
    run = f'"$python" -I -c {shlex.quote(_BOOTSTRAP)} "$(echo "$SSH_CONNECTION" | cut -d" " -f3)"'
    run += f" {shlex.quote(target.name)}"
    root = f'[ "$(id -u)" != 0 ] || exit {_IS_ROOT}; '
    if target.needs_root:
        root = '[ "$(id -u)" = 0 ] || root="sudo -n"; '
    # A shell waits for it, which tells of a signal that has ended it; ssh itself does not.
    script = (
        f"for python in {python} python3; do command -v $python >/dev/null 2>&1 && break; done; "
        f"command -v $python >/dev/null 2>&1 || exit {_NO_PYTHON}; "
        f"root=; {root}exec 3<&0; "
        f"$root {run} <&3 3<&- & exec </dev/null 3<&-; wait $!"
    )
    return f"exec /bin/sh -c {shlex.quote(script)}"


@cache
def _archive(root: bool) -> bytes:
    names = MODULES if root else (*MODULES[:-1], *SUPERVISED, MODULES[-1])
    return zlib.compress(json.dumps([(name, _source(name)) for name in names]).encode(), 9)


def _source(name: str) -> str:
    package, _, module = name.rpartition(".")
    return _bare(files(package).joinpath(f"{module}.py").read_text(encoding="utf-8"))


def _bare(source: str) -> str:
    """Remove comments, docstrings and annotations, half of what would be sent."""
    with _parsing:
        tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
    return ast.unparse(tree)

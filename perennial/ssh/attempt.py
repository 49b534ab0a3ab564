"""A login that did not come about: what is known of it, and the errors that say so."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from perennial.errors import FleetError
from perennial.ssh.target import Hop, label

_PROXY = re.compile(r"^debug1: Executing proxy command: exec (.*)$", re.MULTILINE)


class LoginError(FleetError):
    """A login did not come about."""

    #: Whether it passes by itself where the machine is starting.
    passes = False
    #: The last words of ssh.
    said = ""


class UnreachableError(LoginError):
    """A machine does not answer, or the connection to it was lost."""

    passes = True
    said = "no answer"


class DeniedError(LoginError):
    """A login was denied, which a person at a terminal may mend with a passphrase or a code."""


@dataclass(frozen=True)
class Attempt:
    """A login that did not come about."""

    #: The machine.
    target: Hop
    #: The options that `ssh` was given for it, its configuration first.
    options: Sequence[str]
    #: Seconds for each connection.
    timeout: float
    #: What `ssh` has logged.
    log: str
    #: What the `ssh` to a jump host has said, or a ``ProxyCommand``.
    words: str

    @property
    def where(self) -> str:
        """The machine, for messages."""
        return label(self.target)

    @cached_property
    def settings(self) -> dict[str, str]:
        """What the configuration says of the machine."""
        done = subprocess.run(
            ["ssh", "-G", *self.options, "--", self.target.address],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        return dict(line.partition(" ")[::2] for line in done.stdout.splitlines()[::-1])

    @property
    def host(self) -> str:
        """The name or address that was connected to."""
        return self.settings.get("hostname", self.target.address)

    @property
    def port(self) -> str:
        """The port there."""
        return self.settings.get("port", "22")

    @property
    def user(self) -> str:
        """The login name."""
        return self.settings.get("user", "")

    @property
    def jump(self) -> str:
        """The jump hosts on the way, as ``ssh -J`` takes them."""
        found = self.settings.get("proxyjump", "none")
        return self.target.jump or ("" if found == "none" else found)

    @property
    def proxy(self) -> str:
        """The ``ProxyCommand``, of which no jump host made one."""
        found = _PROXY.search(self.log)
        return found[1] if found and not self.jump else ""

    @property
    def known_hosts(self) -> str:
        """File in which the machine's key belongs."""
        if self.target.known_hosts:
            return self.target.known_hosts
        file = self.settings.get("userknownhostsfile", "~/.ssh/known_hosts").split()[0]
        home = f"{Path.home()}/"
        return f"~/{file.removeprefix(home)}" if file.startswith(home) else file


def lines_of(text: str) -> list[str]:
    """Return what ssh says of an error, without its details."""
    found = (line.strip() for line in text.splitlines())
    return [line for line in found if line and not line.startswith(("debug", "@@@", "OpenSSH_"))]


def last(lines: Sequence[str]) -> str:
    """Return its last words."""
    return lines[-1].removeprefix("ssh: ") if lines else "no output"

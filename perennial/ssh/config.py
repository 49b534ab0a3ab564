"""The configuration that `ssh` is given: ours around the user's own.

A file, and not options of the command line: those would not reach the jump hosts, which `ssh`
connects to by an `ssh` of their own with the same file. The first value of an option counts, so
what must hold stands before the user's configuration, and what serves where it says nothing stands
after it.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from perennial.errors import PerennialError
from perennial.ssh.keys import ACCEPT_NEW
from perennial.ssh.target import Hop, parse_jump

#: Seconds between two keepalive messages; three without an answer end the connection.
KEEPALIVE = 15.0
_UNANSWERED = 3
#: Seconds for which a connection that nobody uses stays, where nobody is left to close it.
_PERSIST = 600
_USUAL = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk")
_KEYS = ("-----BEGIN", "ssh-", "ecdsa-", "sk-")
#: Holds for every machine and jump host, whatever the user's configuration says. Of ``SetEnv`` the
#: first one counts, and there is none that says nothing.
_FORCED = """\
  StrictHostKeyChecking yes
  NoHostAuthenticationForLocalhost no
  UpdateHostKeys no
  ForwardAgent no
  ForwardX11 no
  GSSAPIDelegateCredentials no
  ClearAllForwardings yes
  PermitLocalCommand no
  RemoteCommand none
  RequestTTY no
  SetEnv PERENNIAL=1
  Tunnel no
  LogLevel ERROR
  ControlMaster auto
"""


def text(
    target: Hop, folder: Path, timeout: float, asks: bool, jump_keys: Path | None = None
) -> str:
    """Write the configuration with which a machine is connected to.

    The control sockets of jump hosts are in the folder; the timeout is that of each connection;
    `asks` says whether a person may be asked for a passphrase, a password or a second factor.
    `jump_keys` is the file of the jump host's keys, where they are given.
    """
    lines = [*_jump_host(target, folder, jump_keys), *_lines(target, folder, timeout, asks)]
    return "\n".join(lines) + "\n"


def options(host_key: str | None, keys: Path | None) -> list[str]:
    """Say by which keys a machine is known; those are options of `ssh` as well as its settings.

    As options of the command line they are the machine's alone: no jump host gets them.
    """
    if keys is None:
        return [f"StrictHostKeyChecking={'yes' if host_key is None else ACCEPT_NEW}"]
    return [
        "StrictHostKeyChecking=yes",
        f"UserKnownHostsFile={keys}",
        "GlobalKnownHostsFile=/dev/null",
        "VerifyHostKeyDNS=no",
        *(["KnownHostsCommand=none"] if _takes("KnownHostsCommand=none") else []),
    ]


@cache
def _takes(option: str) -> bool:
    """Whether the `ssh` here knows an option, which older ones do not."""
    argv = ["ssh", "-G", "-F", "/dev/null", "-o", option, "none"]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def _jump_host(target: Hop, folder: Path, keys: Path | None) -> Iterator[str]:
    if not target.jump_host_key or not target.jump:
        return
    hops = parse_jump(target.jump)
    if len(hops) != 1:
        raise PerennialError(
            f"{target.jump}: `jump_host_key` is that of one jump host; write the keys of several"
            " into the file `known_hosts`"
        )
    yield f"Host {_pattern(hops[0].address)}"
    yield from (f"  {each}" for each in options(target.jump_host_key, keys))
    # A connection that was made by another key is another connection.
    mark = hashlib.sha256(target.jump_host_key.encode()).hexdigest()[:8]
    yield f"  ControlPath {_quoted(folder / f'{mark}-%C', tokens=True)}"


def _lines(target: Hop, folder: Path, timeout: float, asks: bool) -> Iterator[str]:
    home = Path.home()
    yield "Host *"
    yield _FORCED.rstrip("\n")
    yield f"  BatchMode {'no' if asks else 'yes'}"
    yield f"  ConnectTimeout {max(1, round(timeout))}"
    yield f"  ServerAliveInterval {max(1, round(KEEPALIVE))}"
    yield f"  ServerAliveCountMax {_UNANSWERED}"
    yield f"  ControlPath {_quoted(folder / '%C', tokens=True)}"
    yield f"  ControlPersist {_PERSIST}"
    if target.known_hosts:
        known = Path(target.known_hosts).expanduser()
        # The first key that is accepted makes the file.
        if ACCEPT_NEW not in (target.host_key, target.jump_host_key) or known.exists():
            known = _existing_hosts(target.known_hosts)
        yield f"  UserKnownHostsFile {_quoted(known)}"
        yield "  GlobalKnownHostsFile /dev/null"
    if target.identity:
        yield f"Host {_pattern(target.address)}"
        yield f"  IdentityFile {_quoted(_existing_key(target.identity))}"
        yield "  IdentitiesOnly yes"
        yield "Host *"
    # As `ssh` reads them, but that the home is the one that $HOME names.
    yield f"  Include {_quoted(home / '.ssh/config')}"
    yield "  Include /etc/ssh/ssh_config"
    elsewhere = home != Path(pwd.getpwuid(os.getuid()).pw_dir)
    if target.identity:
        # Jump hosts may want another key than the machine does.
        yield f"Host * !{_pattern(target.address)}"
        yield f"  IdentityFile {_quoted(Path(target.identity).expanduser())}"
    elif elsewhere:
        yield "Host *"
    if target.identity or elsewhere:
        yield from (f"  IdentityFile {_quoted(home / '.ssh' / name)}" for name in _USUAL)
    if elsewhere:
        yield "Host *"
        files = (_quoted(home / ".ssh" / name) for name in ("known_hosts", "known_hosts2"))
        yield f"  UserKnownHostsFile {' '.join(files)}"


def _existing_hosts(name: str) -> Path:
    """Return the file of host keys; `ssh` itself passes over whatever it cannot read."""
    path = Path(name).expanduser()
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        raise PerennialError(
            f"{path}: no file of known host keys there; correct `known_hosts`"
        ) from None
    for number, words in enumerate((line.split() for line in lines), 1):
        if words and not words[0].startswith("#") and len(words) < 3:
            raise PerennialError(
                f"{path}: found something that is no list of known hosts (line {number}); correct"
                " it"
            )
    return path


def _existing_key(name: str) -> Path:
    """Return the file of a key; its public half alone stands for one that the agent has."""
    path = Path(name).expanduser()
    public = path.with_name(f"{path.name}.pub")
    try:
        with path.open(errors="replace") as file:
            if not file.read(64).startswith(_KEYS):
                raise PerennialError(f"{path}: no readable SSH key; correct `identity`")
    except OSError as error:
        if not public.is_file():
            raise PerennialError(f"{path}: {error.strerror}; correct `identity`") from None
    return path


def _pattern(address: str) -> str:
    if not address or any(letter in ' "*?!,' or not letter.isprintable() for letter in address):
        raise PerennialError(f"{address!r} is no address; write a name or an IP address")
    return address


def _quoted(path: Path, tokens: bool = False) -> str:
    value = str(path)
    if '"' in value or not value.isprintable():
        raise PerennialError(f"{value!r}: ssh takes no file with such a name; give it another")
    return f'"{value if tokens else value.replace("%", "%%")}"'

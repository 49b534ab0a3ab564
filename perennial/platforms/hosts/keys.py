"""The keys of an SSH connection: ours to log in with, and those that machines are known by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from perennial.errors import PerennialError

if TYPE_CHECKING:
    import asyncssh

_USUAL = ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk")
_KNOWN = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
_KNOWN_BY_ALL = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")


@dataclass(frozen=True, slots=True)
class Ring:
    """What to log in with."""

    #: Files of private keys that can be read without a passphrase.
    files: list[str]
    #: Files of private keys with a passphrase: the agent must have these.
    locked: tuple[str, ...]
    #: The only keys of the agent to use; None for all of them, empty for none.
    agent: list[bytes] | None


def ring(
    options: asyncssh.SSHClientConnectionOptions, identity: str | None, also_usual: bool = False
) -> Ring:
    """Find the keys to log in with.

    A key that the cluster file names is the only one that is offered, from its file or from the
    agent: a server ends the connection after a few wrong ones.
    """
    configured = cast(list[str], options.config.get("IdentityFile", []))
    only = bool(options.config.get("IdentitiesOnly")) or (identity is not None and not also_usual)
    if identity is not None and not also_usual:
        names = [identity]
    else:
        usual = [f"~/.ssh/{name}" for name in _USUAL] if not configured else []
        names = [*([identity] if identity else []), *configured, *usual]
    files, locked, public = [], [], []
    for name in dict.fromkeys(names):
        path = Path(name).expanduser()
        kind, blob = _look(path, named=name == identity)
        if kind == "open":
            files.append(str(path))
        elif kind == "locked":
            locked.append(str(path))
        if blob is not None:
            public.append(blob)
    return Ring(files, tuple(locked), public if only else None)


def known_hosts(
    options: asyncssh.SSHClientConnectionOptions, file: str | None
) -> asyncssh.SSHKnownHosts:
    """Read the keys that machines are known by."""
    import asyncssh

    known = asyncssh.SSHKnownHosts()
    for name in [file] if file else _known_files(options):
        path = Path(name).expanduser()
        try:
            known.load(path.read_text(errors="replace"))
        except FileNotFoundError:
            if file:
                raise PerennialError(
                    f"{path}: found no file of known host keys; correct `known_hosts`"
                ) from None
        except (OSError, ValueError) as error:
            raise PerennialError(
                f"{path}: found something that is no list of known hosts ({error}); correct it"
            ) from None
    return known


def host_key_algorithms(
    options: asyncssh.SSHClientConnectionOptions, known: asyncssh.SSHKnownHosts, address: str
) -> list[str] | None:
    """Prefer the types of key that a machine is known by, and take the others as well.

    Were only those taken, a machine that was set up anew with other types would end in a message
    about algorithms instead of one about a changed key.
    """
    from asyncssh import public_key

    if options.config.get("HostKeyAlgorithms"):
        return None
    port = options.port if options.port != 22 else None
    found = known.match(options.host_key_alias or options.host, address, port)[0]
    preferred = [algorithm for key in found for algorithm in key.sig_algorithms]
    usual = public_key.get_default_certificate_algs() + public_key.get_default_public_key_algs()
    return [each.decode() for each in dict.fromkeys([*preferred, *usual])]


def known_hosts_file(options: asyncssh.SSHClientConnectionOptions, file: str | None) -> str:
    """Name the file in which a new machine's key belongs."""
    return file or next(iter(_known_files(options)), _KNOWN[0])


def _known_files(options: asyncssh.SSHClientConnectionOptions) -> list[str]:
    user = cast(Sequence[str], options.config.get("UserKnownHostsFile", _KNOWN))
    system = cast(Sequence[str], options.config.get("GlobalKnownHostsFile", _KNOWN_BY_ALL))
    return [*user, *system]


def _look(path: Path, named: bool) -> tuple[str, bytes | None]:
    """Tell whether a key can be used without a passphrase, and read its public half."""
    import asyncssh

    public = _public(path.with_name(path.name + ".pub"))
    try:
        key = asyncssh.read_private_key(path)
    except asyncssh.KeyImportError as error:
        if "Passphrase" in str(error):
            return "locked", public
        # A public key stands for one that only the agent has.
        only_public = _public(path)
        if named and only_public is None:
            raise PerennialError(
                f"{path}: found no SSH key that can be read; correct `identity`"
            ) from None
        return ("public" if only_public else "none"), only_public
    except OSError as error:
        if named and not public:
            raise PerennialError(f"{path}: {error.strerror}; correct `identity`") from None
        return "none", public
    return "open", key.public_data


def _public(path: Path) -> bytes | None:
    import asyncssh

    try:
        return asyncssh.read_public_key(path).public_data
    except (OSError, asyncssh.KeyImportError):
        return None

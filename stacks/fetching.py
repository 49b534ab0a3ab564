"""Download Pulumi's command line: a release's archive, checked before any of it is run.

Pulumi's own installer is a script that is downloaded and run unchecked. Here the digest of each
archive stands in the source; of an archive without one nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import ssl
import tarfile
import tempfile
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.error import HTTPError

from perennial.errors import PerennialError
from perennial.platforms.hosts.provision import built_for

#: SHA-256 of the archives by version and platform. Whoever raises Pulumi's version copies them from
#: the file of checksums that is published with the release; what is not here is not installed.
DIGESTS: Mapping[tuple[str, str], str] = {}
URL = "https://get.pulumi.com/releases/sdk/pulumi-v{version}-{platform}.tar.gz"
#: What Pulumi calls an architecture.
_ARCHITECTURES = {"x86_64": "x64", "aarch64": "arm64"}
#: More bytes than an archive has.
MOST = 2**29
#: Seconds without a byte.
TIMEOUT = 60.0
_BY_HAND = "install it by hand as https://www.pulumi.com/docs/install says, and run this again"


@dataclass(frozen=True, slots=True)
class Source:
    """Where archives come from, and what is known of them."""

    digests: Mapping[tuple[str, str], str] = field(default_factory=lambda: DIGESTS)
    url: str = URL
    context: ssl.SSLContext | None = None


def here() -> str:
    """Name this machine's kind as Pulumi's archives do."""
    return f"{platform.system().lower()}-{_ARCHITECTURES.get(os.uname().machine, 'other')}"


def fetch(version: str, root: Path, source: Source | None = None) -> None:
    """Download a version's archive, check it, and put its programs into the folder's ``bin``."""
    source = source or Source()
    digest = source.digests.get((version, here()))
    if digest is None:
        raise PerennialError(
            f"pulumi: no checksum of version {version} for {here()} in this release of"
            f" dask-perennial, and nothing unchecked is installed; {_BY_HAND}"
        )
    root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=root.parent) as folder,
        tempfile.TemporaryFile(dir=folder) as archive,
    ):
        url = source.url.format(version=version, platform=here())
        found = _download(url, archive, source.context)
        if found != digest:
            raise PerennialError(
                f"pulumi: {url} has the SHA-256 {found}; allowed: {digest}; nothing is installed;"
                f" {_BY_HAND}"
            )
        _place(_unpacked(archive, Path(folder)), root)


def _download(url: str, archive: IO[bytes], context: ssl.SSLContext | None) -> str:
    """Download a file; its digest."""
    digest, size = hashlib.sha256(), 0
    try:
        if not url.startswith("https://"):
            raise PerennialError(f"pulumi: {url}: allowed: an https address; {_BY_HAND}")
        with urllib.request.urlopen(url, timeout=TIMEOUT, context=context) as answer:  # noqa: S310
            while part := answer.read(1 << 20):
                size += len(part)
                if size > MOST:
                    raise PerennialError(f"pulumi: {url} is longer than {MOST:,} bytes; {_BY_HAND}")
                digest.update(part)
                archive.write(part)
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        reason = str(getattr(error, "reason", None) or error)
        raise PerennialError(f"pulumi: cannot be downloaded: {url}: {reason}; {_BY_HAND}") from None
    return digest.hexdigest()


def _unpacked(archive: IO[bytes], folder: Path) -> Path:
    """Unpack an archive; the folder of its programs."""
    archive.seek(0)
    try:
        with tarfile.open(fileobj=archive, mode="r:gz") as tar:
            tar.extractall(folder / "unpacked", filter="data")
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise PerennialError(f"pulumi: cannot be unpacked: {error}; {_BY_HAND}") from None
    programs = folder / "unpacked" / "pulumi"
    program = programs / "pulumi"
    if not program.is_file():
        raise PerennialError(f"pulumi: no program pulumi/pulumi in the archive; {_BY_HAND}")
    built, machine = built_for(program), os.uname().machine
    if built != machine:
        raise PerennialError(
            f"pulumi: the program in the archive is for {built}; allowed: {machine}; {_BY_HAND}"
        )
    return programs


def _place(programs: Path, root: Path) -> None:
    """Put the programs where they are looked for, all at once."""
    target = root / "bin"
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if target.exists():
        shutil.rmtree(target)  # left by an interrupted installation, or broken
    programs.rename(target)

"""Pulumi's command line from a server on loopback: what is refused, and what is installed."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import ssl
import tarfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from perennial.certificates import make_authority, make_certificate
from perennial.errors import PerennialError

pytest.importorskip("pulumi")
from perennial.stacks import fetching
from perennial.stacks.fetching import Source, fetch

NUMBERS = {"x86_64": 62, "aarch64": 183}
VERSION = "3.999.0"


def program(number: int) -> bytes:
    """The head of a program: elf(5)."""
    return b"\x7fELF\x02\x01" + bytes(12) + number.to_bytes(2, "little") + b"rest"


def archive(
    *more: tarfile.TarInfo, number: int | None = None, name: str = "pulumi/pulumi"
) -> bytes:
    packed = io.BytesIO()
    data = program(number or NUMBERS[os.uname().machine])
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(data), 0o6755
        tar.addfile(entry, io.BytesIO(data))
        for each in more:
            tar.addfile(each, io.BytesIO(bytes(each.size)))
    return packed.getvalue()


Serve = Callable[[bytes], Source]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Have a server of HTTPS give an archive; says where, and its digest."""
    now = datetime.now(UTC)
    authority = make_authority("lab", now)
    pair = make_certificate(authority, "jupyter", ("127.0.0.1",), now)
    (tmp_path / "pair.pem").write_bytes(pair.cert + pair.key)
    given = {"body": b""}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path.endswith(f"v{VERSION}-{fetching.here()}") else 404)
            self.end_headers()
            self.wfile.write(given["body"])

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pair.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def give(body: bytes) -> Source:
        given["body"] = body
        return Source(
            {(VERSION, fetching.here()): hashlib.sha256(body).hexdigest()},
            f"https://127.0.0.1:{server.server_port}/v{{version}}-{{platform}}",
            ssl.create_default_context(cadata=authority.cert.decode()),
        )

    yield give
    server.shutdown()
    server.server_close()


def refused(root: Path, source: Source, version: str = VERSION) -> str:
    """Try it: nothing is left, and nothing is beside it."""
    with pytest.raises(PerennialError) as caught:
        fetch(version, root, source)
    assert not root.exists()
    assert not root.parent.exists() or not list(root.parent.iterdir())
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(
        "install it by hand as https://www.pulumi.com/docs/install says, and run this again"
    )
    return text


def test_an_archive_that_is_known_is_installed(serve: Serve, tmp_path: Path) -> None:
    root = tmp_path / "home" / "versions" / VERSION
    fetch(VERSION, root, serve(archive()))
    made = root / "bin" / "pulumi"
    assert made.read_bytes() == program(NUMBERS[os.uname().machine])
    assert made.stat().st_mode & 0o7777 == 0o755  # no set-user-id, nor for others to write
    assert [path.name for path in root.parent.iterdir()] == [VERSION]
    fetch(VERSION, root, serve(archive()))


def test_another_archive_is_refused(serve: Serve, tmp_path: Path) -> None:
    good = serve(archive())
    serve(archive() + b"more")
    said = refused(tmp_path / "home" / VERSION, good)
    assert f"allowed: {next(iter(good.digests.values()))}; nothing is installed" in said


def test_a_version_without_a_checksum_is_not_even_downloaded(tmp_path: Path) -> None:
    said = refused(tmp_path / "home" / "1", Source({}, "https://127.0.0.1:9/"), "1")
    assert said.startswith(f"pulumi: no checksum of version 1 for {fetching.here()} in this")


def test_what_leads_out_of_its_folder_is_refused(serve: Serve, tmp_path: Path) -> None:
    link = tarfile.TarInfo("pulumi/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    for entry in (tarfile.TarInfo("../../../escaped"), link):
        said = refused(tmp_path / "home" / VERSION, serve(archive(entry)))
        assert said.startswith("pulumi: cannot be unpacked: ")
    assert not list(tmp_path.rglob("escaped"))


def test_another_architecture_is_refused(serve: Serve, tmp_path: Path) -> None:
    said = refused(tmp_path / "home" / VERSION, serve(archive(number=22)))
    assert f"the program in the archive is for s390x; allowed: {os.uname().machine}" in said


def test_an_archive_of_something_else_is_refused(serve: Serve, tmp_path: Path) -> None:
    root = tmp_path / "home" / VERSION
    assert "no program pulumi/pulumi" in refused(root, serve(archive(name="pulumi/x")))
    assert "cannot be unpacked" in refused(root, serve(b"<html>"))


def test_a_server_that_nobody_vouches_for_is_refused(serve: Serve, tmp_path: Path) -> None:
    source = serve(archive())
    root = tmp_path / "home" / VERSION
    stranger = Source(source.digests, source.url, ssl.create_default_context())
    assert "certificate verify failed" in refused(root, stranger)
    plain = Source(source.digests, source.url.replace("https", "http"))
    assert "allowed: an https address" in refused(root, plain)
    missing = Source(source.digests, f"{source.url}.x", source.context)
    assert "cannot be downloaded: " in refused(root, missing)

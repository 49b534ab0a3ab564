"""Bundles: one file that connects a colleague, and says what is wrong with it."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from perennial import authority, certificates, connect, paths
from perennial.connect import Connection, Tls
from perennial.errors import PerennialError

ADDRESS = "tls://192.0.2.7:8786"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Home of the colleague."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("DASK_CONFIG", raising=False)
    return tmp_path / "home"


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    folder = tmp_path / "tls"
    authority.ensure(folder, "lab", ())
    return folder


@pytest.fixture
def bundle(tmp_path: Path, tls: Path) -> Path:
    connection = Connection("lab", ADDRESS, "http://x/status", Tls.in_folder(tls), "http://x/lab")
    connect.export_bundle(connection, tmp_path / "lab.bundle")
    return tmp_path / "lab.bundle"


def changed(bundle: Path, change: Callable[[dict[str, Any]], object], sign: bool = True) -> Path:
    """A bundle with another content, and with the checksum that fits it."""
    value = json.loads(bundle.read_text())
    change(value["content"])
    if sign:
        canonical = json.dumps(value["content"], sort_keys=True, separators=(",", ":"))
        value["sha256"] = hashlib.sha256(canonical.encode()).hexdigest()
    bundle.write_text(json.dumps(value))
    return bundle


def refused(bundle: Path, home: Path, override: bool = False) -> str:
    """Why a bundle is not taken; nothing was written for it."""
    before = sorted(home.rglob("*"))
    with pytest.raises(PerennialError) as error:
        connect.read_bundle(bundle, override)
    assert sorted(home.rglob("*")) == before
    message = str(error.value)
    assert message.startswith(str(bundle))
    assert "\n" not in message
    return message


def test_a_bundle_brings_everything_in_private_files(home: Path, tls: Path, bundle: Path) -> None:
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o600
    connection = connect.read_bundle(bundle)
    folder = home / ".local/state/perennial/connections.d/lab"
    files = Tls.in_folder(folder)
    assert connection == Connection("lab", ADDRESS, "http://x/status", files, "http://x/lab")
    for name in ("ca.pem", "client.pem", "client-key.pem"):
        assert (folder / name).read_bytes() == (tls / name).read_bytes()
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    # What signs certificates, and what a server proves itself with, stays where it is.
    assert len(list(folder.iterdir())) == 4
    for secret in ("ca-key", "scheduler-key", "worker-key"):
        body = (tls / f"{secret}.pem").read_text().splitlines()[1]
        assert body not in bundle.read_text()
    assert connect.find() == connect.find("lab") == connection


def test_a_bundle_says_when_it_ends(tls: Path, bundle: Path) -> None:
    content = json.loads(bundle.read_text())["content"]
    assert datetime.fromisoformat(content["expires"]) == authority.expiry(tls)["client"]


def test_reading_a_bundle_again_and_after_a_renewal(home: Path, tls: Path, bundle: Path) -> None:
    first = connect.read_bundle(bundle)
    assert connect.read_bundle(bundle) == first
    authority.renew(tls, "lab", ())
    connect.export_bundle(Connection("lab", ADDRESS, tls=Tls.in_folder(tls)), bundle, True)
    renewed = connect.read_bundle(bundle)
    assert renewed.tls == first.tls
    assert Path(renewed.tls.cert).read_bytes() == (tls / "client.pem").read_bytes()


def test_a_bundle_without_tls(home: Path, tmp_path: Path) -> None:
    connection = Connection("open", "tcp://192.0.2.7:8786")
    connect.export_bundle(connection, tmp_path / "open.bundle")
    message = refused(tmp_path / "open.bundle", home)
    assert "found tcp://192.0.2.7:8786, a cluster without TLS" in message
    assert message.endswith("add --unencrypted to accept that")
    # To replace another cluster is another question.
    assert refused(tmp_path / "open.bundle", home, override=True) == message
    assert connect.read_bundle(tmp_path / "open.bundle", unencrypted=True) == connection
    assert connect.find() == connection


@pytest.mark.parametrize("kept", range(0, 2000, 97))
def test_a_cut_off_bundle_is_damaged(home: Path, bundle: Path, kept: int) -> None:
    bundle.write_bytes(bundle.read_bytes()[:kept])
    assert "is damaged: not a bundle, or a part of one; `perennial" in refused(bundle, home)


@pytest.mark.parametrize(
    "content", [b"\x00\xff", b"[]", b"{}", b"null", b"[" * 100_000, b'{"format": 1}', b" " * 2**21]
)
def test_what_is_no_bundle_is_said(home: Path, bundle: Path, content: bytes) -> None:
    bundle.write_bytes(content)
    assert "is damaged: not a bundle, or a part of one" in refused(bundle, home)


def test_every_changed_letter_is_noticed(home: Path, bundle: Path) -> None:
    text = bundle.read_text()
    for place in range(text.index('"content"') + 12, text.rindex("}") - 2, 53):
        if text[place].isalnum():
            other = "x" if text[place] != "x" else "y"
            bundle.write_text(text[:place] + other + text[place + 1 :])
            assert "is damaged" in refused(bundle, home)


def test_a_file_that_cannot_be_read_is_said(home: Path, tmp_path: Path) -> None:
    assert "No such file or directory; name a cluster or" in refused(tmp_path / "none", home)
    assert "Is a directory" in refused(tmp_path, home)


def test_another_version_is_said(home: Path, bundle: Path) -> None:
    bundle.write_text(bundle.read_text().replace('"version": 1', '"version": 2'))
    assert "found a bundle of version 2, this perennial reads version 1" in refused(bundle, home)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cluster": "../../.ssh"}, "'../../.ssh' is no cluster name"),
        ({"cluster": None}, "no name of a cluster"),
        ({"scheduler_address": "tls://x"}, "no scheduler address"),
        ({"tls": None}, "a tls:// address without a certificate"),
        ({"tls": {"ca": "x", "cert": "y", "key": "\ud800"}}, "authority's certificate is damaged"),
        ({"scheduler_address": "tcp://192.0.2.7:8786"}, "beside an address other than tls://"),
        ({"scheduler_address": "tls://a\x1b]0;b:1"}, "no scheduler address"),
        ({"scheduler_address": "tls://192.0.2.7:٣"}, "no scheduler address"),
        ({"dashboard_link": 7}, "a link other than http"),
        ({"dashboard_link": "javascript:alert(1)"}, "a link other than http"),
        ({"dashboard_link": "http://x/'><script>alert(1)</script>"}, "a link other than http"),
        ({"dashboard_link": "http://x/{scheme}"}, "a link other than http"),
        ({"dashboard_link": "http://user:word@x/status"}, "a link other than http"),
        ({"jupyter_url": "https://x/\x1b[2J"}, "a link other than http"),
        ({"jupyter_url": "https://x/lab\n"}, "a link other than http"),
        ({"jupyter_url": "//x/lab"}, "a link other than http"),
    ],
)
def test_a_bundle_made_by_somebody_else_is_checked(
    home: Path, bundle: Path, change: dict[str, Any], said: str
) -> None:
    assert said in refused(changed(bundle, lambda content: content.update(change)), home)


@pytest.mark.parametrize(
    ("part", "file", "said"),
    [
        ("ca", "ca.pem", "the certificate was signed by another authority"),
        ("key", "client-key.pem", "the private key belongs to another certificate"),
        ("cert", "client.pem", "the private key belongs to another certificate"),
    ],
)
def test_parts_of_two_clusters_are_refused(
    home: Path, tmp_path: Path, bundle: Path, part: str, file: str, said: str
) -> None:
    authority.ensure(tmp_path / "other", "lab", ())
    pem = (tmp_path / "other" / file).read_text()
    changed(bundle, lambda content: content["tls"].update({part: pem}))
    assert f": {said}; `perennial connect --export FILE`" in refused(bundle, home)


def expire(tls: Path) -> str:
    made = datetime.now(UTC) - certificates.LIFE - timedelta(days=3)
    pair = certificates.Pair((tls / "ca.pem").read_bytes(), (tls / "ca-key.pem").read_bytes())
    key = (tls / "client-key.pem").read_bytes()
    cert = certificates.make_certificate(pair, "client", (), made, key).cert
    (tls / "client.pem").write_bytes(cert)
    return f"{datetime.now(UTC) - timedelta(days=3):%Y-%m-%d}"


def test_an_expired_bundle_says_since_when(home: Path, tls: Path, bundle: Path) -> None:
    since = expire(tls)
    pem = (tls / "client.pem").read_text()
    changed(bundle, lambda content: content["tls"].update({"cert": pem}))
    assert f": the certificate expired on {since}; `perennial connect" in refused(bundle, home)


def test_an_expired_certificate_is_not_exported(tls: Path, tmp_path: Path) -> None:
    since = expire(tls)
    with pytest.raises(PerennialError, match=f"expired on {since}; `perennial rotate` renews it"):
        connect.export_bundle(Connection("lab", ADDRESS, tls=Tls.in_folder(tls)), tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_another_cluster_of_the_same_name_needs_to_be_asked_for(
    home: Path, tmp_path: Path, tls: Path, bundle: Path
) -> None:
    connect.read_bundle(bundle)
    authority.ensure(tmp_path / "other", "lab", ())
    other = Connection("lab", "tls://192.0.2.8:1", tls=Tls.in_folder(tmp_path / "other"))
    connect.export_bundle(other, tmp_path / "other.bundle")
    message = refused(tmp_path / "other.bundle", home)
    assert "found another cluster named lab than known here: " in message
    assert f"address {ADDRESS} → tls://192.0.2.8:1; authority (SHA-256) " in message
    before = certificates.fingerprint((tls / "ca.pem").read_bytes())
    after = certificates.fingerprint((tmp_path / "other/ca.pem").read_bytes())
    assert f"{before} → {after}; --replace takes the bundle's" in message
    # One without TLS is another cluster too: it must not take the place of a safe one.
    connect.export_bundle(Connection("lab", "tcp://192.0.2.7:8786"), tmp_path / "open.bundle")
    with pytest.raises(PerennialError, match=rf"{before} → none; --replace"):
        connect.read_bundle(tmp_path / "open.bundle", unencrypted=True)

    taken = connect.read_bundle(tmp_path / "other.bundle", override=True)
    assert taken.scheduler_address == "tls://192.0.2.8:1"
    assert certificates.same_authority(
        Path(taken.tls.ca).read_bytes(), (tmp_path / "other/ca.pem").read_bytes()
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"scheduler_address": "tls://192.0.2.9:8786"},
            f"address {ADDRESS} → tls://192.0.2.9:8786",
        ),
        ({"jupyter_url": "https://192.0.2.9/lab"}, "Jupyter http://x → https://192.0.2.9"),
        ({"dashboard_link": "http://y/status"}, "dashboard http://x → http://y"),
    ],
)
def test_what_a_bundle_of_the_same_authority_moves_is_asked(
    home: Path, bundle: Path, change: dict[str, Any], said: str
) -> None:
    """Whoever changes a bundle can compute its checksum: the same authority proves no address."""
    first = connect.read_bundle(bundle)
    changed(bundle, lambda content: content.update(change))
    assert refused(bundle, home).endswith(f"known here: {said}; --replace takes the bundle's")
    asked: list[str] = []
    assert connect.read_bundle(bundle, agree=asked.append) != first
    assert [question.endswith(said) for question in asked] == [True]
    asked.clear()
    connect.read_bundle(bundle, agree=asked.append)
    assert asked == []


def test_nothing_but_the_one_authority_is_ever_trusted(
    home: Path, tmp_path: Path, tls: Path, bundle: Path
) -> None:
    authority.ensure(tmp_path / "other", "lab", ())
    own, other = ((folder / "ca.pem").read_text() for folder in (tls, tmp_path / "other"))
    trusted = other.replace("BEGIN CERT", "BEGIN TRUSTED CERT").replace("END C", "END TRUSTED C")
    for pem in (own + other, own + trusted, own + own):
        changed(bundle, lambda content, pem=pem: content["tls"].update({"ca": pem}))
        assert "found other than exactly one certificate of an authority" in refused(bundle, home)
    # A certificate of the cluster itself is no authority, although it is signed by one.
    assert certificates.sole_authority((tls / "scheduler.pem").read_bytes()) is None
    # What stands around it is not kept.
    changed(bundle, lambda content: content["tls"].update({"ca": f"note\n{own}"}))
    assert Path(connect.read_bundle(bundle).tls.ca).read_text() == own  # type: ignore[union-attr]


def test_a_bundle_of_this_machines_own_cluster_is_that_cluster(
    home: Path, tls: Path, bundle: Path
) -> None:
    """Its own certificates are renewed by `perennial rotate`, those of a bundle are not."""
    cluster = paths.cluster_state("lab")
    cluster.root.mkdir(parents=True)
    cluster.spec.touch()
    own = Connection("lab", "tls://127.0.0.1:8786", tls=Tls.in_folder(tls))
    connect.save(cluster, own)
    assert connect.read_bundle(bundle) == own
    assert paths.received_connections() == []


def test_a_damaged_installed_connection_is_mended_by_its_bundle(home: Path, bundle: Path) -> None:
    connection = connect.read_bundle(bundle)
    file = paths.received_connection("lab") / "connection.json"
    file.write_text("{")
    with pytest.raises(PerennialError, match="is damaged"):
        connect.find("lab")
    assert connect.read_bundle(bundle) == connect.find("lab") == connection


def test_an_existing_file_is_not_written_over(tls: Path, tmp_path: Path) -> None:
    file = tmp_path / "thesis.tex"
    file.write_text("mine")
    connection = Connection("lab", ADDRESS, tls=Tls.in_folder(tls))
    with pytest.raises(PerennialError, match=r"thesis\.tex exists already; .* --replace"):
        connect.export_bundle(connection, file)
    assert file.read_text() == "mine"
    connect.export_bundle(connection, file, override=True)
    assert json.loads(file.read_text())["content"]["cluster"] == "lab"


def test_what_cannot_be_exported_is_said(tls: Path, tmp_path: Path) -> None:
    (tls / "client-key.pem").unlink()
    connection = Connection("lab", ADDRESS, tls=Tls.in_folder(tls))
    with pytest.raises(PerennialError, match=r"client-key\.pem: No such file or directory; `per"):
        connect.export_bundle(connection, tmp_path / "x")
    (tmp_path / "file").touch()
    with pytest.raises(PerennialError, match=r"choose a path that you can write to"):
        connect.export_bundle(Connection("open", "tcp://h:1"), tmp_path / "file/x")


@pytest.mark.parametrize(
    ("address", "alone"),
    [
        ("tls://127.0.0.1:1", True),
        ("tls://[::1]:1", True),
        ("tls://localhost:1", True),
        ("tls://192.0.2.7:1", False),
        ("tls://machine.example.org:1", False),
    ],
)
def test_a_loopback_address_is_said(tls: Path, address: str, alone: bool) -> None:
    notice = connect.loopback_notice(Connection("lab", address, tls=Tls.in_folder(tls)))
    assert (notice is not None) == alone


def test_what_a_stack_tells_is_a_bundle_too(home: Path, bundle: Path) -> None:
    """Pulumi's state has no checksum of ours, and leaves out what is None; all else is checked."""
    content = json.loads(bundle.read_text())["content"]
    told = {key: value for key, value in content.items() if key != "expires"} | {"token": "t"}
    bundle.write_text(json.dumps(told))
    first = connect.read_bundle(bundle)
    assert first == connect.find("lab")
    assert first.scheduler_address == ADDRESS
    bundle.write_text(json.dumps({**told, "scheduler_address": "tls://192.0.2.9:1"}))
    assert refused(bundle, home).endswith("→ tls://192.0.2.9:1; --replace takes the bundle's")
    bundle.write_text(json.dumps({"cluster": "open", "scheduler_address": "tcp://192.0.2.7:1"}))
    assert refused(bundle, home).endswith("add --unencrypted to accept that")
    bundle.write_text(json.dumps({**told, "tls": {"ca": "x", "cert": "y", "key": "z"}}))
    assert "certificate is damaged" in refused(bundle, home)
    bundle.write_text("[secret]\n")
    assert refused(bundle, home).endswith("add --show-secrets to `pulumi stack output`")


@pytest.mark.parametrize("host", ["h", "a_b.example.org.", "[::1]", "[fe80::1%eth0]", "192.0.2.7"])
def test_whatever_a_cluster_file_may_name_makes_a_connection(host: str) -> None:
    links = (f"http://{host}:8787/status", f"https://{host}/dashboard/status?a=b%20c")
    for link in links:
        connection = Connection("lab", f"tcp://{host}:8786", link, None, link)
        assert Connection.from_json(connection.to_json()) == connection

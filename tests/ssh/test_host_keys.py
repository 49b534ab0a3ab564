"""Host keys that a cluster file gives, against a real sshd."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from perennial.errors import PerennialError
from perennial.ssh import Session
from perennial.ssh.keys import ACCEPT_NEW, AUTHORITY
from tests.ssh.sshd import MISSING, Place, Sshd, keygen, make_place, says

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    yield from make_place(monkeypatch)


def public(server: Sshd) -> str:
    return server.key.with_name("host_key.pub").read_text()


def another_key(place: Place, server: Sshd) -> None:
    """The machine is set up anew."""
    server.stop()
    other = keygen(place.root / f"anew-{server.port}")
    other.rename(server.key)
    other.with_name(f"{other.name}.pub").rename(server.key.with_name("host_key.pub"))
    server.start()


def test_a_key_that_is_given_stands_for_every_file(place: Place) -> None:
    place.known.unlink()
    target = replace(place.target, host_key=public(place.sshd))
    with Session(target):
        pass
    assert not place.known.exists()
    # A file that says otherwise is not looked at; several keys are as good as one.
    other = keygen(place.root / "other").with_name("other.pub").read_text()
    place.known.write_text(place.sshd.known().rsplit(maxsplit=1)[0] + f" {other.split()[1]}\n")
    with Session(replace(target, host_key=f"# from the console\n{other}{public(place.sshd)}")):
        pass


def test_another_key_than_the_given_one(place: Place) -> None:
    """Also where the user's own file, or DNS or a command, knows the machine."""
    other = keygen(place.root / "other").with_name("other.pub").read_text()
    (place.ssh / "config").write_text(
        f"Host *\n  KnownHostsCommand /bin/cat {place.known}\n  StrictHostKeyChecking no\n"
    )
    text = says(replace(place.target, host_key=other), "found the host key ssh-ed25519 SHA256:")
    assert "correct `host_key`" in text
    assert "ssh-keygen -R" not in text
    rsa = keygen(place.root / "rsa", kind="rsa").with_name("rsa.pub").read_text()
    says(replace(place.target, host_key=rsa), "allowed: that of `host_key`, ssh-rsa SHA256:")


def test_a_text_that_is_no_key(place: Place) -> None:
    for wrong in ("what", place.key.read_text(), public(place.sshd)[:40]):
        target = replace(place.target, host_key=wrong)
        text = says(target, "allowed: a public key", kind=PerennialError)
        assert wrong not in text


def test_the_first_key_is_accepted_and_no_other(place: Place) -> None:
    place.known.write_text("")
    target = replace(place.target, host_key=ACCEPT_NEW)
    with Session(target):
        pass
    assert public(place.sshd).split()[1] in place.known.read_text()
    another_key(place, place.sshd)
    says(target, "the host key has CHANGED", "ssh-keygen -R '[127.0.0.1]:")


def test_the_first_key_is_kept_in_the_file_that_the_cluster_names(place: Place) -> None:
    place.known.unlink()
    file = place.root / "cluster_hosts"
    target = replace(place.target, host_key=ACCEPT_NEW, known_hosts=str(file))
    with Session(target):
        pass
    assert public(place.sshd).split()[1] in file.read_text()
    assert not place.known.exists()


def test_a_certificate_of_an_authority(place: Place) -> None:
    authority = keygen(place.root / "authority")
    pub = place.sshd.key.with_name("host_key.pub")
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "m", "-h", "-n", "127.0.0.1"]
    subprocess.run([*sign, str(pub)], check=True)
    certificate = place.sshd.key.with_name("host_key-cert.pub")
    certified = place.another("certified", f"HostCertificate {certificate}")
    place.known.unlink()
    certified.stop()
    for name in ("host_key", "host_key.pub"):
        (certified.folder / name).write_bytes((place.sshd.folder / name).read_bytes())
    certified.start()
    line = f"{AUTHORITY} {authority.with_name('authority.pub').read_text()}"
    target = replace(place.target, port=certified.port, host_key=line)
    with Session(target):
        pass
    says(replace(target, port=place.sshd.port), "found the host key")


def test_a_jump_host_has_its_own_key(place: Place) -> None:
    bastion = place.another("bastion")
    place.known.unlink()
    jump = f"127.0.0.1:{bastion.port}"
    target = replace(
        place.target, jump=jump, host_key=public(place.sshd), jump_host_key=public(bastion)
    )
    with Session(target):
        pass
    # Each key is good for its own machine alone.
    swapped = replace(target, host_key=public(bastion), jump_host_key=public(place.sshd))
    says(swapped, "the jump host", "correct `jump_host_key`")
    says(replace(target, host_key=public(bastion)), "correct `host_key`")
    says(replace(target, jump_host_key=None), "the jump host", "host key is not known")
    both = replace(target, host_key=ACCEPT_NEW, jump_host_key=ACCEPT_NEW)
    with Session(both):
        pass
    another_key(place, bastion)
    says(both, "the jump host", "CHANGED")


def test_several_jump_hosts_have_a_file(place: Place) -> None:
    target = replace(place.target, jump="a,b", jump_host_key=public(place.sshd))
    says(target, "one jump host", kind=PerennialError)


def test_a_private_key_goes_through_a_jump_host(place: Place) -> None:
    bastion = place.another("bastion")
    text = place.key.read_text()
    place.key.unlink()
    jump = f"127.0.0.1:{bastion.port}"
    with Session(replace(place.target, jump=jump, private_key=text)) as session:
        assert session.start("true").wait() == 0


def test_a_private_key_that_cannot_be_used(place: Place, tmp_path: Path) -> None:
    locked = keygen(tmp_path / "locked", passphrase="secret")
    target = replace(place.target, private_key=locked.read_text())
    says(target, "`private_key` is a private key with a passphrase", kind=PerennialError)
    rsa = "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----\n"
    says(replace(target, private_key=rsa), "a damaged private key", kind=PerennialError)

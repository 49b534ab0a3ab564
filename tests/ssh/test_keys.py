"""Keys as texts: what is read, and what is refused without being shown."""

from __future__ import annotations

import subprocess
from base64 import b64decode, b64encode
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial.ssh import keys
from tests.ssh.sshd import MISSING, keygen

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)

ED25519 = "ssh-ed25519 " + b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(32)).decode()


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_keys_that_openssh_makes(tmp_path: Path, kind: str) -> None:
    key = keygen(tmp_path / "key", kind=kind)
    public = key.with_name("key.pub")
    shown = subprocess.run(
        ["ssh-keygen", "-lf", str(public)], capture_output=True, text=True, check=True
    ).stdout
    assert keys.fingerprints(public.read_text()).split()[1] in shown
    assert keys.private_key(key.read_text()) == key.read_text()
    # As a value that went through a form, a template or another system.
    assert keys.private_key(f"\r\n  {key.read_text().strip()}".replace("\n", "\r\n")) == (
        key.read_text()
    )
    # What is read is what `ssh` finds, for whatever name it looks.
    known = tmp_path / "known"
    known.write_text(keys.known_hosts(public.read_text()))
    found = subprocess.run(
        ["ssh-keygen", "-F", "[10.0.0.1]:2222", "-f", str(known)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert public.read_text().split()[1] in found.stdout


@pytest.mark.parametrize("form", ["PEM", "PKCS8", "OPENSSH"])
@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_a_passphrase_is_seen_in_every_format(tmp_path: Path, form: str, kind: str) -> None:
    def converted(passphrase: str) -> str:
        path = keygen(tmp_path / (passphrase or "open"), kind=kind)
        how = [] if form == "OPENSSH" else ["-m", form]
        argv = ["ssh-keygen", "-q", "-p", "-P", "", "-N", passphrase, *how, "-f", str(path)]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        return path.read_text()

    assert keys.private_key(converted("")) == (tmp_path / "open").read_text()
    with pytest.raises(keys.KeyTextError, match=r"^a private key with a passphrase$"):
        keys.private_key(converted("secret"))


def test_several_host_keys_and_an_authority() -> None:
    text = f"# console\n\n{ED25519} root@vm-1\n@cert-authority {ED25519}\n"
    assert keys.known_hosts(text) == f"* {ED25519}\n@cert-authority * {ED25519}\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "no key"),
        ("# nothing\n", "no key"),
        ("what", "something that begins with no kind of key"),
        (f"vm-1 {ED25519}", "something that begins with no kind of key"),
        (f"@revoked {ED25519}", "something that begins with no kind of key"),
        (f"{ED25519}\nwhat", "something that begins with no kind of key"),
        ("ssh-ed25519", "a damaged key of the kind ssh-ed25519"),
        (ED25519[:-4], "a damaged key of the kind ssh-ed25519"),
        (ED25519.replace("ssh-ed25519 ", "ssh-rsa "), "a damaged key of the kind ssh-rsa"),
        (f"{ED25519}!", "a damaged key of the kind ssh-ed25519"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA", "a host certificate, not a key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "a private key"),
    ],
)
def test_texts_that_are_no_host_keys(text: str, found: str) -> None:
    with pytest.raises(keys.KeyTextError) as caught:
        keys.known_hosts(text)
    assert str(caught.value) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "no private key"),
        ("~/.ssh/id_ed25519", "no private key"),
        (ED25519, "no private key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", "no private key"),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----",
            "no private key",
        ),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----",
            "a damaged private key",
        ),
        ("-----BEGIN PRIVATE KEY-----\nA\n-----END PRIVATE KEY-----", "a damaged private key"),
    ],
)
def test_texts_that_are_no_private_keys(text: str, found: str) -> None:
    with pytest.raises(keys.KeyTextError) as caught:
        keys.private_key(text)
    assert str(caught.value) == found


@given(st.text() | st.binary().map(lambda data: f"ssh-ed25519 {b64encode(data).decode()}"))
def test_whatever_is_read_is_lines_of_one_kind(text: str) -> None:
    """Nothing that is read puts a name, a mark or a line of its own into the file."""
    try:
        found = keys.known_hosts(text)
    except keys.KeyTextError:
        return
    for line in found.splitlines():
        words = line.removeprefix("@cert-authority ").split(" ")
        assert words[0] == "*"
        assert len(words) == 3


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_key_with_one_other_byte_is_no_crash(place: int, byte: int) -> None:
    lines = OPEN.splitlines()
    body = bytearray(b64decode("".join(lines[1:-1])))
    body[place % len(body)] = byte
    text = "\n".join([lines[0], b64encode(bytes(body)).decode(), lines[-1]])
    with suppress(keys.KeyTextError):
        assert keys.private_key(text).startswith(lines[0])


def _made() -> str:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return keygen(Path(folder) / "key").read_text()


OPEN = "" if MISSING else _made()

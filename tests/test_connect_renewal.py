"""What a user is told to do when the client's certificate ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from perennial import authority, certificates, connect, paths
from perennial.connect import Connection, Tls

LOCAL = "name: lab\nplatform: local\nworkers: {cpu: {count: 1}}\n"
HOSTS = (
    "name: lab\nplatform: hosts\nworkers: {cpu: {count: 1}}\n"
    "environment: {python: /opt/dask/bin/python}\nhosts: {machines: [machine-a]}\n"
)
BOTH = "`perennial rotate` renews it where the cluster was started, or `perennial up` or"


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (LOCAL, "; `perennial rotate` renews it"),
        (HOSTS, "; `perennial up` renews it"),
        ("damaged", f"; {BOTH} `pulumi up` for one on machines over SSH"),
        (None, f"; {BOTH} `pulumi up` for one on machines over SSH"),
    ],
)
def test_the_platform_says_what_renews_a_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str | None, said: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    state = paths.cluster_state("lab")
    authority.ensure(state.tls, "lab", ())
    if file is not None:
        state.spec.write_text(file)
    made = datetime.now(UTC) + timedelta(days=3) - certificates.LIFE
    pair = certificates.Pair(*((state.tls / f"ca{x}.pem").read_bytes() for x in ("", "-key")))
    cert = certificates.make_certificate(pair, "client", (), made).cert
    (state.tls / "client.pem").write_bytes(cert)
    link = Connection("lab", "tls://127.0.0.1:8786", tls=Tls.in_folder(state.tls))
    (notice,) = connect.expiry_notices(link)
    assert notice.endswith(said)

"""Metrics on a port of their own: for the token alone, and nothing else is there."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.preloads.conftest import Lab, until
from tests.preloads.test_certificates import Authority

PRELOAD = ("--preload", "perennial.preloads.metrics")


def configured(lab: Lab, part: str, port: int, **more: int) -> dict[str, str]:
    """Variables of a process that serves its metrics."""
    file = lab.folder / f"{part}.yaml"
    told = {"port": port, "token": str(lab.folder / "token")}
    file.write_text(json.dumps({"perennial": {"metrics": told, **more}}))
    return {"DASK_CONFIG": str(file)}


def asked(
    url: str, token: str | None, context: ssl.SSLContext | None = None, method: str = "GET"
) -> tuple[int, str]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30, context=context) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_metrics_of_scheduler_and_workers_are_shown_for_the_token(lab: Lab) -> None:
    authority = Authority(lab.folder / "tls")
    files = {}
    for role in ("scheduler", "worker"):
        _, cert, key = authority.issue(role)
        for name, content in ((f"{role}.pem", cert), (f"{role}-key.pem", key)):
            (lab.folder / "tls" / name).write_bytes(content)
        paths = [str(lab.folder / "tls" / f"{name}.pem") for name in ("ca", role, f"{role}-key")]
        flags = ("--tls-ca-file", "--tls-cert", "--tls-key")
        files[role] = [word for pair in zip(flags, paths, strict=True) for word in pair]
    (lab.folder / "token").write_text("secret\n")
    lab.protocol = "tls"
    one, other = free_port(), free_port()
    lab.scheduler(*files["scheduler"], *PRELOAD, **configured(lab, "scheduler", one))
    worker = (*files["worker"], *PRELOAD)
    lab.worker("w", *worker, **configured(lab, "worker", other, processes=1))
    context = ssl.create_default_context(cafile=lab.folder / "tls" / "ca.pem")
    urls = [f"https://127.0.0.1:{port}" for port in (one, other)]

    def workers() -> bool:
        status, text = asked(f"{urls[0]}/metrics", "secret", context)
        return status == 200 and 'dask_scheduler_workers{state="idle"} 1.0' in text

    until(workers, "the scheduler counts its worker")
    until(
        lambda: "dask_worker_threads" in asked(f"{urls[1]}/metrics", "secret", context)[1],
        "the worker's metrics are there",
    )
    for url in urls:
        for token in (None, "", "wrong"):
            status, text = asked(f"{url}/metrics", token, context)
            assert (status, "dask_" in text) == (403, False)
        for path in ("/info/main/workers.html", "/json/counts.json", "/health", "/metrics/"):
            assert asked(url + path, "secret", context)[0] == 403
        assert asked(f"{url}/metrics", "secret", context, "POST")[0] == 403
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            asked(f"{url}/metrics", "secret", ssl.create_default_context())
    # Another token is taken into use, and no token is nobody's.
    (lab.folder / "token").write_text("another")
    assert asked(f"{urls[0]}/metrics", "secret", context)[0] == 403
    assert asked(f"{urls[0]}/metrics", "another", context)[0] == 200
    Path(lab.folder / "token").write_text("")
    assert asked(f"{urls[0]}/metrics", "", context)[0] == 403


def test_each_process_of_a_member_has_the_next_port(lab: Lab) -> None:
    (lab.folder / "token").write_text("secret")
    lab.scheduler()
    port = free_port()
    more = configured(lab, "worker", port, processes=2)
    lab.worker("w", "--nworkers", "2", *PRELOAD, **more)
    for number in range(2):
        url = f"http://127.0.0.1:{port + number}/metrics"

        def served(url: str = url) -> bool:
            try:
                return asked(url, "secret")[0] == 200
            except OSError:
                return False

        until(served, f"{url} is served")

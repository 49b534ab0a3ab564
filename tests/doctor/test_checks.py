"""The judgement of checks that are the same on every platform."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from perennial.doctor.checks import certificates, differences, secrets

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def test_certificates_are_mentioned_thirty_days_ahead() -> None:
    def level(days: float) -> str:
        expiry = {"ca": NOW + timedelta(days=3000), "worker": NOW + timedelta(days=days)}
        return certificates(expiry, NOW, "`perennial up`").level

    assert level(31) == "ok"
    assert level(29) == "warning"
    assert level(-1) == "error"
    assert (
        "worker expired on 2026-05-31"
        in certificates({"worker": NOW - timedelta(days=1)}, NOW, "`pulumi up`").text
    )
    assert certificates({}, NOW, "`perennial up`").level == "error"


def test_secrets_that_others_can_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    key = tmp_path / "tls" / "ca-key.pem"
    key.touch(mode=0o600)
    assert secrets(tmp_path).level == "ok"
    key.chmod(0o640)
    assert secrets(tmp_path).level == "error"
    assert str(key) in secrets(tmp_path).text


def test_each_package_that_differs_is_named() -> None:
    mine = {"python": "3.11.7", "numpy": "2.1", "pandas": "3.0"}
    theirs = {
        "cpu-0": {"python": "3.11.7", "numpy": "2.0", "pandas": "3.0"},
        "gpu-0": {"python": "3.11.7", "numpy": "2.0", "pandas": "3.0", "cupy": "14"},
    }
    assert differences(mine, {"cpu-0": mine}) == []
    assert differences(mine, theirs) == [
        "numpy is 2.1 here and 2.0 on 2 workers",
        "cupy is missing here and 14 on gpu-0",
    ]

"""The doctor's judgement of this machine; the whole of it runs in `test_cluster`."""

from __future__ import annotations

import os
from pathlib import Path

from perennial.platforms.local.doctor import clock


def test_a_clock_that_stands_before_the_certificates(tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    pem.touch()
    os.utime(pem, (10_000, 10_000))
    assert clock(tmp_path, 10_000).level == "ok"
    assert clock(tmp_path, 6_400).level == "error"
    assert "3600 s behind" in clock(tmp_path, 6_400).text

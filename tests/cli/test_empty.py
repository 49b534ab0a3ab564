"""An empty value, as a script gives for a variable that is not set, is refused by its option."""

from __future__ import annotations

from pathlib import Path

import pytest

from perennial import connect
from perennial.errors import PerennialError
from tests.cli.test_use import perennial


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (("status", "-c", ""), "-c: "),
        (("status", "--cluster", ""), "--cluster: "),
        (("status", "--cluster="), "--cluster: "),
        (("up", "-f", "", "--yes"), "-f: "),
        (("connect", ""), ""),
        (("logs", ""), ""),
        (("adopt", "helm", "", "-n", "x"), ""),
    ],
)
def test_an_empty_value_is_refused_by_its_option(
    tmp_path: Path, words: tuple[str, ...], where: str
) -> None:
    code, out, error = perennial(tmp_path, *words)
    assert (code, out) == (1, "")
    assert error == f"{where}found an empty value; write one, or leave it out\n"
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_looks_for_no_name_sees_which_name_it_was() -> None:
    with pytest.raises(PerennialError, match=r"^'': no such cluster"):
        connect.find("")

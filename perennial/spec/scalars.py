"""What a plain word in a cluster file means, where all readers of YAML agree on it.

YAML 1.1 (Python, Dask) reads `no` as false, `12:30` as 750 and `010` as eight; YAML 1.2
(editors, Pulumi) reads a word, a word and ten. A cluster file means the same to all of them,
so what they read differently is refused, with the ways to write it.
"""

from __future__ import annotations

import re

Scalar = None | bool | int | float | str

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"([-+]?[0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?")

_BOOLEANS = re.compile(r"yes|Yes|YES|on|On|ON|no|No|NO|off|Off|OFF")
_NUMBERS = re.compile(
    r"[-+]?0[0-9_]+|[-+]?[0-9][0-9_]*_[0-9_]*|[-+]?0[box][0-9a-fA-F_]+"  # 010, 1_000, 0b1
    r"|[-+]?[0-9][0-9_]*_[0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?"  # 1_000.5
    r"|[-+]?([0-9][0-9_]*)?\.[0-9_]*_[0-9_]*([eE][-+]?[0-9]+)?|[-+]\.[0-9]+([eE][-+]?[0-9]+)?"
    r"|[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+"  # 1e3
)
_TIMES = re.compile(
    r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?"  # 12:30
    r"|[0-9]{4}-[0-9][0-9]-[0-9][0-9]|[0-9]{4}-[0-9][0-9]?-[0-9][0-9]?([Tt]|[ \t]+)[0-9].*"
)
#: The patterns above are for short words: they would take long for long ones.
_LONGEST = 200
_NUMERIC = re.compile(r"[-+]?\.?[0-9][-+0-9_.:a-fA-FxXoTtZ \t]*")


class AmbiguousError(ValueError):
    """Readers of YAML disagree on a word."""

    def __init__(self, allowed: str, fix: str) -> None:
        super().__init__(allowed)
        self.allowed = allowed
        self.fix = fix


def resolve(text: str) -> Scalar:
    """Give the value of a word that stands without quotes."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > _LONGEST:
        if _NUMERIC.fullmatch(text):
            raise AmbiguousError("long numbers in quotes", "put it in quotes")
        return text
    if _INTEGER.fullmatch(text) or _HEXADECIMAL.fullmatch(text):
        # Longer ones are no count, port or size; Python is slow with them.
        if len(text) > 20:
            raise AmbiguousError("whole numbers of at most 64 bits", "write a smaller number")
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _BOOLEANS.fullmatch(text):
        boolean = "true" if text.lower() in ("yes", "on") else "false"
        raise AmbiguousError("true, false, or a word in quotes", f"write {boolean} or '{text}'")
    if _NUMBERS.fullmatch(text):
        raise AmbiguousError(
            "plain numbers such as 10, 0.5 or 1.0e+3, or a word in quotes",
            "write it plainly or put it in quotes",
        )
    if _TIMES.fullmatch(text):
        raise AmbiguousError("times and dates in quotes", "put it in quotes")
    return text


def is_plain(text: str) -> bool:
    """Whether a text may stand without quotes and is read as itself."""
    try:
        return resolve(text) == text
    except AmbiguousError:
        return False

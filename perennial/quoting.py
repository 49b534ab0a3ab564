"""Quote values so that a format's own parser returns exactly the value. Pure.

One function for each kind of place in a format. What a format cannot carry is refused with an
error that names the place; nothing is ever shortened, dropped or replaced.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from perennial.errors import PerennialError
from perennial.services import CREDENTIALS, INSTANCE, PLACEHOLDERS

_SYSTEMD_WORDS = {INSTANCE: "%i", CREDENTIALS: "%d"}
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./" + INSTANCE + CREDENTIALS + "-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def systemd_command(argv: Iterable[str], place: str) -> str:
    """Write a command line for ``ExecStart=``."""
    program, *arguments = argv
    # systemd puts variables into every word but the program's path, where `$` is just a letter;
    # a program would see it once more in its own name, though.
    _refuse("\"'\\$", program, f"{place}, the program")
    if not program.startswith("/"):
        raise _error(f"{place}, the program", program, "a relative path", "an absolute one")
    written = [_systemd_word(program, f"{place}, the program")]
    for number, word in enumerate(arguments, 1):
        text = _systemd_word(word, f"{place}, argument {number}")
        written.append(text.replace("$", "$$"))
    return " ".join(written)


def systemd_assignment(variable: tuple[str, str], place: str) -> str:
    """Write a variable, name and value, for ``Environment=``."""
    name, value = variable
    where = f"{place}, variable {name}"
    _check_variable(name, place)
    for letter in value:
        if _is_control(letter) and letter not in "\t\n":
            raise _error(where, value, f"the control character {letter!r}", "none")
    return _systemd_word(f"{name}={value}", where, always=True)


def systemd_value(value: str, place: str) -> str:
    """Write a setting that systemd takes as it stands: one path, one line of text."""
    _check_unicode(value, place)
    _check_line(value, place)
    if value.endswith("\\"):
        raise _error(place, value, "a backslash at the end", "none there")
    return _systemd_specifiers(value, place)


def systemd_paths(paths: Iterable[str], place: str) -> str:
    """Write a list of paths, as in ``ReadWritePaths=`` and ``StateDirectory=``."""
    written = []
    for path in paths:
        # A colon separates a folder from its other names.
        _refuse("\"'\\:", path, place)
        written.append(f'"{systemd_value(path, place)}"')
    return " ".join(written)


def supervisord_command(argv: Iterable[str], place: str) -> str:
    """Write a command line for ``command=``."""
    return " ".join(
        _supervisord_word(
            word, f"{place}, argument {number}" if number else f"{place}, the program"
        )
        for number, word in enumerate(argv)
    )


def cron_command(argv: Iterable[str], place: str) -> str:
    """Write a command line for a crontab, where a shell runs what stands before the first ``%``."""
    words = list(argv)
    for number, word in enumerate(words):
        _check_line(word, f"{place}, argument {number}")
        check_filled(word, f"{place}, argument {number}")
    return shlex.join(words).replace("%", r"\%")


def supervisord_environment(variables: Iterable[tuple[str, str]], place: str) -> str:
    """Write variables for ``environment=``, whose quotes cannot be escaped."""
    written = []
    for name, value in variables:
        where = f"{place}, variable {name}"
        _check_variable(name, place)
        _check_supervisord(value, where)
        if "'" in value and '"' in value:
            raise _error(where, value, "both kinds of quotes", "one kind")
        if value and (value[0] in "'\"" or value[-1] in "'\""):
            raise _error(where, value, "a quote at an end", "none there")
        quote = '"' if "'" in value else "'"
        written.append(f"{name}={quote}{value.replace('%', '%%')}{quote}")
    return ",".join(written)


def supervisord_value(value: str, place: str, expansions: int = 1) -> str:
    """Write a setting that supervisord takes as it stands: a path."""
    _check_supervisord(value, place)
    _check_line(value, place)
    return value.replace("%", "%" * 2**expansions)


def check_filled(text: str, place: str) -> None:
    """Refuse a text that still has a placeholder: its unit would start something else."""
    for letter, meaning in PLACEHOLDERS.items():
        if letter in text:
            found = f"the placeholder U+{ord(letter):04X} of {meaning}"
            raise _error(place, text, found, "text in which it is filled in")


def _systemd_word(word: str, place: str, always: bool = False) -> str:
    _check_unicode(word, place)
    text = _systemd_specifiers(word, place)
    if _PLAIN.fullmatch(word) and not always:
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    return f"\\x{ord(letter):02x}" if letter < " " or letter == "\x7f" else letter


def _systemd_specifiers(text: str, place: str) -> str:
    text = text.replace("%", "%%")
    for marker, specifier in _SYSTEMD_WORDS.items():
        text = text.replace(marker, specifier)
    check_filled(text, place)
    return text


def _supervisord_word(word: str, place: str) -> str:
    _check_unicode(word, place)
    check_filled(word, place)
    for letter in "\n\r":
        if letter in word:
            raise _error(place, word, "a line break", "none")
    # A comment begins at `;` or `#` after white space, and `%(here)s` is replaced before `%` is
    # expanded, both within quotes too: a closed and reopened quote keeps the letters apart.
    quoted = re.sub(r"(\s)(?=[;#])", r"\1''", shlex.quote(word))
    return quoted.replace("%", "%%").replace("%%(", "%%''(")


def _check_supervisord(value: str, place: str) -> None:
    """Refuse what supervisord loses where quotes do not help."""
    _check_unicode(value, place)
    check_filled(value, place)
    if "\n" in value or "\r" in value:
        raise _error(place, value, "a line break", "none")
    if re.search(r"\s[;#]", value):
        raise _error(place, value, "; or # after white space", "none: a comment would begin there")
    if "%(here)s" in value:
        raise _error(place, value, "%(here)s", "none: supervisord would put a folder there")


def _check_unicode(value: str, place: str) -> None:
    for letter in value:
        code = ord(letter)
        if not code:
            raise _error(place, value, "the letter NUL", "none")
        # Surrogates, and the code points that Unicode keeps for no character.
        if 0xD800 <= code <= 0xDFFF or 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE:
            raise _error(place, value, f"U+{code:04X}, which is no character", "characters")


def _check_line(value: str, place: str) -> None:
    for letter in value:
        if _is_control(letter):
            raise _error(place, value, f"the control character {letter!r}", "none")
    if not value or value != value.strip():
        raise _error(place, value, "white space at an end, or nothing", "neither")


def _check_variable(name: str, place: str) -> None:
    if not _VARIABLE.fullmatch(name):
        raise _error(place, name, "another kind of name", "a variable of ASCII letters, digits, _")


def _refuse(letters: str, value: str, place: str) -> None:
    for letter in letters:
        if letter in value:
            raise _error(place, value, f"the letter {letter}", f"none of {letters}")


def _is_control(letter: str) -> bool:
    return letter < " " or "\x7f" <= letter < "\xa0"


def _error(place: str, value: str, found: str, allowed: str) -> PerennialError:
    shown = ascii(value if len(value) <= 60 else value[:57] + "...")
    return PerennialError(
        f"{place}: found {found} in {shown}; allowed: {allowed}; change the value"
    )

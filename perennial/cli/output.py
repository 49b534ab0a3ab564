"""How the command line speaks: progress on a terminal, plain lines into a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from perennial.errors import PerennialError

if TYPE_CHECKING:
    from rich.status import Status


class Progress:
    """Says what happens: one changing line on a terminal, a line for each thing elsewhere.

    Parameters
    ----------
    name : str
        The cluster, which stands before each line.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._last = ""
        self._status: Status | None = None
        if sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True).status(name)

    def __call__(self, text: str) -> None:
        """Say what happens now."""
        if self._status is not None:
            from rich.text import Text

            # A str would be read as markup: "[jupyter]" would vanish.
            self._status.update(Text(f"{self._name}: {text}"))
        elif text != self._last:
            print(f"{self._name}: {text}", file=sys.stderr, flush=True)
        self._last = text

    def __enter__(self) -> Progress:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._status is not None:
            self._status.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to a question."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()


def confirm(question: str, otherwise: str) -> None:
    """Ask on a terminal; where nobody can answer, refuse.

    Parameters
    ----------
    question : str
        What is asked.
    otherwise : str
        The flag that answers it, for the message.

    Raises
    ------
    PerennialError
        When the answer is no, or when there is no terminal.
    """
    if not sys.stdin.isatty():
        raise PerennialError(f"{question} nobody to ask here: add {otherwise} to go on")
    if not typer.confirm(question, default=False):
        raise PerennialError("nothing was changed")

"""Output of the command line: progress on a terminal, plain lines into a pipe.

Names of workers and tasks, lines of logs, answers of machines and fields of bundles come from
others, and may hold control sequences. So all that is printed goes through `guard` or `console`,
which take control characters out; colours of our own are rich's, added after that.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO, cast

import typer

from perennial.errors import PerennialError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

    from perennial.plan import Plan

#: Whole sequences first (colours, titles, links), so that no rest of them is shown.
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    # None within another: a line of nothing but beginnings would take the square of its length.
    r"|(?:\x1b[\]P^_X]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x90\x98\x9c-\x9f\n]*(?:\x07|\x1b\\|\x9c)"
)
#: C0 and C1 but for tab and newline; marks, embeddings, overrides and isolates of direction; line
#: separators of Unicode; and halves of letters, which no stream can write.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def harmless(text: str) -> str:
    """Remove from a text what a terminal would run instead of showing it."""
    return _CONTROLS.sub("", _SEQUENCES.sub("", text))


class _Guarded:
    """A text stream that writes harmless text alone; its buffer is not accessible."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(harmless(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # click would write unfiltered bytes
            raise AttributeError(name)
        return getattr(self.stream, name)


def _have_streams() -> None:
    """Put /dev/null where a standard stream is closed, so that no file of ours gets its number."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)  # the lowest free descriptor
            os.set_inheritable(number, number <= 2)  # like any standard stream
            setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w"))


def guard() -> None:
    """Make all output of this process harmless, whichever code prints it."""
    _have_streams()
    if not isinstance(sys.stdout, _Guarded):
        sys.stdout = cast(TextIO, _Guarded(sys.stdout))
        sys.stderr = cast(TextIO, _Guarded(sys.stderr))


def console(stderr: bool = False, **options: Any) -> Console:
    """Make a rich console that adds colours of our own to harmless text."""
    from rich.console import Console
    from rich.segment import Segment

    class Harmless(Console):
        def render(self, renderable: Any, options: Any = None) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                # A control is rich's own: how the changing line is written again.
                yield segment if segment.control else segment._replace(text=harmless(segment.text))

    stream = sys.stderr if stderr else sys.stdout
    file = stream.stream if isinstance(stream, _Guarded) else stream
    return Harmless(file=file, stderr=stderr, **options)


class Progress:
    """Says what happens: one changing line on a terminal, a line for each thing elsewhere."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._last = ""
        self._status: Status | None = None
        if sys.stderr.isatty():
            self._status = console(stderr=True).status(name)

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


@contextmanager
def alone(name: str) -> Iterator[Progress]:
    """Hold a cluster's lock, and show what happens."""
    from perennial.lock import exclusive
    from perennial.paths import cluster_state

    with Progress(name) as say, exclusive(cluster_state(name).lock, say):
        yield say


def confirm(question: str, otherwise: str) -> None:
    """Ask on a terminal; where nobody can answer, refuse."""
    if not sys.stdin.isatty():
        raise PerennialError(f"{question} stdin is no terminal: add {otherwise} to continue")
    if not typer.confirm(harmless(question), default=False):
        raise PerennialError("nothing was changed")


def say_abandoned(name: str, lost: Mapping[str, str]) -> None:
    """Print what members abandoned when they were stopped; empty for nothing."""
    from perennial.plan import ABANDONED

    for member, what in lost.items():
        if what:
            print(f"{name}: {member}{ABANDONED}{what}")


def show_plan(cluster: str, plan: Plan) -> None:
    """Print a plan, one line for each step, and how many there are."""
    from perennial.plan import lines

    if not plan.steps:
        print(f"{cluster}: nothing to change")
        return
    rest = "" if plan.unchanged is None else f", {plan.unchanged} unchanged"
    note = [f"{cluster}: {plan.note}"] if plan.note else []
    print("\n".join([*lines(plan.steps), *note, f"{cluster}: {len(plan.steps)} to change{rest}"]))

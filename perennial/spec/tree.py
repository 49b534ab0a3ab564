"""YAML to a tree of plain values that knows its lines. Pure, and safe on any text.

The tree is built from the parser's events, so that nothing is expanded, nested or constructed
before it has been counted: anchors that explode, endless nesting, tags that name Python
objects and files that are too long are all refused within milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

import yaml

from perennial.errors import Fault
from perennial.spec.scalars import AmbiguousError, Scalar, resolve
from perennial.spec.syntax import syntax_fault
from perennial.spec.words import WHOLE, key_path, shorten, show, show_key

#: Bounds of a cluster file, far above what one needs.
MAX_BYTES = 2**20
MAX_VALUES = 50_000
MAX_DEPTH = 50

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: Names for tags. Tags are refused, and the parser takes long for many of these.
_TAG_NAMES = re.compile(r"^%TAG\b", re.MULTILINE)
_SURROGATE = re.compile("[\ud800-\udfff]")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_KEYS = "keys such as name, platform and workers"


@dataclass(slots=True)
class Node:
    """A value and where it stands."""

    #: A scalar, a list of nodes, or a mapping of keys to entries.
    value: Scalar | list[Node] | dict[str, Entry]
    #: Line of its first letter, from 1.
    line: int
    #: Values in it, itself included, and levels of nesting; with its anchors expanded.
    size: int = 1
    height: int = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of a mapping: the line of the key, and its value."""

    line: int
    node: Node


class BrokenError(Exception):
    """The text cannot be read any further; has all faults that were found until then."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__()
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Ambiguous(Fault):
    """A word without quotes that readers of YAML take for different things."""

    #: Where it stands; empty for a key.
    location: tuple[str | int, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Tree:
    """A document that could be read."""

    root: Node
    #: What did not stop the reading: duplicate keys, ambiguous words, tags.
    faults: tuple[Fault, ...]

    def line(self, location: tuple[str | int, ...]) -> int:
        """Line of a key path, or of the nearest thing above it."""
        line, node = self.root.line, self.root
        for step in location:
            if isinstance(node.value, dict) and step in node.value:
                entry = node.value[str(step)]
                line, node = entry.line, entry.node
            elif isinstance(node.value, list) and isinstance(step, int):
                if not 0 <= step < len(node.value):
                    break
                node = node.value[step]
                line = node.line
            else:
                break
        return line

    def line_of_path(self, path: str) -> int:
        """Line of a key path as it is written in a message."""
        location: list[str] = []
        node = self.root
        while isinstance(node.value, dict):
            # A key may hold dots itself: the longest one that fits is meant.
            keys = [k for k in node.value if (path + ".").startswith(show_key(k) + ".")]
            if not keys:
                break
            key = max(keys, key=len)
            location.append(key)
            path = path[len(show_key(key)) + 1 :]
            node = node.value[key].node
        return self.line(tuple(location))

    def data(self) -> dict[str, Any]:
        """Build plain values."""
        plain: dict[str, Any] = _plain(self.root)
        return plain


def _plain(node: Node) -> Any:
    if isinstance(node.value, dict):
        return {key: _plain(entry.node) for key, entry in node.value.items()}
    if isinstance(node.value, list):
        return [_plain(item) for item in node.value]
    return node.value


def read_tree(text: str) -> Tree:
    """Read a YAML document whose top is a mapping; raises `BrokenError` for any other text."""
    text = text.removeprefix("\ufeff")
    _check_letters(text)
    composer = _Composer(text)
    root = composer.document()
    if not isinstance(root.value, dict):
        found = "nothing" if root.value is None else show(_plain(root))
        fix = "write `KEY: VALUE` lines; `perennial init` writes a file to begin with"
        raise BrokenError([*composer.faults, Fault(WHOLE, found, _KEYS, fix, root.line)])
    return Tree(root, tuple(composer.faults))


def _check_letters(text: str) -> None:
    # A letter has a byte at least, so this holds for the bytes of a file as well.
    if len(text) > MAX_BYTES:
        raise BrokenError([too_long(f"{len(text):,} letters")])
    if match := _UNPRINTABLE.search(text):
        code = ord(match[0])
        found = "a NUL byte" if code == 0 else f"the control character U+{code:04X}"
        fix = "remove it" if code else "is this a text file?"
        line = text.count("\n", 0, match.start()) + 1
        raise BrokenError([Fault(WHOLE, found, "printable text", fix, line)])
    if match := _TAG_NAMES.search(text):
        line = text.count("\n", 0, match.start()) + 1
        raise BrokenError(
            [Fault(WHOLE, "the directive %TAG", "plain values without tags", "remove it", line)]
        )


def too_long(found: str) -> Fault:
    """Make the fault for a file that is too long."""
    return Fault(WHOLE, found, f"at most {MAX_BYTES:,} bytes", "is this a cluster file?")


class _Composer:
    """Builds the tree from events and collects faults on the way."""

    def __init__(self, text: str) -> None:
        self.faults: list[Fault] = []
        self._text = text
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=_LOADER))
        self._anchors: dict[str, Node | None] = {}
        self._path: list[str | int] = []
        self._values = 0

    def document(self) -> Node:
        """Read the one document of the text."""
        root: Node | None = None
        while not isinstance(event := self._next(), yaml.StreamEndEvent):
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    self._stop(
                        "a second document", "one document", "remove --- and what follows", event
                    )
                root = self._node(self._next())
        return root or Node(None, 1)

    def _next(self) -> Any:
        try:
            return next(self._events)
        except yaml.YAMLError as error:
            fault = syntax_fault(error, self._text, key_path(self._path))
            raise BrokenError([*self.faults, fault]) from None

    def _fault(self, found: str, allowed: str, fix: str, event: Any) -> Fault:
        line = event.start_mark.line + 1
        return Fault(key_path(self._path), found, allowed, fix, line)

    def _complain(self, found: str, allowed: str, fix: str, event: Any) -> None:
        self.faults.append(self._fault(found, allowed, fix, event))

    def _stop(self, found: str, allowed: str, fix: str, event: Any) -> NoReturn:
        raise BrokenError([*self.faults, self._fault(found, allowed, fix, event)])

    def _node(self, event: Any) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if event.tag is not None:
            tag = shorten(event.tag.replace("tag:yaml.org,2002:", "!!"))
            self._complain(f"the tag {tag}", "plain values without tags", "remove it", event)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._count(1, len(self._path) + 1, event)
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(event)
        else:
            node = self._mapping(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _count(self, size: int, height: int, event: Any) -> None:
        self._values += size
        if self._values > MAX_VALUES:
            self._stop(
                f"more than {MAX_VALUES:,} values, with anchors expanded",
                f"at most {MAX_VALUES:,}",
                "is this a cluster file?",
                event,
            )
        if height > MAX_DEPTH:
            self._path = self._path[:3]
            self._stop(
                f"more than {MAX_DEPTH} levels of nesting",
                f"at most {MAX_DEPTH}",
                "is this a cluster file?",
                event,
            )

    def _alias(self, event: Any) -> Node:
        name = f"*{shorten(event.anchor)}"
        if event.anchor not in self._anchors:
            self._stop(name, "anchors defined above it with &", "define it, or quote it", event)
        node = self._anchors[event.anchor]
        if node is None:
            self._stop(f"{name} inside itself", "anchors of other values", "remove it", event)
        self._count(node.size, len(self._path) + node.height, event)
        return node

    def _scalar(self, event: Any, is_key: bool = False) -> Node:
        line = event.start_mark.line + 1
        text: str = event.value
        if _SURROGATE.search(text):
            self._complain("half of a surrogate pair", "whole letters", "correct the \\u", event)
            return Node("", line)
        if event.style:  # quoted, or a block
            return Node(text, line)
        try:
            return Node(resolve(text), line)
        except AmbiguousError as error:
            found = f"{shorten(text)} without quotes"
            fault = self._fault(found, error.allowed, error.fix, event)
            location = () if is_key else tuple(self._path)
            self.faults.append(Ambiguous(**asdict(fault), location=location, text=text))
            return Node(text, line)

    def _sequence(self, start: Any) -> Node:
        items: list[Node] = []
        node = Node(items, start.start_mark.line + 1)
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            self._path.append(len(items))
            item = self._node(event)
            self._path.pop()
            items.append(item)
            _grow(node, item)
        return node

    def _mapping(self, start: Any) -> Node:
        node = Node({}, start.start_mark.line + 1)
        entries: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._key(event, entries)
            line: int = event.start_mark.line + 1
            self._path.append(key)
            value = self._node(self._next())
            if key == "<<" and not event.style:
                self._merge(value, merged, event)
            elif key not in entries:
                entries[key] = Entry(line, value)
            self._path.pop()
            _grow(node, value)
        node.value = merged | entries
        return node

    def _key(self, event: Any, entries: dict[str, Entry]) -> str:
        if isinstance(event, yaml.CollectionStartEvent | yaml.AliasEvent):
            # A list, a mapping or an alias in the place of a key: read on behind it.
            self._stop("a key that is no text", "keys that are text", "write a word", event)
        text: str = event.value
        line: int = event.start_mark.line + 1
        self._path.append(text)
        self._count(1, 1, event)
        if event.tag is not None or event.anchor is not None:
            self._complain("a key with a tag or an anchor", "plain keys", "remove it", event)
        if not isinstance(self._scalar(event, is_key=True).value, str):
            found = f"the key {shorten(text)}" if text else "an empty key"
            self._complain(found, "keys that are text", "put it in quotes", event)
        if text in entries:
            found = f"the key twice, on lines {entries[text].line} and {line}"
            self._complain(found, "each key once", "remove one of the two", event)
        self._path.pop()
        return text

    def _merge(self, value: Node, merged: dict[str, Entry], event: Any) -> None:
        sources = value.value if isinstance(value.value, list) else [value]
        for source in sources:
            if isinstance(source.value, dict):
                # The first mapping that has a key wins, as YAML says of merges.
                merged.update({k: v for k, v in source.value.items() if k not in merged})
            else:
                found = show(_plain(source))
                self._complain(
                    found, "an alias of a mapping, such as `<<: *base`", "correct the alias", event
                )


def _grow(node: Node, child: Node) -> None:
    node.size += child.size
    node.height = max(node.height, child.height + 1)

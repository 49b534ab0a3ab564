"""The documentation names only commands, options, pages and files that exist."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from perennial.platforms.ec2.costs import estimate
from perennial.spec import parse

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TOP = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SCOPE.md"]

FENCE = re.compile(r"^( *)(```+)(\S*)[^\n]*\n(.*?)^\1\2 *$", re.M | re.S)
SPAN = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.M)
CALL = re.compile(r"(?<![\w./-])perennial +(?=[a-z-])")

KINDS = {"added", "changed", "deprecated", "removed", "fixed", "security"}


def pages() -> list[Path]:
    written = [path for path in DOCS.rglob("*.md") if not {"_build", "generated"} & {*path.parts}]
    return sorted([*(ROOT / name for name in TOP), *written, *(ROOT / "changelog.d").glob("*.md")])


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@cache
def generator(module: str) -> Any:
    spec = importlib.util.spec_from_file_location(module, DOCS / f"{module}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@cache
def commands() -> dict[str, set[str]]:
    """Options of each command; before the command, under the empty name."""
    cli = generator("generate_cli")
    known = {name: {"--help", "-h", *cli.spellings(each)} for name, each in cli.commands().items()}
    return {**known, "": {"--help", "-h", *cli.spellings(cli.root())}}


def fences(text: str) -> Iterator[tuple[str, str]]:
    """Language and body of each block of code."""
    for match in FENCE.finditer(text):
        yield match[3], match[4]


def code(text: str) -> Iterator[str]:
    """Everything that a reader may type: spans, and the lines after a prompt."""
    for language, body in fences(text):
        if language == "console":
            yield from re.findall(r"^ *\$ (.+)$", body, re.M)
        elif language not in ("{include}", "{toctree}", "{eval-rst}", "svg"):
            yield from (span for span in SPAN.findall(body))
    for span in SPAN.findall(FENCE.sub("", text)):
        yield " ".join(span.split())


def calls(text: str) -> Iterator[list[str]]:
    """Words after `perennial`, for each time that a page says what to run."""
    for piece in code(text):
        for match in CALL.finditer(piece):
            rest = re.split(r"[;|&#)]| {2}", piece[match.end() :])[0]
            yield shlex.split(rest.replace("`", "").replace('"', ""))


def faults(words: list[str]) -> Iterator[str]:
    command = "" if words[0].startswith("-") else words[0]
    if command not in commands():
        yield f"no command {command}"
        return
    for word in words:
        option = word.split("=")[0]
        if re.fullmatch(r"--?[a-z][a-z-]*", option) and option not in commands()[command]:
            yield f"{command} has no option {option}"


@pytest.mark.parametrize("page", pages(), ids=name)
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    found = [fault for words in calls(page.read_text()) for fault in faults(words)]

    assert found == []


def test_the_check_of_commands_finds_what_is_wrong() -> None:
    text = (
        "Run `perennial frob`.\n```console\n$ perennial up --yse -f x\n$ perennial --debgu up\n```"
    )

    found = [fault for words in calls(text) for fault in faults(words)]

    assert sorted(found) == [
        " has no option --debgu",
        "no command frob",
        "up has no option --yse",
    ]


def test_every_command_is_shown_in_a_guide() -> None:
    guides = (DOCS / "guide").glob("*.md")
    shown = {words[0] for page in guides for words in calls(page.read_text())}

    assert set(commands()) - shown - {"", "version"} == set()


def slug(heading: str) -> str:
    """Anchor of a heading, as GitHub and MyST make it."""
    plain = re.sub(r"[^\w\s-]", "", heading.replace("`", "").lower())
    return plain.strip().replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(heading) for heading in HEADING.findall(FENCE.sub("", page.read_text()))}


def broken(page: Path) -> Iterator[str]:
    # Code may hold brackets and parentheses of its own.
    text = SPAN.sub("", FENCE.sub("", page.read_text()))
    for target in LINK.findall(text):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.is_file() or (anchor and anchor not in anchors(file)):
            yield target


@pytest.mark.parametrize("page", pages(), ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert list(broken(page)) == []


def test_the_check_of_links_finds_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A heading: `code`, and more\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md#a-heading-code-and-more) [b](other.md#no) [c](no.md) `[d](no.md)`"
    )

    assert list(broken(page)) == ["other.md#no", "no.md"]


def test_every_page_is_in_a_table_of_contents() -> None:
    listed = set()
    for page in DOCS.rglob("*.md"):
        for language, body in fences(page.read_text()):
            if language == "{toctree}":
                names = [line for line in body.splitlines() if line and not line.startswith(":")]
                listed |= {(page.parent / f"{entry}.md").resolve() for entry in names}
    written = {page for page in pages() if DOCS in page.parents}

    assert written - listed == {DOCS / "index.md"}


def test_the_reference_of_the_command_line_is_complete() -> None:
    text = generator("generate_cli").render()
    sections = dict(re.findall(r"^## `perennial (\S+)`\n(.*?)(?=^## |\Z)", text, re.M | re.S))

    assert set(sections) == set(commands()) - {""}
    for command, section in sections.items():
        for option in commands()[command] - {"--help", "-h"}:
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", section), (command, option)
    assert "generated/cli.md" in (DOCS / "reference" / "cli.md").read_text()


def yaml_examples() -> list[tuple[str, str]]:
    """Each whole cluster file that a page shows."""
    return [
        (name(page), body)
        for page in pages()
        for language, body in fences(page.read_text())
        if language == "yaml" and "platform:" in body
    ]


@pytest.mark.parametrize(("page", "text"), yaml_examples(), ids=lambda value: value[:40])
def test_every_cluster_file_that_a_page_shows_is_valid(page: str, text: str) -> None:
    parse(text, page, remembered=True)  # the files that it names are the reader's


def test_the_estimate_of_the_guide_is_that_of_its_file() -> None:
    (text,) = [text for page, text in yaml_examples() if page.endswith("guide/ec2.md")]
    said = estimate(parse(text, "ec2.md", remembered=True).spec)
    assert f"lab: {said}" in (DOCS / "guide" / "ec2.md").read_text()


LOCAL = {"name": "lab", "platform": "local", "workers": {"cpu": {}}}
HOSTS = LOCAL | {
    "platform": "hosts",
    "environment": {"python": "/opt/dask/bin/python"},
    "hosts": {"machines": ["machine-a", "machine-b"]},
}
EC2 = LOCAL | {
    "platform": "ec2",
    "environment": {"python": "/opt/dask/bin/python"},
    "workers": {"cpu": {}, "batch": {}},
}
#: What the snippets of a page are laid over.
WHOLE = {"hosts": HOSTS, "ec2": EC2}


def test_every_snippet_of_a_cluster_file_is_valid() -> None:
    snippets = [
        (WHOLE.get(page.stem, LOCAL), body)
        for page in (DOCS / "guide").glob("*.md")
        for language, body in fences(page.read_text())
        if language == "yaml"
        # Whole files, Dask's configuration, and Pulumi.yaml.
        and not any(
            key in body for key in ("platform:", "scheduler-address", "plugins:", "refresh:")
        )
    ]

    assert snippets
    for whole, snippet in snippets:
        # As JSON, whose quotes keep a time of day a text.
        parse(json.dumps(whole | yaml.safe_load(snippet)), snippet, remembered=True)


def test_the_quick_start_is_what_the_makefile_does() -> None:
    makefile = (ROOT / "Makefile").read_text()
    readme = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.M))
    named = set(re.findall(r"(?:^\$ |`)make ([a-z]+)", readme, re.M))

    assert named >= {"up", "test"}
    assert named <= targets


def test_extras_that_a_page_names_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for page in pages():
        for extra in re.findall(r"(?:dask-perennial|\.)\[(\w+)\]", page.read_text()):
            assert extra in extras, (name(page), extra)


def test_fragments_of_the_changelog_have_a_kind() -> None:
    others = {"README.md", "template.md.j2"}
    fragments = [path for path in (ROOT / "changelog.d").iterdir() if path.name not in others]

    for path in fragments:
        assert re.fullmatch(r"[a-z0-9-]+\.([a-z]+)\.md", path.name)
        assert path.name.split(".")[1] in KINDS
        assert path.read_text().strip()
    draft = subprocess.run(
        [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "9.9.9"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert draft.count("\n- ") == len(fragments)


#: What the runbook quotes of Dask, Python, uv or a table, or what the code puts together of parts.
ELSEWHERE = re.compile(
    r"distributed\.|[A-Z]\w+(Error|Warning|Worker)\b|Client lost|service |[|+]|.*: uv pip|"
    r"lab: waiting for process|1 task needs"
)
COMPOSED = {
    *("FutureCancelledError", "KilledWorker", "Pausing worker", "VersionMismatchWarning"),
    *("No space left on device", "no space left on device", "Too many open files"),
    *("TLS certificate does not match", "taken by process", "waiting for process"),
    *("Jupyter does not answer", "jupyter does not stay up", "cannot reach … (no answer)"),
    *("found Python 3.7", "passphrase: missing", "renew certificates", "2 → 6", "6 → 2"),
    *("stays: no other worker can take", "its clock is … s ahead"),
}
#: What differs from message to message, and where a message may be put together.
VARIABLE = re.compile(
    r"…|\b(?:machine-[a-z]|ops|lab|[cg]pu)\b|\d[\d.:-]*|(?<![\w.])[~/][\w/.-]+| {2,}|[;:,()`]"
)


@cache
def texts() -> str:
    """Each text in the code, and each piece of one between what is filled in."""
    files = [path for top in ("perennial", "stacks") for path in (ROOT / top).rglob("*.py")]
    nodes = (node for path in files for node in ast.walk(ast.parse(path.read_text())))
    return "\n".join(
        " ".join(node.value.split())
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def said_by_the_code(line: str) -> float:
    """How much of a message stands in the code, of what does not vary."""
    pieces = [" ".join(piece.split()) for piece in VARIABLE.split(line)]
    pieces = [piece for piece in pieces if len(piece) >= 8]
    found = sum(len(piece) for piece in pieces if piece in texts())
    return found / sum(map(len, pieces)) if pieces else 1.0


def symptoms(page: Path) -> list[str]:
    """The messages by which a reader of the runbook knows that a page is the right one."""
    text = page.read_text().partition("## What it means")[0]
    blocks = [
        line for language, body in fences(text) if language == "text" for line in body.split("\n")
    ]
    rows = re.findall(r"^\| `(.+?)` \| ", text, re.M)
    return [line for line in (*blocks, *rows) if not ELSEWHERE.match(line)]


def test_messages_that_the_runbook_quotes_are_said_by_the_code() -> None:
    book = DOCS / "runbook"
    written = [page for page in book.glob("*.md") if page.stem != "index"]
    quoted = [(page.stem, line) for page in written for line in symptoms(page)]

    assert len(quoted) > 40
    assert [found for found in quoted if said_by_the_code(found[1]) < 0.3] == []


def test_what_the_runbook_s_index_says_that_you_see_is_said_by_the_code() -> None:
    rows = re.findall(r"^\| (.+) \| \[", (DOCS / "runbook/index.md").read_text(), re.M)
    spans = [span for row in rows for span in SPAN.findall(row)]

    assert len(spans) > 40
    for span in {*spans} - COMPOSED:
        assert all(piece.strip() in texts() for piece in span.split("…")), span


def test_the_check_of_messages_finds_what_is_wrong() -> None:
    assert said_by_the_code("machine-b: sudo not found; install it there") == 1
    assert said_by_the_code("machine-b: sudo is missing there; bring it along") < 0.3


def test_no_page_holds_a_path_of_the_machine_that_made_it() -> None:
    for page in pages():
        assert not re.search(r"/work/|/tmp/|/root\b", page.read_text()), name(page)

"""From a cluster file to its model and back."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from perennial.errors import Fault, PerennialError, SpecError
from perennial.registry import PLATFORMS
from perennial.spec import dask_config
from perennial.spec.faults import Explainer, limited
from perennial.spec.models import ClusterSpec, cluster_model
from perennial.spec.named_files import settle
from perennial.spec.scalars import is_plain
from perennial.spec.tree import MAX_BYTES, Ambiguous, BrokenError, Tree, read_tree, too_long
from perennial.spec.variables import looks_secret
from perennial.spec.words import WHOLE, key_path, nearest, one_line, shorten, show

_FILE = "a cluster file"
_INIT = "write one with `perennial init`"

#: What the system says of a file that does not open → what was found, what to do.
_UNREADABLE: dict[type[Exception], tuple[str, str]] = {
    FileNotFoundError: ("no such file", f"correct the path, or {_INIT}"),
    NotADirectoryError: ("no such file", f"correct the path, or {_INIT}"),
    PermissionError: ("a file that this user may not read", "give yourself the right to read it"),
}


@dataclass(frozen=True, slots=True)
class Document:
    """A cluster file that is valid.

    Parameters
    ----------
    spec : ClusterSpec
        What it says.
    source : str
        Name of the file, for messages.
    tree : Tree
        Where it says it.
    """

    spec: ClusterSpec
    source: str
    tree: Tree

    def located(self, faults: Iterable[Fault]) -> list[Fault]:
        """Add lines to faults that were found behind the file, in the order of the file.

        Parameters
        ----------
        faults : iterable of Fault
            Faults with key paths.
        """
        return limited(
            [
                fault
                if fault.path == WHOLE
                else replace(fault, line=self.tree.line_of_path(fault.path))
                for fault in faults
            ]
        )

    def warnings(self) -> list[Fault]:
        """List what is valid but was probably not meant, such as a key nearly like Dask's."""
        return self.located(
            [
                *(*_mistyped(self.spec), *_secret(self.spec), *_shown(self.spec)),
                *self.spec.options.warnings(self.spec),
            ]
        )


def load(path: Path, remembered: bool = False) -> ClusterSpec:
    """Read a cluster file.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    remembered : bool
        Whether `dump` wrote it: the files that it names need not be there any more.

    Raises
    ------
    SpecError
        With every fault that was found, each on one line.
    """
    return read(path, remembered).spec


def loads(text: str, source: str = "<cluster>") -> ClusterSpec:
    """Read a cluster file from a text.

    Parameters
    ----------
    text : str
        The YAML document.
    source : str
        Name for it in messages.

    Raises
    ------
    SpecError
        With every fault that was found, each on one line.
    """
    return parse(text, source).spec


def read(path: Path, remembered: bool = False) -> Document:
    """Read a cluster file and keep its lines.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    remembered : bool
        Whether `dump` wrote it: the files that it names need not be there any more.

    Raises
    ------
    SpecError
        With every fault that was found, each on one line.
    """
    source = one_line(str(path))
    data = _bytes(path, source)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        fault = Fault(
            WHOLE, f"the byte 0x{data[error.start]:02x}", "UTF-8", "save the file as UTF-8", line
        )
        raise SpecError([fault], source) from None
    return parse(text, source, path.parent, remembered)


def parse(
    text: str, source: str = "<cluster>", base: Path | None = None, remembered: bool = False
) -> Document:
    """Read a cluster file from a text and keep its lines.

    Parameters
    ----------
    text : str
        The YAML document.
    source : str
        Name for it in messages.
    base : pathlib.Path or None
        Folder from which the files go that it names; None for the working folder.
    remembered : bool
        Whether `dump` wrote it: the files that it names need not be there any more.

    Raises
    ------
    SpecError
        With every fault that was found, each on one line.
    """
    _load_dask()
    try:
        tree = read_tree(text)
    except BrokenError as error:
        raise SpecError(limited(error.faults), source) from None
    data = tree.data()
    platform, faults = _platform(data, tree)
    missing = settle(data, tree, base or Path(), look=not remembered)
    model = cluster_model(platform) if platform else ClusterSpec
    spec = None
    explainer = Explainer(tree, platform, data)
    try:
        spec = model.model_validate(data, context={"remembered": remembered})
    except ValidationError as error:
        faults = _unfollowed(faults, explainer.explain(error))
    words = [explainer.word(each) if isinstance(each, Ambiguous) else each for each in tree.faults]
    faults = _unfollowed([*words, *missing], faults)
    if faults or spec is None:
        raise SpecError(limited(faults), source)
    return Document(spec, source, tree)


def plain(spec: ClusterSpec) -> dict[str, Any]:
    """Write a spec as values of JSON, without what is usual.

    Parameters
    ----------
    spec : ClusterSpec
        The spec.
    """
    data = spec.model_dump(mode="json", exclude_defaults=True, by_alias=True)
    for name, group in spec.workers.items():
        data["workers"][name].pop("count", None)
        # A size that was written counts, also where a platform would choose another one.
        if "count" in group.model_fields_set:
            data["workers"][name] = {"count": group.count, **data["workers"][name]}
    return data


def dump(spec: ClusterSpec) -> str:
    """Write a spec as the shortest YAML that loads to the same spec.

    Parameters
    ----------
    spec : ClusterSpec
        The spec.
    """
    return yaml.dump(
        plain(spec),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=2**20,
    )


def _load_dask() -> None:
    """Import Dask's parsers of units: that reads the user's own configuration of Dask."""
    try:
        import dask.config  # noqa: F401
    except ValueError as error:
        raise PerennialError(
            f"Dask's configuration: {one_line(' '.join(str(error).split()))}; correct that file"
        ) from None


class _Dumper(yaml.SafeDumper):
    """Writes texts in quotes where a reader of YAML could take them for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Line breaks of Unicode's own do not survive without quotes.
    style = None if text.isprintable() and is_plain(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _platform(data: dict[str, Any], tree: Tree) -> tuple[str | None, list[Fault]]:
    """Find the platform; without one the rest of the file is checked all the same."""
    platform = data.get("platform")
    if isinstance(platform, str) and platform in PLATFORMS:
        return platform, []
    known = list(PLATFORMS)
    near = nearest(platform, known) if isinstance(platform, str) else None
    given = "platform" in data
    fix = f"did you mean {near}?" if near else f"{'write' if given else 'add'} `platform: local`"
    found = show(platform) if given else "nothing"
    return None, [Fault("platform", found, ", ".join(known), fix, tree.line(("platform",)))]


def _unfollowed(first: list[Fault], then: list[Fault]) -> list[Fault]:
    """Leave out what only follows from a fault at the same place or above it."""
    paths = {fault.path for fault in first}

    def follows(path: str) -> bool:
        return any(path == above or path.startswith((f"{above}.", f"{above}[")) for above in paths)

    return first + [fault for fault in then if not follows(fault.path)]


def _secret(spec: ClusterSpec) -> Iterator[Fault]:
    places: list[tuple[tuple[str, ...], dict[str, str]]] = [(("env",), spec.env)]
    places += [(("workers", name, "env"), group.env) for name, group in spec.workers.items()]
    for place, variables in places:
        for name in filter(looks_secret, variables):
            yield Fault(
                key_path((*place, name)),
                "a name that suggests a secret",
                "variables that every process of the same user may read",
                "keep the secret in a file of mode 0600, and name the file",
            )


def _shown(spec: ClusterSpec) -> Iterator[Fault]:
    """Warn of a dashboard that asks nobody who they are."""
    if spec.security.open_dashboard:
        yield Fault(
            "security.open_dashboard",
            f"true: WHOEVER REACHES PORT {spec.scheduler.dashboard_port} reads logs, tracebacks"
            " with their values and lines of source, without a login",
            "false",
            "write `open_dashboard: false`",
        )


def _mistyped(spec: ClusterSpec) -> Iterator[Fault]:
    places: list[tuple[tuple[str, ...], dict[str, Any]]] = [(("dask",), spec.dask)]
    places += [(("workers", name, "dask"), group.dask) for name, group in spec.workers.items()]
    for place, config in places:
        for location, meant in dask_config.mistyped(config):
            yield Fault(
                key_path((*place, *location)),
                "a key that Dask does not know",
                "Dask's configuration, and that of other libraries",
                f"did you mean {meant}?",
            )


def _bytes(path: Path, source: str) -> bytes:
    """Read a file that must be a regular one: a pipe or a device could block for ever."""
    try:
        kind = os.stat(path).st_mode
        if not stat.S_ISREG(kind):
            raise SpecError([Fault(WHOLE, _kind(kind), _FILE, "name the file itself")], source)
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
            size = os.fstat(file.fileno()).st_size
    except (OSError, ValueError) as error:
        found, fix = _UNREADABLE.get(type(error), (_reason(error), "correct the path or the file"))
        raise SpecError([Fault(WHOLE, found, _FILE, fix)], source) from None
    if len(data) > MAX_BYTES:
        raise SpecError([too_long(f"{size:,} bytes")], source)
    return data


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ValueError):  # Python's words for it differ with its version
        return "a null byte in the path"
    return shorten(str(getattr(error, "strerror", None) or error).lower())


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "no regular file")

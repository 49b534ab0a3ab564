"""Generated cluster files: valid ones with every key, and broken ones."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from perennial.spec.models import RESERVED_NAMES
from perennial.spec.reading import _Dumper
from perennial.spec.tree import read_tree
from perennial.spec.units import FOLDER_PATTERN

#: Any letter that may stand in a YAML file, and words that YAML readers take for something else.
letters = st.characters(codec="utf-8", exclude_characters="._")
surprises = st.sampled_from(
    [
        *("no", "Yes", "on", "12:30", "007", "08", "1e3", "1_000", "0o17", "0x1F", "2030-01-31"),
        *("~", "null", "<<", "=", "*a", "&a", "!t", "%x", "@x", "`x`", "#c", "{", "[", ".inf"),
        *("true", "-", "?", "|", ">", "'", '"', "\\", "---", "...", ":", "", " ", "- a", "a: b"),
        *(" a ", "a\nb", "\t", "\ufeff", "\x7f", "\x85", "\u2028"),
    ]
)
SYNTAX = [*"\t\n\r :-#,[]{}&*!|>'\"%@`?~\x00\ufeff", "<<: ", "---\n"]
#: "None" as a word of a person's own would look like Python's in a message.
words = st.one_of(st.text(letters, max_size=8), surprises).filter(lambda word: word != "None")
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63),
    st.floats(allow_nan=False, allow_infinity=False),
    words,
)
json_values = st.one_of(
    scalars, st.lists(scalars, max_size=3), st.dictionaries(words, scalars, max_size=3)
)

names = st.builds(
    "{}{}{}".format,
    st.sampled_from("aknoy"),
    st.text("ab09-", max_size=6),
    st.sampled_from("aefosz"),
).filter(lambda name: name not in RESERVED_NAMES)
sizes = st.one_of(
    st.integers(2**20, 2**62),
    st.builds("{}{}{}".format, st.integers(2, 999), st.sampled_from(["", " "]), st.sampled_from(
        ["MiB", "GiB", "TiB", "PiB", "MB", "GB", "gb", "G", "Mi"])),
    st.builds("{:.2f} {}".format, st.floats(1.01, 900), st.sampled_from(["MiB", "GB"])),
)  # fmt: skip
durations = st.one_of(
    st.integers(0, 10**6),
    st.floats(0, 10**6),
    st.builds("{} {}".format, st.integers(0, 500), st.sampled_from(
        ["s", "min", "mins", "m", "h", "d", "ms", "us", "seconds", "hour", "week"])),
    st.builds("{:.3f}s".format, st.floats(0, 1e4)),
)  # fmt: skip
folders = st.builds("{}{}".format, st.sampled_from(["/", "~/"]), st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=10)).filter(
        re.compile(FOLDER_PATTERN).fullmatch)  # fmt: skip
dask_keys = st.one_of(
    st.sampled_from(["distributed.worker.memory.target", "array.chunk-size", "x.y"]),
    st.text(letters, min_size=1, max_size=6).map("x".__add__),
)
nested = st.dictionaries(st.text(letters, min_size=1, max_size=4), scalars, max_size=2)
dask_configs = st.dictionaries(
    dask_keys, st.one_of(scalars, st.lists(scalars, max_size=2)), max_size=3
)


dask_sections = st.builds(
    lambda dotted, other: {**dotted, **({"other": other} if other else {})}, dask_configs, nested
)


variables = st.dictionaries(
    st.text("AZaz09_", min_size=1, max_size=6).map("V".__add__),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=10),
    max_size=3,
)
modules = st.lists(st.sampled_from(["a", "my_lab.setup", "/opt/lab/setup.py"]), max_size=2)


def optional(keys: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of the keys."""
    return st.fixed_dictionaries({}, optional=keys)


group_keys = optional(
    {
        "threads": st.integers(1, 1024),
        "memory": sizes,
        "drain": durations,
        "resources": st.dictionaries(
            st.text("AaZz09_-", min_size=1, max_size=6),
            st.one_of(st.integers(1, 10**9), st.floats(1e-9, 1e9)),
            max_size=2,
        ),
        "dask": dask_sections,
        "env": variables,
        "preload": modules,
        "nanny_preload": modules,
        "extra_args": st.lists(st.sampled_from(["--death-timeout", "300", "-x"]), max_size=3),
    }
)
bounds = st.tuples(*[st.integers(0, 50)] * 3).map(sorted)
amounts = st.one_of(st.integers(1, 10**6), st.floats(1e-3, 1e6))
days = st.sampled_from(["mon-fri", "sat, sun", "fri-mon", "wed", "tue,thu-sat"])
scale_keys = optional(
    {
        "idle": durations,
        "priority": st.integers(-1000, 1000),
        "cost": amounts,
        "start_up": durations,
        "horizon": st.integers(1, 1000),
        "step_up": st.floats(0.01, 1000),
        "step_down": st.floats(0.01, 1),
        "on_deadline": st.sampled_from(["wait", "stop"]),
    }
)
scaler_keys = optional({"interval": st.integers(1, 100), "dry_run": st.booleans(), "memory": sizes})


@st.composite
def schedules(draw: st.DrawFn, least: int, most: int) -> list[dict[str, Any]]:
    """Some schedules that do not overlap: each in hours of its own, the last one over midnight."""
    found = []
    for hour in draw(st.lists(st.sampled_from([0, 5, 10, 15, 20]), unique=True, max_size=3)):
        one = {"from": f"{hour:02}:30", "to": f"{(hour + 4) % 24:02}:30"}
        one |= draw(st.sampled_from([{"min": most}, {"max": least}, {"min": 0, "max": 3}]))
        found.append(one | draw(optional({"days": days})))
    zone = draw(st.sampled_from([{}, {"time_zone": "Europe/Zurich"}, {"time_zone": "UTC"}]))
    return [one | zone for one in found]


@st.composite
def groups(draw: st.DrawFn, first_port: int) -> dict[str, Any]:
    """One worker group."""
    group = draw(group_keys)
    most = 1
    if draw(st.booleans()):
        least, group["count"], most = draw(bounds)
        group["scale"] = {"min": least, "max": most, **draw(scale_keys)}
        if draw(st.booleans()):
            group["scale"]["schedules"] = draw(schedules(least, most))
            most = max(most, 3)
        if draw(st.booleans()):
            del group["count"]
    if draw(st.booleans()):
        group["processes"] = draw(st.integers(1, 3))
    if draw(st.booleans()):
        ports = [first_port, first_port + max(2 * most * group.get("processes", 1), 1) - 1]
        group["ports"] = draw(st.sampled_from([ports, f"{ports[0]}:{ports[1]}"]))
    return group


@st.composite
def valid_data(draw: st.DrawFn) -> dict[str, Any]:
    """A valid cluster file, as values."""
    # Not those that a service has when nothing is said.
    port = st.integers(1, 9999).filter(lambda number: number not in (8786, 8787, 8888, 8790))
    ports = draw(st.lists(port, min_size=4, max_size=4, unique=True))
    group_names = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    platform = draw(st.sampled_from(["local", "hosts"]))
    data = {
        "name": draw(names),
        "platform": platform,
        "workers": {
            name: draw(groups(10_000 + 1000 * index)) for index, name in enumerate(group_names)
        },
        "scheduler": {
            "port": ports[0],
            "dashboard_port": ports[1],
            **draw(optional({"memory": sizes, "watchdog": durations})),
        },
        "jupyter": draw(
            st.one_of(
                st.none(),
                optional({"directory": folders, "memory": sizes, "idle": durations}).map(
                    lambda keys: {"port": ports[2], **keys}
                ),
            )
        ),
    }
    python = folders.map(lambda path: path.lstrip("~"))
    data |= draw(
        optional(
            {
                "environment": optional({"python": python}),
                "security": optional({"tls": st.booleans(), "open_dashboard": st.booleans()}),
                "scaler": st.none() | scaler_keys.map(lambda keys: {"port": ports[3], **keys}),
                "dask": dask_sections,
                "env": variables,
                "umask": st.sampled_from(["077", "027", "002", "000"]),
            }
        )
    )
    if platform == "hosts":
        environments = st.fixed_dictionaries({"python": python}) | st.fixed_dictionaries(
            {"requirements": st.lists(st.sampled_from(["dask", "numpy==2", "# pip"]), max_size=3)},
            optional={"build": st.booleans()},
        )
        if any("scale" in group for group in data["workers"].values()):
            data.pop("security", None)  # without TLS nothing is scaled there
        return data | {"environment": draw(environments), "hosts": draw(hosts(data))}
    keys = {"address": st.just("127.0.0.1"), "temporary_directory": st.just("/scratch")}
    return data | draw(optional({"local": optional(keys)}))


HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + 43 * "A"


@st.composite
def hosts(draw: st.DrawFn, data: dict[str, Any]) -> dict[str, Any]:
    """Machines that have a place for everything, as addresses or with roles."""
    reach = {
        "user": st.sampled_from(["ops", "root"]),
        "port": st.integers(1, 65535),
        "identity": st.just("~/.ssh/id_ed25519"),
        "jump": st.sampled_from(["bastion", "ops@bastion:22,other"]),
        "host_key": st.sampled_from(["accept-new", HOST_KEY, f"@cert-authority {HOST_KEY} ca"]),
        "connect_timeout": st.sampled_from(["5 min", "90 s", 30]),
        "init": st.sampled_from(["systemd", "supervisord"]),
    }
    count = draw(st.integers(1, 4))
    addresses = [draw(st.sampled_from([f"m{n}.example.org", f"10.0.0.{n}"])) for n in range(count)]
    options = {**reach, "known_hosts": st.just("~/known"), "max_unavailable": st.integers(1, 9)}
    shared = draw(optional(options))
    if draw(st.booleans()):
        return {**shared, "machines": addresses}
    groups = list(data["workers"])
    roles: list[list[Any]] = [["scheduler", *groups], *[groups] * (count - 1)]
    if data["jupyter"] is not None and draw(st.booleans()):
        roles[-1] = ["jupyter", *roles[-1]]
    return {
        **shared,
        "machines": [
            {"address": address, "roles": role, **draw(optional(reach))}
            for address, role in zip(addresses, roles, strict=True)
        ],
    }


@st.composite
def written(draw: st.DrawFn, data: Any) -> str:
    """Write values as a cluster file: as JSON, which is YAML but for some letters, or in blocks."""
    if draw(st.booleans()):
        text = json.dumps(data, ensure_ascii=False, indent=draw(st.sampled_from([None, 1])))
        if not re.search(r"\de[-+]?\d", text):  # a number for JSON, a word for YAML 1.1
            return re.sub("[\x7f-\xa0\u2028\u2029\ufeff\ufffe\uffff]", _escape, text)
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


#: The examples, and a file with every key.
TEXTS = [
    (Path(__file__).parents[2] / "examples" / "hosts.yaml").read_text(),
    (Path(__file__).parent / "cases" / "everything.yaml").read_text(),
    (Path(__file__).parents[2] / "examples" / "local.yaml").read_text(),
]


def everything() -> dict[str, Any]:
    """Values of the file with every key."""
    return read_tree(TEXTS[1]).data()


@st.composite
def broken_data(draw: st.DrawFn) -> Any:
    """A valid cluster file in which some keys and values were exchanged for anything."""
    data = draw(st.one_of(st.builds(everything), valid_data()))
    for _ in range(draw(st.integers(1, 3))):
        place = data
        while (inner := [v for v in place.values() if isinstance(v, dict) and v]) and draw(
            st.booleans()
        ):
            place = draw(st.sampled_from(inner))
        if not place:
            continue
        key = draw(st.sampled_from(list(place)))
        change = draw(st.sampled_from(["delete", "rename", "replace", "add"]))
        value = place.pop(key) if change in ("delete", "rename") else None
        if change == "rename":
            place[draw(st.one_of(words, st.just(key + "s"), st.just(key[1:])))] = value
        elif change == "replace":
            place[key] = draw(json_values)
        elif change == "add":
            place[draw(words)] = draw(json_values)
    return data


@st.composite
def broken_text(draw: st.DrawFn) -> str:
    """A valid cluster file in which some letters or lines were exchanged for anything."""
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        until = draw(st.integers(at, min(len(text), at + 5)))
        if draw(st.booleans()):
            lines = text.split("\n")
            line = draw(st.sampled_from(lines))
            lines.insert(draw(st.integers(0, len(lines))), line)
            text = "\n".join(lines)
        else:
            syntax = st.sampled_from(SYNTAX)
            text = text[:at] + draw(st.one_of(syntax, words)) + text[until:]
    return text

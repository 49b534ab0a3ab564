"""Texts that Kubernetes takes in a cluster file, each with what is said of a wrong one."""

from __future__ import annotations

from typing import Annotated

from perennial.spec.units import Worded

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_KEY = rf"({_LABEL}(\.{_LABEL})*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?"

ObjectName = Annotated[
    str,
    Worded(
        "Name of an object of Kubernetes.",
        "dask",
        rf"{_LABEL}(\.{_LABEL})*",
        "a name of letters a-z, digits, - and .",
        "correct the name",
    ),
]
Namespace = Annotated[
    str,
    Worded(
        "Name of a namespace.",
        "dask",
        _LABEL,
        "a DNS label: letters a-z, digits and -, at most 63",
        "correct the name",
    ),
]
Image = Annotated[
    str,
    Worded(
        "A container image.",
        "registry.example.org/dask:2026.8.0",
        r"[A-Za-z0-9]([A-Za-z0-9._/:@-]{0,500}[A-Za-z0-9])?",
        "an image such as registry/name:tag",
        "correct the image",
    ),
]
Quantity = Annotated[
    str,
    Worded(
        "A quantity of Kubernetes.",
        "500m",
        r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?",
        'a quantity of Kubernetes in quotes, such as "500m" or "8Gi"',
        "write a number and a suffix, in quotes",
    ),
]
Key = Annotated[
    str,
    Worded(
        "Key of a label, an annotation or a resource.",
        "example.org/team",
        _KEY,
        "a key of Kubernetes such as team or example.org/team",
        "correct the key",
    ),
]
LabelValue = Annotated[
    str,
    Worded(
        "Value of a label.",
        "physics",
        r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?",
        "at most 63 letters, digits, -, _ and .",
        "correct the value",
    ),
]
Interval = Annotated[
    str,
    Worded(
        "A duration of Prometheus.",
        "30s",
        r"[1-9][0-9]*(ms|s|m|h)",
        "a duration such as 30s or 1m",
        "write a number and ms, s, m or h",
    ),
]

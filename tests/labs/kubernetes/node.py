"""A control plane with a node, as most tests of the lab want it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.labs.kubernetes.build import refresh
from tests.labs.kubernetes.lab import Lab, cache, running


@contextmanager
def with_node(namespace: str = "", restricted: bool = False) -> Iterator[Lab]:
    """Start a control plane, a node that has this checkout's image, and make a namespace."""
    with running() as lab:
        refresh(cache())  # within the lock: the image is there once
        lab.join("n1")
        if namespace:
            make_namespace(lab, namespace, restricted)
        yield lab


def make_namespace(lab: Lab, name: str, restricted: bool = False) -> None:
    """Make a namespace, in which Pod Security's level Restricted may be enforced."""
    lab.kubectl("create", "namespace", name)
    if restricted:
        level = "pod-security.kubernetes.io/enforce=restricted"
        lab.kubectl("label", "namespace", name, level)

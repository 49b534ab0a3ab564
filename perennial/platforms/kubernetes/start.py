"""``python START MODULE …``: run a module in a pod, with what is mounted beside this file.

So an image needs Dask and nothing of dask-perennial. An image that cannot do it is refused in one
line, which the kubelet keeps with the pod. Standard library alone, also of an earlier Python.
"""

from __future__ import annotations

import os
import re
import runpy
import sys
from importlib import metadata
from importlib.util import find_spec

#: The oldest Python, and the oldest distributed that has what the cluster is made of.
PYTHON, DISTRIBUTED = (3, 11), (2026, 6)
#: Where the kubelet reads why a container has ended.
LAST_WORDS = "/dev/termination-log"


def refusal(module: str) -> str:
    """Say why this image cannot run a module, and what to do; empty where it can."""
    if sys.version_info < PYTHON:
        have = ".".join(map(str, sys.version_info[:3]))
        return f"found Python {have} in its image, and {_dotted(PYTHON)} or newer is needed" + _DO
    if module != "dask":
        if find_spec("perennial") is None or find_spec("kubernetes") is None:
            return (
                "its image has no dask-perennial[kubernetes], which the scaler needs; name one that"
                " has it in kubernetes.scaler.image"
            )
        return ""
    try:
        have = metadata.version("distributed")
    except metadata.PackageNotFoundError:
        return f"its image has no distributed for {sys.executable}" + _DO
    if tuple(map(int, re.findall(r"\d+", have)[:2])) < DISTRIBUTED:
        least = _dotted(DISTRIBUTED)
        return f"found distributed {have} in its image, and {least} or newer is needed" + _DO
    return ""


_DO = "; name another one in kubernetes.image"


def _dotted(numbers: tuple[int, int]) -> str:
    return ".".join(map(str, numbers))


def main() -> int:
    """Look at the image, then run the module without the working folder on its path."""
    if not getattr(sys.flags, "safe_path", False):
        fault = refusal(sys.argv[1])
        if fault:
            said = f"{os.environ.get('POD_NAME', 'pod')}: {fault}"
            print(said, file=sys.stderr)
            if os.path.exists(LAST_WORDS):
                with open(LAST_WORDS, "w") as file:
                    file.write(said)
            return 1
        # `-P` and no variable: programs that a task starts would have inherited it.
        os.execv(sys.executable, [sys.executable, "-P", *sys.argv])  # noqa: S606
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

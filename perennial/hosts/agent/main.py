"""Read requests, answer them: one JSON object a line, in both directions.

A request is ``{"do": NAME, ...arguments}``. The answers to it are any number of
``{"say": TEXT}`` and then ``{"ok": RESULT}`` or ``{"error": TEXT}``.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from perennial.errors import PerennialError
from perennial.hosts.agent import (
    environments,
    facts,
    journal,
    manifest,
    store,
    supervisord,
    systemd,
    usage,
)
from perennial.hosts.probing import probe

#: What may be asked, by name. `upload` reads the bytes that follow its request.
OPERATIONS: dict[str, Callable[..., Any]] = {
    "look": facts.look,
    "manifest": manifest.read,
    "begin": store.begin,
    "write": store.write,
    "finish": store.finish,
    "remove": store.remove,
    "sizes": store.sizes,
    "members": facts.members,
    "usage": usage.usage,
    "listens": facts.listens,
    "listening": facts.listening_ports,
    "page": facts.page,
    "log": journal.log,
    "log_since": journal.log_since,
    "probe": probe,
    "systemd_reload": systemd.reload,
    "systemd_start": systemd.start,
    "systemd_restart": systemd.restart,
    "systemd_stop": systemd.stop,
    "supervisord_apply": supervisord.apply,
    "supervisord_bounce": supervisord.bounce,
    "supervisord_end": supervisord.end,
    "environment_look": environments.look,
    "environment_make": environments.make,
    "environment_remove": environments.remove,
}


def main() -> None:
    """Answer requests until there are no more."""
    # What a child of ours prints must not get between our own lines.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    os.umask(0o077)

    def answer(**said: Any) -> None:
        answers.write(json.dumps(said) + "\n")
        answers.flush()

    # A login shell's own files may have printed something before.
    answer(ready=True)
    lock = None
    for line in sys.stdin.buffer:
        request = json.loads(line)
        name = request.pop("do")
        try:
            if name == "lock":
                lock = _lock(request["cluster"])
                answer(ok=None)
            elif name == "upload":
                answer(ok=store.upload(sys.stdin.buffer, **request))
            else:
                if name == "look":  # the address to which the SSH connection came
                    request["server"] = sys.argv[1] if len(sys.argv) > 1 else ""
                if name in _TELLING:
                    request["say"] = lambda text: answer(say=text)
                answer(ok=OPERATIONS[name](**request))
        except PerennialError as error:
            answer(error=str(error))
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            answer(error=f"{where}{(error.strerror or str(error)).lower()}")
    del lock  # held until here


#: Operations that say what they do while they do it.
_TELLING = (
    "systemd_start",
    "systemd_restart",
    "systemd_stop",
    "supervisord_apply",
    "supervisord_bounce",
    "environment_make",
    "remove",
)


def _lock(cluster: str) -> int:
    """Let nobody else change the cluster's part of this machine until this process ends."""
    path = f"/run/lock/dask-perennial-{cluster}.lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise PerennialError(
            f"another deploy of {cluster} is at work on this machine; wait until it has ended"
        ) from None
    return lock

"""Somebody's work on a cluster in the lab, from a pod: what is kept, and what has run again."""

from __future__ import annotations

import json
import subprocess
from typing import Any
from uuid import uuid4

from tests.labs.kubernetes.lab import Lab
from tests.labs.kubernetes.test_story import TLS

#: Scatters and computes on the group ``cpu``, works on, and answers a question a line.
CODE = (
    TLS
    + """
import json, sys, threading, time, uuid

def stamp(n):
    time.sleep(0.02)
    return n, uuid.uuid4().hex  # another one each time that it runs

class Slow:
    "Takes half a second to be sent."
    def __init__(self, n): self.n = n
    def __reduce__(self):
        time.sleep(0.5)
        return Slow, (self.n,)

def slow(n):
    return Slow(n)

def workers():
    return {w["name"]: a for a, w in c.sync(c.scheduler.identity, n_workers=-1)["workers"].items()}

def arrival(known):
    "When there is a worker that was not there."
    while set(workers()) <= known:
        time.sleep(0.02)
    return time.time()

def grow():
    "Seconds from work for the group big to its next worker."
    known, begun = set(workers()), time.time()
    sys.f = c.map(lambda n: (time.sleep(3), n)[1], range(12), resources={"BIG": 1}, pure=False)
    return arrival(known) - begun

c = CONNECTED
c.wait_for_workers(LEAST, timeout=60)
cpu = [a for name, a in workers().items() if "GROUP" in str(name)]
data = c.scatter({f"k{i}": i for i in range(60)}, workers=cpu)
done = c.map(stamp, range(60), workers=cpu, allow_other_workers=True, pure=False)
before = c.gather(done)
rounds, failed, stop = 0, [], threading.Event()

def load():
    global rounds
    while not stop.is_set():
        try:
            found = c.gather(c.map(lambda n: (time.sleep(0.1), n * n)[1], range(12), pure=False))
            assert found == [n * n for n in range(12)]
            rounds += 1
        except Exception as error:
            failed.append(repr(error)[:300])
            time.sleep(1)

def answer(question):
    if question == "report":
        kept = c.gather(data, errors="skip")
        after = {found[0]: found for found in c.gather(done, errors="skip")}
        return {
            "lost": len(data) - sum(kept.get(key) == int(key[1:]) for key in data),
            "missing": len(done) - len(after),
            "again": sum(after.get(each[0], each) != each for each in before),
            "rounds": rounds, "failed": failed,
        }
    return eval(question)

print(json.dumps(len(cpu)), flush=True)
worker = threading.Thread(target=load, daemon=True)
worker.start()
for line in sys.stdin:
    question = json.loads(line)
    if question == "report":
        stop.set()
        worker.join(60)
    print(json.dumps(answer(question)), flush=True)
"""
)

#: Where the client runs.
CONTAINER = "jsonpath={.status.containerStatuses[0].containerID}"
#: Nothing was lost, and nothing has run again.
WHOLE = {"lost": 0, "missing": 0, "again": 0, "failed": []}


class Work:
    """60 scattered keys and 60 results on the members of ``cpu``, and a steady load."""

    def __init__(
        self, lab: Lab, connected: str = "connected()", group: str = "-cpu-", least: int = 1
    ) -> None:
        code = CODE.replace("CONNECTED", connected).replace("GROUP", group)
        code = code.replace("LEAST", str(least))
        # By containerd and not by the API server, which a test restarts.
        found = lab.kubectl("-n", "dask", "get", "pod", "client", "-o", CONTAINER)
        ctr = (str(lab.root / "root" / "usr" / "bin" / "ctr"), "-n", "k8s.io", "tasks", "exec")
        words = ("--exec-id", uuid4().hex, found.removeprefix("containerd://"), "python", "-u")
        self._process = subprocess.Popen(
            lab.command("n1", *ctr, *words, "-c", code),
            env=lab.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.members = self._answer()

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=30)  # without more questions it ends

    def ask(self, question: str) -> Any:
        """Evaluate an expression there; ``report`` ends the load and counts."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def report(self) -> dict[str, Any]:
        """Count what was lost and what has run again; at least one round of the load ended."""
        found: dict[str, Any] = self.ask("report")
        assert found.pop("rounds") > 0
        return found

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the client has ended"
        return json.loads(line)

"""What `perennial.platforms.hosts.deploy` promises, with machines that are folders.

A machine's folder, named after its address, holds `environment` and `services` when they are whole,
with `.half` behind the name while they are being made. The folder `owners` has what each remembers
of its owner. A file `broken` in STANDIN lists machines that refuse.
"""

import hashlib
import json
import os
import time
from pathlib import Path

from perennial.errors import FleetError
from perennial.platforms.hosts.machine_services import members, to_json
from perennial.platforms.hosts.ownership import NOBODY, refuse_other_stack
from perennial.services import fingerprint

ROOT = Path(os.environ["STANDIN"])
NAP = float(os.environ.get("NAP", "0.05"))


def reach(target, say):
    _machine(target.address)
    (ROOT / "reached").mkdir(exist_ok=True)
    how = {"host_key": target.host_key, "seconds": target.connect_timeout}
    key = hashlib.sha256((target.private_key or "").encode()).hexdigest()
    (ROOT / "reached" / target.address).write_text(json.dumps({**how, "private_key": key}))


def make_environment(target, wish, say=None, claims=None, owner=NOBODY):
    refuse_other_stack(
        target.name, wish["cluster"], _manifest(target.address, wish["cluster"]), owner
    )
    _write(target.address, "environment", wish["python"])
    facts = {"python": wish["python"], "version": "3.11.2", "packages": {}, "digest": "1"}
    return {**facts, "machine": target.address}


def look_environment(target, wish, facts):
    return dict(facts) if (_machine(target.address) / "environment").exists() else None


def remove_environment(target, wish):
    if not (_machine(target.address) / "services").exists():
        _remove(target.address, "environment")


def apply_services(assigned, secrets, say, turn=None, owner=NOBODY):
    assert secrets.ca_key.startswith("-----BEGIN")
    known = _manifest(assigned.target.address, assigned.cluster)
    refuse_other_stack(assigned.target.name, assigned.cluster, known, owner)
    say("starting")
    _write(assigned.target.address, "services", _text(assigned))
    _owner(assigned.target.address).parent.mkdir(exist_ok=True)
    _owner(assigned.target.address).write_text(
        json.dumps({**known, "cluster": assigned.cluster, **owner.remembered})
    )
    return {
        "init": "systemd",
        "address": assigned.target.address,
        "machine": assigned.target.address,
        "members": {name: fingerprint(member) for name, member in members(assigned).items()},
        "expires": "2100-01-01T00:00:00+00:00",
    }


def look_services(assigned, outcome):
    path = _machine(assigned.target.address) / "services"
    if not path.exists():
        return ["its services are gone"]
    return [] if path.read_text() == _text(assigned) else ["a file was edited"]


def remove_services(assigned, say, owner=NOBODY):
    known = _manifest(assigned.target.address, assigned.cluster)
    if not known and _owner(assigned.target.address).exists():
        return []  # it has another cluster by now
    is_own = not owner.resource or known.get("owner", owner.resource) == owner.resource
    if not is_own or owner.other_stack(known):
        return []
    _remove(assigned.target.address, "services")
    _owner(assigned.target.address).unlink(missing_ok=True)
    return (
        ["/home/dask/notebooks"] if "jupyter" in {part.role for part in assigned.services} else []
    )


def stop_scheduler(assigned, say, owner):
    say("the scheduler stops first")


def _text(assigned):
    return json.dumps(to_json(assigned), sort_keys=True)


def _owner(address):
    return ROOT / "owners" / address


def _manifest(address, cluster):
    """Read what a machine remembers of a cluster."""
    known = json.loads(_owner(address).read_text()) if _owner(address).exists() else {}
    return known if known.get("cluster", cluster) == cluster else {}


def _machine(name):
    broken = ROOT / "broken"
    if broken.exists() and name in broken.read_text().split():
        raise FleetError(f"{name}: refused the connection; start sshd there")
    return ROOT / "machines" / name


def _write(name, what, text):
    folder = _machine(name)
    folder.mkdir(parents=True, exist_ok=True)
    half = folder / f"{what}.half"
    half.write_text("")
    time.sleep(NAP)
    (folder / what).write_text(text)
    half.unlink()


def _remove(name, what):
    folder = _machine(name)
    time.sleep(NAP)
    for each in (what, f"{what}.half"):
        (folder / each).unlink(missing_ok=True)
    if folder.exists() and not list(folder.iterdir()):
        folder.rmdir()

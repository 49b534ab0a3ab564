"""How a machine differs from what was deployed. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath

from perennial import render
from perennial.paths import ClusterPaths, is_long
from perennial.platforms.hosts.agent.answers import Look, Manifest, Member, Outcome
from perennial.platforms.hosts.desired_state import DesiredState, Init
from perennial.platforms.hosts.keeper import as_one_service
from perennial.platforms.hosts.program import with_program
from perennial.platforms.hosts.programs import FOLDER
from perennial.services import Service


def drift(cluster: str, found: Look, outcome: Outcome) -> list[str]:
    """List how a machine differs from what was deployed, one line each. Pure."""
    manifest = found["manifest"]
    if not manifest:
        return [f"nothing of {cluster} is there"]
    lines = [] if manifest.get("whole") else ["a deploy was cut off"]
    lines += _file_drift(manifest, found)
    missing = set(manifest.get("users", ())) - set(found["users"])
    lines += [f"the user {name} is missing" for name in sorted(missing)]
    for unit, fingerprint in manifest.get("members", {}).items():
        lines += _member_drift(unit, fingerprint, found["members"].get(unit))
    for unit, path in _started_with(found):
        name = unit.removesuffix(".service")
        cost = "; running work and results are lost" if name.endswith("scheduler") else ""
        lines.append(f"{name} was started with {path} as it was edited, and restarts{cost}")
    if not found["enabled"]:
        lines.append(f"{cluster} is not started at boot")
    if outcome.get("address") not in (None, found["address"]):
        lines.append(f"its address is {found['address']}, and was {outcome['address']}")
    return lines


def _file_drift(manifest: Manifest, found: Look) -> list[str]:
    lines = []
    for path, expected in manifest.get("expected", {}).items():
        state = found["files"].get(path)
        if state is None:
            lines.append(f"{path} is missing")
        elif state[0] != expected[0]:
            lines.append(f"{path} was edited")
        elif state != expected:
            lines.append(f"{path} has another owner or mode")
    for path, digest in manifest.get("programs", {}).items():
        now = found["programs"].get(path)
        if now != digest:
            lines.append(f"{path} {'was edited' if now else 'is missing'}")
    return [*lines, *(f"{path} was edited" for path in found.get("altered", ()))]


def _member_drift(unit: str, fingerprint: str, now: Member | None) -> list[str]:
    name = unit.removesuffix(".service")
    if now is None or now["state"] in ("inactive", "STOPPED"):
        return [f"{name} is stopped"]
    if now["state"] not in ("active", "activating", "deactivating", "reloading"):
        return [f"{name} is {now['state']}"]
    if now["fingerprint"] not in (fingerprint, None):
        return [f"{name} runs with other settings"]
    return []


def _started_with(found: Look) -> Iterator[tuple[str, str]]:
    """List what was started after a file that it reads was edited, and that file."""
    reads = found["manifest"].get("reads", {})
    for unit, now in found["members"].items():
        since = now.get("since")
        for path in reads.get(_kind(unit), ()):
            if since is not None and found["edited"].get(path, since) < since:
                yield unit, path


def _kind(unit: str) -> str:
    """Name of a unit or program without a member's number."""
    found = re.fullmatch(r"(.*@|.*-)[0-9]+(\.service)?", unit)
    return found[1] if found else unit


def outdated(found: Look) -> dict[str, int]:
    """List the units and programs that run what somebody has edited, and their process ids.

    Their fingerprint says nothing of it: it stands in the file that was edited, and was left there.
    Those of which a deploy knew that was cut off are among them, for as long as they run on.
    """
    pids = {unit: now["pid"] for unit, now in found["members"].items()}
    begun = found["manifest"].get("outdated", {})
    units = [unit for unit, pid in begun.items() if pids.get(unit) == pid]
    units += [unit for unit, _ in _started_with(found)]
    return {unit: pids[unit] for unit in units}


def reads(cluster: str, init: Init, parts: Sequence[Service]) -> dict[str, list[str]]:
    """List the files from which each unit or program is started; of a group, without numbers."""
    found = {}
    for part in as_one_service(parts) if init == "supervisord" else with_program(parts):
        files = [file.path for file in part.files]
        if init == "supervisord":
            found[part.name if part.group is None else part.member("").name] = files
        else:
            unit = render.unit_name(cluster, part)
            kind = unit if part.group is None else unit.removesuffix(".service")
            found[kind] = [*files, f"{render.UNITS}/{unit}"]
    return found


def main_file(paths: ClusterPaths) -> str:
    """Write the main file of a machine's supervisord."""
    log, within = paths.logs / "supervisord.log", is_long(paths.socket)
    return render.supervisord_conf(paths.socket, log, paths.units, within=within)


def own_files(wanted: DesiredState, paths: ClusterPaths) -> dict[str, str]:
    """Digests of the files that supervisord reads, by path."""
    texts = {str(paths.supervisord_conf): main_file(paths)}
    for program in wanted.programs:
        if (
            program.group not in wanted.scaled_programs
        ):  # a keeper writes those, as they come and go
            texts[str(paths.units / f"{program.name}.conf")] = program.text
    return {path: hashlib.sha256(text.encode()).hexdigest() for path, text in texts.items()}


def kept_programs(wanted: DesiredState) -> dict[str, str]:
    """Say from which file a keeper writes a member's program, by what stands before its number."""
    files = (PurePath(file.path) for file in wanted.files)
    return {
        wanted.scaled_programs[file.stem]: str(file)
        for file in files
        if file.parent.name == FOLDER and file.stem in wanted.scaled_programs
    }


def spoilt(found: Look, now: Mapping[str, str]) -> list[str]:
    """List the programs whose text somebody has edited, and no deploy changes.

    They are written again before they are compared, so that what runs as it was deployed does not
    restart.
    """
    was, there = found["manifest"].get("programs", {}), found["programs"]
    edited = [path for path, digest in now.items() if was.get(path) == digest != there.get(path)]
    return [PurePath(path).stem for path in (*edited, *found.get("altered", ()))]

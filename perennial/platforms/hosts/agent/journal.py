"""What services wrote: systemd's journal, or the log files beside supervisord."""

from __future__ import annotations

import subprocess

from perennial.platforms.hosts.agent import manifest, supervisord, unprivileged

#: Seconds in which a log must be read.
TIMEOUT = 60.0


def log(cluster: str, unit: str, lines: int) -> list[str]:
    """Read the last lines that a service wrote."""
    return log_since(cluster, unit, lines, None)[0]


def log_since(
    cluster: str, unit: str, lines: int, cursor: str | None
) -> tuple[list[str], str | None]:
    """Read what a service wrote since the last look."""
    known = manifest.read(cluster)
    if known.get("init") == "supervisord":
        return _of_file(cluster, unit, lines, cursor, known["users"][0])
    where = ["--after-cursor", cursor] if cursor else ["-n", str(lines)]
    text = _run(
        *("journalctl", "--no-pager", "-o", "short-iso", "--show-cursor", "--unit", unit, *where)
    )
    found = [line for line in text.splitlines() if not line.startswith("-- ")]
    marks = [line for line in text.splitlines() if line.startswith("-- cursor: ")]
    return found, marks[-1].removeprefix("-- cursor: ") if marks else cursor


def _of_file(
    cluster: str, unit: str, lines: int, cursor: str | None, user: str
) -> tuple[list[str], str]:
    """Read a log file with its owner's rights: root must not follow where its folder leads."""
    path = str(supervisord.root(cluster) / "logs" / f"{unit}.log")
    size = _run("stat", "-c", "%s", path, user=user).strip() or "0"
    if cursor is None:
        return _run("tail", "-n", str(lines), path, user=user).splitlines(), size
    # A log that became shorter was begun anew.
    start = int(cursor) if int(cursor) <= int(size) else 0
    part = (f"skip={start}", f"count={unprivileged.LONGEST}", "iflag=skip_bytes,count_bytes")
    text = _run("dd", f"if={path}", "bs=64K", *part, "status=none", user=user)
    full = len(text) >= unprivileged.LONGEST
    whole = text[: text.rfind("\n") + 1] or text * full  # a line that long has no end here
    return whole.splitlines(), str(start + len(whole.encode()))


def _run(*argv: str, user: str | None = None) -> str:
    # With the user's groups and not root's: what those may read is none of that user's business.
    if user is not None:
        code, text = unprivileged.run(argv, unprivileged.account(user), TIMEOUT)
        return "" if code else text
    done = subprocess.run(argv, capture_output=True, check=False, timeout=TIMEOUT)
    return done.stdout.decode(errors="replace")

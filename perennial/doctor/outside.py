"""The checks that anybody can run who has a bundle of a cluster, and no more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from perennial import connect, paths
from perennial.connect import Connection
from perennial.doctor import Finding, checks, guarded, probing, reach
from perennial.doctor.firewalls import Firewall
from perennial.doctor.reach import HERE, Result, Role


def examine(link: Connection, python: str | None) -> Iterator[Finding]:
    """Run them."""
    notices = connect.expiry_notices(link)
    if link.tls is not None:
        text = notices[0] if notices else "the client's is good for 30 days or more"
        yield Finding("certificates", "warning" if notices else "ok", text)
    results: list[Result] = []
    if not paths.tunnel(link.cluster).is_file():
        results = _tried(link)
        yield from network(results, {})
    yield from guarded("client", lambda: checks.as_client(link.cluster, python, is_cut(results)))


def network(results: Sequence[Result], firewalls: Mapping[str, Firewall]) -> Iterator[Finding]:
    """Say which ways between machines are blocked."""
    lines = reach.diagnose(results, firewalls)
    for line in lines:
        yield Finding("network", "error", line)
    if not lines:
        yield Finding("network", "ok", f"{len(results)} ways tried, all open")


def is_cut(results: Sequence[Result]) -> bool:
    """Whether the way from here to the scheduler is blocked."""
    return any(
        (result.source.machine, result.end.role) == (HERE, "scheduler")
        and result.outcome != probing.OPEN
        for result in results
    )


def _tried(link: Connection) -> list[Result]:
    """Try the ways from here to the addresses of a cluster."""
    urls: dict[Role, str | None] = {
        "scheduler": link.scheduler_address,
        "jupyter": link.jupyter_url,
    }
    hosts = {role: (urlsplit(url).hostname, url) for role, url in urls.items() if url}
    found = [reach.end_of(host, url, role) for role, (host, url) in hosts.items() if host]
    return reach.examine([reach.here(found)], found, lambda _machine, _places: [])

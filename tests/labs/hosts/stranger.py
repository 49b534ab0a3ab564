"""The program of `tests.labs.hosts.scan`: asks every port, prints what it heard as JSON."""

from __future__ import annotations

import asyncio
import json
import re
import select
import socket
import ssl
import sys
import time
from urllib.parse import urlsplit

_WAIT = 2.0
_AT_ONCE = 500


def open_ports(address: str, ports: list[int]) -> list[int]:
    """List the ports that accept a connection; waits for those that say nothing at all."""
    found = []
    for begin in range(0, len(ports), _AT_ONCE):
        found += _try(address, ports[begin : begin + _AT_ONCE])
    return found


def _try(address: str, ports: list[int]) -> list[int]:
    poll = select.poll()
    waiting, found = {}, []
    for port in ports:
        probe = socket.socket()
        probe.setblocking(False)
        probe.connect_ex((address, port))
        waiting[probe.fileno()] = probe, port
        poll.register(probe, select.POLLOUT)
    # A lost packet is sent again after a second.
    deadline = time.monotonic() + _WAIT
    while waiting and time.monotonic() < deadline:
        for number, _ in poll.poll(100):
            poll.unregister(number)
            probe, port = waiting.pop(number)
            if probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                found.append(port)
            probe.close()
    for probe, _ in waiting.values():
        probe.close()
    return found


async def follow(address: str, port: int, context: ssl.SSLContext | None) -> tuple[str, str]:
    """Ask for the page ``/``, and for where that sends to, until it is a login or an answer."""
    path, where = "/", ""
    for _ in range(5):
        said, where = await ask(address, port, context, path)
        if not where or "/login" in where:
            break
        path = urlsplit(where).path or "/"
    return said, where


async def ask(
    address: str, port: int, context: ssl.SSLContext | None, path: str
) -> tuple[str, str]:
    """Ask for a page; gives the first line of the answer and where it sends to."""
    name = address if context else None
    opening = asyncio.open_connection(address, port, ssl=context, server_hostname=name)
    try:
        reader, writer = await asyncio.wait_for(opening, _WAIT * 2)
    except (OSError, TimeoutError) as error:
        return (_refusal(error), "") if context else ("", "")
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}:{port}\r\n\r\n".encode())
        text = (await asyncio.wait_for(reader.read(4096), _WAIT)).decode("latin-1")
    except (OSError, TimeoutError) as error:
        refused = _refusal(error) if context else ""
        return refused or ("open" if context else ""), ""
    finally:
        writer.transport.abort()
    where = re.search(r"^location: *(.*?)\r?$", text, re.MULTILINE | re.IGNORECASE)
    said = "".join(each if each.isprintable() else "?" for each in text.split("\r\n")[0][:200])
    return said or ("open" if context else ""), where[1] if where else ""


def _refusal(error: BaseException) -> str:
    reason = str(getattr(error, "reason", "") or "").replace("_", " ").lower()
    return "certificate required" if "certificate required" in reason else ""


async def question(address: str, port: int) -> dict[str, str]:
    """Ask a port with and without TLS."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    plain, where = await follow(address, port, None)
    tls, tls_where = await follow(address, port, context)
    return {"plain": plain, "where": where, "tls": tls, "tls_where": tls_where}


async def main(address: str, first: int, last: int) -> None:
    """Scan and print."""
    found = open_ports(address, list(range(first, last)))
    answers = await asyncio.gather(*(question(address, port) for port in found))
    print(json.dumps(dict(zip(found, answers, strict=True))))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))

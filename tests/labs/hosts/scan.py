"""What a stranger finds at an address: every open TCP port, and what it says to one who asks."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.labs.hosts.seat import Seat


@dataclass(frozen=True, slots=True)
class Answer:
    """What an open port said.

    Attributes
    ----------
    plain : str
        To one who asks for a page with no encryption: the first line of the answer, or the banner
        that came unasked; empty when nothing came back. Redirections are followed to a login, or
        to their end.
    where : str
        Where that answer sent the asker, for example to a login.
    tls : str
        What became of a TLS connection without a certificate: empty when the port speaks no TLS,
        ``certificate required`` when it refused, else the first line of its answer (``open``, when
        it said nothing).
    tls_where : str
        Where that answer sent the asker.
    """

    plain: str
    where: str
    tls: str
    tls_where: str

    @property
    def guarded(self) -> bool:
        """Whether it needs a certificate or a login; a port that says nothing has not proved it."""
        answers = ((self.plain, self.where), (self.tls, self.tls_where))
        said = [answer for answer in answers if answer[0]]
        return bool(said) and all(self._shut(*answer) for answer in said)

    @property
    def told(self) -> bool:
        """Whether it answered somebody who has neither; who only said nothing has not."""
        answers = ((self.plain, self.where), (self.tls, self.tls_where))
        return any(said not in ("", "open") and not self._shut(said, to) for said, to in answers)

    @staticmethod
    def _shut(said: str, where: str) -> bool:
        if said == "certificate required" or said.startswith("SSH-"):
            return True
        parts = said.split()
        status = parts[1] if parts[0].startswith("HTTP/") and len(parts) > 1 else ""
        return status in ("401", "403") or (status == "302" and "/login" in where)


def scan(seat: Seat, address: str, ports: range = range(1, 65536)) -> dict[int, Answer]:
    """Connect from a seat to every port of an address; tells what the open ones answered."""
    ends = (str(ports.start), str(ports.stop))
    program = str(Path(__file__).with_name("stranger.py"))
    said = seat.run(sys.executable, "-I", "-S", program, address, *ends)
    return {int(port): Answer(**answer) for port, answer in json.loads(said.stdout).items()}

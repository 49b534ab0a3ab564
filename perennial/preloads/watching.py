"""Take files into use again whenever they change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tornado.ioloop import PeriodicCallback

#: Modification time, number and length of each file.
Stamp = tuple[tuple[int, int, int], ...]


class Watched(ABC):
    """Files that belong together, and which version of them is in use."""

    def __init__(self, paths: Collection[Path]) -> None:
        self.paths = tuple(paths)
        #: Nothing at first: files may have changed since somebody else has read them.
        self.used: Stamp = ()
        self._refused: Stamp = ()

    @abstractmethod
    def take(self) -> None:
        """Take the files into use; OSError or ValueError if they cannot be used yet."""

    @abstractmethod
    def complain(self, error: OSError | ValueError) -> None:
        """Say why a version of the files cannot be used; said once of each."""

    def look(self) -> None:
        """Take the files into use when they have changed; what is in use outlives their removal."""
        try:
            stamp = tuple(_stamp(path) for path in self.paths)
        except OSError:
            return
        if stamp == self.used:
            return
        try:
            self.take()
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            if stamp != self._refused:
                self.complain(error)
            self._refused = stamp
        else:
            self.used = stamp

    def follow(self, server: Any, name: str, seconds: float) -> None:
        """Look again and again; Dask starts and stops this with the server."""
        server.periodic_callbacks[name] = PeriodicCallback(self.look, seconds * 1000)


def _stamp(path: Path) -> tuple[int, int, int]:
    """Identify a version of a file."""
    status = path.stat()
    return status.st_mtime_ns, status.st_ino, status.st_size

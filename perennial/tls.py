"""The files of a certificate, wherever they are named: by a connection, a service or a fleet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificate files of a process: its own, its key, and the authority that it trusts.

    Parameters
    ----------
    ca : str
        Certificate of the cluster's authority.
    cert, key : str
        The process's own certificate and private key.
    """

    ca: str
    cert: str
    key: str

    #: For pydantic's models that have one: an object of JSON is one as well.
    __pydantic_config__: ClassVar = {"extra": "forbid", "strict": False}

    @classmethod
    def in_folder(cls, folder: Path) -> Tls:
        """Name the client's files in a folder of certificates.

        Parameters
        ----------
        folder : pathlib.Path
            A folder that `perennial.authority` fills, or one for which a bundle was read.
        """
        names = ("ca.pem", "client.pem", "client-key.pem")
        return cls(*(str(folder.absolute() / name) for name in names))

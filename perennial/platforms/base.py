"""What a platform brings: dotted names of its parts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Platform:
    """Where the parts of a platform are: dotted names, imported on use.

    So a laptop needs no cloud's library. A function that `Deployer` or `Runtime` has and a
    platform's module has not is an error that says what the platform cannot do.

    Parameters
    ----------
    options : str
        Class of what a person writes under the platform's own key.
    fleet : str
        Class of the members of one group.
    deployer : str
        Module with the functions of `Deployer`.
    runtime : str
        Module with the functions of `Runtime`.
    stack : str
        Module of Pulumi's component, ``Cluster``.
    extra : str
        Extra of this package that brings what it needs; empty for none.
    renews : str
        Command that renews the client's certificate.
    """

    options: str
    fleet: str
    deployer: str
    runtime: str
    stack: str
    extra: str = ""
    renews: str = "up"

"""What a platform brings: dotted names of its parts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Platform:
    """Where the parts of a platform are: dotted names, imported on use.

    So a laptop needs no cloud's library. A function that `Deployer` or `Runtime` has and a
    platform's module has not is an error that says what the platform cannot do.
    """

    #: Class of what a person writes under the platform's own key.
    options: str
    #: Class of the members of one group.
    fleet: str
    #: Module with the functions of `Deployer`.
    deployer: str
    #: Module with the functions of `Runtime`.
    runtime: str
    #: Module of Pulumi's component, ``Cluster``.
    stack: str
    #: Extra of this package that brings what it needs; empty for none.
    extra: str = ""
    #: Command that renews the client's certificate.
    renews: str = "up"

"""A cluster on machines over SSH that runs, as the command line asks and changes it."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from perennial import contracts
from perennial.contracts import LogLine, Lost, Overview, Resized, Say, Status, WebPage
from perennial.errors import PerennialError
from perennial.stacked import CANNOT

if TYPE_CHECKING:
    from perennial.doctor import Finding
    from perennial.pages import Counts
    from perennial.plan import Holder
    from perennial.platforms.hosts.operator import Operator

#: Seconds in which a scheduler must accept a connection to count as up in `list`.
OVERVIEW_TIMEOUT = 1.0


class HostsRuntime(contracts.Runtime):
    """Services on machines over SSH, each under its own service manager."""

    cannot: ClassVar = {
        **CANNOT,
        "rotate": "{name}: certificates of machines are renewed by {up} in the last 30"
        " days of their year, services drained one after another; there is nothing to rotate by"
        " hand",
        "dashboard": "{name}: on hosts JupyterLab shows the dashboard at /dashboard/status:"
        " `perennial open`; it has to be on the scheduler's machine",
        "enable": "{name}: services on hosts come back at boot by themselves",
        "disable": "{name}: services on hosts come back at boot until {down}",
    }

    @cached_property
    def _operator(self) -> Operator:
        from perennial.platforms.hosts.operator import find

        return find(self.name)

    def overview(self) -> Overview:
        """Try the scheduler's port; the machines are not asked."""
        from perennial.platforms.hosts.machine_services import addresses

        address = addresses(self._operator.spec).scheduler
        host, _, port = address.rpartition("://")[2].rpartition(":")
        with suppress(OSError):
            socket.create_connection((host.strip("[]"), int(port)), OVERVIEW_TIMEOUT).close()
            return Overview(True, address)
        return Overview(False, address)

    def status(self) -> Status:
        """Look at every service on every machine."""
        return self._operator.status()

    def counts(self) -> Counts | None:
        """Ask the scheduler's machine for the scheduler's numbers."""
        return self._operator.counts()

    def holders(self) -> list[Holder]:
        """Read from the scheduler's page which members hold actors."""
        return self._operator.actors()

    def awaited(self) -> set[str]:
        """Return the workers of machines whose service manager waits for none."""
        return self._operator.awaited()

    def registered(self) -> set[str]:
        """Read from the scheduler's page which workers it knows."""
        return self._operator.registered()

    def logs(self, service: str | None, lines: int, follow: bool) -> Iterator[LogLine]:
        """Read the logs of services on their machines."""
        operator = self._operator
        return operator.follow(service, lines) if follow else operator.logs(service, lines)

    def restart(self, service: str, say: Say, lost: Lost) -> int:
        """Restart a service, or a group's members one after another."""
        abandoned, number = self._operator.restart(service, say)
        for member, what in abandoned.items():
            lost(member, what)
        return number

    def scale(
        self, wanted: Mapping[str, int], force: bool, say: Say, lost: Lost
    ) -> dict[str, Resized]:
        """Resize groups, spread over their machines."""
        from perennial.platforms.hosts.resizing import scale

        return scale(self._operator, wanted, say, force, lost)

    def checks(self, python: str | None) -> Iterator[Finding]:
        """Run the checks of `doctor`."""
        from perennial.platforms.hosts.doctor import examine

        return examine(self._operator, python)

    def jupyter(self) -> WebPage | None:
        """Find JupyterLab, unless somebody else has its port."""
        operator = self._operator
        url = operator.jupyter_url()
        if url is None:
            return None
        if not operator.serves_jupyter():
            # Whoever takes the port while JupyterLab is down would be given its token.
            raise PerennialError(
                f"{self.name}: JupyterLab does not listen at {url}, so its token is not given away;"
                " see `perennial status` and `perennial logs jupyter`"
            )
        return WebPage(url, operator.token_file, operator.paths.secrets)

"""A cluster on Fargate that runs, as the command line asks it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from perennial import connect, contracts, tunnel
from perennial.aws.client import Aws
from perennial.contracts import (
    LogLine,
    Lost,
    Overview,
    Resized,
    Say,
    ServiceStatus,
    Status,
    WebPage,
)
from perennial.errors import PerennialError
from perennial.files import write_atomic
from perennial.pages import counts_of, socket_of, token_of
from perennial.paths import cluster_state
from perennial.platforms.fargate import logs, troubles
from perennial.platforms.fargate.ecs import Ecs, EcsTask
from perennial.platforms.fargate.parts import RUN, ecs_cluster
from perennial.platforms.fargate.sessions import run
from perennial.stacked import CANNOT, deployed, token_file

if TYPE_CHECKING:
    from perennial.doctor import Finding
    from perennial.pages import Counts
    from perennial.spec import ClusterSpec


class FargateRuntime(contracts.Runtime):
    """The services of a cluster of ECS, as the API describes them."""

    cannot: ClassVar = {
        **CANNOT,
        "rotate": "{name}: {up} renews what ends within 30 days, and rolls it out",
        "enable": "{name}: ECS starts its tasks by itself",
        "disable": "{name}: ECS keeps its tasks running until {down}",
    }

    @cached_property
    def spec(self) -> ClusterSpec:
        """The cluster as it was deployed."""
        return deployed(cluster_state(self.name))

    @cached_property
    def aws(self) -> Aws:
        """AWS, as this user reaches it."""
        return Aws(self.spec.options.region, self.spec.options.profile)

    @cached_property
    def ecs(self) -> Ecs:
        """Its services."""
        return Ecs(self.aws, ecs_cluster(self.name))

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of its services."""
        spec = self.spec
        more = [("jupyter", spec.jupyter is not None), ("scaler", bool(spec.scaled))]
        return ("scheduler", *spec.workers, *(name for name, there in more if there))

    def overview(self) -> Overview:
        """Ask whether the scheduler's task runs."""
        link = connect.load(cluster_state(self.name))
        service = self.ecs.services(["scheduler"]).get("scheduler")
        return Overview(service is not None and service.running > 0, link.scheduler_address)

    def status(self) -> Status:
        """Look at every task."""
        services = self.ecs.services(self.keys)
        sizes = dict.fromkeys(self.spec.workers, 0)
        rows: list[ServiceStatus] = []
        for key in self.keys:
            tasks = self.ecs.tasks(key) if key in services else []
            if key in sizes:
                sizes[key] = len(tasks)
            rows += [_row(key, task) for task in tasks]
            if not tasks and (key not in sizes or services.get(key) is None):
                rows.append(self._absent(key))
        return Status(None, sizes, rows, self.counts())

    def counts(self) -> Counts | None:
        """Ask in the scheduler's task, by SSM: nobody else reaches its pages."""
        try:
            said = self._run(f"-m perennial.counts_page {socket_of(f'{RUN}/pages')}")
            return counts_of(*json.loads(said))
        except (PerennialError, OSError, ValueError, TypeError):
            return None

    def _run(self, words: str) -> str:
        """Run Python in the scheduler's task; return the last line that it prints."""
        options, python = self.spec.options, self.spec.environment.python or "python"
        running = [task for task in self.ecs.tasks("scheduler") if task.is_running]
        if not options.exec or not running:
            raise PerennialError(f"{self.name}: no task of the scheduler that SSM reaches")
        told = {"region": options.region, "profile": options.profile or ""}
        return run(told, self.ecs.cluster, running[-1], "scheduler", f"{python} -P {words}")

    def _absent(self, key: str) -> ServiceStatus:
        """Describe a service without a task: why the last one stopped, or cannot be placed."""
        service = self.ecs.services([key]).get(key)
        if service is None:
            note = "no such service of ECS; `perennial up` makes it"
        else:
            note = troubles.of_service(service) or self._last_words(key)
        return ServiceStatus(key, None, "STOPPED", note=note or None)

    def _last_words(self, key: str) -> str:
        stopped = self.ecs.tasks(key, "STOPPED")
        found = troubles.of_task(key, stopped[-1]) if stopped else None
        return found.text if found else ""

    def logs(self, service: str | None, lines: int, follow: bool) -> Iterator[LogLine]:
        """Read the logs in CloudWatch; of one task, of a service, or of all."""
        return logs.read(self.aws, self.name, self._prefix(service), lines, follow)

    def _prefix(self, word: str | None) -> str:
        """Say how the names of the streams begin."""
        if word is None:
            return ""
        if word in self.keys:
            return f"{word}/"
        group, _, task = word.rpartition("-")
        if group in self.keys and task:
            role = "worker" if group in self.spec.workers else group
            return f"{group}/{role}/{task}"
        raise PerennialError(
            f"{self.name} has no service or group {word!r}; it has {', '.join(self.keys)}"
        )

    def restart(self, service: str, say: Say, _lost: Lost) -> int:
        """Have a service replace its tasks, drained; does not wait."""
        self._require(service)
        say(f"restarting the service {service}")
        count = len(self.ecs.tasks(service))
        self.ecs.redeploy(service)
        return count

    def scale(
        self, wanted: Mapping[str, int], _force: bool, say: Say, _lost: Lost
    ) -> Mapping[str, Resized]:
        """Size services; each task that goes drains, and nobody waits for it."""
        found = self.ecs.services([*wanted])
        sized = {}
        for group, size in wanted.items():
            self._require(group)
            if group not in found:
                raise PerennialError(f"{group}: no such service of ECS; `perennial up` makes it")
            say(f"sizing the service {group}")
            self.ecs.resize(group, size)
            sized[group] = Resized(found[group].desired, size)
        return sized

    def checks(self, python: str | None) -> Iterator[Finding]:
        """Run the checks of `doctor`."""
        from perennial.platforms.fargate.doctor import examine

        return examine(self, python)

    def jupyter(self) -> WebPage | None:
        """Find JupyterLab: at the load balancer, else through a forwarded port."""
        state = cluster_state(self.name)
        link = connect.load(state)
        if link.jupyter_url is None:
            return None
        if not self.spec.options.load_balancer:
            link = tunnel.forwarded(link)
        return WebPage(str(link.jupyter_url), token_file(state), state.secrets)

    def dashboard(self) -> WebPage:
        """Find Dask's dashboard, and its token in the scheduler's task."""
        state = cluster_state(self.name)
        link = connect.load(state)
        tunnel.forwarded(link)
        place = str(urlsplit(link.scheduler_address).hostname)
        port = tunnel.local(self.name, place, self.spec.scheduler.dashboard_port)
        if port is None:
            raise PerennialError(
                f"{self.name}: the dashboard's port is not forwarded; `perennial connect"
                f" {self.name} --port-forward` does, once the scheduler is ready"
            )
        token = self._run(f"-c \"print(open('{token_of(f'{RUN}/pages')}').read())\"")
        file = state.secrets / "dashboard-token"
        write_atomic(file, token)
        return WebPage(f"http://{tunnel.LOOPBACK}:{port}/status", file, state.secrets)

    def _require(self, key: str) -> None:
        if key not in self.keys:
            raise PerennialError(
                f"{self.name} has no service or group {key!r}; it has {', '.join(self.keys)}"
            )


def _row(key: str, task: EcsTask) -> ServiceStatus:
    """Describe a task."""
    state = "RUNNING" if task.is_running else "STARTING"
    uptime = (datetime.now(UTC) - task.started).total_seconds() if task.started else 0.0
    where = " ".join(filter(None, [task.zone, "Spot" if task.spot else ""]))
    note = "ECS reports it unhealthy" if task.health == "UNHEALTHY" else None
    return ServiceStatus(f"{key}-{task.id}", where or None, state, uptime=uptime, note=note)

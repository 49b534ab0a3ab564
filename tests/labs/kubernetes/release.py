"""A release as the Helm chart makes it, on a real API server, whose pods are processes here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic
from typing import Any

import yaml

from perennial.platforms.kubernetes.chart.scaler_objects import ADOPTS, name_of
from perennial.platforms.kubernetes.client import Api, ApiError
from tests.labs.kubernetes.lab import Lab
from tests.ports import free_port

READY = [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}]

#: Seconds between two signs of life of the node.
BEAT = 5.0


def deployment(name: str, release: str, component: str, container: dict[str, Any]) -> Any:
    """Describe a Deployment with the chart's labels: those of all groups are the same."""
    match = {"app": "dask", "release": release, "component": component}
    labels = {**match, "heritage": "Helm", "chart": "dask-2025.11.0"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": match},
            "strategy": {"type": "RollingUpdate"},
            "template": {
                "metadata": {"labels": match},
                "spec": {"containers": [{"image": "dask:1", **container}]},
            },
        },
    }


def chart(release: str, full: str, replicas: int = 2, **groups: int) -> list[Any]:
    """Describe the objects of a release, in the shape of the chart's templates."""
    scheduler = {
        "name": f"{full}-scheduler",
        "args": ["dask-scheduler", "--port=8786", "--dashboard-address=:8787"],
    }
    made = [deployment(f"{full}-scheduler", release, "scheduler", scheduler)]
    made[0]["metadata"]["annotations"] = {"meta.helm.sh/release-name": release}
    for group, size in {"": replicas, **groups}.items():
        worker = {
            "name": f"{full}-worker",
            "args": [
                *("dask-worker", f"{full}-scheduler:8786", "--nthreads", "1"),
                *("--memory-limit", "1G", "--no-dashboard", "--dashboard-address", "8790"),
            ],
            "resources": {"limits": {"cpu": "1", "memory": "1G"}},
        }
        name = f"{full}-worker-{group}" if group else f"{full}-worker"
        made.append(deployment(name, release, "worker", worker))
        made[-1]["spec"]["replicas"] = size
    ports = [("scheduler", 8786, 8786), ("webui", 80, 8787)]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{full}-scheduler", "labels": made[0]["metadata"]["labels"]},
        "spec": {
            "selector": made[0]["spec"]["selector"]["matchLabels"],
            "ports": [
                {"name": f"{full}-{name}", "port": port, "targetPort": target}
                for name, port, target in ports
            ],
        },
    }
    return [*made, service]


class Machine:
    """Runs the pods of a namespace as processes, each on an address of its own on loopback."""

    def __init__(self, lab: Lab, namespace: str, folder: Path, net: int) -> None:
        self.lab = lab
        self.namespace = namespace
        self.folder = folder
        self.net = net
        self.api = Api()
        self.port, self.pages = free_port(), free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.failed: list[str] = []
        #: Whether new pods are left as they are.
        self.held = False
        self.scaler_port = free_port()
        self._next = 1
        self._beaten = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Machine:
        self.api.core.create_node({"metadata": {"name": self.name}})
        self._beat()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for process in self.processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.api.core.delete_node(self.name)

    @property
    def name(self) -> str:
        """Name of the node; pods of one that is not there would be taken for lost."""
        return f"node-of-{self.namespace}"

    def _beat(self) -> None:
        now = datetime.now(UTC).isoformat()
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "here"}
        times = {"lastHeartbeatTime": now, "lastTransitionTime": now}
        body = {"status": {"conditions": [{**ready, **times}]}}
        self.api.call("beat", self.api.core.patch_node_status, self.name, body)
        self._beaten = monotonic()

    def pods(self) -> list[Any]:
        listed: list[Any] = self.api.core.list_namespaced_pod(self.namespace).items
        return listed

    def log(self, part: str) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob(f"{part}*.log")))

    def health_of_the_scaler(self) -> str:
        """What it says of itself to a probe: trouble with a platform stands there."""
        connection = HTTPConnection("127.0.0.1", self.scaler_port, timeout=10)
        connection.request("GET", "/health")
        text = connection.getresponse().read().decode()
        connection.close()
        return text

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            if monotonic() - self._beaten > BEAT:
                self._beat()
            for pod in self.pods():
                try:
                    self._look_after(pod)
                except ApiError:
                    continue  # it has gone in the meantime
                except Exception as error:
                    self.failed.append(repr(error))
                    raise

    def _look_after(self, pod: Any) -> None:
        name = pod.metadata.name
        process = self.processes.get(name)
        if pod.metadata.deletion_timestamp is not None:
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                return
            delete = self.api.core.delete_namespaced_pod
            self.api.call("end a pod", delete, name, self.namespace, grace_period_seconds=0)
        elif pod.spec.node_name is None and not self.held:
            target = {"apiVersion": "v1", "kind": "Node", "name": self.name}
            body = {"metadata": {"name": name}, "target": target}
            bind = self.api.core.create_namespaced_pod_binding
            self.api.call("bind", bind, name, self.namespace, body, _preload_content=False)
            address = f"127.0.{self.net}.{self._next}"
            self._next += 1
            self.processes[name] = self._start(pod, address)
            status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
            patch = self.api.core.patch_namespaced_pod_status
            body = {"status": {**status, "conditions": READY}}
            self.api.call("start", patch, name, self.namespace, body)

    def _start(self, pod: Any, address: str) -> subprocess.Popen[bytes]:
        labels = pod.metadata.labels
        kept = {k: v for k, v in os.environ.items() if not k.startswith("DASK_")}
        if labels.get("component") == "scheduler":
            where = ["--host", "tcp://127.0.0.1", "--port", str(self.port)]
            words = ["dask", "scheduler", *where, "--dashboard-address", f"127.0.0.1:{self.pages}"]
        elif labels.get("component") == "worker":
            arguments = pod.spec.containers[0].args[2:]
            words = ["dask", "worker", f"tcp://127.0.0.1:{self.port}", "--host", address]
            words += [each for each in arguments if each not in ("--dashboard-address", "8790")]
            words += ["--local-directory", str(self.folder / pod.metadata.name)]
        else:
            words = ["perennial.scaler", str(self._settings(labels[ADOPTS], pod.metadata.name))]
            kept["KUBECONFIG"] = str(self._kubeconfig(pod.spec.service_account_name))
        with (self.folder / f"{pod.metadata.name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=self.folder,
                env=kept,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _settings(self, release: str, pod: str) -> Path:
        """What the scaler is told in its pod, with addresses and a folder that are here."""
        read = self.api.core.read_namespaced_config_map
        told = json.loads(read(name_of(release), self.namespace).data["scaler.json"])
        state = self.folder / f"{pod}.state"
        state.mkdir()
        told |= {"scheduler": f"tcp://127.0.0.1:{self.port}", "http": f"127.0.0.1:{self.pages}"}
        told |= {"state": str(state), "port": self.scaler_port}
        path = self.folder / "scaler.json"
        path.write_text(json.dumps(told))
        return path

    def _kubeconfig(self, account: str) -> Path:
        """Who the scaler is in its pod, with the rights of its own account alone."""
        return kubeconfig(self.lab, self.namespace, account, self.folder)


def kubeconfig(lab: Lab, namespace: str, account: str, folder: Path) -> Path:
    """Make a kubeconfig of a service account."""
    config = yaml.safe_load(lab.kubeconfig.read_text())
    token = lab.kubectl("-n", namespace, "create", "token", account).strip()
    config["users"] = [{"name": account, "user": {"token": token}}]
    context = {"cluster": config["clusters"][0]["name"], "user": account}
    config["contexts"] = [{"name": "one", "context": context}]
    config["current-context"] = "one"
    path = folder / f"{account}.conf"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    return path

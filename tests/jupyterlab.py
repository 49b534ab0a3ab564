"""JupyterLab as a service manager runs it, for tests: real processes, no mock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perennial import jupyter
from perennial.services import Site
from perennial.spec.models import Jupyter
from tests.ports import free_port

TOKEN = "c0ffee" + uuid.uuid4().hex


def wait_until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.1)
    return value


@dataclass(frozen=True)
class Lab:
    """A JupyterLab that runs."""

    site: Site
    port: int
    dashboard_port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, token: str | None = TOKEN, data: Any = None, **headers: str) -> int:
        return self.request(path, token, data, **headers)[0]

    def request(
        self, path: str, token: str | None = TOKEN, data: Any = None, **headers: str
    ) -> tuple[int, bytes]:
        """Status and body; a redirect to the login page is not followed."""

        class Stay(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *_: Any) -> None:
                return None

        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(self.url + path, body, headers)
        if token is not None:
            request.add_header("Authorization", f"token {token}")
        try:
            with urllib.request.build_opener(Stay).open(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def kernel(self) -> str:
        status, body = self.request("/api/kernels", data={"name": "python3"})
        assert status == 201, body
        name: str = json.loads(body)["id"]
        return name

    def run(self, kernel: str, code: str) -> str:
        """What a cell prints, through the websocket that a browser uses."""
        import websocket

        channel = websocket.create_connection(
            f"ws://127.0.0.1:{self.port}/api/kernels/{kernel}/channels",
            header={"Authorization": f"token {TOKEN}"},
            timeout=120,
        )
        return run_cell(channel, code)


def run_cell(channel: Any, code: str) -> str:
    """Run a cell through the websocket of a kernel, and close it; return what it prints."""
    ask = uuid.uuid4().hex
    header = {"msg_id": ask, "msg_type": "execute_request", "username": "", "session": ask}
    content = {"code": code, "silent": False, "stop_on_error": True, "allow_stdin": False}
    channel.send(
        json.dumps(
            {
                "header": header | {"version": "5.3"},
                "parent_header": {},
                "metadata": {},
                "content": content,
                "channel": "shell",
            }
        )
    )
    printed = ""
    while True:
        message = json.loads(channel.recv())
        if message["parent_header"].get("msg_id") != ask:
            continue
        kind, content = message["msg_type"], message["content"]
        assert kind != "error", "\n".join(content["traceback"])
        printed += content["text"] if kind == "stream" else ""
        if kind == "status" and content["execution_state"] == "idle":
            channel.close()
            return printed


def make_site(root: Path) -> Site:
    """Folders as a platform makes them, with a token, in a path that needs quoting."""
    site = Site(
        python=sys.executable,
        config=str(root / "config"),
        tls=str(root / "tls"),
        secrets=str(root / "secrets"),
        scratch=str(root / "scratch"),
        address="127.0.0.1",
        home=str(root / "home"),
        pages=str(root / "pages"),
    )
    Path(jupyter.state_directory(site)).mkdir(parents=True, mode=0o700)
    Path(site.home).mkdir()
    write_token(site, TOKEN + "\n")
    return site


def gate(root: Path, **more: Any) -> list[str]:
    """Flags with which a scheduler serves its pages for such a site, beside its configuration."""
    config = root / "gate.yaml"
    root.mkdir(exist_ok=True)
    told = {"perennial": {"pages": {"folder": str(root / "pages"), "shared": False, **more}}}
    config.write_text(json.dumps(told))
    return ["--preload", "perennial.preloads.gate"]


def write_token(site: Site, text: str) -> None:
    path = Path(jupyter.token_file(site))
    path.touch(mode=0o600)
    path.write_text(text)


@contextmanager
def process(argv: list[str], log: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "DASK"))}
    with (
        log.open("wb") as output,
        subprocess.Popen(
            argv, env=clean | variables, stdout=output, stderr=subprocess.STDOUT, cwd="/"
        ) as running,
    ):
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(20)
            except subprocess.TimeoutExpired:
                running.kill()


@contextmanager
def start(
    site: Site,
    spec: Jupyter,
    dashboard_port: int = 1,
    clusters: bool = False,
    **variables: str,
) -> Iterator[Lab]:
    """JupyterLab as a service manager runs it; not waited for."""
    for path, text in jupyter.jupyter_files(spec, site, clusters):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    log = Path(site.config) / f"jupyter-{spec.port}.log"
    environment = dict(jupyter.jupyter_environment(site)) | variables | {"HOME": site.home}
    with process(list(jupyter.jupyter_argv(site)), log, **environment) as running:
        yield Lab(site, spec.port, dashboard_port, running, log)


def wait_for(lab: Lab) -> Lab:
    def answers() -> bool:
        assert lab.process.poll() is None, lab.log.read_text()
        try:
            return lab.ask("/api", token=None) == 200
        except OSError:
            return False

    wait_until(answers, 120, "JupyterLab answers")
    return lab


def spec(**fields: Any) -> Jupyter:
    return Jupyter(**{"port": free_port(), **fields})

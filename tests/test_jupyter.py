"""JupyterLab as a service: real Jupyter, a real scheduler and worker, a real browser."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import stat
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from http.cookiejar import CookieJar
from pathlib import Path

import psutil
import pytest

from perennial import jupyter
from perennial.certificates import make_authority, make_certificate
from perennial.services import Site
from perennial.spec.models import Jupyter
from tests import browser
from tests.jupyterlab import (
    TOKEN,
    Lab,
    gate,
    make_site,
    process,
    spec,
    start,
    wait_for,
    wait_until,
    write_token,
)
from tests.ports import free_port

#: A person's settings for their other Jupyters are not read: they would open or hide this one.
OTHER_SETTINGS = "raise SystemExit('read the settings of another Jupyter')"
DARK = {"theme": "JupyterLab Dark"}
OTHERS = stat.S_IRWXG | stat.S_IRWXO
NEEDS_BROWSER = pytest.mark.skipif(
    browser.chromium() is None, reason="Chromium is not installed (apt-get install chromium)"
)


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="it's 100% ", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def scheduler(root: Path) -> Iterator[tuple[str, int]]:
    """Address of a real scheduler with a worker ``cpu-0``, and its dashboard's port."""
    port, dashboard = free_port(), free_port()
    address = f"tcp://127.0.0.1:{port}"
    dask = [sys.executable, "-m", "dask"]
    listen = ["--host", "127.0.0.1", "--port", str(port)]
    panels = ["--dashboard-address", f"127.0.0.1:{dashboard}", *gate(root / "lab")]
    worker = ["worker", address, "--name", "cpu-0", "--nthreads", "2", "--no-dashboard"]
    room = ["--memory-limit", "1 GiB", "--local-directory", str(root)]
    with (
        process(
            [*dask, "scheduler", *listen, *panels],
            root / "scheduler.log",
            DASK_CONFIG=str(root / "lab" / "gate.yaml"),
        ),
        process([*dask, *worker, *room], root / "worker.log"),
    ):
        yield address, dashboard


@pytest.fixture(scope="module")
def lab(root: Path, scheduler: tuple[str, int]) -> Iterator[Lab]:
    """JupyterLab of that cluster, at a person who has other Jupyters as well."""
    address, dashboard = scheduler
    site = make_site(root / "lab")
    themes = Path(site.home, ".jupyter/lab/user-settings/@jupyterlab/apputils-extension")
    themes.mkdir(parents=True)
    (themes / "themes.jupyterlab-settings").write_text(json.dumps(DARK))
    for name in ("jupyter_server_config.py", "jupyter_lab_config.py", "jupyter_config.py"):
        (Path(site.home) / ".jupyter" / name).write_text(OTHER_SETTINGS)
    config = root / "dask.yaml"
    link = {"dashboard": {"link": jupyter.DASHBOARD_LINK}}
    config.write_text(json.dumps({"scheduler-address": address, "distributed": link}))
    with start(site, spec(), dashboard, DASK_CONFIG=str(config)) as running:
        yield wait_for(running)


PAGES = [
    "/lab",
    "/api/contents",
    "/api/kernels",
    "/api/terminals",
    "/dashboard/status",
    "/dashboard/individual-plots.json",
    "/server-proxy/servers-info",
    "/dask/clusters/",
    "/metrics",
]


@pytest.mark.parametrize("page", PAGES)
def test_only_the_token_opens_a_page(lab: Lab, page: str) -> None:
    path = page.format(dashboard=lab.dashboard_port)
    assert lab.ask(path, token=None) in (302, 403)
    assert lab.ask(path, token=TOKEN[:-1]) in (302, 403)
    assert lab.ask(path) == 200


def test_the_interface_keeps_its_user_settings(lab: Lab) -> None:
    _, body = lab.request("/lab/api/settings/@jupyterlab/apputils-extension:themes")
    assert json.loads(json.loads(body)["raw"]) == DARK


def test_websockets_need_the_token(lab: Lab) -> None:
    import websocket

    kernel = lab.kernel()
    for path in ("/dashboard/individual-progress/ws", f"/api/kernels/{kernel}/channels"):
        address = f"ws://127.0.0.1:{lab.port}{path}"
        with pytest.raises(websocket.WebSocketException):
            websocket.create_connection(address, timeout=30, redirect_limit=-1)
        login = {"Authorization": f"token {TOKEN}"}
        websocket.create_connection(address, timeout=30, header=login).close()


def test_another_host_is_refused(lab: Lab) -> None:
    assert lab.ask("/lab", Host="rebound.example.org") == 403
    # The proxy serves loopback only, or it would be a way into the network behind the cluster.
    assert lab.ask(f"/proxy/127.0.0.2:{lab.dashboard_port}/status") == 403


def test_a_strange_page_cannot_use_the_login(lab: Lab) -> None:
    """A browser sends its cookies whoever asks; only JupyterLab's own pages know the second."""
    jar = CookieJar()
    browser_like = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    browser_like.open(f"{lab.url}/lab?token={TOKEN}", timeout=60).close()
    ask = urllib.request.Request(f"{lab.url}/api/kernels", b"{}", {"Content-Type": "text/plain"})
    with pytest.raises(urllib.error.HTTPError) as refusal:
        browser_like.open(ask, timeout=60)
    assert refusal.value.code == 403
    refusal.value.close()
    ask.add_header("X-XSRFToken", next(c.value or "" for c in jar if c.name == "_xsrf"))
    with browser_like.open(ask, timeout=60) as answer:
        assert answer.status == 201


def test_listens_on_loopback_alone(lab: Lab) -> None:
    listening = psutil.Process(lab.process.pid).net_connections("inet")
    addresses = {c.laddr for c in listening if c.status == psutil.CONN_LISTEN}
    assert ("127.0.0.1", lab.port) in addresses
    assert {ip for ip, _ in addresses} == {"127.0.0.1"}


def test_a_plain_client_in_a_notebook(lab: Lab, scheduler: tuple[str, int]) -> None:
    code = """
from distributed import Client
with Client() as client:
    print(client.scheduler.address, client.submit(sum, [1, 2]).result(), client.dashboard_link)
"""
    printed = lab.run(lab.kernel(), code)
    assert printed == f"{scheduler[0]} 3 {jupyter.DASHBOARD_LINK}\n"
    # The link that a notebook shows leads to this cluster's dashboard.
    status, body = lab.request(jupyter.DASHBOARD_LINK)
    assert status == 200
    assert b"<title>Dask" in body


def test_the_token_is_in_no_process_and_in_no_log(lab: Lab) -> None:
    lab.kernel()
    server = psutil.Process(lab.process.pid)
    kernels = [p for p in server.children(recursive=True) if "ipykernel_launcher" in p.cmdline()]
    assert kernels
    for running in [server, *kernels]:
        for name in ("cmdline", "environ"):
            assert TOKEN.encode() not in Path(f"/proc/{running.pid}/{name}").read_bytes()
    assert TOKEN not in lab.log.read_text()
    for path, text in jupyter.jupyter_files(spec(), lab.site):
        assert TOKEN not in text, path


def test_what_jupyter_writes_is_private(lab: Lab) -> None:
    lab.kernel()
    state = Path(jupyter.state_directory(lab.site))
    assert not (state / "runtime").stat().st_mode & OTHERS
    written = [path for path in (state / "runtime").rglob("*") if path.is_file()]
    assert any(path.name.startswith("kernel-") for path in written)
    for path in written:
        assert not path.stat().st_mode & OTHERS, path
    with_token = [p.name for p in state.rglob("*") if p.is_file() and TOKEN in p.read_text()]
    assert with_token == [f"jpserver-{lab.process.pid}.json"]


def test_nobody_listens_to_a_kernel(lab: Lab) -> None:
    """A kernel's output is published on loopback; without its key nothing arrives."""
    import zmq

    kernel = lab.kernel()
    runtime = Path(jupyter.state_directory(lab.site)) / "runtime"
    connection = json.loads((runtime / f"kernel-{kernel}.json").read_text())
    heard = {}
    with ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        for name in ("stranger", "holder of the key"):
            ear = stack.enter_context(context.socket(zmq.SUB))
            ear.subscribe(b"")
            if name != "stranger":
                ear.curve_publickey = ear.curve_serverkey = connection["curve_publickey"].encode()
                ear.curve_secretkey = connection["curve_secretkey"].encode()
            ear.connect(f"tcp://127.0.0.1:{connection['iopub_port']}")
            heard[name] = ear
        time.sleep(1)
        assert lab.run(kernel, "print('secret')") == "secret\n"
        assert heard["holder of the key"].poll(10_000)
        assert not heard["stranger"].poll(1_000)


@pytest.mark.lab
def test_a_kernel_that_does_nothing_is_shut_down(root: Path) -> None:
    with start(make_site(root / "idle"), spec(idle="2 s")) as running:
        lab = wait_for(running)
        kernel = lab.kernel()
        # A running cell is not nothing, however long it takes.
        assert lab.run(kernel, "import time; time.sleep(4); print('done')") == "done\n"
        wait_until(lambda: lab.ask(f"/api/kernels/{kernel}") == 404, 20, "the kernel is gone")


@pytest.mark.lab
def test_a_new_token_logs_out(root: Path) -> None:
    site, service = make_site(root / "rotated"), spec()
    jar = CookieJar()
    browser_like = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    with start(site, service) as running:
        wait_for(running)
        browser_like.open(f"{running.url}/lab?token={TOKEN}", timeout=60).close()
        browser_like.open(f"{running.url}/api/status", timeout=60).close()
    write_token(site, "another-token")
    with start(site, service) as running:
        wait_for(running)
        with pytest.raises(urllib.error.HTTPError) as refusal:
            browser_like.open(f"{running.url}/api/status", timeout=60)
        assert refusal.value.code == 403
        refusal.value.close()


def _typed(lab: Lab, line: str, until: str) -> str:
    """Type a line into a new terminal; what it prints until there is such a text."""
    import websocket

    status, body = lab.request("/api/terminals", data={})
    assert status == 200, body
    channel = websocket.create_connection(
        f"ws://127.0.0.1:{lab.port}/terminals/websocket/{json.loads(body)['name']}",
        header={"Authorization": f"token {TOKEN}"},
        timeout=60,
    )
    channel.send(json.dumps(["stdin", f"{line}\r"]))
    printed = ""
    while until not in printed:
        kind, *rest = json.loads(channel.recv())
        printed += rest[0] if kind == "stdout" else ""
    channel.close()
    return printed


@pytest.mark.lab
def test_a_terminal_finds_the_environment_s_programs(root: Path) -> None:
    """It is a login shell, and /etc/profile of many systems sets PATH anew; so does this one."""
    site = make_site(root / "terminal")
    (Path(site.home) / ".profile").write_text("PATH=/usr/bin:/bin; FROM_PROFILE=here\n")
    with start(site, spec(), PATH="/usr/bin:/bin", SHELL="/bin/bash") as lab:
        wait_for(lab)
        said = _typed(lab, "echo =$(command -v python)=", "python=")
    assert f"={Path(sys.executable).parent}/python=" in said


@pytest.mark.parametrize("token", [None, " \n"], ids=repr)
def test_no_token_no_start(root: Path, token: str | None) -> None:
    site = make_site(root / f"no-token-{uuid.uuid4().hex}")
    path = Path(jupyter.token_file(site))
    path.unlink() if token is None else path.write_text(token)
    with start(site, spec()) as refused:
        assert refused.process.wait(120) == 1
    log = refused.log.read_text()
    assert log.startswith("jupyter: ")
    assert str(path) in log
    assert "`perennial up`" in log
    assert "Traceback" not in log


def test_a_taken_port_is_an_error(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = spec(port=other.getsockname()[1])
        with start(make_site(root / "taken"), taken) as refused:
            assert refused.process.wait(120) != 0
    assert str(taken.port) in refused.log.read_text()


def test_rendering_is_exact_and_repeatable() -> None:
    site = Site("/python", "/c", "/t", "/s", "/x", "127.0.0.1", "/home/someone")
    service = Jupyter(port=9000, directory="~/{{ here }} {% is %} 100 %", idle="90 s")
    files = jupyter.jupyter_files(service, site)
    assert files == jupyter.jupyter_files(service, site)
    (config, text), (overrides, settings) = files
    assert config == "/c/jupyter/jupyter_server_config.py"
    assert jupyter.jupyter_argv(site)[-1] == f"--config={config}"
    compile(text, config, "exec")
    assert "directory = '/home/someone/{{ here }} {% is %} 100 %'\n" in text
    assert "cull_idle_timeout = 90\n" in text
    assert "cull_interval = 9\n" in text
    assert overrides == "/c/jupyter/labconfig/default_setting_overrides.json"
    assert json.loads(settings)["dask-labextension:plugin"]["defaultURL"] == "/dashboard"


def test_off_the_machine_it_speaks_https(root: Path) -> None:
    site = replace(make_site(root / "https"), jupyter_address="127.0.0.2", dashboard=False)
    Path(site.tls).mkdir()
    now = datetime.now(UTC)
    ca = make_authority("lab", now)
    made = make_certificate(ca, "jupyter", ("127.0.0.2", "machine-a"), now)
    for path, pem in zip(jupyter.certificate_files(site), (made.cert, made.key), strict=True):
        Path(path).write_bytes(pem)
    trust = ssl.create_default_context(cadata=ca.cert.decode())

    def ask(scheme: str, host: str, path: str, **headers: str) -> int:
        request = urllib.request.Request(f"{scheme}://{host}:{port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30, context=trust) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def answers() -> bool:
        assert running.process.poll() is None, running.log.read_text()
        try:
            return ask("https", "127.0.0.2", "/api") == 200
        except OSError:
            return False

    with start(site, spec()) as running:
        port = running.port
        wait_until(answers, 120, "JupyterLab answers")
        known = {"Authorization": f"token {TOKEN}"}
        assert ask("https", "127.0.0.2", "/api/contents") == 403
        assert ask("https", "127.0.0.2", "/api/contents", **known) == 200
        # By whatever name it is called.
        assert ask("https", "127.0.0.2", "/api/contents", Host="machine-a", **known) == 200
        with pytest.raises((OSError, http.client.HTTPException)):
            ask("http", "127.0.0.2", "/api")
        with pytest.raises((OSError, http.client.HTTPException)):
            ask("https", "127.0.0.1", "/api")
        # There is no dashboard on this machine, and nothing promises one.
        assert ask("https", "127.0.0.2", "/dashboard/status", **known) == 404


@pytest.mark.parametrize(
    ("given", "folder"),
    [("~", "/home/me"), ("~/a b", "/home/me/a b"), ("/data/n", "/data/n")],
)
def test_notebook_directory(given: str, folder: str) -> None:
    site = Site("/python", "/c", "/t", "/s", "/x", "127.0.0.1", "/home/me")
    assert jupyter.notebook_directory(Jupyter(directory=given), site) == folder


def test_page_that_logs_in(tmp_path: Path) -> None:
    jupyter.open_url_file("http://127.0.0.1:1/lab", "old", tmp_path)
    page = jupyter.open_url_file("http://127.0.0.1:1/lab", 'a&b"c', tmp_path)
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert "http://127.0.0.1:1/lab?token=a%26b%22c" in page.read_text()
    # The token of an earlier call does not stay behind.
    assert list(tmp_path.iterdir()) == [page]


@pytest.mark.smoke
@pytest.mark.lab
@NEEDS_BROWSER
def test_panels_show_this_cluster_with_nothing_typed(lab: Lab, scheduler: tuple[str, int]) -> None:
    from distributed import Client
    from playwright.sync_api import expect

    expect.set_options(timeout=60_000)

    page_file = jupyter.open_url_file(f"{lab.url}/lab", TOKEN, Path(lab.site.secrets))
    with browser.browser_page() as page, Client(scheduler[0]) as client:
        page.goto(page_file.as_uri())
        browser.wait_for_lab(page)
        assert TOKEN not in page.url
        sidebar = browser.open_dask_sidebar(page)
        expect(sidebar.get_by_role("button", name="Task Stream", exact=True)).to_be_enabled()
        # The extension's own clusters, which would die with Jupyter, are not offered.
        expect(page.get_by_text("NEW", exact=True)).to_be_hidden()

        workers = browser.open_dask_panel(page, "Workers")
        expect(workers.get_by_text("cpu-0").first).to_be_visible()
        progress = browser.open_dask_panel(page, "Progress")
        futures = client.map(str, range(7))
        browser.wait_for_plot_title(progress, "in-memory: 7")
        del futures
        browser.wait_for_plot_title(progress, "in-memory: 0")

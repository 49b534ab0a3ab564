"""`connect --stack` with the real engine: a cluster here, and some whose machines are folders."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from perennial.supervision.boot import has_systemd
from tests.homes import PERENNIAL, Home
from tests.spec.strategies import HOST_KEY
from tests.ssh.sshd import MISSING, keygen
from tests.stacks.conftest import Site
from tests.stacks.projects import Project

pytestmark = pytest.mark.lab

HERE = """
import json
import pulumi
from perennial.stacks.local import LocalCluster
cluster = LocalCluster("c", json.loads({spec!r}))
pulumi.export("cluster", cluster.cluster)
pulumi.export("connection", cluster.connection)
"""

TWO = """
from pathlib import Path
import pulumi
from perennial.stacks.hosts import HostsCluster
def made(name, *machines):
    return HostsCluster(name, {
        "name": name,
        "environment": {"python": "/opt/dask/bin/python"},
        "env": {"WORD": pulumi.Output.secret("Tr0ub4dor")},
        "workers": {"zeta": {"count": 1}, "alpha": {"count": 2}},
        "dask": {"distributed.comm.retry.count": None},
        "hosts": {"machines": [
            {"name": f"w{place}", "address": pulumi.Output.from_input(each), "user": "dask",
             "port": pulumi.Output.from_input(2222), "host_key": pulumi.Output.from_input(HOST_KEY),
             "private_key": Path("../key").read_text()}
            for place, each in enumerate(machines)
        ]},
    })
pulumi.export("one", made("one", *ONE))
pulumi.export("others", {"list": [made("two", "mc").cluster]})
"""

#: A user whose Python has no dask-perennial.
ALONE = "import sys\nsys.modules['perennial'] = None\n"


def block(page: str, word: str) -> str:
    """Return the example of a page that holds a word."""
    text = (Path(__file__).parents[2] / "docs" / "guide" / page).read_text()
    [found] = [each for each in re.findall(r"```python\n(.*?)```", text, re.S) if word in each]
    return str(found)


class User:
    """Somebody with a home of their own who runs `perennial` beside a project."""

    def __init__(self, project: Project, home: Path | None = None) -> None:
        self.project = project
        self.environment = dict(project.environment)
        if home is not None:
            home.mkdir()
            self.environment |= {"HOME": str(home), "XDG_STATE_HOME": str(home / "s")}
        self.state = Path(self.environment["XDG_STATE_HOME"]) / "perennial"

    def run(self, words: str, code: int = 0, said: str = "", **more: str | None) -> tuple[str, str]:
        """Run a command; return what it prints and, without its progress, what it warns of."""
        environment = {**self.environment, **more}
        done = subprocess.run(
            [PERENNIAL, *words.split()],
            env={name: text for name, text in environment.items() if text is not None},
            cwd=self.project.folder,
            input=said,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == code, f"{words}:\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        lines = done.stderr.splitlines(keepends=True)
        progress = re.compile(r"[a-z/]+: reading the stack's outputs\n")
        return done.stdout, "".join(line for line in lines if not progress.fullmatch(line))

    def listed(self) -> list[Path]:
        """What is in the state, but for the files that a scaler writes while it runs."""
        return sorted(path for path in self.state.rglob("*") if path.parent.name != "scaler")

    def refused(self, words: str, said: str = "", **more: str | None) -> str:
        """Why a command is refused: one line, and nothing is written."""
        before = self.listed()
        out, err = self.run(words, 1, said, **more)
        assert (out, err.count("\n")) == ("", 1), err
        assert self.listed() == before
        return err.removesuffix("\n")

    def files(self) -> dict[str, str]:
        """Everything that is remembered."""
        kept = (path for path in self.state.rglob("*") if path.is_file() and path.name != "lock")
        return {str(path.relative_to(self.state)): path.read_text() for path in kept}


def program(project: Project, text: str) -> Path:
    file = project.folder / "program.py"
    file.write_text(text)
    return file


@pytest.fixture
def local(jupyter_home: Home) -> Project:
    """A project of a cluster on this machine, with everything; its stack has no outputs."""
    from tests.labs.hosts.base import UnavailableError
    from tests.labs.pulumi import engine

    try:
        folder = engine()
    except UnavailableError as error:
        pytest.skip(str(error))
    jupyter_home.environment["PATH"] = f"{folder}:{jupyter_home.environment['PATH']}"
    project = Project(jupyter_home)
    project.pulumi("stack", "init", "dev")
    return project


@pytest.fixture
def project(site: Site) -> Project:
    """A project of clusters whose machines are folders."""
    if MISSING:
        pytest.skip(MISSING)
    made = Project(site)
    keygen(site.root / "key")
    made.pulumi("stack", "init", "dev")
    return made


def one(project: Project, *machines: str) -> Path:
    text = TWO.replace("*ONE", ", ".join(map(repr, machines))).replace("HOST_KEY", repr(HOST_KEY))
    return program(project, text)


@pytest.mark.smoke
@pytest.mark.timeout(1800)
def test_life_of_a_cluster_on_this_machine(local: Project, jupyter_home: Home) -> None:
    home = jupyter_home
    home.spec["workers"]["gpu"] = {"count": 1, "memory": "1 GiB", "scale": {"min": 1, "max": 2}}
    file = program(local, HERE.format(spec=json.dumps(home.spec)))
    local.inline("up", file)
    user = User(local)
    refuse_what_pulumi_does(user, home)
    operate(user, home)
    refuse_what_pulumi_does(user, home)
    told = local.pulumi("stack", "output", "connection", "--show-secrets")
    use_by_its_output(user, home, told)

    # Certificates that were made anew are told by the next refresh, and nothing restarts.
    pids = {name: home.pid(name) for name in ("scheduler", "gpu-0", "jupyter")}
    user.run("rotate")
    local.inline("up", file, refresh=True)
    now = json.loads(local.pulumi("stack", "output", "connection", "--show-secrets"))
    assert now["tls"]["cert"] == (home.state / "tls" / "client.pem").read_text()
    assert now["tls"]["cert"] != json.loads(told)["tls"]["cert"]
    assert now["token"] == (home.state / "secrets" / "jupyter-token").read_text()
    kept = local.kept()
    assert not [each for each in (now["token"], now["tls"]["key"].split()[4]) if each in kept]

    out, _ = user.run("disconnect")
    assert f"lab is forgotten here; the stack dev in {local.folder} still deploys it\n" in out
    assert "Client() in a new Python process no longer reaches lab" in out
    assert {name: home.pid(name) for name in pids} == pids
    assert not (home.state / "stack.json").exists()
    local.inline("up", file)  # it is Pulumi's again, and nothing restarts
    assert {name: home.pid(name) for name in pids} == pids
    refuse_what_pulumi_does(user, home)
    local.inline("destroy", file)
    home.up("--no-connect")  # nobody owns the name any more
    user.run("down --force")


def operate(user: User, home: Home) -> None:
    """Do what works after `perennial up`, and what Pulumi does instead."""
    out, _ = user.run("connect --stack dev")
    address = f"tls://127.0.0.1:{home.spec['scheduler']['port']}"
    assert f"Client() in a new Python process reaches lab at {address}" in out
    ask = "from distributed import Client; c = Client(); print(c.submit(sum, [1, 2]).result(60))"
    assert home.python(ask) == "3"
    assert "lab                  local    up" in user.run("list")[0]
    assert "gpu-0" in user.run("status")[0]
    assert user.run("logs scheduler")[0]
    assert home.workers() == {"cpu-0", "cpu-1", "gpu-0"}
    user.run("scale cpu=1")
    assert home.workers() == {"cpu-0", "gpu-0"}
    assert "restarted" in user.run("restart cpu --force")[0]
    user.run("pause")
    assert "paused" in user.run("explain")[0]
    user.run("resume")
    assert "paused" not in user.run("explain")[0]
    user.run("history")
    assert "http://127.0.0.1:" in user.run("open --print")[0]
    user.run("doctor")


def refuse_what_pulumi_does(user: User, home: Home) -> None:
    """Whoever would deploy or take down what a stack owns is given Pulumi's command."""
    home.write()
    words = {"plan": "preview", "up --yes": "up", "refresh": "refresh", "down --force": "destroy"}
    for ours, theirs in words.items():
        for given in ("", f" -f {home.file}"):  # there is no file in the program's folder
            assert user.refused(ours + given) == (
                "lab: Pulumi's stack dev owns it, so nothing is deployed from here; run"
                f" `pulumi -C {user.project.folder} {theirs} --stack dev`"
            )
    if not has_systemd():
        assert user.refused("enable") == (
            "no systemd runs this machine; have"
            f" `pulumi -C {user.project.folder} up --stack dev` run after each boot"
        )


def use_by_its_output(user: User, home: Home, told: str) -> None:
    """Connect by what Pulumi prints: without dask-perennial, and in another home."""
    code = f"{ALONE}{block('connecting.md', 'tls_client_cert')}\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "print(client.submit(sum, [1, 2]).result(60))"],
        input=told,
        env=user.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "3\n", done.stderr
    stranger = User(user.project, home.root / "stranger")
    assert " reaches lab at tls://127.0.0.1:" in stranger.run("connect -", said=told)[0]
    hidden = user.project.pulumi("stack", "output", "connection")
    assert stranger.refused("connect -", hidden) == (
        "standard input: found [secret]; add --show-secrets to `pulumi stack output`"
    )
    # The processes are of the user who deployed it.
    assert stranger.refused("connect --stack dev --replace").startswith(
        "lab: not the stack's cluster here; it stands where `pulumi up` ran: run this there"
    )


@pytest.mark.timeout(1800)
def test_several_clusters_on_machines(project: Project, site: Site) -> None:
    project.inline("up", one(project, "ma", "mb"))
    user, folder = User(project), project.folder
    several = "dev: several clusters; choose one with -c: one, two"
    assert user.refused("connect --stack dev") == several
    assert user.refused("connect --stack dev -c x") == "dev: no cluster x; it has one, two"

    out, _ = user.run("connect --stack dev -c one")
    assert out.startswith("Client() in a new Python process does not reach it: tls://ma:8786: ")
    user.run(f"connect --stack organization/project/dev --cwd {folder} -c two")
    listed = user.run("list")[0].splitlines()
    assert [line.split()[0] for line in listed] == ["one", "two"]
    assert listed[0].endswith(f"  stack dev in {folder}")
    # The machines are asked as the program says: by name, address, user and port.
    assert "w1 w1 UNREACHABLE" in " ".join(user.run("status -c one")[0].split())
    assert user.refused("down -c one") == (
        "one: Pulumi's stack dev owns it, so nothing is deployed from here; run"
        f" `pulumi -C {folder} destroy --stack dev`"
    )
    assert user.refused("rotate -c one").startswith(
        f"one: certificates of machines are renewed by `pulumi -C {folder} up --stack dev` in the"
    )
    assert user.refused("forget w1 -c one").endswith(f" {folder} state delete URN --stack dev`")

    # What `perennial up` would keep of the same file, and nothing more.
    kept = user.files()
    from perennial.spec import loads

    spec = loads(kept["one/cluster.yaml"])
    assert list(spec.workers) == ["zeta", "alpha"]
    assert [
        (each.called, each.address, each.user, each.port) for each in spec.options.machines
    ] == [
        ("w0", "ma", "dask", 2222),
        ("w1", "mb", "dask", 2222),
    ]
    assert spec.dask == {"distributed.comm.retry.count": None}
    assert spec.env == {"WORD": "Tr0ub4dor"}
    key = (site.root / "key").read_text()
    assert {(each.host_key, each.private_key) for each in spec.options.machines} == {
        (HOST_KEY, key)
    }
    ours = {name.partition("/")[2] for name in kept if name.startswith("one/")}
    assert ours == {
        *("cluster.yaml", "connection.json", "stack.json", "state.json"),
        *("secrets/jupyter-token", "tls/ca.pem", "tls/client.pem", "tls/client-key.pem"),
    }
    modes = {stat.S_IMODE(path.stat().st_mode) for path in user.state.rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert not [each for each in ("Tr0ub4dor", key.splitlines()[2]) if each in project.kept()]

    # Again after another `pulumi up`: one more machine is taken over, another address asked for.
    project.inline("up", one(project, "ma", "mb", "md"))
    user.run("connect --stack dev -c one")
    assert "md" in user.files()["one/cluster.yaml"]
    assert user.files()["two/cluster.yaml"] == kept["two/cluster.yaml"]
    project.inline("up", one(project, "me", "mb"))
    refusal = user.refused("connect --stack dev -c one")
    assert "dev: found another cluster named one than known here: address tls://ma:8786" in refusal
    assert refusal.endswith("stdin is no terminal: add --replace to continue")
    user.run("connect --stack dev -c one --replace")
    assert "tls://me:8786" in user.files()["one/connection.json"]
    other = user.refused("connect --stack organization/project/dev -c one")
    assert other.startswith(f"one: known here from another stack: dev in {folder} → organization/")

    assert "two is forgotten here" in user.run("disconnect -c two")[0]
    assert "one is forgotten here" in user.run("disconnect -c one")[0]
    assert user.files() == {}
    assert site.machines().keys() == {"me", "mb", "mc"}
    assert user.run("disconnect")[0] == "not connected: Client() starts a LocalCluster\n"


def test_what_is_in_the_way_of_a_name(project: Project, site: Site) -> None:
    """A cluster that was deployed from here, and what is left of one, are nobody else's."""
    site.spec |= {"name": "one"}
    site.up()
    project.inline("up", one(project, "md"))
    user = User(project)
    assert user.refused("connect --stack dev -c one --replace") == (
        "one: deployed from here by `perennial up`; `perennial down -c one` takes that one down,"
        " or give one of the two another name"
    )
    site.run("down", "--force")
    refusal = user.refused("connect --stack dev -c one --replace")
    assert refusal.endswith("`perennial down -c one --purge` removes them")
    site.run("down", "-c", "one", "--purge")
    user.run("connect --stack dev -c one")
    assert site.run("up", "--yes", code=1).startswith(
        "one: Pulumi's stack dev owns it, so nothing is deployed from here; run "
    )


def test_each_error_is_one_line_and_says_what_to_do(project: Project, site: Site) -> None:
    user, folder = User(project), project.folder
    assert user.refused("connect --stack dev") == (
        f"dev: no outputs yet; run `pulumi -C {folder} up --stack dev`"
    )
    project.inline("up", program(project, "import pulumi; pulumi.export('x', {'y': [1]})"))
    assert user.refused("connect --stack dev") == (
        "dev: no output describes a cluster; `pulumi.export(NAME, component.cluster)` in the"
        " program, then `pulumi up`, makes one"
    )
    assert user.refused("connect --stack nope") == (
        f"nope: pulumi: no stack named 'nope' found; `pulumi -C {folder} stack ls` lists the stacks"
    )
    for words in (f"connect --stack dev --cwd {site.root}", "connect --stack dev --cwd .."):
        refusal = user.refused(words)
        assert refusal.startswith("dev: pulumi: ")
        assert refusal.endswith("; name its folder with --cwd")
    assert user.refused("connect --stack dev --cwd none") == (
        f"{folder}/none: no such folder; name that of the program with --cwd"
    )
    logged_out = user.refused("connect --stack dev", PULUMI_BACKEND_URL=None)
    assert logged_out.endswith("run `pulumi login`, or set PULUMI_BACKEND_URL as for `pulumi up`")
    away = user.refused("connect --stack dev", PATH="/usr/bin:/bin")
    assert away.startswith("pulumi: no usable command line of Pulumi's: it is neither on PATH nor")
    assert "--stack takes no NAME" in user.refused("connect lab --stack dev")
    assert "--cwd and --cluster need --stack" in user.refused("connect -c lab")

    project.inline(
        "up", program(project, "import pulumi; pulumi.export('x', pulumi.Output.secret(1))")
    )
    for phrase in (None, "wrong"):
        locked = user.refused("connect --stack dev", PULUMI_CONFIG_PASSPHRASE=phrase)
        assert "passphrase" in locked
        assert locked.endswith(
            "set PULUMI_CONFIG_PASSPHRASE_FILE to the file with the stack's passphrase"
        )

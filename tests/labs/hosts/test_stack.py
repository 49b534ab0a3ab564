"""A cluster that somebody's `pulumi up` has deployed, operated from another seat by its stack.

The tests run in their order.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.labs.hosts.clusters import Cluster, cluster_file
from tests.labs.hosts.network import Network

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

GROUPS = {
    "cpu": {"count": 2, "memory": "512 MiB"},
    "gpu": {"count": 1, "memory": "512 MiB", "scale": {"min": 1, "max": 2}},
}
#: Runs the program of `template/` as the ordinary command line would.
PULUMI = """\
import json, sys
from pathlib import Path
from pulumi import automation
from perennial.stacks.program import main
action, name, told = *sys.argv[1:], Path("cluster.yaml").read_text()
stack = automation.create_or_select_stack(
    name, "project", main, opts=automation.LocalWorkspaceOptions(work_dir="project")
)
stack.set_config("perennial:cluster", automation.ConfigValue(told))
getattr(stack, action)(on_output=print)
"""


class Deployed(Cluster):
    """A cluster of a Pulumi project."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        network.machine("bastion", "outside")
        network.machines("machine-a", "machine-b")
        self.environment = {
            "PULUMI_BACKEND_URL": f"file://{self.operator.home}/states",
            "PULUMI_CONFIG_PASSPHRASE": "not one",
        }
        for folder in ("project", "states"):
            (self.operator.home / folder).mkdir()
        provider = {"name": "perennial", "path": str(Path(sys.prefix, "bin"))}
        project = {"name": "project", "runtime": "python", "plugins": {"providers": [provider]}}
        (self.operator.home / "project" / "Pulumi.yaml").write_text(json.dumps(project))
        self.write(cluster_file(workers=GROUPS, hosts={"machines": ["machine-a", "machine-b"]}))

    def pulumi(self, action: str, stack: str = "dev", check: bool = True) -> str:
        """Do what `pulumi up` or `pulumi destroy` does; return what is said."""
        words = (sys.executable, "-c", PULUMI, action, stack)
        done = self.operator.run(*words, env=self.environment, timeout=200, check=check)
        assert check or done.returncode, "refused"
        return done.stdout

    def attach(self, *words: str) -> str:
        """Run `perennial connect --stack`."""
        command = ("perennial", "connect", "--stack", "dev", "--cwd", "project", *words)
        return self.operator.run(*command, env=self.environment).stdout


@pytest.fixture(scope="module")
def cluster(network: Network) -> Deployed:
    made = Deployed(network)
    made.pulumi("up")
    return made


def test_nothing_is_known_before(cluster: Deployed) -> None:
    assert "no clusters found" in cluster.perennial("status", check=False).stderr


def test_nobody_else_gets_its_machines(cluster: Deployed) -> None:
    """Where nothing is known of the stack, the machines tell; nothing is begun."""
    owns = "machine-a: Pulumi's stack project/dev owns lab there; rename this cluster, take that"
    for words in ("plan", "up --yes"):
        done = cluster.perennial(*words.split(), check=False)
        assert done.returncode == 1
        assert owns in done.stderr
        assert done.stderr.endswith("or, to take it over, add --force\n")
    assert not (cluster.operator.home / ".local/state/perennial/lab").exists()
    for action in ("preview", "up"):
        assert owns in cluster.pulumi(action, "prod", check=False)


def test_it_works_as_after_up(cluster: Deployed) -> None:
    assert "reaches lab at tls://machine-a:8786" in cluster.attach()
    assert cluster.client("print(client.submit(sum, [1, 2]).result())") == "3\n"
    before = cluster.pids()
    assert {name.rpartition("-")[0] or name for name in before} >= {"scheduler", "jupyter"}
    assert cluster.workers() == 3
    assert cluster.perennial("logs", "scheduler").stdout
    assert "lab" in cluster.perennial("list").stdout
    cluster.perennial("scale", "cpu=1")
    assert cluster.workers() == 2
    cluster.perennial("restart", "jupyter", "--force")
    assert cluster.pids()["jupyter"] != before["jupyter"]
    cluster.perennial("pause")
    assert "paused" in cluster.perennial("explain").stdout
    cluster.perennial("resume")
    cluster.perennial("history")
    assert "https://machine-a:8888" in cluster.perennial("open", "--print").stdout
    assert cluster.perennial("doctor", check=False).returncode == 0


def test_what_pulumi_owns(cluster: Deployed) -> None:
    folder = cluster.operator.home / "project"
    for words, theirs in {("down", "--force"): "destroy", ("plan",): "preview"}.items():
        done = cluster.perennial(*words, check=False)
        assert done.stderr == (
            "lab: Pulumi's stack dev owns it, so nothing is deployed from here; run"
            f" `pulumi -C {folder} {theirs} --stack dev`\n"
        )


def test_another_pulumi_up_is_taken_over(cluster: Deployed) -> None:
    more = {**GROUPS, "big": {"count": 1, "memory": "768 MiB"}}
    cluster.write(cluster_file(workers=more, hosts={"machines": ["machine-a", "machine-b"]}))
    cluster.pulumi("up")
    cluster.attach()
    assert "big" in " ".join(cluster.services())


def test_another_name_of_the_stack_changes_what_the_machines_know(cluster: Deployed) -> None:
    before = cluster.pids()
    for old, new in (("dev", "next"), ("next", "dev")):
        words = ("pulumi", "-C", "project", "stack", "rename", new, "--stack", old)
        cluster.operator.run(*words, env=cluster.environment)
        assert "2 updated" in cluster.pulumi("up", new)
        assert "unchanged" in cluster.pulumi("up", new)
    assert cluster.pids() == before


def test_a_laptop_without_a_route_connects_through_a_bastion(cluster: Deployed) -> None:
    laptop, folder = cluster.network.laptop, cluster.operator.home / "project"
    through = ("connect", "--stack", "dev", "--cwd", str(folder), "--ssh", "ops@bastion")
    said = laptop.run("perennial", *through, env=cluster.environment).stdout
    assert "reaches lab at tls://127.0.0.1:8786, tunnel through ops@bastion" in said
    code = "from distributed import Client; print(Client().submit(sum, [1, 2]).result())"
    assert laptop.run(sys.executable, "-c", code).stdout == "3\n"
    said = laptop.run("perennial", "disconnect", "-c", "lab").stdout
    assert "the tunnel to lab is closed" in said
    assert f"lab is forgotten here; the stack dev in {folder} still deploys it" in said
    assert not (laptop.home / ".local/state/perennial/lab").exists()


def test_disconnect_forgets_and_touches_nothing(cluster: Deployed) -> None:
    before = cluster.pids()
    cluster.perennial("disconnect")
    assert not (cluster.operator.home / ".local/state/perennial/lab").exists()
    cluster.attach()
    assert cluster.pids() == before
    cluster.perennial("disconnect", "-c", "lab")
    cluster.pulumi("destroy")

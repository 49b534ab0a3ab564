"""Edits of a Pulumi program by chance: what stands on the machines is what Pulumi believes.

The engine is real and machines are folders. Each step edits one or two properties, or none, and
then has Pulumi do something: preview, up, up of some resources alone, replace one, refresh, destroy
some, forget one, rename the stack. Sometimes a machine does not answer meanwhile; sometimes a stack
of somebody else's asks for the same machines, and gets none.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.labs.pulumi import settings

if TYPE_CHECKING:
    from tests.stacks.conftest import Site

pytestmark = [pytest.mark.lab, pytest.mark.timeout(7200)]

Args = dict[str, Any]

#: What Pulumi is asked for; "broken" is an `up` while a machine does not answer.
DEEDS = (
    *("preview", "refresh", "up", "up", "up", "replace"),
    *("target", "broken", "broken", "destroy", "delete", "rename", "stranger"),
)

#: A program that does what it is told, line by line: one process for many deployments.
PROGRAM = """
import json, os, sys
from pulumi import automation
from perennial.errors import PerennialError
from perennial.stacks.hosts import HostsCluster

told = {}

def program():
    for name, args in told.items():
        HostsCluster(name, args)

def opened(name, project):
    os.makedirs(project, exist_ok=True)
    options = automation.LocalWorkspaceOptions(
        work_dir=project, project_settings=automation.ProjectSettings(project, "python"))
    return automation.create_or_select_stack(name, project, program=program, opts=options)

def run(*words):
    workspace = stack.workspace
    words = ["stack", *words] if words[0] == "rename" else ["state", *words]
    workspace.pulumi_command.run(
        [*words, "--stack", stack.name], workspace.work_dir, workspace.env_vars)

for line in sys.stdin:
    asked = json.loads(line)
    stack = opened(asked["stack"], asked["project"])
    told.clear()
    told.update(asked["told"])
    steps, errors = [], []
    def hear(event):
        step = event.resource_pre_event and event.resource_pre_event.metadata
        if step and step.op.value != "same":
            steps.append([step.op.value, step.urn.rpartition("::")[2]])
        if event.diagnostic_event and event.diagnostic_event.severity == "error":
            errors.append(event.diagnostic_event.message)
    failed = ""
    try:
        if asked["do"] == "delete":
            run("delete", asked["urn"], "--yes", "--force")
        elif asked["do"] == "rename":
            run("rename", asked["options"]["to"])
            stack = opened(asked["options"]["to"], asked["project"])
        else:
            getattr(stack, asked["do"])(on_event=hear, **asked["options"])
    except automation.CommandError as error:
        failed = str(error)[-2000:]
    state = stack.export_stack().deployment
    print(json.dumps({
        "steps": steps, "errors": errors, "failed": failed,
        "resources": state.get("resources") or []}), flush=True)
"""


class Editor:
    """A Pulumi program under edits, and what becomes of the machines."""

    def __init__(self, site: Site, seed: int) -> None:
        self.site, self.chance, self.stack = site, random.Random(seed), "s"
        self.history: list[str] = []
        self.told: dict[str, Any] = {"lab": self._cluster("lab", ["ma", "mb", "mc"])}
        self.resources: list[dict[str, Any]] = []
        self.forgotten: set[str] = set()
        self._stderr = (site.root / "stderr").open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={
                **site.environment,
                "NAP": "0",
                "PATH": f"{Path(sys.executable).parent}:{site.environment['PATH']}",
                **settings(site.root),
            },
            cwd=site.root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )

    def close(self) -> None:
        """End the program."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
        self._stderr.close()

    def _cluster(self, name: str, machines: list[str]) -> dict[str, Any]:
        return {
            "name": name,
            "environment": {"python": "/opt/dask/bin/python"},
            "workers": {"cpu": {"memory": "1 GiB"}},
            "hosts": {"machines": [{"address": one, "name": one} for one in machines]},
        }

    def edit(self) -> None:
        """Change one property, by chance."""
        name = self.chance.choice(sorted(self.told))
        kind = self.chance.choice(sorted(EDITS))
        self.history.append(f"edit {name} {kind}")
        EDITS[kind](self, name, self.told[name])

    def count(self, _name: str, args: Args) -> None:
        args["workers"]["cpu"]["count"] = self.chance.randint(1, 5)
        args["workers"]["cpu"].pop("scale", None)

    def scale(self, _name: str, args: Args) -> None:
        args["workers"]["cpu"].pop("count", None)
        args["security"] = {"tls": True}  # else it is refused
        args["workers"]["cpu"]["scale"] = {"max": self.chance.randint(3, 9)}

    def dask(self, _name: str, args: Args) -> None:
        args["dask"] = {"distributed.comm.retry.count": self.chance.choice([None, 3, 2.5])}

    def jupyter(self, _name: str, args: Args) -> None:
        args["jupyter"] = self.chance.choice([None, {"port": 8888}, {"port": 9888}])

    def port(self, _name: str, args: Args) -> None:
        args["scheduler"] = {"port": self.chance.randint(8000, 8700)}

    def tls(self, _name: str, args: Args) -> None:
        scaled = "scale" in args["workers"]["cpu"]
        args["security"] = {"tls": scaled or self.chance.random() < 0.5}

    def machine(self, _name: str, args: Args) -> None:
        """Take a machine away, or add one."""
        machines = args["hosts"]["machines"]
        if len(machines) > 2 and self.chance.random() < 0.5:
            del machines[self.chance.randrange(1, len(machines))]
        elif free := self._free():
            address = self.chance.choice(free)
            machines.append({"address": address, "name": _unused(args, address)})

    def address(self, _name: str, args: Args) -> None:
        """Let another machine have the name of one."""
        one = self.chance.choice(args["hosts"]["machines"])
        if free := self._free():
            one["address"] = self.chance.choice(free)

    def name(self, _name: str, args: Args) -> None:
        one = self.chance.choice(args["hosts"]["machines"])
        one["name"] = _unused(args, f"w{self.chance.randint(1, 99)}{one['address']}")

    def user(self, _name: str, args: Args) -> None:
        self.chance.choice(args["hosts"]["machines"])["user"] = self.chance.choice(["root", "ops"])

    def cluster(self, name: str, args: Args) -> None:
        args["name"] = f"{self.chance.choice(['lab', 'gpu', 'big'])}{name}"

    def component(self, name: str, _args: Args) -> None:
        self.told[f"c{self.chance.randint(1, 9)}"] = self.told.pop(name)

    def memory(self, _name: str, args: Args) -> None:
        args["workers"]["cpu"]["memory"] = f"{self.chance.randint(1, 9)} GiB"

    def threads(self, _name: str, args: Args) -> None:
        args["workers"]["cpu"]["threads"] = self.chance.randint(1, 4)

    def env(self, _name: str, args: Args) -> None:
        args["env"] = {"A": str(self.chance.randint(0, 9))}

    def python(self, _name: str, args: Args) -> None:
        args["environment"]["python"] = f"/opt/{self.chance.randint(1, 3)}/bin/python"

    def _free(self) -> list[str]:
        used = {one["address"] for args in self.told.values() for one in args["hosts"]["machines"]}
        return sorted({f"m{letter}" for letter in "abcdefgh"} - used)

    def step(self) -> None:
        """Edit, and have Pulumi do something."""
        edits = self.chance.choice([0, 1, 1, 1, 2])
        for _ in range(edits):
            self.edit()
        ours = [each for each in self.resources if each["type"].startswith("perennial:index:Host")]
        urns = [each["urn"] for each in ours if each.get("custom")]
        do = self.chance.choice(DEEDS)
        if do in ("replace", "target", "destroy", "delete") and not urns:
            do = "up"
        if do in ("delete", "rename", "stranger") and edits:
            do = "up"  # what is forgotten is found again only where it is still wanted
        before = self.machines()
        options: dict[str, Any] = {}
        if do in ("target", "destroy"):
            options = {"target": [self.chance.choice(urns)], "target_dependents": True}
        elif do == "replace":
            options = {"replace": [self.chance.choice(urns)]}
        elif do == "broken":
            every = [one for args in self.told.values() for one in args["hosts"]["machines"]]
            (self.site.root / "broken").write_text(self.chance.choice(every)["address"])
        if do == "stranger":
            self.intrude()
        elif do == "rename":
            self.rename()
        else:
            verb = {"replace": "up", "target": "up", "broken": "up"}.get(do, do)
            self.ask(verb, self.chance.choice(urns) if do == "delete" else "", **options)
        (self.site.root / "broken").unlink(missing_ok=True)
        assert do not in ("preview", "refresh") or self.machines() == before, self.story()
        self.settle()

    def intrude(self) -> None:
        """Have a stack of another project ask for the same: each machine is refused."""
        before, ours = self.machines(), self.resources
        done = self.ask("up", project="q")
        self.resources = ours
        machines = {one["name"] for each in self.told.values() for one in each["hosts"]["machines"]}
        owned = rf"(\w+): Pulumi's stack p/{self.stack} owns "
        assert {*re.findall(owned, "\n".join(done["errors"]))} == machines, self.story(done)
        assert self.machines() == before, self.story(done)

    def rename(self) -> None:
        """Give the stack another name, of which no machine knows until the next `up`."""
        to = f"{self.stack}x" if len(self.stack) < 9 else "s"
        self.ask("rename", to=to)
        self.stack = to

    def settle(self) -> None:
        """Deploy what the program says; compare it with the machines."""
        done = self.ask("up", refresh=True)
        assert not done["failed"], self.story(done)
        assert self.machines() == self.wanted(), self.story(done)
        again = self.ask("preview")
        assert not again["failed"], self.story(again)
        assert again["steps"] == [], self.story(again)

    def ask(self, do: str, urn: str = "", *, project: str = "p", **options: Any) -> dict[str, Any]:
        """Have Pulumi do something."""
        self.history.append(f"{do} {urn or options or ''}")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {
            **{"do": do, "urn": urn, "options": options, "told": self.told},
            **{"project": project, "stack": self.stack},
        }
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line.startswith("{"), (self.site.root / "stderr").read_text()[-3000:]
        found: dict[str, Any] = json.loads(line)
        self.resources = found["resources"]
        return found

    def machines(self) -> dict[str, str]:
        """What stands on each machine: the cluster, its name there, and its Python."""
        found = {}
        for folder in (self.site.root / "machines").glob("*"):
            services, environment = folder / "services", folder / "environment"
            assigned = json.loads(services.read_text()) if services.exists() else None
            python = environment.read_text() if environment.exists() else ""
            found[folder.name] = (
                f"{assigned['cluster']} {assigned['target']['name']} {_digest(assigned)} {python}"
                if assigned
                else f"nothing {python}"
            )
        return found

    def wanted(self) -> dict[str, str]:
        """What the program says of each machine."""
        from perennial.platforms.hosts.machine_services import services_by_machine, to_json
        from perennial.spec import loads

        found = {}
        for args in self.told.values():
            spec = loads(json.dumps({"platform": "hosts", **args}))
            for assigned in services_by_machine(spec).values():
                values = json.loads(json.dumps(to_json(assigned)))
                found[assigned.target.address] = (
                    f"{assigned.cluster} {assigned.target.name} {_digest(values)}"
                    f" {args['environment']['python']}"
                )
        return found

    def story(self, last: Any = "") -> str:
        """What was done until now."""
        lines = "\n".join(self.history[-12:])
        if isinstance(last, dict):
            last = {key: value for key, value in last.items() if key != "resources"}
        return (
            f"{lines}\n{json.dumps(self.told)}\nstands: {self.machines()}\n"
            f"wanted: {self.wanted()}\n{last}"
        )


#: Each changes one property.
EDITS = {
    name: getattr(Editor, name)
    for name in (
        *("memory", "count", "threads", "env", "dask", "jupyter", "port", "python", "machine"),
        *("address", "name", "user", "cluster", "component", "tls", "scale"),
    )
}


def _unused(args: Args, name: str) -> str:
    """Return a name that no machine of the cluster has: one may keep it under another address."""
    used = {one["name"] for one in args["hosts"]["machines"]}
    while name in used:
        name = f"{name}x"
    return name


def _digest(assigned: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(assigned, sort_keys=True).encode())


def edited(site: Site, seed: int, steps: int) -> None:
    """Take so many steps."""
    editor = Editor(site, seed)
    try:
        editor.settle()
        for _ in range(steps):
            editor.step()
        editor.ask("destroy")
        assert editor.machines() == {}, editor.story()
    finally:
        editor.close()


@pytest.mark.smoke
def test_some_edits(site: Site) -> None:
    edited(site, seed=0, steps=12)


def test_an_environment_does_not_stay_on_a_machine_whose_services_went_first(site: Site) -> None:
    editor = Editor(site, 0)
    try:
        editor.settle()
        editor.told["lab"]["hosts"]["machines"][1]["address"] = "md"
        [first] = [one["urn"] for one in editor.resources if one["urn"].endswith("ma-services")]
        editor.ask("destroy", target=[first], target_dependents=True)
        editor.settle()
    finally:
        editor.close()


@pytest.mark.smoke
def test_another_stack_takes_a_machine_over_only_where_that_is_meant(site: Site) -> None:
    editor = Editor(site, 0)
    try:
        editor.settle()
        editor.intrude()
        editor.rename()
        done = editor.ask("up")
        assert [how for how, _ in done["steps"]] == ["update"] * 3, "the machines are told"
        editor.settle()
        editor.intrude()
        for each in (site.root / "owners").iterdir():
            each.write_text(json.dumps({"owner": "1"}))  # an earlier version has deployed them
        assert not editor.ask("up", project="q")["failed"]
    finally:
        editor.close()


@pytest.mark.parametrize("seed", range(1, 5))
def test_edits(site: Site, seed: int) -> None:
    edited(site, seed, steps=50)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 110))
def test_many_edits(site: Site, seed: int) -> None:
    edited(site, seed, steps=500)

"""What the scheduler and the workers are started with, beside what `tests/cases` shows."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from perennial.errors import SpecError
from perennial.services import Service, Site, services
from perennial.spec import loads, pinned
from perennial.spec.dask_config import defaults
from perennial.spec.variables import WORKER_FLAGS

SITE = Site(
    python="/opt/dask/bin/python",
    config="/srv/config",
    tls="/srv/tls",
    secrets="/srv/secrets",
    scratch="/srv/scratch",
    address="127.0.0.1",
    home="/home/ops",
)
TOP = "name: lab\nplatform: local\n"


def parts(text: str, site: Site = SITE) -> dict[str, Service]:
    return {part.role: part for part in services(loads(TOP + text), site)}


def test_every_flag_that_we_write_is_refused_in_extra_args() -> None:
    group = "{resources: {GPU: 1}, ports: 41000:41009, preload: [a], nanny_preload: [b]}"
    for tls in ("true", "false"):
        argv = parts(f"workers: {{cpu: {group}}}\nsecurity: {{tls: {tls}}}\n")[
            "worker"
        ].command.argv
        flags = [word for word in argv[5:] if word.startswith("--")]
        assert len(flags) > 10
        assert set(flags) <= set(WORKER_FLAGS)


@pytest.mark.parametrize("flag", WORKER_FLAGS)
def test_a_flag_of_ours_is_refused(flag: str) -> None:
    for words in (f"['{flag}', '3']", f"['{flag}=3']"):
        with pytest.raises(SpecError) as caught:
            loads(f"{TOP}workers: {{cpu: {{extra_args: {words}}}}}\n")
        assert "workers.cpu.extra_args[0]" in str(caught.value)
        assert WORKER_FLAGS[flag] in str(caught.value)


def test_own_words_come_last() -> None:
    group = "{preload: [m.one], nanny_preload: [m.two], extra_args: [--death-timeout, '9']}"
    argv = parts(f"workers: {{cpu: {group}}}\n")["worker"].command.argv
    assert argv[-2:] == ("--death-timeout", "9")
    for flag, module in (("--preload", "m.one"), ("--preload-nanny", "m.two")):
        assert flag in [argv[at - 1] for at, word in enumerate(argv) if word == module]


def test_variables_of_the_cluster_and_of_a_group(tmp_path: Path) -> None:
    (tmp_path / "value").write_text("from a file\n")
    text = "{A: one, B: two}\nworkers: {cpu: {env: {B: three, C: {file: %s}}}}\n"
    found = {
        role: dict(part.command.environment)
        for role, part in parts(f"env: {text % (tmp_path / 'value')}").items()
    }
    assert found["scheduler"]["A"] == found["worker"]["A"] == found["jupyter"]["A"] == "one"
    assert found["scheduler"]["B"] == found["jupyter"]["B"] == "two"
    assert found["worker"]["B"] == "three"
    assert found["worker"]["C"] == "from a file"
    assert "C" not in found["scheduler"]


def test_a_variable_whose_file_is_not_there_is_one_fault() -> None:
    with pytest.raises(SpecError) as caught:
        loads(f"{TOP}workers: {{cpu: {{}}}}\nenv: {{A: {{file: /no/a}}}}\n", "lab.yaml")
    assert str(caught.value) == (
        "lab.yaml:4: env.A: found '/no/a': no such file; allowed: a text file; correct the path"
    )


def test_pinned_settings_win_over_those_of_a_user(tmp_path: Path) -> None:
    """Dask reads the user's own folder too, so each service is told what it relies on."""
    own = tmp_path / ".config/dask"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text(
        "scheduler-address: tcp://elsewhere:1\n"
        "distributed:\n"
        "  scheduler: {idle-timeout: 8 s, no-workers-timeout: 3 s, http: {routes: []}}\n"
        "  worker: {lifetime: {duration: 1 h, restart: true}, http: {routes: []}}\n"
    )
    for role, part in parts("workers: {cpu: {}}\n").items():
        config = next(file for file in part.files if file.path.endswith(".yaml"))
        file = tmp_path / f"{role}.yaml"
        file.write_text(config.text)
        code = (
            "import dask, distributed, json\n"
            f"print(json.dumps([dask.config.get(key) for key in {list(pinned.settings())}"
            " + ['scheduler-address']]))"
        )
        said = subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | {"HOME": str(tmp_path), "DASK_CONFIG": str(file)},
        ).stdout
        assert yaml.safe_load(said) == [*pinned.settings().values(), "tls://127.0.0.1:8786"]


def test_pinned_settings_are_those_that_dask_has() -> None:
    """Each exists in this release of Dask, and the value is Dask's own default."""
    for setting, value in pinned.settings().items():
        known = defaults()
        for step in setting.split("."):
            known = known[step]
        assert known == value, setting


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("distributed.scheduler.idle-timeout: 8 s", "does not end by itself"),
        ("distributed: {worker: {lifetime: {duration: 3 h}}}", "is not drained"),
        ("distributed.worker.lifetime.restart: true", "is not drained"),
        ("distributed.scheduler.http.routes: [distributed.http.health]", "read these pages"),
        ("scheduler-address: 'tcp://elsewhere:1'", "own address"),
        ("distributed.comm.require_encryption: true", "accepts nothing but TLS"),
        ("distributed.comm.tls.client.key: /tmp/key", "own address and certificates"),
    ],
)
def test_settings_that_a_standing_service_cannot_live_with(setting: str, message: str) -> None:
    for group, place in (("", f"dask: {{{setting}}}"), (f"dask: {{{setting}}}", "")):
        with pytest.raises(SpecError) as caught:
            loads(f"{TOP}workers: {{cpu: {{{group}}}}}\n{place}\n")
        assert message in str(caught.value)


def test_more_routes_are_allowed() -> None:
    routes = ", ".join([*pinned.SCHEDULER_ROUTES, "my_lab.pages"])
    text = f"workers: {{cpu: {{}}}}\ndask: {{distributed.scheduler.http.routes: [{routes}]}}\n"
    [config] = parts(text)["scheduler"].files
    found = yaml.safe_load(config.text)["distributed"]["scheduler"]["http"]["routes"]
    assert found == [*pinned.SCHEDULER_ROUTES, "my_lab.pages"]


def test_ipv6_is_written_in_brackets() -> None:
    found = parts("workers: {cpu: {}}\nlocal: {address: '::1'}\n", replace(SITE, address="::1"))
    for role in ("scheduler", "worker"):
        argv = found[role].command.argv
        assert argv[argv.index("--host") + 1] == "[::1]"
    assert "tls://[::1]:8786" in found["worker"].command.argv


def test_the_dashboard_is_open_only_where_the_file_says_so() -> None:
    site = replace(SITE, address="10.0.0.2", scheduler="machine-a", pages="/srv/pages")

    def told(text: str) -> dict[str, object]:
        [file] = parts(f"workers: {{cpu: {{}}}}\n{text}", site)["scheduler"].files
        found: dict[str, object] = yaml.safe_load(file.text)["perennial"]["pages"]
        return found

    closed = {"folder": "/srv/pages", "shared": False}
    assert told("") == told("security: {open_dashboard: false}\n") == closed
    opened = {"address": "10.0.0.2", "names": ["10.0.0.2", "machine-a"]}
    assert told("security: {open_dashboard: true}\n") == {**closed, "open": opened}

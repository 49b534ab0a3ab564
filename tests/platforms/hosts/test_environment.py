"""What the machines of a cluster run in, and the operator's own certificate."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from perennial import __version__
from perennial.errors import FleetError, SpecError
from perennial.own_wheel import own_wheel
from perennial.platforms.hosts import machine_services, provision
from perennial.platforms.hosts.agent import installer, making, manifest, store, unprivileged
from perennial.platforms.hosts.secrets import own_certificate
from perennial.spec import dump, load, read
from tests.platforms.hosts.clusters import PLAIN, spec_of


def test_an_interpreter_that_is_there() -> None:
    wish = machine_services.environment(spec_of())

    assert wish == {"kind": "python", "python": "/opt/dask/bin/python", "needs": ["distributed"]}
    assert "jupyterlab" in machine_services.environment(spec_of(), jupyter=True)["needs"]
    by_machine = machine_services.services_by_machine(spec_of())
    assert (
        "jupyterlab"
        in machine_services.environment_spec(spec_of(), by_machine["machine-a"])["needs"]
    )
    assert (
        "jupyterlab"
        not in machine_services.environment_spec(spec_of(), by_machine["machine-b"])["needs"]
    )


def with_requirements(folder: Path, text: str, **environment: Any) -> Path:
    (folder / "requirements.txt").write_text(text)
    file = folder / "cluster.yaml"
    environment = {"requirements": "requirements.txt", **environment}
    file.write_text(yaml.safe_dump({**PLAIN, "environment": environment}))
    return file


def test_requirements_are_completed(tmp_path: Path) -> None:
    spec = load(with_requirements(tmp_path, "dask==2026.8.0\n\n# ours\nnumpy\n"))
    wish = machine_services.environment(spec)

    *others, ours = wish["text"].splitlines()
    assert others == ["dask==2026.8.0", "# ours", "numpy"]
    assert ours == reference("[jupyter]")
    assert "build" not in wish
    assert wish["python"] == f"/var/lib/dask-perennial/lab/env-{wish['hash']}/bin/python"
    for assigned in machine_services.services_by_machine(spec).values():
        for service in assigned.services:
            assert service.command.argv[0] == wish["python"]


def reference(extras: str = "", marker: str = "") -> str:
    """Our own wheel, by where it is sent and what is in it."""
    wheel = own_wheel()
    place = f"file:///var/lib/dask-perennial/lab/bin/{wheel.name}"
    return f"dask-perennial{extras} @ {place}{marker} --hash=sha256:{wheel.digest}"


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (["dask-perennial"], reference()),
        ([f"dask-perennial=={__version__}"], reference()),
        (["Dask_Perennial [jupyter,examples] >= 0.1  # ours"], reference("[examples,jupyter]")),
        (
            ["dask.perennial ; python_version > '3'"],
            reference(marker=' ; python_version > "3"'),
        ),
        (
            [
                f"dask-perennial=={__version__} \\",
                "    --hash=sha256:00 \\",
                "    --hash=sha256:01",
            ],
            reference(),
        ),
        (
            url := ["dask-perennial @ https://example.org/dask_perennial-0.1.0-py3-none-any.whl"],
            url[0],
        ),
    ],
)
def test_requirements_that_name_us_mean_what_runs_here(lines: list[str], line: str) -> None:
    """The index is never asked for the name, which anybody could have registered there."""
    spec = spec_of(environment={"requirements": ["dask==1", *lines, "numpy"]})
    assert machine_services.environment(spec)["text"] == f"dask==1\n{line}\nnumpy\n"


def test_another_version_of_us_is_refused() -> None:
    spec = spec_of(environment={"requirements": ["dask-perennial>=99"]})
    with pytest.raises(SpecError) as caught:
        machine_services.environment(spec)
    assert str(caught.value).endswith(
        f"environment.requirements: found 'dask-perennial>=99'; allowed: dask-perennial=="
        f"{__version__}, which runs here and is sent to the machines; remove the version, or"
        " install that one here"
    )


@pytest.mark.parametrize("line", ["dask-perennial-extras", "dask", "perennial"])
def test_other_packages_are_not_us(line: str) -> None:
    text = machine_services.environment(
        spec_of(environment={"requirements": [line]}, jupyter=None)
    )["text"]
    assert text == f"{line}\n{reference()}\n"


def test_packages_are_built_only_where_it_is_asked_for() -> None:
    plain = machine_services.environment(spec_of(environment={"requirements": ["dask"]}))
    built = machine_services.environment(
        spec_of(environment={"requirements": ["dask"], "build": True})
    )
    assert built["build"] is True
    assert built["hash"] != plain["hash"]
    with pytest.raises(SpecError, match=r"environment\.build: found true; allowed: "):
        spec_of(environment={"python": "/opt/dask/bin/python", "build": True})


def test_requirements_with_hashes_have_to_name_us() -> None:
    with pytest.raises(SpecError, match=r"environment\.requirements: found a list of 1 value; all"):
        spec_of(environment={"requirements": ["dask==1 --hash=sha256:00"]})


def test_a_wheelhouse_is_part_of_the_environment(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "dask-2026.8.0-py3-none-any.whl").write_bytes(b"1")
    file = with_requirements(tmp_path, "dask\n", wheelhouse="wheels")
    first = machine_services.environment(load(file))
    (wheels / "notes.txt").write_text("not a wheel")

    assert first["wheelhouse"] == str(wheels)
    assert machine_services.environment(load(file)) == first
    (wheels / "dask-2026.8.1-py3-none-any.whl").write_bytes(b"1")
    second = machine_services.environment(load(file))
    (wheels / "dask-2026.8.1-py3-none-any.whl").write_bytes(b"2")
    third = machine_services.environment(load(file))
    (wheels / "dask-2026.8.1-py3-none-any.whl").unlink()
    assert len({each["hash"] for each in (first, second, third)}) == 3
    assert machine_services.environment(load(file)) == first


class Machine:
    """An agent for a folder here in the place of a machine's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sent: list[str] = []

    def upload(self, source: Path, path: str, mode: int = 0o644) -> None:
        self.sent.append(Path(path).name)
        self.place(path).parent.mkdir(parents=True, exist_ok=True)
        self.place(path).write_bytes(source.read_bytes())

    def place(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def here(self, text: str) -> str:
        return text

    def ask(self, do: str, **asked: Any) -> Any:
        if do == "digests":
            found = store.digests([str(self.place(path)) for path in asked["paths"]])
            return {path: found.get(str(self.place(path))) for path in asked["paths"]}
        if do == "architecture":
            return os.uname().machine
        assert do == "environment_make"
        wheelhouse = str(self.place(asked.pop("wheelhouse")))
        return making.make(**asked, wheelhouse=wheelhouse, say=print)


@contextmanager
def nobody_at_work(_cluster: str) -> Iterator[unprivileged.Account]:
    """Whoever runs the tests, in the place of a machine's own user."""
    yield unprivileged.Account(os.getuid(), os.getgid(), "/tmp")


def test_the_machine_has_the_wheels_of_the_wheelhouse_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "STATE", tmp_path / "state")
    (tmp_path / "uv").write_bytes(Path("/bin/true").read_bytes())
    monkeypatch.setattr(provision, "_uv", lambda: str(tmp_path / "uv"))
    monkeypatch.setattr(making, "_uv", lambda *_: None)
    monkeypatch.setattr(installer, "at_work", nobody_at_work)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name in ("a-1-py3-none-any.whl", "b-2-py3-none-any.whl"):
        (wheels / name).write_bytes(b"1")
    file = with_requirements(tmp_path, "a\n", wheelhouse="wheels")
    machine = Machine(tmp_path / "machine")

    def deployed() -> tuple[list[str], dict[str, bytes]]:
        machine.sent.clear()
        wish = {**machine_services.environment(load(file)), "cluster": "lab"}
        wish["python"] = str(tmp_path / "env-1" / "bin" / "python")
        agent: Any = machine
        provision._make(agent, wish)
        folder = machine.place(str(tmp_path / "wheelhouse"))
        names = [n for n in machine.sent if not n.startswith(("uv-", "dask_perennial-"))]
        return names, {path.name: path.read_bytes() for path in folder.iterdir()}

    assert deployed()[0] == ["a-1-py3-none-any.whl", "b-2-py3-none-any.whl"]
    assert deployed()[0] == []
    # Of equal size; and an older one in the place of a newer one.
    (wheels / "a-1-py3-none-any.whl").write_bytes(b"2")
    (wheels / "b-2-py3-none-any.whl").rename(wheels / "b-1-py3-none-any.whl")
    assert deployed() == (
        ["a-1-py3-none-any.whl", "b-1-py3-none-any.whl"],
        {"a-1-py3-none-any.whl": b"2", "b-1-py3-none-any.whl": b"1"},
    )


def test_what_is_remembered_needs_no_files(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "dask-2026.8.0-py3-none-any.whl").write_bytes(b"1")
    spec = load(with_requirements(tmp_path, "dask\n", wheelhouse="wheels"))
    kept = tmp_path / "state" / "spec.yaml"
    kept.parent.mkdir()
    kept.write_text(dump(spec))
    for file in (*wheels.iterdir(), tmp_path / "requirements.txt"):
        file.unlink()

    assert load(kept, remembered=True) == spec
    with pytest.raises(SpecError, match="no wheels in it"):
        read(kept)


# The operator's own certificate for JupyterLab


def pair(folder: Path, name: str = "own") -> tuple[Path, Path]:
    from datetime import UTC, datetime

    from perennial.certificates import make_authority, make_certificate

    now = datetime.now(UTC)
    made = make_certificate(make_authority("lab", now), "jupyter", ("machine-a",), now)
    cert, key = folder / f"{name}.pem", folder / f"{name}-key.pem"
    cert.write_bytes(made.cert)
    key.write_bytes(made.key)
    return cert, key


def test_the_operators_certificate(tmp_path: Path) -> None:
    cert, key = pair(tmp_path)
    spec = spec_of(jupyter={"certificate": str(cert), "key": str(key)})

    assert own_certificate(spec) == (cert.read_text(), key.read_text())
    assert machine_services.services_by_machine(spec)["machine-a"].roles == ("scheduler", "client")
    assert own_certificate(spec_of()) is None


def test_certificates_that_are_none(tmp_path: Path) -> None:
    cert, key = pair(tmp_path)
    _, other = pair(tmp_path, "other")
    for wrong, words in [
        ((key, key), "jupyter.certificate: found no certificate"),
        ((cert, cert), "jupyter.key: found no private key"),
        ((cert, other), "jupyter.key: found the key of another certificate"),
    ]:
        spec = spec_of(jupyter={"certificate": str(wrong[0]), "key": str(wrong[1])})
        with pytest.raises(SpecError, match=words):
            own_certificate(spec)


# The architecture of uv


class Foreign:
    """An agent on a machine of some architecture; nothing is sent there."""

    name = "machine-b"

    def __init__(self, architecture: str) -> None:
        self._architecture = architecture

    def here(self, text: str) -> str:
        return text

    def ask(self, do: str) -> str:
        assert do == "architecture"
        return self._architecture


def program(folder: Path, number: int, order: str = "little") -> Path:
    """The head of a program: elf(5)."""
    head = b"\x7fELF\x02" + (b"\x01" if order == "little" else b"\x02") + bytes(12)
    file = folder / "uv"
    file.write_bytes(head + number.to_bytes(2, "little" if order == "little" else "big") + b"x")
    return file


def test_uv_for_another_architecture_is_refused_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provision, "_uv", lambda: str(program(tmp_path, 62)))
    agent: Any = Foreign("aarch64")
    with pytest.raises(FleetError) as caught:
        provision._make(agent, {"cluster": "lab"})
    assert str(caught.value) == (
        "machine-b: its architecture is aarch64, and uv here is for x86_64; run this on a machine"
        " of aarch64, or make the environment there and write `environment: {python: PATH}`"
    )


@pytest.mark.parametrize(
    ("number", "order", "there", "runs"),
    [
        (62, "little", "x86_64", True),
        (183, "little", "aarch64", True),
        (183, "little", "x86_64", False),
        (3, "little", "x86_64", True),
        (62, "little", "i686", False),
        (21, "little", "ppc64le", True),
        (21, "big", "ppc64le", False),
        (999, "little", "x86_64", False),
    ],
)
def test_where_uv_runs(tmp_path: Path, number: int, order: str, there: str, runs: bool) -> None:
    ours = provision.built_for(program(tmp_path, number, order))
    assert (there in (ours, *provision.RUNS.get(ours, ()))) == runs


def test_the_uv_that_is_here_runs_here() -> None:
    here = os.uname().machine
    ours = provision.built_for(Path(provision._uv()))
    assert here in (ours, *provision.RUNS.get(ours, ()))

"""What is written for each service manager: exact text for whole clusters, and single values.

``PERENNIAL_REWRITE=1 python -m pytest tests/test_render.py`` writes the expected files anew.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from supervisor.options import ServerOptions

from perennial import eject, quoting, render
from perennial.errors import PerennialError, SpecError
from perennial.platforms.hosts.files import files as files_of_machines
from perennial.platforms.hosts.program import text as program_text
from perennial.services import (
    ADDRESS,
    CREDENTIALS,
    INSTANCE,
    PLACEHOLDERS,
    Access,
    Command,
    Lifecycle,
    Limits,
    Service,
    services,
)
from perennial.spec import ClusterSpec, loads, parse
from perennial.spec.units import PATH_PATTERN
from perennial.templating import Format
from tests.examples import examples

CASES = Path(__file__).parent / "cases"
FORMS: tuple[Format, ...] = ("systemd", "supervisord")


def read(name: str) -> ClusterSpec:
    return loads((CASES / name / "cluster.yaml").read_text(encoding="utf-8"), name)


def ejected(spec: ClusterSpec, form: Format, root: str = "/srv/dask") -> dict[str, str]:
    """Render with the paths of no machine in particular; for hosts, those of each machine."""
    if spec.platform == "hosts":
        return files_of_machines(spec, form)
    python = spec.environment.python or "/opt/conda/envs/dask/bin/python"
    where = (python, spec.options.address, spec.options.temporary_directory)
    if form == "systemd":
        return eject.eject(spec, form, eject.systemd_site(spec, *where))
    return eject.eject(spec, form, eject.folder_site(spec, root, "/home/ana", *where))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", sorted(path.name for path in CASES.iterdir()))
def test_whole_clusters_are_rendered_to_exactly_these_files(name: str, form: Format) -> None:
    files = ejected(read(name), form)
    # Our own sources, which change with every change of them.
    programs = [files.pop(path) for path in [*files] if path.endswith("/keeper.py")]
    assert all(program == program_text() for program in programs)
    assert bool(programs) == any("keeper.service" in path for path in files)
    folder = CASES / name / form
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    if os.environ.get("PERENNIAL_REWRITE"):
        for relative in found.keys() - files.keys():
            found[relative].unlink()
        for relative, text in files.items():
            path = folder / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return
    assert sorted(found) == sorted(files)
    for relative, text in files.items():
        assert found[relative].read_text(encoding="utf-8") == text, relative


@pytest.mark.parametrize("form", FORMS)
def test_the_same_cluster_gives_the_same_bytes_whatever_the_order_of_its_keys(
    form: Format,
) -> None:
    document = yaml.safe_load((CASES / "full" / "cluster.yaml").read_text(encoding="utf-8"))
    document["workers"]["cpu"] = dict(reversed(document["workers"]["cpu"].items()))
    document["dask"] = dict(reversed(document["dask"].items()))
    turned = loads(yaml.safe_dump(dict(reversed(document.items())), sort_keys=False))
    assert ejected(turned, form) == ejected(read("full"), form)


@pytest.mark.parametrize("form", FORMS)
def test_a_size_changes_no_unit(form: Format) -> None:
    small = ejected(read("minimal"), form)
    large = ejected(loads("{name: lab, platform: local, workers: {cpu: {count: 3}}}"), form)
    changed = {name for name in small if large[name] != small[name]}
    if form == "systemd":
        assert changed == {"README.txt", "etc/systemd/system/dask-lab-cpu.target"}
    else:
        assert changed == {"README.txt"}
        assert large.keys() - small.keys() == {"conf.d/cpu-1.conf", "conf.d/cpu-2.conf"}


@pytest.mark.parametrize("name", sorted(path.name for path in CASES.iterdir()))
def test_under_systemd_no_argument_and_no_file_names_a_secret_that_the_service_cannot_read(
    name: str,
) -> None:
    """Keys belong to root: whatever a service is told must be its own copy."""
    files = ejected(read(name), "systemd")
    for path, text in files.items():
        if path == "README.txt":
            continue
        told = "\n".join(line for line in text.splitlines() if not line.startswith("LoadCred"))
        assert "/tls/" not in told, path
        assert "jupyter-token" not in told.replace(
            f"/run/credentials/dask-{read(name).name}-jupyter.service/jupyter-token", ""
        ), path


def test_a_cluster_whose_name_has_a_dash_gets_a_slice_of_its_own() -> None:
    # systemd puts dask-my-lab.slice inside dask-my.slice, which is another cluster's.
    assert render.slice_name("my-lab") == "dask-my\\x2dlab.slice"
    assert render.slice_name("lab") == "dask-lab.slice"


def test_names_of_users_fit_and_stay_apart() -> None:
    long = service(("/bin/true",))
    first = render.user("a" * 39 + "x", long)
    second = render.user("a" * 39 + "y", long)
    assert first != second
    assert len(first) <= 31
    assert render.user("lab", long) == "dask-lab"


def test_a_group_has_no_supervisord_program() -> None:
    with pytest.raises(ValueError, match="only its members"):
        render.program(service(("/bin/true",), name=f"cpu-{INSTANCE}"))


def service(
    argv: tuple[str, ...],
    environment: tuple[tuple[str, str], ...] = (),
    directory: str = "/tmp",
    name: str = "scheduler",
) -> Service:
    return Service(
        name=name,
        role="scheduler",
        description="A service",
        command=Command(argv, environment, directory),
        access=Access(writes=(directory,)),
        limits=Limits(memory=2**30),
        lifecycle=Lifecycle(stop_timeout=1.5),
    )


#: What means something to one of the formats, between letters of all kinds.
PIECES = st.one_of(
    st.sampled_from(["%", "%%", "%i", "%d", "%(here)s", "%(ENV_HOME)s"]),
    st.sampled_from(["$", "$$", "$HOME", "${HOME}", "'", '"', "`", "\\", "\\n", "\\x41"]),
    st.sampled_from([" ", "  ", ";", " ;", "#", " #", ",", "=", "-", "@", "*", "[", "~"]),
    st.sampled_from(["\t", "\n", "\r", "\u2028", "\x85", "\x0b", "\x1c", "\ufeff", "über"]),
)
LETTERS = st.text(st.characters(exclude_characters="".join(PLACEHOLDERS)), max_size=8)
VALUES = st.lists(st.one_of(PIECES, LETTERS), max_size=8).map("".join)
ARGUMENTS = st.lists(VALUES, max_size=6).map(lambda words: ("/bin/true", *words))

#: Code points that no text file carries, in any place.
NEVER = re.compile("[\x00\ud800-\udfff\ufdd0-\ufdef]")


def carried_by_text(value: str) -> bool:
    return not NEVER.search(value) and not any(ord(char) & 0xFFFE == 0xFFFE for char in value)


def supervisor_reads(*texts: str) -> dict[str, tuple[list[str], dict[str, str], str]]:
    """What supervisord itself makes of its programs: argv, environment, working folder."""
    with tempfile.TemporaryDirectory(prefix="perennial-") as folder:
        root = Path(folder)
        (root / "conf.d").mkdir()
        main = root / "supervisord.conf"
        main.write_text(
            render.supervisord_conf(root / "s", root / "log", root / "conf.d"), encoding="utf-8"
        )
        for number, text in enumerate(texts):
            (root / "conf.d" / f"{number}.conf").write_text(text, encoding="utf-8")
        options = ServerOptions()
        options.realize(["-c", str(main)])
        return {
            config.name: (
                list(config.make_process().get_execv_args()[1]),
                config.environment,
                config.directory,
            )
            for group in options.process_group_configs
            for config in group.process_configs
        }


@settings(max_examples=examples(200), deadline=None)
@given(ARGUMENTS)
@example(("/bin/true", "%(here)s", "a ;b", "# c", "it's; 'so'"))
def test_supervisord_gives_back_every_argument_or_it_is_refused(argv: tuple[str, ...]) -> None:
    fits = all(carried_by_text(word) and not set(word) & set("\n\r") for word in argv)
    if not fits:
        with pytest.raises(PerennialError, match=r"^scheduler, argument \d+: found .*; allowed: "):
            render.program(service(argv))
        return
    assert supervisor_reads(render.program(service(argv)))["scheduler"][0] == list(argv)


@settings(max_examples=examples(200), deadline=None)
@given(VALUES)
@example("a' ")
@example('say "no"')
@example("50 % of %(here) and ,=;")
def test_supervisord_gives_back_every_variable_or_it_is_refused(value: str) -> None:
    variables = (("FIRST", value), ("SECOND", "2"))
    if not fits_environment(value):
        with pytest.raises(PerennialError, match=r"^scheduler, variable FIRST: found "):
            render.program(service(("/bin/true",), variables))
        return
    text = render.program(service(("/bin/true",), variables))
    assert supervisor_reads(text)["scheduler"][1] == dict(variables)


def fits_environment(value: str) -> bool:
    """Whether supervisord has a way to write it: its quotes cannot be escaped."""
    lost = r"^['\"]|['\"]\Z|'.*\"|\".*'|\s[;#]|%\(here\)s|[\n\r]"
    return carried_by_text(value) and not re.search(lost, value, re.DOTALL)


@settings(max_examples=examples(100), deadline=None)
@given(VALUES)
def test_supervisord_gives_back_every_folder_or_it_is_refused(value: str) -> None:
    folder = f"/srv/{value}"
    lost = r"\s[;#]|%\(here\)s|[\x00-\x1f\x7f-\x9f]|\s\Z"
    if not carried_by_text(value) or re.search(lost, value):
        with pytest.raises(PerennialError, match=r"^scheduler, the working folder: found "):
            render.program(service(("/bin/true",), directory=folder))
        return
    text = render.program(service(("/bin/true",), directory=folder))
    assert supervisor_reads(text)["scheduler"][2] == folder


def test_supervisord_gives_back_the_log_and_an_event_listener(tmp_path: Path) -> None:
    folder = tmp_path / "50 % of"
    folder.mkdir()
    text = render.event_listener("health", ("/bin/true", "a ;b", "%s"), str(folder / "h.log"))
    assert supervisor_reads(text)["health"][0] == ["/bin/true", "a ;b", "%s"]
    text = render.program(service(("/bin/true",)), str(folder / "s.log"))
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "s.conf").write_text(text)
    main = tmp_path / "supervisord.conf"
    main.write_text(render.supervisord_conf(tmp_path / "s", tmp_path / "log", tmp_path / "conf.d"))
    options = ServerOptions()
    options.realize(["-c", str(main)])
    (config,) = options.process_group_configs[0].process_configs
    assert config.stdout_logfile == str(folder / "s.log")
    assert (config.stopwaitsecs, config.killasgroup, config.stopasgroup) == (2, True, False)
    (server,) = options.server_configs
    assert (server["file"], server["chmod"]) == (str(tmp_path / "s"), 0o600)


def systemd_words(line: str) -> Iterator[str]:
    """Unquote a command line as systemd.syntax(7) and systemd.service(5) describe it."""
    escapes = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"'}
    for first, match in enumerate(re.finditer(r'"((?:[^"\\]|\\.)*)"(?= |$)|([^" ]+)(?= |$)', line)):
        quoted, bare = match.groups()
        word = bare or ""
        if quoted is not None:
            word = re.sub(
                r"\\(?:x([0-9a-f]{2})|(.))",
                lambda m: chr(int(m[1], 16)) if m[1] else escapes[m[2]],
                quoted,
            )
        specifiers = re.findall("%.", word)
        assert set(specifiers) <= {"%%"}, word
        word = word.replace("%%", "%")
        if first:
            assert re.fullmatch(r"(?:[^$]|\$\$)*", word, re.DOTALL), word
            word = word.replace("$$", "$")
        yield word


@settings(max_examples=examples(200), deadline=None)
@given(ARGUMENTS)
def test_a_systemd_command_line_reads_back_by_systemds_documented_rules(
    argv: tuple[str, ...],
) -> None:
    if not all(map(carried_by_text, argv)):
        with pytest.raises(PerennialError, match=r"^unit, argument \d+: found .*; allowed: "):
            quoting.systemd_command(argv, "unit")
        return
    line = quoting.systemd_command(argv, "unit")
    assert "\n" not in line
    assert list(systemd_words(line)) == list(argv)


def test_the_markers_of_a_unit_survive_quoting() -> None:
    argv = ("/bin/true", f"cpu-{INSTANCE}", f"{CREDENTIALS}/key.pem", f"a b {INSTANCE} %i")
    assert quoting.systemd_command(argv, "unit") == '/bin/true cpu-%i %d/key.pem "a b %i %%i"'


@pytest.mark.parametrize(
    ("write", "left"),
    [
        (lambda text: quoting.systemd_command(["/bin/true", text], "u"), {INSTANCE, CREDENTIALS}),
        (lambda text: quoting.systemd_assignment(("A", text), "u"), {INSTANCE, CREDENTIALS}),
        (lambda text: quoting.systemd_value(text, "u"), {INSTANCE, CREDENTIALS}),
        (lambda text: quoting.systemd_paths([text], "u"), {INSTANCE, CREDENTIALS}),
        (lambda text: quoting.supervisord_command(["/bin/true", text], "u"), set()),
        (lambda text: quoting.supervisord_environment([("A", text)], "u"), set()),
        (lambda text: quoting.supervisord_value(text, "u"), set()),
        (lambda text: quoting.cron_command(["/bin/true", text], "u"), set()),
    ],
)
def test_a_placeholder_that_is_not_filled_in_is_refused(
    write: Callable[[str], str], left: set[str]
) -> None:
    for marker in PLACEHOLDERS:
        text = f"/a/{marker}/b"
        if marker in left:
            assert not set(PLACEHOLDERS) & set(write(text))
        else:
            with pytest.raises(PerennialError, match=r"found the placeholder U\+E00[0-5] of "):
                write(text)


def test_a_unit_whose_address_is_not_known_is_refused() -> None:
    text = "{name: lab, platform: local, workers: {cpu: {memory: 1 GiB}}}"
    spec = loads(text)
    parts = services(spec, eject.systemd_site(spec, "/opt/dask/bin/python", ADDRESS))
    with pytest.raises(PerennialError, match=r"placeholder U\+E001 of the address of a machine"):
        render.systemd(parts, spec.name, {"cpu": 1})


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            lambda: quoting.systemd_command(["bin/dask"], "u"),
            "u, the program: found a relative path in 'bin/dask'; allowed: an absolute one;"
            " change the value",
        ),
        (
            lambda: quoting.systemd_command(["/opt/$x/dask"], "u"),
            "u, the program: found the letter $ in '/opt/$x/dask'; allowed: none of \"'\\$;"
            " change the value",
        ),
        (
            lambda: quoting.systemd_assignment(("A-B", "c"), "u"),
            "u: found another kind of name in 'A-B'; allowed: a variable of ASCII letters, digits,"
            " _; change the value",
        ),
        (
            lambda: quoting.systemd_assignment(("A", "\x1b[m"), "u"),
            "u, variable A: found the control character '\\x1b' in '\\x1b[m'; allowed: none;"
            " change the value",
        ),
        (
            lambda: quoting.systemd_value("/tmp/x\\", "u"),
            "u: found a backslash at the end in '/tmp/x\\\\'; allowed: none there;"
            " change the value",
        ),
        (
            lambda: quoting.systemd_value("/tmp/x ", "u"),
            "u: found white space at an end, or nothing in '/tmp/x '; allowed: neither;"
            " change the value",
        ),
        (
            lambda: quoting.systemd_paths(["/tmp/a:b"], "u"),
            "u: found the letter : in '/tmp/a:b'; allowed: none of \"'\\:; change the value",
        ),
        (
            lambda: quoting.supervisord_command(["/bin/true", "a\nb"], "p"),
            "p, argument 1: found a line break in 'a\\nb'; allowed: none; change the value",
        ),
        (
            lambda: quoting.supervisord_environment([("A", "x #y")], "p"),
            "p, variable A: found ; or # after white space in 'x #y'; allowed: none: a comment"
            " would begin there; change the value",
        ),
    ],
)
def test_what_a_format_cannot_carry_is_refused_in_one_line(write: object, message: str) -> None:
    with pytest.raises(PerennialError) as caught:
        write()  # type: ignore[operator]
    assert str(caught.value) == message


def test_a_folder_in_which_supervisord_cannot_work_is_refused() -> None:
    with pytest.raises(PerennialError, match=r"^/srv/\[a\]/conf.d: found \*, \? or \[ in the path"):
        ejected(read("bare"), "supervisord", "/srv/[a]")
    with pytest.raises(PerennialError, match=r"socket may have 99; choose a folder nearer"):
        ejected(read("bare"), "supervisord", "/srv/" + "a" * 80)


@pytest.mark.parametrize("form", FORMS)
def test_the_readme_holds_commands_that_a_shell_reads(form: Format) -> None:
    readme = ejected(read("awkward"), form, "/srv/big disk")["README.txt"]
    commands = [
        shlex.split(line)
        for line in readme.splitlines()
        if re.match(r"  (cp|systemctl|install|mkdir|/opt|'/opt)", line)
    ]
    assert any("authority.ensure" in command[-1] for command in commands)
    assert any("token_hex" in command[-1] for command in commands)
    for command in commands:
        if command[1:2] == ["-c"]:
            compile(command[2], "README.txt", "exec")


def perennial(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("perennial"), "render", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("form", FORMS)
def test_the_command_writes_what_it_says(tmp_path: Path, form: Format) -> None:
    output = tmp_path / "out"
    arguments = (str(CASES / "full" / "cluster.yaml"), "--format", form, "-o", str(output))
    done = perennial(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    *paths, summary = done.stdout.splitlines()
    files = sorted(str(path) for path in output.rglob("*") if path.is_file())
    assert sorted(paths) == files
    assert summary.startswith(f"lab: {len(files)} files; {output / 'README.txt'} says what to do")
    # systemd's services run as users of their own, and read their configuration themselves.
    for path in output.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)
    before = {path: Path(path).read_bytes() for path in files}
    assert perennial(*arguments).returncode == 0
    assert {path: Path(path).read_bytes() for path in files} == before


def test_the_command_refuses_a_format_that_the_platform_does_not_have(tmp_path: Path) -> None:
    done = perennial(str(CASES / "bare" / "cluster.yaml"), "-o", str(tmp_path / "out"))
    assert (done.returncode, done.stderr) == (
        1,
        "--format: found nothing; the platform local has systemd or supervisord; choose one of"
        " them\n",
    )
    assert not (tmp_path / "out").exists()


def test_the_command_leaves_other_files_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    arguments = (str(CASES / "bare" / "cluster.yaml"), "--format", "systemd", "-o", str(tmp_path))
    refused = perennial(*arguments)
    assert refused.returncode == 1
    assert refused.stderr == (
        f"{tmp_path} holds other files, mine among them; choose an empty folder, or add --force to"
        " write beside them\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert perennial(*arguments, "--force").returncode == 0
    assert (tmp_path / "mine").read_text() == "kept"
    assert (tmp_path / "README.txt").exists()


def test_the_command_writes_nothing_when_a_value_cannot_be_written(tmp_path: Path) -> None:
    cluster, output = tmp_path / "cluster.yaml", tmp_path / "out"
    cluster.write_text(
        "name: lab\nplatform: local\nworkers: {cpu: {}}\n"
        'dask: {distributed.worker.preload: ["a\\nb"]}\n'
    )
    done = perennial(str(cluster), "--format", "supervisord", "-o", str(output))
    assert done.returncode == 1
    assert re.fullmatch(r"cpu-0, argument \d+: found a line break in 'a\\nb'; .*\n", done.stderr)
    assert not output.exists()
    done = perennial(str(cluster), "--format", "supervisord", "-o", str(cluster))
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    arguments = (str(CASES / "bare" / "cluster.yaml"), "--format", "systemd", "-o")
    done = perennial(*arguments, str(tmp_path / "file"))
    assert done.stderr == (
        f"{tmp_path / 'file'}: found a file where a folder should be; choose another one\n"
    )
    done = perennial(*arguments, str(tmp_path / "file" / "below"))
    assert done.returncode == 1
    assert done.stderr.endswith("not a directory; fix that and run the command again\n")


@pytest.mark.parametrize(
    "name",
    ['a"b', "it's", "a:b", "a\\b", "a ", "a\u3000", "a #b", "a ;b", "%(here)s", "$HOME", "\x85"],
)
@pytest.mark.parametrize(
    "key", ["jupyter.directory", "local.temporary_directory", "environment.python"]
)
def test_a_path_that_no_unit_can_hold_is_refused_with_its_line(key: str, name: str) -> None:
    section, word = key.split(".")
    text = "name: lab\nplatform: local\nworkers: {cpu: {}}\n"
    text += f"{section}:\n  {word}: {json.dumps(f'/x/{name}')}\n"
    with pytest.raises(SpecError) as error:
        parse(text, "cluster.yaml")
    [fault] = error.value.faults
    assert (fault.path, fault.line) == (key, 5)
    assert "a path that every service manager can hold" in fault.allowed


@given(
    st.text(st.characters() | st.sampled_from(" ;#%()\"'\\:$\t\u3000"), max_size=12)
    .map("/".__add__)
    .filter(re.compile(PATH_PATTERN).fullmatch)
)
def test_a_path_that_passes_can_be_rendered(path: str) -> None:
    for write in (quoting.systemd_value, quoting.supervisord_value):
        assert write(path, "a folder")
    assert quoting.systemd_paths([path], "a folder")
    assert quoting.systemd_command([path], "a command")
    assert quoting.supervisord_command([path], "a command")

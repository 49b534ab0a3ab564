"""Files that are no cluster files: each is refused in one line, at once, and never opened twice."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from perennial.errors import SpecError
from perennial.spec import load, loads, read

GOOD = "name: lab\nplatform: local\nworkers:\n  cpu: {count: 2}\n"


def refused(path: Path) -> str:
    """The one line with which a file is refused, within a second."""
    start = time.process_time()
    with pytest.raises(SpecError) as caught:
        load(path)
    assert time.process_time() - start < 5
    assert caught.value.exit_code == 2
    text = str(caught.value)
    assert "\n" not in text
    return text.replace(str(path), "FILE")


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "lab.yaml"
    path.write_bytes(data)
    return path


def test_missing(tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere" / "lab.yaml") == (
        "FILE: (file): found no such file; allowed: a cluster file; "
        "correct the path, or write one with `perennial init`"
    )


def test_below_a_file(tmp_path: Path) -> None:
    assert "found no such file" in refused(written(tmp_path, b"") / "lab.yaml")


def test_directory(tmp_path: Path) -> None:
    assert "found a directory; allowed: a cluster file" in refused(tmp_path)


def test_pipe_and_socket_and_device(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "found a pipe" in refused(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        assert "found a socket" in refused(tmp_path / "socket")
    assert "found a device" in refused(Path("/dev/zero"))


def test_symlinks(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert "found too many levels of symbolic links" in refused(tmp_path / "a")
    (tmp_path / "good").symlink_to(written(tmp_path, GOOD.encode()))
    assert load(tmp_path / "good") == loads(GOOD)


def test_path_that_no_file_can_have() -> None:
    assert "found a null byte in the path" in refused(Path("a\0b"))
    assert "found file name too long" in refused(Path("a" * 5000))


def test_a_path_stays_on_one_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load(tmp_path / "two\nlines\x1b[31m")
    assert "two\\nlines\\x1b[31m: (file): found no such file" in str(caught.value)


def test_without_the_right_to_read(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD.encode())
    path.chmod(0)
    if os.geteuid() != 0:
        assert "found a file that this user may not read" in refused(path)
        return
    # Root may read everything; another user, who reaches the file, may not.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = written(Path(folder), GOOD.encode())
        path.chmod(0o600)
        text = as_nobody(lambda: refused(path))
    assert text == (
        "FILE: (file): found a file that this user may not read; allowed: a cluster file; "
        "give yourself the right to read it"
    )


def as_nobody(call: Callable[[], str]) -> str:
    """Call something in a process of another user; this interpreter's files may be root's."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.setgid(65534)
        os.setuid(65534)
        try:
            os.write(writer, call().encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with open(reader) as file:
        return file.read()


def test_ten_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    with path.open("wb") as file:
        file.truncate(10_000_000)
    assert refused(path) == (
        "FILE: (file): found 10,000,000 bytes; allowed: at most 1,048,576 bytes; "
        "is this a cluster file?"
    )


def test_no_utf_8(tmp_path: Path) -> None:
    text = refused(written(tmp_path, GOOD.encode() + b"# caf\xe9\n"))
    assert text == "FILE:5: (file): found the byte 0xe9; allowed: UTF-8; save the file as UTF-8"
    assert "found the byte 0xff" in refused(written(tmp_path, GOOD.encode("utf-16")))
    assert "found the byte 0xff" in refused(written(tmp_path, bytes(reversed(range(256)))))


def test_control_characters(tmp_path: Path) -> None:
    assert "FILE:2: (file): found a NUL byte" in refused(written(tmp_path, b"name: lab\n\0"))
    assert "found the control character U+001B" in refused(written(tmp_path, b"name: \x1b[31mlab"))


@pytest.mark.parametrize(
    "data",
    [b"\xef\xbb\xbf" + GOOD.encode(), GOOD.replace("\n", "\r\n").encode(), GOOD.encode()[:-1]],
    ids=["byte order mark", "CRLF", "no line feed at the end"],
)
def test_as_editors_write_it(tmp_path: Path, data: bytes) -> None:
    assert load(written(tmp_path, data)) == loads(GOOD)


def test_lines_of_crlf(tmp_path: Path) -> None:
    data = GOOD.replace("\n", "\r\n").replace("count", "cuont").encode()
    assert refused(written(tmp_path, data)).startswith("FILE:4: workers.cpu.cuont: ")


def test_lines_of_faults_found_later(tmp_path: Path) -> None:
    from perennial.errors import Fault

    config = "dask:\n  distributed.worker.memory.taget: 0.5\n  worker.memory.target: 1\n  mine: 1\n"
    document = read(written(tmp_path, (GOOD + config).encode()))
    assert [(fault.line, fault.fix) for fault in document.warnings()] == [
        (6, "did you mean distributed.worker.memory.target?"),
        (7, "did you mean distributed.worker.memory.target?"),
    ]
    faults = [Fault(path, "x", "y", "z") for path in ("workers.cpu.count", "jupyter.port", "name")]
    assert [fault.line for fault in document.located(faults)] == [1, 1, 4]


def test_an_open_dashboard_is_warned_of(tmp_path: Path) -> None:
    opened = "security:\n  open_dashboard: true\n"
    document = read(written(tmp_path, (GOOD + opened).encode()))
    [warned] = document.warnings()
    assert (warned.line, warned.path) == (6, "security.open_dashboard")
    assert warned.found.startswith("true: WHOEVER REACHES PORT 8787 reads logs, tracebacks with")
    assert read(written(tmp_path, GOOD.encode())).warnings() == []


def test_reading_is_quick() -> None:
    """In a new process, beside what it has to import anyway; distributed is not imported."""
    example = Path(__file__).parents[2] / "examples" / "local.yaml"
    own = (
        "import sys\n"
        "from pathlib import Path; from perennial.spec import load\n"
        f"spec = load(Path({str(example)!r}))\n"
        "assert 'distributed' not in sys.modules, 'distributed'\n"
        "assert spec.name == 'lab' and sum(g.count for g in spec.workers.values()) == 2\n"
    )

    def effort(code: str) -> float:
        """Seconds of a processor that a code takes, whatever else the machine does."""
        timed = (
            f"import time; start = time.process_time()\n{code}\nprint(time.process_time() - start)"
        )
        run = [sys.executable, "-c", timed]
        return min(
            float(subprocess.run(run, capture_output=True, check=True).stdout) for _ in range(3)
        )

    assert effort(own) < 4 * effort("import dask.utils, pydantic, yaml")  # 2.3 times as much

"""Who installs packages on a machine, what of them is run, and where they come from.

With a real uv and a real index on loopback. The system user is made in a copy of /etc, which only
the process under test sees.
"""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perennial.platforms.hosts.provision import _uv

NO_NAMESPACE = 77
SYSTEM = shutil.which("python3.11", path="/usr/bin") or shutil.which("python3.12", path="/usr/bin")
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root makes users"),
    pytest.mark.skipif(not SYSTEM, reason="no interpreter that every user may run"),
    pytest.mark.skipif(not shutil.which("useradd"), reason="no useradd"),
]
ALONE = f"""
cp -a /etc "$0/etc" && mount --bind "$0/etc" /etc || exit {NO_NAMESPACE}
"$@"  # not in its place: the first process of a namespace buries the others
"""
WORK = """
import json, os, sys
from pathlib import Path
from perennial.errors import PerennialError
from perennial.platforms.hosts.agent import accounts, installer, making, manifest
os.umask(0o077)  # the agent's own
place, asked = Path(sys.argv[1]), json.loads(sys.argv[2])
manifest.STATE, manifest.PYTHONS = place / "state", place / "pythons"
installer.NETRC = place / "netrc"
again = asked.pop("again", 1)
said, uid, left = None, None, []
try:
    for _ in range(again):
        making.make(**asked, say=lambda text: None)
except PerennialError as error:
    said = str(error)
uid = accounts.ids("daskenv-lab")[0]
left = [p.name for p in Path("/proc").glob("[0-9]*") if p.exists() and p.stat().st_uid == uid]
own = {str(p.lstat().st_uid) for p in Path(asked["folder"]).rglob("*")}
writable = [str(p) for p in Path(asked["folder"]).rglob("*")
            if not p.is_symlink() and p.stat().st_mode & 0o022]
home = [p.name for p in installer.home("lab").iterdir()]
making.remove(asked["folder"], "lab")
print(json.dumps({"said": said, "uid": uid, "left": left, "own": sorted(own), "home": home,
                  "writable": writable, "known": accounts.is_known("daskenv-lab"),
                  "state": (place / "state").exists(), "pythons": (place / "pythons").exists()}))
"""


def wheel(name: str, version: str, **files: str) -> bytes:
    info = f"{name}-{version}.dist-info"
    texts = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    texts[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*texts, f"{info}/RECORD"))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in texts.items():
            archive.writestr(path, text)
    return packed.getvalue()


def sdist(name: str, version: str, setup: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path, text in {
            "setup.py": setup,
            "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        }.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{path}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


class Index:
    """A package index; remembers what it was asked."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.asked: list[str] = []
        self.closed = False
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.asked.append(self.path)
                name = self.path.strip("/").rpartition("/")[2]
                body = files.get(name)
                if self.path.startswith("/simple/"):
                    mine = [each for each in files if each.startswith(name.replace("-", "_"))]
                    links = "".join(f'<a href="/files/{each}">{each}</a>' for each in mine)
                    body = f"<!DOCTYPE html><html><body>{links}</body></html>".encode()
                known = self.headers.get("Authorization") == "Basic bWU6c2VjcmV0"
                self.send_response(
                    401 if index.closed and not known else 200 if body is not None else 404
                )
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body or b"")

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/simple"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def place() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="m-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def witness(place: Path) -> Path:
    """A file into which whatever is run writes whose process it is."""
    file = place / "witness"
    file.touch()
    file.chmod(0o666)
    return file


@pytest.fixture
def index(witness: Path) -> Iterator[Index]:
    note = f"import os; open({str(witness)!r}, 'a').write('%s %s;' % (os.getuid(), os.getgroups()))"
    sleep = "['sleep', '600'], start_new_session=True, stdout=-3, stderr=-3"
    linger = f"import subprocess; subprocess.Popen({sleep})"
    made = Index(
        {
            "good-1-py3-none-any.whl": wheel("good", "1", **{"good.pth": f"{note}; {linger}\n"}),
            "evil-1.tar.gz": sdist("evil", "1", f"{note}\nraise SystemExit('built')\n"),
            "dask_perennial-99-py3-none-any.whl": wheel(
                "dask_perennial", "99", **{"squatter.pth": f"{note}\n"}
            ),
        }
    )
    yield made
    made.server.shutdown()
    made.server.server_close()


def make(place: Path, index: Index, *packages: str, **more: Any) -> dict[str, Any]:
    """Have an environment made by an agent of root's, look at it, and remove it."""
    bin_ = place / "state" / "lab" / "bin"
    bin_.mkdir(parents=True)
    for folder in (bin_, *list(bin_.parents)[:2]):
        folder.chmod(0o755)
    shutil.copy(_uv(), bin_ / "uv")
    own = bin_ / "dask_perennial-0.1.0-py3-none-any.whl"
    own.write_bytes(wheel("dask_perennial", "0.1.0"))
    digest = hashlib.sha256(own.read_bytes()).hexdigest()
    ours = f"dask-perennial @ file://{own} --hash=sha256:{digest}"
    asked = {
        "cluster": "lab",
        "folder": str(place / "state" / "lab" / "env-1"),
        "requirements": "\n".join([f"--index-url {index.url}", *packages, ours]) + "\n",
        "uv": str(bin_ / "uv"),
        "wheelhouse": None,
        "wheels": [],
        "build": False,
        **more,
    }
    # Processes of its own as well: the user's number may be that of somebody else's here.
    words = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--mount-proc"]
    words += ["sh", "-ec", ALONE, str(place)]
    done = subprocess.run(
        [*words, sys.executable, "-c", WORK, str(place), json.dumps(asked)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == NO_NAMESPACE:
        pytest.skip(f"no namespace of mounts: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    # Whatever became of it: nothing is left.
    assert found["left"] == []
    assert found["home"] == []
    assert not found["known"]
    assert not found["state"]
    assert not found["pythons"]
    return found


def test_wheels_are_installed_by_a_user_that_runs_nothing_else(
    place: Path, index: Index, witness: Path
) -> None:
    found = make(place, index, "good", again=2)
    assert found["said"] is None
    assert found["uid"] != 0
    assert found["own"] == [str(found["uid"])]
    assert found["writable"] == []
    # What comes with a package is run whenever its interpreter starts.
    users = set(witness.read_text().split(";")) - {""}
    assert len(users) == 1
    assert users.pop().startswith(f"{found['uid']} [")


def test_nobody_is_asked_for_dask_perennial(place: Path, index: Index) -> None:
    assert make(place, index, "good")["said"] is None
    assert "/simple/good/" in index.asked
    assert not [path for path in index.asked if "perennial" in path]


def test_a_package_without_a_wheel_is_not_built(place: Path, index: Index, witness: Path) -> None:
    said = make(place, index, "evil")["said"]
    assert said.startswith("uv pip install: ")
    assert "evil" in said
    assert said.endswith("; provide a wheel, or write `build: true` below environment")
    assert witness.read_text() == ""


def test_a_package_is_built_by_that_user_where_it_is_asked_for(
    place: Path, index: Index, witness: Path
) -> None:
    found = make(place, index, "evil", "--no-build-isolation", build=True)
    assert found["said"]
    assert "build: true" not in found["said"]


def test_logins_are_lent_for_the_installation(place: Path, index: Index) -> None:
    index.closed = True
    netrc = place / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    assert make(place, index, "good")["said"] is None

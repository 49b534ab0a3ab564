"""Debian machines with systemd as their first process, in containers on this machine.

A machine is a layer over one tree of packages, which is made once and kept in the cache folder.
It has a network of its own with nothing but loopback in it, sees the checkout and the Python
environment of the tests read-only, and keeps its own files until it is closed: a machine that
was stopped, or whose power was cut, boots again with what it had on its disk.

Needs root, and installs Debian's ``mmdebstrap`` and ``systemd-container`` where they are missing.
Mounts live in a namespace of their own and vanish with the machine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.labs.hosts.base import CHECKOUT, UnavailableError, make_base
from tests.labs.hosts.reaper import confine, folder_of, make_cgroups, new_lab, remove_cgroups

__all__ = ["ENVIRONMENT", "PYTHON", "Machine", "UnavailableError", "make_base"]

#: Where a machine has the environment of the tests: services see neither /home nor /root.
ENVIRONMENT = "/opt/dask"
PYTHON = f"{ENVIRONMENT}/bin/python"
_BASE_PYTHON = "/opt/python"


class Machine:
    """A machine; `boot` it before anything is run on it.

    Parameters
    ----------
    base : pathlib.Path
        Its packages, see `make_base`.
    name : str
        Its host name.
    lab : str, optional
        Whose machine it is. Default: it stands alone.
    """

    def __init__(self, base: Path, name: str = "lab", lab: str | None = None) -> None:
        self.name = name
        self._base = base
        self._lab = lab or new_lab()
        self._group = f"{self._lab}-{name}"
        self._folder = folder_of(self._lab) / name
        for part in ("upper", "work", "root"):
            (self._folder / part).mkdir(parents=True)
        self._container: subprocess.Popen[bytes] | None = None
        self._init = 0
        self._furnish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def confine(self, part: float) -> None:
        """Give it this part of one processor and no more, until it is removed."""
        confine(self._group, part)

    @property
    def console(self) -> str:
        """What it printed while it booted."""
        return (self._folder / "console").read_text(errors="replace")

    def boot(self, timeout: float = 120.0) -> None:
        """Switch it on and wait until all of its own services have started."""
        self.switch_on()
        self.wait_until_up(timeout)

    def switch_on(self) -> None:
        """Switch it on; it does not answer yet."""
        layers = f"lowerdir={self._base},upperdir={self._folder}/upper,workdir={self._folder}/work"
        root = str(self._folder / "root")
        groups = " ".join(f"{group}/cgroup.procs" for group in make_cgroups(self._group))
        with (self._folder / "console").open("ab") as console:
            self._container = subprocess.Popen(
                [
                    *self._outside(),
                    *("unshare", "--mount", "--propagation", "private", "sh", "-ec"),
                    # nspawn keeps a folder there by a machine's name, which another lab has too.
                    "mkdir -p /run/systemd/nspawn; mount -t tmpfs tmpfs /run/systemd/nspawn\n"
                    'for group in $3; do echo $$ > "$group"; done\n'
                    'mount -t overlay overlay -o "$1" "$2"; shift 3; exec "$@"',
                    *("sh", layers, root, groups),
                    *self._leash(),
                    *("systemd-nspawn", "--quiet", "--directory", root),
                    *("--register=no", "--keep-unit", "--console=pipe", *self._wires()),
                    *("--settings=no", "--link-journal=no", "--resolv-conf=off", "--timezone=off"),
                    *(f"--bind-ro={place}" for place in self._binds()),
                    *self._first(),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_up(self, timeout: float = 120.0) -> None:
        """Wait until all of its own services have started."""
        self._wait(self._find_init, timeout)
        self._wait(self._is_up, timeout)
        self.run("ldconfig")

    @property
    def answers(self) -> bool:
        """Whether programs can be run on it, while it may still boot."""
        return self._find_init() and self.run("true", check=False).returncode == 0

    def stop(self, timeout: float = 120.0) -> None:
        """Shut it down as a person would."""
        self.run("systemctl", "poweroff", check=False)
        self._gone(timeout)

    def cut_power(self) -> None:
        """Switch it off between two instructions; its disk keeps what was written."""
        os.kill(self._init, signal.SIGKILL)
        self._gone(60.0)

    def reboot(self) -> None:
        """Shut it down and boot it again."""
        self.stop()
        self.boot()

    def close(self) -> None:
        """Switch it off and remove its disk."""
        if self._container is not None:
            os.kill(self._init or self._container.pid, signal.SIGKILL)
            self._gone(60.0)
        shutil.rmtree(self._folder)
        with contextlib.suppress(OSError):  # other machines of the lab are there
            self._folder.parent.rmdir()

    def run(
        self, *argv: str, user: str = "root", check: bool = True, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on it.

        Parameters
        ----------
        *argv : str
            The program and its arguments.
        user : str
            Whose program it is.
        check : bool
            Whether an exit code other than 0 is an error.
        timeout : float
            Seconds that it may take.
        """
        become = () if user == "root" else ("runuser", "-u", user, "--")
        done = subprocess.run(
            [
                *("nsenter", "--target", str(self._init), "--all"),
                *("env", "-i", "--chdir=/", "HOME=/root", "LANG=C.UTF-8", "SHELL=/bin/sh"),
                f"PATH={ENVIRONMENT}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                # Ends what runs inside as well, which the end of nsenter does not.
                *("timeout", "--kill-after=5", str(timeout), *become, *argv),
            ],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=timeout + 30,
        )
        if check and done.returncode:
            raise AssertionError(
                f"{argv} exited with {done.returncode}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
            )
        return done

    def python(self, code: str, *arguments: str, user: str = "root", timeout: float = 60.0) -> str:
        """Run Python code on it in the environment of the tests; returns what it printed."""
        return self.run(PYTHON, "-c", code, *arguments, user=user, timeout=timeout).stdout

    def copy(self, source: Path, target: str) -> None:
        """Copy a file, or what is in a folder, to it; owner and mode as a copy by root has them."""
        folder, name = (source, ".") if source.is_dir() else (source.parent, source.name)
        archive = subprocess.run(
            ["tar", "-C", str(folder), "-c", "--owner=root", "--group=root", name],
            check=True,
            stdout=subprocess.PIPE,
        ).stdout
        self.run("mkdir", "-p", target)
        subprocess.run(
            ["nsenter", "--target", str(self._init), "--all", "tar", "-C", target, "-x"],
            check=True,
            input=archive,
        )

    def write(self, path: str, text: str) -> None:
        """Write a file on it."""
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / Path(path).name
            local.write_text(text, encoding="utf-8")
            self.copy(local, str(Path(path).parent))

    def _outside(self) -> tuple[str, ...]:
        """Give what brings its container into the right place."""
        return ()

    def _leash(self) -> tuple[str, ...]:
        """Give what ends it when whoever started it is gone."""
        return ("setpriv", "--pdeathsig", "TERM")

    def _first(self) -> tuple[str, ...]:
        """Give what its first process is, as the last options of its container."""
        return ("--boot",)

    def _wires(self) -> tuple[str, ...]:
        """Give its networks, as options of its container."""
        return ("--private-network",)

    def _furnish(self) -> None:
        """Put together the environment of the tests from folders that are mounted at boot."""
        environment = self._folder / "upper" / ENVIRONMENT[1:]
        packages = environment / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
        for folder in (environment / "bin", packages / "site-packages"):
            folder.mkdir(parents=True)
        interpreter = f"{_BASE_PYTHON}/bin/{packages.name}"
        (environment / "bin" / "python").symlink_to(interpreter)
        (environment / "pyvenv.cfg").write_text(f"home = {_BASE_PYTHON}/bin\n")
        command = environment / "bin" / "perennial"
        command.write_text(f"#!{PYTHON}\nfrom perennial.cli import main\nmain()\n")
        command.chmod(0o755)
        # An interpreter that was built with a shared library looks for it where it was built.
        libraries = self._folder / "upper" / "etc" / "ld.so.conf.d"
        libraries.mkdir(parents=True)
        (libraries / "lab.conf").write_text(f"{_BASE_PYTHON}/lib\n")
        (self._folder / "upper" / "etc" / "hostname").write_text(f"{self.name}\n")
        names = f"127.0.0.1 localhost {self.name}\n::1 localhost {self.name}\n"
        (self._folder / "upper" / "etc" / "hosts").write_text(names)

    def _binds(self) -> tuple[str, ...]:
        packages = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
        # Jupyter's extensions are switched on by files in etc and share.
        parts = (part for part in (packages, "etc", "share") if Path(sys.prefix, part).is_dir())
        return (
            f"{CHECKOUT}:{CHECKOUT}",
            f"{sys.base_prefix}:{_BASE_PYTHON}",
            *(f"{Path(sys.prefix, part)}:{ENVIRONMENT}/{part}" for part in parts),
        )

    def _find_init(self) -> bool:
        """Find the machine's first process, whose number is 1 to itself."""
        assert self._container is not None
        for process in psutil.Process(self._container.pid).children(recursive=True):
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                continue
            numbers = next(line for line in status.splitlines() if line.startswith("NSpid:"))
            if numbers.split()[2:] == ["1"]:
                self._init = process.pid
                return True
        return False

    def _is_up(self) -> bool:
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def _wait(self, condition: Callable[[], bool], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert self._container is not None
            if self._container.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the machine does not boot:\n{self.console[-4000:]}")
            time.sleep(0.2)

    def _gone(self, timeout: float) -> None:
        assert self._container is not None
        try:
            self._container.wait(timeout)
        except subprocess.TimeoutExpired:
            os.kill(self._init, signal.SIGKILL)
            self._container.wait(60)
            raise
        finally:
            self._container = None
            self._init = 0
            remove_cgroups(self._group)

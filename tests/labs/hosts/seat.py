"""Where a person sits: a home folder, an SSH key, and a place in one of the lab's networks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from tests.labs.hosts.base import CHECKOUT
from tests.labs.hosts.reaper import processes_of

_WELCOME = """\
Host *
  User ops
  IdentityFile {ssh}/id_ed25519
  IdentitiesOnly yes
  UserKnownHostsFile {ssh}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  BatchMode yes
"""


class Seat:
    """Runs programs as somebody who sits there would; made by `Network`.

    The programs are those of this machine, and of the checkout's environment. Their network,
    ``HOME`` and ``/etc/hosts`` are the seat's.

    Parameters
    ----------
    namespace : str
        Its network.
    home : pathlib.Path
        Its home folder; has ``.ssh/id_ed25519``.
    engine : pathlib.Path, optional
        Folder of the Pulumi engine.
    """

    def __init__(self, namespace: str, home: Path, engine: Path | None = None) -> None:
        self.namespace = namespace
        self.home = home
        self._engine = engine
        self._hosts = home.with_name(f"{home.name}.hosts")
        self._hosts.touch()
        (home / ".ssh/config").write_text(_WELCOME.format(ssh=home / ".ssh"))

    @property
    def environment(self) -> dict[str, str]:
        """What its programs find in their environment."""
        folders = [
            str(Path(sys.prefix, "bin")),
            *([str(self._engine)] if self._engine else []),
            *("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"),
        ]
        return {
            "HOME": str(self.home),
            "PATH": os.pathsep.join(folders),
            "LANG": "C.UTF-8",
            "SHELL": "/bin/sh",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }

    def know(self, names: str, keys: str) -> None:
        """Tell it the names of the machines and the keys of their sshd."""
        # The file is mounted where programs run: the same file gets another text.
        self._hosts.write_text(f"127.0.0.1 localhost\n::1 localhost\n{names}")
        (self.home / ".ssh/known_hosts").write_text(keys)

    def argv(self, *argv: str) -> list[str]:
        """Give the command that runs a program there; it has the program's process id."""
        return [
            *("nsenter", f"--net=/run/netns/{self.namespace}"),
            *("unshare", "--mount", "--propagation", "private", "sh", "-ec"),
            'mount --bind "$1" /etc/hosts; shift; exec "$@"',
            *("sh", str(self._hosts), *argv),
        ]

    def popen(
        self,
        *argv: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Start a program in a session of its own; its output is kept in pipes.

        Parameters
        ----------
        *argv : str
            The program and its arguments.
        cwd : pathlib.Path, optional
            Where it runs. Default: its home.
        env : mapping, optional
            What its environment has beside the seat's.
        **options
            Further options of `subprocess.Popen`.
        """
        usual: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
        }
        return subprocess.Popen(
            self.argv(*argv),
            cwd=cwd or self.home,
            env=self.environment | dict(env or {}),
            start_new_session=True,
            **usual | options,
        )

    def run(
        self,
        *argv: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float = 120.0,
        text: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, as `popen` starts it.

        Parameters
        ----------
        *argv : str
            The program and its arguments.
        cwd : pathlib.Path, optional
            Where it runs. Default: its home.
        env : mapping, optional
            What its environment has beside the seat's.
        check : bool
            Whether an exit code other than 0 is an error.
        timeout : float
            Seconds that it may take; then it is killed with all that it started.
        text : str, optional
            Its standard input.
        """
        stdin = subprocess.DEVNULL if text is None else subprocess.PIPE
        with self.popen(*argv, cwd=cwd, env=env, stdin=stdin) as process:
            try:
                said, errors = process.communicate(text, timeout)
            except BaseException:
                self.kill(process)
                raise
        if check and process.returncode:
            raise AssertionError(
                f"{argv} exited with {process.returncode}\n{said[-6000:]}{errors[-6000:]}"
            )
        return subprocess.CompletedProcess(argv, process.returncode, said, errors)

    def python(self, code: str, *arguments: str, timeout: float = 120.0) -> str:
        """Run Python code; returns what it printed."""
        done = self.run(sys.executable, "-c", code, *arguments, cwd=CHECKOUT, timeout=timeout)
        return done.stdout

    def ssh(
        self, target: str, *argv: str, check: bool = True, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a machine with the ordinary ``ssh``; `target` is ``[user@]name``."""
        # OpenSSH looks for its files in the home of the user's entry, not in HOME.
        config = str(self.home / ".ssh/config")
        return self.run("ssh", "-F", config, target, *argv, check=check, timeout=timeout)

    def reaches(self, address: str, port: int = 22, timeout: float = 2.0) -> bool:
        """Whether something answers to a TCP connection."""
        code = (
            "import socket, sys\n"
            "try: socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3]))\n"
            "except OSError: print('no')\n"
            "else: print('yes')\n"
        )
        said = self.run(sys.executable, "-ISc", code, address, str(port), str(timeout)).stdout
        return said == "yes\n"

    def processes(self) -> list[int]:
        """List the processes that run there."""
        return processes_of(self.namespace)

    @staticmethod
    def kill(process: subprocess.Popen[str]) -> None:
        """Kill a program with all that it started, with no chance to tidy up."""
        try:
            tree = [found := psutil.Process(process.pid), *found.children(recursive=True)]
        except psutil.NoSuchProcess:
            tree = []
        # First nobody moves: what is killed last would see the others go, and start anew.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for each in tree:
                try:
                    each.send_signal(number)
                except psutil.NoSuchProcess:
                    continue
        process.wait()

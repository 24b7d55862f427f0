"""A real OpenSSH server on a free port of the loopback address, with keys of its own; the board of the tests."""

import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.processes import end_with_parent

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
MISSING = "needs OpenSSH's server and client (`apt-get install openssh-server`)"
HOST = "board"


def available() -> bool:
    """Whether server and client are installed."""
    return bool(SSHD and shutil.which("ssh") and shutil.which("ssh-keygen"))


class SshServer:
    """The server, and a client program that reaches it by the name `HOST`.

    Attributes:
        bin: folder of the client; belongs first in PATH.
        temporary: where the board keeps temporary files.
        variables: of the board's environment; for connections made after `start`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin, self.temporary = folder, folder / "bin", folder / "tmp"
        for made in (self.bin, self.temporary, folder / "home"):
            made.mkdir()
        for name in ("host_key", "user_key", "other_key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True, timeout=60
            )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
        self.trust("host_key")
        (folder / "ssh_config").write_text(
            f"Host {HOST}\n  HostName 127.0.0.1\n  Port {self.port}\n  IdentityFile {folder}/user_key\n"
            f"  IdentitiesOnly yes\n  UserKnownHostsFile {folder}/known_hosts\n  GlobalKnownHostsFile /dev/null\n"
            "  StrictHostKeyChecking yes\n"
        )
        client = self.bin / "ssh"
        client.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {shlex.quote(str(folder / "ssh_config"))} "$@"\n')
        client.chmod(0o755)
        self.variables = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder / "home"),
            "TMPDIR": str(self.temporary),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def trust(self, key: str) -> None:
        """Makes the client expect a host key, right or wrong."""
        public = " ".join((self.folder / f"{key}.pub").read_text().split()[:2])
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {public}\n")

    def start(self) -> None:
        """Starts the server; returns when it listens."""
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd refuses to start as root without it
        variables = " ".join(f'"{name}={value}"' for name, value in self.variables.items())
        (self.folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {self.folder}/host_key\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {self.folder}/authorized_keys\nStrictModes no\nPasswordAuthentication no\n"
            f"KbdInteractiveAuthentication no\nPermitRootLogin yes\nSetEnv {variables}\nMaxStartups 100\n"
        )
        log = (self.folder / "sshd.log").open("wb")
        assert SSHD
        self.process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")], stderr=log, preexec_fn=end_with_parent
        )
        log.close()
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None, (self.folder / "sshd.log").read_text()
            time.sleep(0.05)
        raise TimeoutError((self.folder / "sshd.log").read_text())

    def restart(self, **variables: str) -> None:
        """Starts it anew with other variables."""
        self.stop()
        self.variables |= variables
        self.start()

    def processes(self) -> list[psutil.Process]:
        """Returns what runs on the board, the server itself not included."""
        if not self.process or self.process.poll() is not None:
            return []
        return psutil.Process(self.process.pid).children(recursive=True)

    def wait_until_clean(self) -> None:
        """Returns when no runner and no file of one is left on the board.

        Raises:
            TimeoutError: something stays.
        """
        for _ in range(200):
            left = [process for process in self.processes() if not _is_server_or_gone(process)]
            files = list(self.temporary.glob("hwnas-far-end-*"))
            if not left and not files:
                return
            time.sleep(0.05)
        raise TimeoutError(f"left on the board: {left}, {files}")

    def stop(self) -> None:
        """Ends the server and every process on the board."""
        if self.process:
            for process in [*self.processes(), psutil.Process(self.process.pid)]:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
            self.process.wait()
            self.process = None


def _is_server_or_gone(process: psutil.Process) -> bool:
    try:
        return "sshd" in process.name()
    except psutil.NoSuchProcess:  # ended since it was listed
        return True

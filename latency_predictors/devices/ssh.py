"""Linux boards over OpenSSH: the runner and the model files are sent with each launch, and nothing stays there.

What the board needs: an SSH server, Python 3.9 or later, numpy and the runtime. The system's ``ssh`` makes the
connection, so the user's ``~/.ssh/config`` decides about names, keys, ports and jumps.
"""

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latency_predictors.devices.base import DeviceError
from latency_predictors.devices.energy import RAIL_VARIABLE, ROOT_VARIABLE
from latency_predictors.devices.lease import PATIENCE_SECONDS
from latency_predictors.devices.runner_device import ENERGY, RUNNER, START_SECONDS, RunnerDevice
from latency_predictors.devices.runner_process import RunnerEndedError, RunnerProcess
from search_spaces.errors import InputError

FAR_END = Path(__file__).with_name("far_end.py")
CONNECTION_ENDED = 255
"""Exit status of ``ssh`` for its own failures; the far end never gives it."""
NOT_FOUND = 127
"""Exit status of a shell that does not find a program."""
SLOWEST_BYTES_PER_SECOND = 100_000
"""A transfer slower than this is given up."""
FAREWELL_SECONDS = 10.0
"""For the far end to clean up after the last answer."""
CONNECT_SECONDS = 20
OPTIONS = {
    "BatchMode": "yes",  # no question to anybody
    "ServerAliveInterval": "10",  # a dead connection or a frozen board is noticed after half a minute
    "ServerAliveCountMax": "3",
    "ControlMaster": "no",  # this process is killed when a device hangs; nobody else's connection may hang on it
    "ClearAllForwardings": "yes",
    "LogLevel": "ERROR",
}
PYTHON = 'p="$HOME/.hwnas/bin/python"; test -x "$p" || p=python3; exec "$p" -c "{code}"'
"""A virtual environment at a fixed place wins: many boards do not let one install into the system's Python."""


class SshDevice(RunnerDevice):
    """Runs `runner.py` on a board; subclasses name the runtime.

    One connection and one process on the board for each launch; they end together. Models are sent one by one, each
    in place of the one before, so that the board holds one at a time. The board's own lock makes all who measure there
    wait for each other.

    Args:
        host: as ``ssh`` takes it: a name of ``~/.ssh/config``, a host name, ``USER@HOST``.

    Raises:
        InputError: no such name is possible.
    """

    def __init__(self, host: str) -> None:
        if not re.fullmatch(r"\w[\w.@:-]*", host):
            raise InputError(f"an SSH host is a name, or USER@NAME, as `ssh` takes it, got {host!r}")
        self.host, self.machine = host, f"ssh-{host}"
        self.name = f"ssh/{host}/{self.runtime}"

    @contextmanager
    def _runner(self, threads: int) -> Iterator[RunnerProcess]:
        far_end = FAR_END.read_bytes()
        code = f"import sys; exec(sys.stdin.buffer.read({len(far_end)}))"
        settings = OPTIONS | {"ConnectTimeout": str(CONNECT_SECONDS)}
        options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        command = ["ssh", "-T", "-a", "-x", *options, "--", self.host, _shell(PYTHON.format(code=code))]
        try:
            runner = RunnerProcess(command, dict(os.environ), farewell_seconds=FAREWELL_SECONDS)
        except FileNotFoundError:
            raise DeviceError(
                f"device {self.name} needs the program `ssh`; install OpenSSH's client (openssh-client)"
            ) from None
        with runner:
            try:
                runner.send(far_end, START_SECONDS)
                for source in (RUNNER, ENERGY):
                    _store(runner, source.name, source.read_bytes())
                runner.ask({"turn": PATIENCE_SECONDS}, PATIENCE_SECONDS + START_SECONDS)
            except RunnerEndedError as ended:
                self._check_connection(ended)
                if ended.status == NOT_FOUND:
                    raise DeviceError(f"device {self.name} did not start: {self.host} has no python3") from None
                raise self._not_started(ended) from None
            yield runner

    def _place(self, runner: RunnerProcess, model: Path) -> str:
        return _store(runner, f"model{self.suffix}", model.read_bytes())

    def _check_connection(self, ended: RunnerEndedError) -> None:
        if ended.status == CONNECTION_ENDED:
            why = ended.last_words.rstrip(".") or "no sign of life"
            raise DeviceError(
                f"device {self.name}: no connection, or it was lost: {why}; "
                f"`ssh -o BatchMode=yes {self.host} true` must work without a question"
            ) from None

    def _mend(self) -> str:
        return f"; on {self.host}, install numpy and the runtime for python3 or into ~/.hwnas (a virtual environment)"


class SshOnnxRuntimeDevice(SshDevice):
    """A board with ONNX Runtime."""

    name = "ssh/HOST/onnxruntime"
    runtime = "onnxruntime"
    suffix = ".onnx"


class SshLitertDevice(SshDevice):
    """A board with LiteRT."""

    name = "ssh/HOST/litert"
    runtime = "litert"
    suffix = ".tflite"


def _shell(script: str) -> str:
    """Returns the command of a shell on the board, which chooses its energy counter as this machine's user says."""
    chosen = {name: os.environ[name] for name in (RAIL_VARIABLE, ROOT_VARIABLE) if name in os.environ}
    exports = "".join(f"export {name}={shlex.quote(value)}; " for name, value in chosen.items())
    return f"sh -c {shlex.quote(exports + script)}"


def _store(runner: RunnerProcess, name: str, data: bytes) -> str:
    """Sends a file and returns where it lies on the board."""
    timeout = START_SECONDS + len(data) / SLOWEST_BYTES_PER_SECOND
    return str(runner.ask({"store": name, "bytes": len(data)}, timeout, data)["path"])

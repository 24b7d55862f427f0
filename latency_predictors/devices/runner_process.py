"""The host's end of the conversation with a runner: one child process, one JSON line per question and answer."""

import json
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

FIRST_SIGNAL_STATUS, LAST_SIGNAL_STATUS = 129, 192
"""Exit statuses by which a far end tells a signal, as shells do: 128 + its number."""


class RunnerEndedError(Exception):
    """The process ended, or was killed for taking too long; the text says which.

    Attributes:
        status: that it ended with; None where it was killed for taking too long.
        last_words: the last line of its standard error.
    """

    def __init__(self, text: str, status: int | None = None, last_words: str = "") -> None:
        super().__init__(text)
        self.status, self.last_words = status, last_words


class RunnerProcess:
    """A child process that runs `runner.py`, here or at the far end of a connection; killed when the block ends.

    Used as a context manager. The process has a session of its own, so that Ctrl-C in a terminal reaches only the
    host, which then ends it.

    Args:
        command: starts the runner.
        environment: variables of the process.
        farewell_seconds: how long the process may take to end by itself after its input was closed; then, or with 0
            at once, it is killed.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], *, farewell_seconds: float = 0) -> None:
        self._farewell_seconds = farewell_seconds
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=dict(environment),
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._farewell_seconds and self._process.stdin:
                with suppress(BrokenPipeError):
                    self._process.stdin.close()
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(self._farewell_seconds)
        finally:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout, self._errors):
                with suppress(BrokenPipeError):  # of a question that was never read
                    if stream:
                        stream.close()

    def send(self, data: bytes, timeout_seconds: float) -> None:
        """Writes bytes that nobody answers.

        Raises:
            RunnerEndedError: as `ask`.
        """
        self._exchange(data, timeout_seconds, answered=False)

    def ask(
        self, question: Mapping[str, object], timeout_seconds: float, data: bytes = b""
    ) -> dict[str, Any]:  # Any: JSON
        """Returns the answer to a question.

        Args:
            question: one JSON line.
            timeout_seconds: for the answer, sending included.
            data: sent after the line.

        Raises:
            RunnerEndedError: the process ended before it answered, or did not answer in time and was killed.
        """
        answer: dict[str, Any] = json.loads(
            self._exchange(json.dumps(question).encode() + b"\n" + data, timeout_seconds, answered=True)
        )
        return answer

    def _exchange(self, data: bytes, timeout_seconds: float, *, answered: bool) -> bytes:
        assert self._process.stdin
        assert self._process.stdout
        # Killing the process ends what blocks below; Popen.kill does nothing once the process was waited for.
        timer = threading.Timer(timeout_seconds, self._process.kill)
        timer.start()
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
            line = self._process.stdout.readline() if answered else b"{}\n"
            while line and not line.startswith(b"{"):  # the login scripts of a far machine may print
                line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        finally:
            late = not timer.is_alive()
            timer.cancel()
        if not line.endswith(b"\n"):
            raise self._ended(late, timeout_seconds)
        return line

    def _ended(self, late: bool, timeout_seconds: float) -> RunnerEndedError:
        if late:
            return RunnerEndedError(f"no answer within {timeout_seconds:g} s; the process was killed")
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        if FIRST_SIGNAL_STATUS <= status <= LAST_SIGNAL_STATUS:
            how = f"signal {status - FIRST_SIGNAL_STATUS + 1}"
        else:
            how = f"signal {-status}" if status < 0 else f"exit status {status}"
        words = lines[-1].strip() if lines else ""
        return RunnerEndedError(f"the process ended ({how})" + (f": {words}" if words else ""), status, words)

"""The host's end of the conversation with a runner: one child process, one JSON line per question and answer."""

import json
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self


class RunnerEndedError(Exception):
    """The process ended, or was killed for taking too long; the text says which."""


class RunnerProcess:
    """A child process that runs `runner.py`, here or at the far end of a connection; killed when the block ends.

    Used as a context manager. The process has a session of its own, so that Ctrl-C in a terminal reaches only the
    host, which then ends it.

    Args:
        command: starts the runner.
        environment: variables of the process.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
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
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with suppress(BrokenPipeError):  # of a question that was never read
                if stream:
                    stream.close()

    def ask(self, question: Mapping[str, object], timeout_seconds: float) -> dict[str, Any]:  # Any: JSON
        """Returns the answer to a question.

        Raises:
            RunnerEndedError: the process ended before it answered, or did not answer in time and was killed.
        """
        assert self._process.stdin
        assert self._process.stdout
        # Killing the process ends the read below; Popen.kill does nothing once the process was waited for.
        timer = threading.Timer(timeout_seconds, self._process.kill)
        timer.start()
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        finally:
            late = not timer.is_alive()
            timer.cancel()
        if not line.endswith(b"\n"):
            raise RunnerEndedError(self._why(late, timeout_seconds))
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _why(self, late: bool, timeout_seconds: float) -> str:
        if late:
            return f"no answer within {timeout_seconds:g} s; the process was killed"
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return f"the process ended ({how})" + (f": {lines[-1]}" if lines else "")

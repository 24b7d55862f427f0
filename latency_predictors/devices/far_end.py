"""Stands between the host and a runner on a far machine: takes files, waits for its turn, leaves nothing behind.

Self-contained (standard library; Python 3.9 or later); the host sends it as text to ``python3 -c``. It answers these
questions itself, one JSON line each, and passes all others on to the runner, which the first of them starts:

- ``{"store": NAME, "bytes": N}``, followed by N bytes: keeps a file; answers with its path;
- ``{"turn": SECONDS}``: waits until nobody else of this user measures here, at most so long.

It ends with the connection, with the runner (a signal as 128 + its number, as shells do), or after IDLE_SECONDS
without a word from the host, and takes the runner and every file with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

IDLE_SECONDS = 900
"""A connection that broke without a word is noticed late by the system; the board must not stay busy so long."""
TURN_PAUSE_SECONDS = 0.05


def host_is_gone() -> bool:
    """Returns whether the host has closed the connection; only asked while it waits for an answer."""
    return bool(select.select([0], [], [], 0)[0])


def take_turn(seconds: float) -> Any:
    """Returns the locked file; the lock of measurements that are local to this machine."""
    path = os.path.join(tempfile.gettempdir(), f"hwnas-measuring-{os.getuid()}.lock")
    file = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")  # noqa: SIM115 (ends with this process)
    end = time.monotonic() + seconds
    while True:
        time.sleep(TURN_PAUSE_SECONDS)
        if host_is_gone():
            sys.exit(1)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return file  # the runner counts only undisturbed moments, so this is no danger to the figures
            continue
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        return file


def start_runner(folder: str, plan: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Returns the runner; libraries that read their number of threads when imported find it."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(plan["threads"]), "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, os.path.join(folder, "runner.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env=environment,
    )


def ask(runner: subprocess.Popen[bytes], line: bytes) -> bytes:
    """Returns the runner's answer; ends this process where the runner or the host ended."""
    assert runner.stdin
    assert runner.stdout
    with contextlib.suppress(BrokenPipeError):  # its end is noticed below
        runner.stdin.write(line)
    answer = b""
    while not answer.endswith(b"\n"):
        ready = select.select([0, runner.stdout.fileno()], [], [])[0]
        if 0 in ready:
            sys.exit(1)
        part = os.read(runner.stdout.fileno(), 65536)
        if not part:
            status = runner.wait()
            sys.exit(128 - status if status < 0 else status)
        answer += part
    return answer


def main() -> None:
    """Answers the host's lines until its input ends."""
    for name in (signal.SIGALRM, signal.SIGHUP, signal.SIGTERM):
        signal.signal(name, lambda *_: sys.exit(1))
    host = sys.stdin.buffer
    folder = tempfile.mkdtemp(prefix="hwnas-far-end-")
    runner: subprocess.Popen[bytes] | None = None
    turn: Any = None
    try:
        while True:
            signal.alarm(IDLE_SECONDS)
            line = host.readline()
            signal.alarm(0)
            if not line:
                return
            question = json.loads(line)
            if "store" in question:
                path = os.path.join(folder, question["store"])
                with open(path, "wb") as file:
                    left = question["bytes"]
                    while left:
                        part = host.read(min(left, 1 << 20))
                        if not part:
                            return
                        file.write(part)
                        left -= len(part)
                answer = json.dumps({"path": path}).encode() + b"\n"
            elif "turn" in question:
                turn = take_turn(question["turn"])
                answer = b"{}\n"
            else:
                runner = runner or start_runner(folder, question)
                answer = ask(runner, line)
            sys.stdout.buffer.write(answer)
            sys.stdout.buffer.flush()
    finally:
        signal.alarm(0)
        if runner:
            runner.kill()
            runner.wait()
        shutil.rmtree(folder, ignore_errors=True)
        if turn:
            turn.close()


if __name__ == "__main__":
    main()

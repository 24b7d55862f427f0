"""Turns: those who measure on one device wait for each other, launch by launch."""

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from search_spaces.file_lock import FileHeldError, hold

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.05
"""Between two launches, for other processes to take their turn."""
PATIENCE_SECONDS = 120.0
"""How long to wait for a turn; launches of tens of models take seconds."""


@contextmanager
def turn(what: str = "") -> Iterator[None]:
    """Waits until no other process of this user measures on a device, but not for ever.

    The system unlocks when a process ends in any way. One that was stopped (Ctrl-Z) keeps the lock; measuring beside it
    is no danger to the figures, as the runner counts only undisturbed moments.

    Args:
        what: the device, in words that can be a file's name; empty for this machine itself.
    """
    time.sleep(PAUSE_SECONDS)  # or a process that measures launch after launch would never let go for long enough
    path = Path(tempfile.gettempdir()) / f"hwnas-measuring-{os.getuid()}{'-' * bool(what)}{what}.lock"
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            lock: AbstractContextManager[object] = hold(path, mode=0o600)
            break
        except FileHeldError as held:
            if time.monotonic() > end:
                logger.warning(
                    "process %s has been measuring for over %d s without a break; measuring beside it",
                    held.holder, PATIENCE_SECONDS,
                )  # fmt: skip
                lock = nullcontext()
                break
        time.sleep(PAUSE_SECONDS / 5)
    with lock:
        yield

"""Leases: one process at a time measures on a machine, launch by launch, and no longer than it says.

A lease is a lock on a file, which ends with the process that holds it, however that ends. The file names process,
device, and the moment at which the lease ends unless it is renewed; the holder renews it before each network.
"""

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from search_spaces.file_lock import FileHeldError, hold

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 0.05
"""Between two launches, for other processes to take their turn."""
PATIENCE_SECONDS = 120.0
"""Of a lease that does not say when it ends, and of a launch's start."""
GRACE_SECONDS = 30.0
"""After a lease's end, for its holder to end what hangs and clean up."""


@dataclass
class Lease:
    """A machine's lease; None in place of the file where it could not be had.

    Attributes:
        device: that is measured.
    """

    device: str
    _file: IO[str] | None

    def renew(self, seconds: float) -> None:
        """Says that what comes next takes at most so long."""
        if self._file:
            self._file.seek(0)
            self._file.truncate()
            self._file.write(f"{os.getpid()} {self.device} {time.time() + seconds + GRACE_SECONDS:.0f}\n")
            self._file.flush()


@dataclass(frozen=True)
class LeaseState:
    """A held lease.

    Attributes:
        process: number of the holder.
        device: that it measures; empty where it has not said.
        until: seconds since 1970, when the lease ends unless it is renewed; None where it has not been said.
    """

    process: str
    device: str = ""
    until: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns what a lease's file says."""
        words = text.split()
        return cls(words[0], words[1], float(words[2])) if len(words) == 3 else cls(words[0] if words else "?")


@contextmanager
def lease(device: str, machine: str = "") -> Iterator[Lease]:
    """Waits until no other process of this user measures on a machine, but not longer than that one's lease.

    One that was stopped (Ctrl-Z) keeps the lock; measuring beside it is no danger to latencies, as the runner counts
    only undisturbed moments.

    Args:
        device: its name.
        machine: that the device is part of, in words that can be a file's name; empty for this one.
    """
    time.sleep(PAUSE_SECONDS)  # or a process that measures launch after launch would never let go for long enough
    path = _folder() / f"hwnas-measuring-{os.getuid()}{'-' * bool(machine)}{machine}.lock"
    end = time.time() + PATIENCE_SECONDS  # a holder's file is empty for a moment whenever it renews
    file: IO[str] | None = None
    while file is None:
        try:
            file = hold(path, mode=0o600)
        except FileHeldError as error:
            held = LeaseState.parse(error.holder)
            end = held.until or end
            if time.time() > end:
                logger.warning("the lease of process %s, which measures, is over; measuring beside it", held.process)
                break
            time.sleep(PAUSE_SECONDS / 5)
    mine = Lease(device, file)
    mine.renew(PATIENCE_SECONDS)
    try:
        yield mine
    finally:
        if file:
            file.close()


def leases() -> list[LeaseState]:
    """Returns the leases that processes of this user hold now."""
    found = []
    for path in sorted(_folder().glob(f"hwnas-measuring-{os.getuid()}*.lock")):
        try:
            hold(path, mode=0o600).close()
        except FileHeldError as error:
            found.append(LeaseState.parse(error.holder))
    return found


def _folder() -> Path:
    return Path(tempfile.gettempdir())

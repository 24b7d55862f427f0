"""A lock on a file that ends with the process that holds it, however that process ends."""

import fcntl
import os
from pathlib import Path
from typing import IO


class FileHeldError(BlockingIOError):
    """Another process, or another part of this one, holds the lock.

    Attributes:
        holder: number of the process that holds it; ``?`` where it has not been written yet.
    """

    def __init__(self, holder: str) -> None:
        super().__init__(f"held by process {holder}")
        self.holder = holder


def hold(path: Path, *, wait: bool = False, mode: int = 0o644) -> IO[str]:
    """Locks a file, which is made where there is none, and writes this process's number into it.

    Args:
        path: of a file that is there for the lock alone.
        wait: until the lock is free.
        mode: of a new file; whoever may read a file may lock it.

    Returns:
        The open file; closing it unlocks.

    Raises:
        FileHeldError: the lock is held, and nobody waits.
    """
    file = open(os.open(path, os.O_RDWR | os.O_CREAT, mode), "r+")  # noqa: SIM115 (the caller closes it)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BaseException as error:
        holder = file.read().strip() or "?"
        file.close()
        if isinstance(error, BlockingIOError):
            raise FileHeldError(holder) from None
        raise
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file

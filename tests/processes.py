"""Programs that tests start end with them, also when the tests are killed."""

import ctypes
import signal

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1  # prctl(2)


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """Makes Linux send this process a signal when its parent dies; called in the new process."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, number)

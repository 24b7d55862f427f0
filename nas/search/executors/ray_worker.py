"""What every worker process on Ray does, whoever started it."""

import os
import pickle
import socket
import sys
from typing import Any

from ray import cloudpickle

from nas.evaluators.base import Evaluator
from nas.search.executors.base import Failure, describe

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def pin_threads(threads: int) -> None:
    """Tells libraries that are loaded from here on how many threads to use.

    Not by Ray's runtime_env: that would turn away the processes that Ray has ready and start others, seconds later.
    """
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))


def set_up(evaluator: Evaluator, threads: int) -> Failure | None:
    """Sets an evaluator up; errors come back as data, as an exception's class may not exist in the driver."""
    try:
        evaluator.setup()
    except Exception as error:
        return describe(error)
    # Importing torch only to pin its threads would cost each worker seconds where the evaluator does not use it.
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    return None


def process_name() -> str:
    """Returns host and process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def shipped_bytes(shipped: object) -> int:
    """Returns the size of an evaluator or of data in Ray's object store, arrays included."""
    arrays: list[pickle.PickleBuffer] = []
    data: Any = cloudpickle.dumps(shipped, protocol=5, buffer_callback=arrays.append)  # type: ignore[no-untyped-call]
    return len(data) + sum(array.raw().nbytes for array in arrays)

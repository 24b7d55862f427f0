"""Tracks a search: what its progress says goes to every recorder of the config, from a thread for each."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

from nas.config import TrackerName
from nas.progress import Progress, ProgressListener
from nas.run import Run
from nas.search.tracker import SearchProgress
from nas.tracking.base import Ending, Recorder, Step, open_recorder, require

_logger = logging.getLogger(__name__)

GOODBYE_S = 60.0
"""How long a search that has ended waits for its recorders."""

FILES = ("config.yaml", "front.json", "front.html", "front.png")
"""Of the run directory, handed to the recorders at the end."""


@contextmanager
def tracked(run: Run, listener: ProgressListener) -> Iterator[ProgressListener]:
    """Returns a listener that tells the given one and the run's recorders; the end of the block is the search's.

    Raises:
        InputError: what a recorder needs is not installed.
    """
    for name in run.config.tracking:
        require(name)
    feeds = [_Feed(name, run) for name in run.config.tracking]

    def told(progress: Progress) -> None:
        listener(progress)
        if isinstance(progress, SearchProgress) and feeds:
            step = progress.done, _values(progress)
            for feed in feeds:
                feed.put(step)

    ending: Ending = "failed"
    try:
        yield told
        ending = "done"
    except KeyboardInterrupt:
        ending = "interrupted"
        raise
    finally:
        files = [run.path / name for name in FILES if (run.path / name).is_file()]
        for feed in feeds:
            feed.end(ending, files)


def _values(progress: SearchProgress) -> dict[str, float]:
    """Returns the values by name; the tools take no spaces in names and no ``@``."""
    values = {f"best_{name.replace('@', '/')}": value for name, value in progress.best.items()}
    return values | {
        "hypervolume": progress.hypervolume,
        "front_size": float(progress.front_size),
        "feasible_share": progress.feasible_share,
        "failed": float(progress.failed),
    }


class _Feed:
    """Hands steps to one recorder in a thread, so that a slow one holds nothing up."""

    def __init__(self, name: TrackerName, run: Run) -> None:
        self._name = name
        self._run = run
        self._queue: SimpleQueue[Step | tuple[Ending, Sequence[Path]]] = SimpleQueue()
        # A daemon: a recorder that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name=f"tracking {name}", daemon=True)
        self._thread.start()

    def put(self, step: Step) -> None:
        self._queue.put(step)

    def end(self, ending: Ending, files: Sequence[Path]) -> None:
        self._queue.put((ending, files))
        self._thread.join(GOODBYE_S)
        if self._thread.is_alive():
            _logger.warning("tracking: %s did not take everything within %g s", self._name, GOODBYE_S)

    def _work(self) -> None:
        try:
            self._feed(open_recorder(self._name, self._run))
        except Exception as error:
            _logger.warning(
                "tracking: %s has stopped (%s: %s); the search goes on without it",
                self._name,
                type(error).__name__,
                str(error).partition("\n")[0],
            )

    def _feed(self, recorder: Recorder) -> None:
        while True:
            steps: list[Step] = []
            items = [self._queue.get()]
            while not self._queue.empty():  # this thread alone takes from it
                items.append(self._queue.get())
            for item in items:
                if isinstance(item[0], int):
                    steps.append(item)
                    continue
                if steps:
                    recorder.log(steps)
                recorder.close(*item)
                return
            recorder.log(steps)

"""SIGINT and SIGTERM end a search cleanly."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_logger = logging.getLogger(__name__)


@contextmanager
def stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """Sets the event on the first SIGINT or SIGTERM and raises KeyboardInterrupt on the second."""

    def handle(number: int, _: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        _logger.warning("%s: ending after the running evaluations; again to end now", signal.Signals(number).name)

    earlier: dict[signal.Signals, Callable[[int, FrameType | None], object] | int | None] = {}
    with suppress(ValueError):  # outside the main thread nobody may set handlers, and the caller has `stop`
        for number in (signal.SIGINT, signal.SIGTERM):
            earlier[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for restored, handler in earlier.items():
            signal.signal(restored, handler)

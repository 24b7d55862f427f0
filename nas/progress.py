"""Progress of long work, as events that the command line, the service or a test listens to."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Where a stage of a run stands.

    Attributes:
        stage: ``train``, ``measure``, ``search``, ``finish``, ...
        done: units of work finished.
        total: units of work in all; 0 where unknown.
        text: the state in words, with units: best values, the device, the step.
        notable: whether something happened that is worth a line of its own (a new front point, a failure).
    """

    stage: str
    done: int
    total: int
    text: str = ""
    notable: bool = False


ProgressListener = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Ignores progress."""

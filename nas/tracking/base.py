"""The contract of a recorder, which takes a search to an experiment tracker, and the recorders by name."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from nas.config import TrackerName
from nas.errors import InputError
from nas.run import Run

Ending = Literal["done", "interrupted", "failed"]
Step = tuple[int, Mapping[str, float]]
"""How many networks were evaluated, and the values by name then."""


class Recorder(ABC):
    """Takes what a search reports to one tracking tool.

    Every method, the constructor included, is called in a thread of its own (`nas.tracking.session`), one call at a
    time: it may be slow. What it raises is logged, and ends the tracking, not the search. The constructor takes the
    run; where an earlier start of the run was tracked, it goes on there.
    """

    @abstractmethod
    def log(self, steps: Sequence[Step]) -> None:
        """Takes the values after one or more evaluations, in order."""

    @abstractmethod
    def close(self, ending: Ending, files: Sequence[Path]) -> None:
        """Takes the files of the run that are worth keeping, and ends.

        Args:
            ending: of the search.
            files: of the front, and the config.
        """


@dataclass(frozen=True)
class _Known:
    module: str
    needs: str  # the package that the extra of the same name installs


_RECORDERS: dict[TrackerName, _Known] = {
    "mlflow": _Known("nas.tracking.mlflow", "mlflow"),
    "tensorboard": _Known("nas.tracking.tensorboard", "tensorboardX"),
}


def require(name: TrackerName) -> None:
    """Checks that what a recorder needs is installed; imports nothing.

    Raises:
        InputError: it is not; the message has the extra.
    """
    if find_spec(_RECORDERS[name].needs) is None:
        raise InputError(f"tracking: {name} needs the extra {name}: pip install 'hwnas[{name}]'")


def open_recorder(name: TrackerName, run: Run) -> Recorder:
    """Returns the recorder of a name, for a run."""
    recorder: Recorder = import_module(_RECORDERS[name].module).open_for(run)
    return recorder

"""The contract of an evaluator: the expensive metrics of an architecture, found by running something."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

from search_spaces.architecture import Architecture

EPOCHS, FULL_EPOCHS = "epochs", "full_epochs"
"""Metrics of evaluators that train: the epochs behind the others, and those of a training to the end."""


def fully_trained(metrics: Mapping[str, float]) -> bool:
    """Returns whether metrics come from a training to the end, or from no training at all.

    Those of an early-stopped training must not be compared with others: they would be better after more epochs.
    """
    return metrics.get(EPOCHS, 0.0) >= metrics.get(FULL_EPOCHS, 0.0)


class Evaluator(ABC):
    """Finds the expensive metrics of architectures.

    An instance holds settings and NumPy arrays, and needs no file of the process that made it but images that are too
    large for memory (`nas.data.stored`): Ray brings it once to each machine (through the object store, never to disk),
    where its workers share the arrays' memory and must not write to it. Torch modules and whatever lives on
    a GPU are made by `setup`.
    """

    @abstractmethod
    def setup(self) -> None:
        """Loads what `evaluate` needs; called once in each worker process, before anything is evaluated.

        Raises:
            HwnasError: a file is missing or damaged; the search ends with its sentence.
        """

    @abstractmethod
    def evaluate(self, architecture: Architecture) -> dict[str, float]:
        """Returns the expensive metrics by name, such as ``{"accuracy": 0.98}``.

        Calls never overlap within a process. The same architecture gives the same values in every worker, so that a
        search can be repeated and work of a dead worker can be done by another.

        Raises:
            Exception: whatever goes wrong is a failed attempt, and so is a value that is not finite; the loop records
                its class and text and tries again a limited number of times.
        """

    def by_epoch(self, architecture: Architecture) -> Iterator[dict[str, float]]:
        """Yields metrics that get better, at least once; the last ones are those of `evaluate`.

        Evaluators that train yield after every epoch, with `EPOCHS` and `FULL_EPOCHS`, so that an executor may stop
        what falls behind.
        """
        yield self.evaluate(architecture)

    def discard(self, architecture: Architecture) -> None:  # noqa: B027  most keep nothing
        """Removes what was kept to go on with an evaluation; called where `by_epoch` was stopped for good."""

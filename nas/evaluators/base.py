"""The contract of an evaluator: the expensive metrics of an architecture, found by running something."""

from abc import ABC, abstractmethod

from search_spaces.architecture import Architecture


class Evaluator(ABC):
    """Finds the expensive metrics of architectures.

    An instance holds paths and settings only: executors send it to worker processes (cloudpickle, over the wire and
    never to disk), and whatever is large is loaded there by `setup`.
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

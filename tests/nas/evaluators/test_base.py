import pickle

import pytest

from nas.evaluators.base import Evaluator
from search_spaces.architecture import Architecture


class Constant(Evaluator):
    def setup(self) -> None:
        self.value = 0.5

    def evaluate(self, architecture: Architecture) -> dict[str, float]:
        return {"accuracy": self.value}


class HalfWritten(Evaluator):
    def setup(self) -> None: ...


def test_a_half_written_evaluator_fails_when_it_is_created() -> None:
    with pytest.raises(TypeError, match="evaluate"):
        HalfWritten()  # type: ignore[abstract]


def test_an_evaluator_travels_to_a_worker_before_it_is_set_up() -> None:
    received = pickle.loads(pickle.dumps(Constant()))  # noqa: S301  (over a wire, never from disk)
    received.setup()
    assert received.evaluate(Architecture("tiny", ())) == {"accuracy": 0.5}

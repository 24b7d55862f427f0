from pathlib import Path

import pytest
from scipy.stats import binomtest

from nas.search.results import evaluated, wilson_interval
from tests.nas.search.small import Small, accuracy


@pytest.mark.parametrize(("successes", "count"), [(0, 10), (3, 10), (10, 10), (355, 360), (9_000, 10_000)])
def test_the_interval_is_that_of_scipy(successes: int, count: int) -> None:
    reference = binomtest(successes, count).proportion_ci(0.95, "wilson")
    assert wilson_interval(successes / count, count) == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_results_tell_where_each_value_comes_from(tmp_path: Path) -> None:
    small = Small(tmp_path, budget=5, constraints=("parameters <= 1e9",))
    small.run(validation_images=200)
    with small.ledger() as ledger:
        results = evaluated(ledger)
    assert [result.number for result in results] == list(range(5))
    for result in results:
        assert {name: value.source for name, value in result.values.items()} == {
            "accuracy": "measured",
            "macs": "analytic",
            "parameters": "analytic",
        }
        found = result.values["accuracy"]
        assert found.value == accuracy(result.architecture)
        assert (found.lower, found.upper) == wilson_interval(found.value, 200)


def test_without_a_number_of_images_accuracy_has_no_interval(tmp_path: Path) -> None:
    small = Small(tmp_path, budget=2)
    small.run()
    with small.ledger() as ledger:
        assert all(result.values["accuracy"].lower is None for result in evaluated(ledger))


def test_a_perfect_accuracy_lies_in_its_interval(tmp_path: Path) -> None:
    from nas.evaluators.base import Evaluator
    from search_spaces.architecture import Architecture

    class Perfect(Evaluator):
        def setup(self) -> None: ...

        def evaluate(self, architecture: Architecture) -> dict[str, float]:
            return {"accuracy": float(architecture == architecture)}

    small = Small(tmp_path, budget=1)
    small.run(evaluator=Perfect(), validation_images=7)
    with small.ledger() as ledger:
        (result,) = evaluated(ledger)
    assert result.values["accuracy"].upper == 1.0

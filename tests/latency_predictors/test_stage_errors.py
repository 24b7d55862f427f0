import numpy as np
import pytest

from latency_predictors.stage_errors import stage_errors
from search_spaces.space import load_space


def test_the_stage_that_errors_follow_comes_first_with_its_choices() -> None:
    space, rng = load_space("efficientnet"), np.random.default_rng(0)
    architectures = [space.sample(rng) for _ in range(200)]
    wide = np.array([architecture["stage5.kernel"] == 5 for architecture in architectures])
    measured = np.where(wide, 1.1, 1.0) * np.exp(rng.normal(0, 0.02, 200))
    first, *others = stage_errors(architectures, np.ones(200), measured)
    assert (first.stage, len(others)) == ("stage5", 6)
    assert first.explained > 0.7
    assert max(error.explained for error in others) < 0.1
    choice = first.choices[0]
    assert (choice.choice, choice.rows) == ("kernel=5", int(wide.sum()))
    assert choice.lower < 1.1 < choice.upper
    assert choice.ratio == pytest.approx(1.1, abs=0.01)


def test_exact_predictions_follow_nothing() -> None:
    space, rng = load_space("tiny"), np.random.default_rng(0)
    architectures = [space.sample(rng) for _ in range(10)]
    assert all(error.explained == 0 for error in stage_errors(architectures, np.ones(10), np.ones(10)))

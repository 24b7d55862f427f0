import numpy as np
import pytest

from nas.search.samplers.gaussian_process import Columns
from nas.search.samplers.objective_models import Surrogate, floor_of


def columns(count: int, seed: int = 0) -> Columns:
    rng = np.random.default_rng(seed)
    return Columns(rng.random((count, 4)), rng.normal(size=(count, 2)))


def errors(of: Columns) -> np.ndarray:
    """Comes down towards 25 like an error of larger and larger networks."""
    return 25 + np.exp(2 + of.features[:, 0] + 0.3 * np.sin(5 * of.encoding[:, 0]))


def surrogate(known: Columns, targets: np.ndarray, floor: float | None, noise_std: float = 0.0) -> Surrogate:
    return Surrogate(known, targets, noise_std, np.arange(len(known)), {}, floor)


def test_a_floor_gives_better_predictions_and_less_uncertainty_near_it() -> None:
    known, new = columns(40), columns(400, seed=1)
    truth = errors(new)
    with_floor = surrogate(known, errors(known), floor_of(errors(known), 40))
    mean, std = with_floor.posterior(new)
    plain_mean, _ = surrogate(known, errors(known), None).posterior(new)
    assert np.sqrt(np.mean((mean - truth) ** 2)) < 0.7 * np.sqrt(np.mean((plain_mean - truth) ** 2))
    low, high = truth < np.quantile(truth, 0.2), truth > np.quantile(truth, 0.8)
    assert np.median(std[low]) < 0.3 * np.median(std[high])
    assert np.mean(np.abs(truth - mean) < 2 * std) > 0.85


def test_the_moments_are_those_of_a_log_normal_value() -> None:
    known, new = columns(12), columns(5, seed=1)
    one = surrogate(known, errors(known), 20.0)
    mean, std = one.posterior(new)
    inner_mean, inner_std = one._process.posterior(new)
    draws = 20 + np.exp(inner_mean + inner_std * np.random.default_rng(0).normal(size=(400_000, 5)))
    np.testing.assert_allclose(mean, draws.mean(0), rtol=0.01)
    np.testing.assert_allclose(std, draws.std(0), rtol=0.05)


def test_true_values_are_the_told_ones_without_noise_and_nearer_the_truth_with_it() -> None:
    known = columns(80)
    told, noisy = errors(known), errors(known) + np.random.default_rng(2).normal(0, 2.0, 80)
    np.testing.assert_allclose(surrogate(known, told, floor_of(told, 80)).true_values, told, rtol=1e-4)
    true = surrogate(known, noisy, floor_of(noisy, 80), noise_std=2.0).true_values
    assert np.sqrt(np.mean((true - told) ** 2)) < 0.7 * np.sqrt(np.mean((noisy - told) ** 2))


@pytest.mark.parametrize("later", [[], [9.0], [-30.0]])
def test_the_floor_lies_below_everything_and_stays_until_something_comes_near(later: list[float]) -> None:
    first = [10.0, 12.0, 14.0, 30.0]
    targets = np.array(first + later)
    floor = floor_of(targets, 4)
    assert floor < targets.min()
    assert (floor == 7.0) == (later != [-30.0])


def test_equal_targets_have_a_floor_too() -> None:
    assert floor_of(np.full(5, 3.0), 5) < 3.0

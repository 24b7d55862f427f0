from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from latency_predictors import transfer
from latency_predictors.base import Model
from latency_predictors.selection import choose_networks
from latency_predictors.source_bank import SourceBank
from latency_predictors.transfer import TransferPredictor
from search_spaces.errors import InputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

FEATURES = 24
COLUMNS = tuple(f"layer{number}.macs" for number in range(FEATURES))
SOURCES = ("a1", "a2", "b1", "b2", "c1")
TEST = slice(200, 400)


def world(seed: int = 0, noise: float = 0.02) -> tuple[Floats, Floats]:
    """Returns features of 400 networks and their latency on six devices: three kinds of silicon, two devices each."""
    rng = np.random.default_rng(seed)
    features = rng.uniform(0, 4, (400, FEATURES))
    slopes = np.repeat(rng.uniform(0, 0.15, (3, FEATURES)), 2, axis=0) + rng.normal(0, 0.004, (6, FEATURES))
    logs = features @ slopes.T + rng.uniform(-1, 1, 6)
    return features, np.exp(logs + rng.normal(0, noise, logs.shape))


def bank_of(features: Floats, values: Floats) -> SourceBank:
    """Returns a bank of the first five devices; the sixth is new, its sibling is known."""
    return SourceBank.fit(features[:200], values[:200, :5], SOURCES, columns=COLUMNS)


def transferred(
    features: Floats, values: Floats, target: Floats, rows: Floats | list[int] | range
) -> TransferPredictor:
    predictor = TransferPredictor("latency_ms", "new", columns=COLUMNS, bank=bank_of(features, values))
    return predictor.fit_features(features[list(rows)], target[list(rows)])


def test_few_measurements_with_a_bank_beat_the_same_measurements_alone() -> None:
    features, values = world()
    rows, target = range(15), values[:, 5]
    predicted = transferred(features, values, target, rows).predict_features(features[TEST]).mean
    errors = np.abs(predicted / target[TEST] - 1)
    assert spearmanr(predicted, target[TEST]).statistic > 0.97
    assert (errors < 0.1).mean() > 0.9
    middle = features[:15].mean(axis=0)
    gram = (features[:15] - middle).T @ (features[:15] - middle) + np.eye(FEATURES)
    weights = np.linalg.solve(gram, (features[:15] - middle).T @ np.log(target[:15]))
    alone = np.exp((features[TEST] - middle) @ weights + np.log(target[:15]).mean())
    assert errors.mean() < 0.7 * np.abs(alone / target[TEST] - 1).mean()


def test_outliers_among_the_measurements_barely_hurt() -> None:
    features, values = world()
    disturbed = values[:, 5].copy()
    disturbed[[3, 11]] *= [3.0, 2.0]
    errors = [
        np.abs(transferred(features, values, y, range(20)).predict_features(features[TEST]).mean / values[TEST, 5] - 1)
        for y in (values[:, 5], disturbed)
    ]
    assert errors[1].mean() < 1.5 * errors[0].mean()


def test_intervals_cover_about_nine_tenths_of_new_measurements() -> None:
    coverage = []
    for seed in range(8):
        features, values = world(seed, noise=0.05)
        prediction = transferred(features, values, values[:, 5], range(20)).predict_features(features[TEST])
        coverage.append(np.mean((prediction.lower <= values[TEST, 5]) & (values[TEST, 5] <= prediction.upper)))
    assert 0.84 <= np.mean(coverage) <= 0.98


class Unscaled(TransferPredictor):
    """Takes the rows learned from for typical ones."""

    def _ease_of(self, models: Sequence[Model], features: Floats, fold: Integers) -> Floats:
        return np.ones(len(fold))


def test_intervals_from_networks_that_lie_far_apart_are_scaled_to_typical_ones() -> None:
    coverage, widths, unscaled_widths = [], [], []
    for seed in range(8):
        features, values = world(seed, noise=0.01)
        target = values[:, 5] * np.exp(features @ np.random.default_rng(seed).normal(0, 0.05, FEATURES))
        bank = bank_of(features, values)
        chosen = choose_networks(bank, features[:200], 20, np.random.default_rng(seed))
        found, unscaled = (
            kind("latency_ms", "new", columns=COLUMNS, bank=bank)
            .fit_features(features[chosen], target[chosen])
            .predict_features(features[TEST])
            for kind in (TransferPredictor, Unscaled)
        )
        coverage.append(np.mean((found.lower <= target[TEST]) & (target[TEST] <= found.upper)))
        widths.append(np.log(found.upper / found.lower).mean())
        unscaled_widths.append(np.log(unscaled.upper / unscaled.lower).mean())
    assert 0.84 <= np.mean(coverage) <= 0.96
    assert np.mean(widths) < 0.97 * np.mean(unscaled_widths)


def test_a_device_that_resembles_none_is_told_by_its_share_of_the_bank() -> None:
    features, values = world()
    strange = np.exp(features @ np.random.default_rng(9).normal(0, 0.2, FEATURES))
    assert transferred(features, values, values[:, 5], range(20)).bank_share > 0.9
    assert transferred(features, values, strange, range(20)).bank_share < 0.6


def test_a_device_that_resembles_none_is_predicted_from_its_own_costs() -> None:
    features, values = world()
    # What it pays is added up, unlike the logarithms of all others, and for other things.
    costs = np.where(np.arange(FEATURES) % 4 == 0, 1.0, 0.0)
    strange = (1 + features @ costs) * np.exp(np.random.default_rng(3).normal(0, 0.02, len(features)))
    predictor = transferred(features, values, strange, range(20))
    errors = np.abs(predictor.predict_features(features[TEST]).mean / strange[TEST] - 1)
    assert errors.mean() < 0.08
    assert predictor.own_share > 0.5
    assert transferred(features, values, values[:, 5], range(20)).own_share < 0.1


def test_own_costs_have_a_share_by_what_most_rows_say_rather_than_by_two_outliers() -> None:
    by_two, by_all = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        usual, better = rng.normal(0, 0.05, 20), rng.normal(0, 0.02, 20)
        # The bank is better on eighteen networks and far off on two; then four times worse on all.
        by_two.append(transfer._own_share(usual + np.where(np.arange(20) < 2, 0.6, 0.0), 1.3 * usual, 0.1))
        by_all.append(transfer._own_share(4 * usual, better, 0.1))
    assert np.mean(by_two) < 0.6  # by mean absolute errors it is .94
    assert np.mean(by_all) > 0.9


def test_rows_that_own_costs_meet_by_chance_count_for_little_where_the_bank_explains_the_device() -> None:
    by_bank = np.array([0.023, -0.065, -0.018, 0.052, -0.03, 0.039, 0.135, 0.01, -0.009, 0.01])
    by_costs = np.array([-0.007, 0.017, 0.0, 0.007, -0.007, 0.049, 0.061, -0.009, -0.003, 0.005])
    assert transfer._own_share(by_bank, by_costs, 0.002) < 0.1
    assert transfer._own_share(by_bank, by_costs, 0.15) > 0.4


def test_a_predictor_of_an_earlier_version_predicts_from_the_bank_alone() -> None:
    features, values = world()
    arrays = transferred(features, values, values[:, 5], range(20)).arrays()
    earlier = {name: array for name, array in arrays.items() if name.split(".")[-1] not in {"share", "costs", "floor"}}
    restored = TransferPredictor.restore("latency_ms", "new", 0, earlier, COLUMNS)
    predicted = restored.predict_features(features[TEST])
    assert restored.own_share == 0
    assert (np.abs(predicted.mean / values[TEST, 5] - 1) < 0.1).mean() > 0.9


def test_a_restored_predictor_predicts_the_same_without_the_bank() -> None:
    features, values = world()
    predictor = transferred(features, values, values[:, 5], range(12))
    again = TransferPredictor.restore("latency_ms", "new", 0, predictor.arrays(), COLUMNS)
    for one, other in zip(
        vars(predictor.predict_features(features)).values(),
        vars(again.predict_features(features)).values(),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_a_predictor_without_a_bank_cannot_be_fitted() -> None:
    features, values = world()
    with pytest.raises(RuntimeError, match="needs a source bank"):
        TransferPredictor("latency_ms", "new").fit_features(features[:20], values[:20, 5])


def test_chosen_networks_leave_less_error_than_random_ones_on_average() -> None:
    chosen_errors, random_errors = [], []
    for seed in range(8):
        features, values = world(seed, noise=0.01)
        bank = bank_of(features, values)
        chosen = choose_networks(bank, features[:200], 10, np.random.default_rng(seed))
        for errors, rows in ((chosen_errors, chosen), (random_errors, range(10))):
            predicted = transferred(features, values, values[:, 5], rows).predict_features(features[TEST]).mean
            errors.append(np.abs(predicted / values[TEST, 5] - 1).mean())
    assert np.mean(chosen_errors) < np.mean(random_errors)


def test_chosen_networks_are_distinct_deterministic_and_not_what_was_measured() -> None:
    features, values = world()
    bank = bank_of(features, values)
    chosen = choose_networks(bank, features[:200], 12, np.random.default_rng(0))
    assert len(set(chosen)) == 12
    assert chosen == choose_networks(bank, features[:200], 12, np.random.default_rng(0))
    # One at a time is the same as all at once.
    first = choose_networks(bank, features[:200], 11, np.random.default_rng(0))
    last = choose_networks(bank, features[:200], 1, np.random.default_rng(0), measured=features[first])
    assert last == chosen[11:]


def test_more_networks_than_candidates_are_refused() -> None:
    features, values = world()
    with pytest.raises(InputError, match="count must be at most the number of candidates, 5, got 6"):
        choose_networks(bank_of(features, values), features[:5], 6, np.random.default_rng(0))


def test_a_bank_forgets_a_family_and_keeps_the_others() -> None:
    features, values = world()
    bank = SourceBank.fit(features, values, [*SOURCES, "c2"], ["a", "a", "b", "b", "c", "c"], columns=COLUMNS)
    fewer = bank.without("b")
    assert fewer.devices == ("a1", "a2", "c1", "c2")
    np.testing.assert_array_equal(fewer.predict_logs(features), bank.predict_logs(features)[:, [0, 1, 4, 5]])
    with pytest.raises(InputError, match="no source device is left without the family 'a'"):
        bank.without("b").without("c").without("a")


def test_a_bank_predicts_its_own_devices() -> None:
    features, values = world()
    predicted = np.exp(bank_of(features, values).predict_logs(features[TEST]))
    assert (np.abs(predicted / values[TEST, :5] - 1) < 0.1).mean() > 0.97


def added_world(seed: int = 0) -> tuple[Floats, Floats]:
    """Returns features of 400 networks and what six devices take for them, each a sum of costs of its own."""
    rng = np.random.default_rng(seed)
    features = rng.uniform(0, 4, (400, FEATURES)) * (rng.random((400, FEATURES)) < 0.3)
    costs = np.repeat(rng.exponential(1, (3, FEATURES)), 2, axis=0) * np.exp(rng.normal(0, 0.1, (6, FEATURES)))
    return features, (1 + features @ costs.T) * np.exp(rng.normal(0, 0.01, (400, 6)))


def test_a_bank_adds_up_costs_where_its_devices_do() -> None:
    features, values = added_world()
    errors = np.abs(np.exp(bank_of(features, values).predict_logs(features[TEST])) / values[TEST, :5] - 1)
    assert errors.mean() < 0.02
    # A predictor from it stands alone, and knows the sums too.
    predictor = transferred(features, values, values[:, 5], range(15))
    again = TransferPredictor.restore("latency_ms", "new", 0, predictor.arrays(), COLUMNS)
    predicted = again.predict_features(features[TEST]).mean
    np.testing.assert_array_equal(predicted, predictor.predict_features(features[TEST]).mean)
    assert np.abs(predicted / values[TEST, 5] - 1).mean() < 0.08
    # Where logarithms are what adds up, costs are left out.
    assert not any(costs["costs"].any() for costs in bank_of(*world()).costs)


def test_networks_that_a_runtime_folds_away_do_not_bend_what_a_bank_says_of_others() -> None:
    features, values = world()
    folded = values.copy()
    folded[:200:20, 2] /= 30
    clean, bent = (
        np.abs(np.exp(bank_of(features, table).predict_logs(features[TEST])[:, 2]) / values[TEST, 2] - 1).mean()
        for table in (values, folded)
    )  # fmt: skip
    assert bent < 3 * clean  # least squares: 13 times


def test_networks_far_from_all_others_are_not_chosen() -> None:
    features, values = world()
    bank = bank_of(features, values)
    candidates = features[:200].copy()
    candidates[:5] *= 4
    assert min(choose_networks(bank, candidates, 20, np.random.default_rng(0))) >= 5
    # Unless there are no others.
    assert sorted(choose_networks(bank, candidates[:10], 10, np.random.default_rng(0))) == list(range(10))


def test_source_values_must_be_complete_and_enough() -> None:
    features, values = world()
    values[7, 2] = np.nan
    with pytest.raises(InputError, match="got nan for 'b1' in row 7; leave the row out"):
        SourceBank.fit(features[:200], values[:200, :5], SOURCES, columns=COLUMNS)
    with pytest.raises(InputError, match="at least 50 networks, got 30"):
        SourceBank.fit(features[:30], values[:30, :5], SOURCES, columns=COLUMNS)

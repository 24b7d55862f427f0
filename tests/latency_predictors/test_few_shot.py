from pathlib import Path

import numpy as np
import pytest

from latency_predictors.catalog import Catalog
from latency_predictors.few_shot import Cost, FewShot, FewShotLearner
from search_spaces.errors import InputError
from tests.latency_predictors.test_transfer import COLUMNS, TEST, Floats, bank_of, world


def learn(target: Floats, features: Floats, values: Floats, samples: int = 20, **options: object) -> FewShot:
    learner = learner_of(features, values, samples, **options)
    asked: list[int] = []
    while batch := learner.ask():
        asked += batch
        learner.tell({row: Cost(float(target[row])) for row in batch})
    assert tuple(asked) == learner.result().measured
    return learner.result()


def learner_of(features: Floats, values: Floats, samples: int = 20, **options: object) -> FewShotLearner:
    bank = bank_of(features, values)
    return FewShotLearner(bank, features[:200], samples, device="new", **{"names": COLUMNS} | options)  # type: ignore[arg-type]


@pytest.mark.parametrize("choose", [True, False])
def test_networks_are_measured_once_in_batches_and_each_batch_is_a_step(choose: bool) -> None:
    features, values = world()
    found = learn(values[:, 5], features, values, choose=choose)
    assert len(set(found.measured)) == 20
    assert [step.rows for step in found.steps] == [10, 12, 14, 16, 18, 20]
    assert all(step.error_lower <= step.error <= step.error_upper for step in found.steps)
    assert found.resembles_bank
    assert found.reached is None


def test_the_expected_error_is_near_the_error_on_other_networks() -> None:
    expected, real = [], []
    for seed in range(6):
        features, values = world(seed, noise=0.05)
        found = learn(values[:, 5], features, values, seed=seed)
        predicted = found.fitted.predictor.predict_features(features[TEST]).mean
        real.append(np.abs(predicted / values[TEST, 5] - 1).mean())
        expected.append(found.steps[-1].error)
    assert 0.6 < np.mean(expected) / np.mean(real) < 1.7


def test_measuring_stops_as_soon_as_the_wanted_error_is_reached() -> None:
    features, values = world()
    curve = learn(values[:, 5], features, values).steps
    wanted = curve[1].error_upper
    found = learn(values[:, 5], features, values, until_error=wanted)
    first = next(step for step in curve if step.error_upper <= wanted)
    assert (found.steps[-1], found.reached) == (first, True)
    assert learn(values[:, 5], features, values, until_error=1e-6).reached is False


def test_a_device_that_resembles_none_of_the_bank_is_told() -> None:
    features, values = world()
    strange = np.exp(features @ np.random.default_rng(9).normal(0, 0.5, features.shape[1]))
    found = learn(strange, features, values, samples=20, choose=False)
    assert found.steps[-1].bank_share == found.fitted.predictor.arrays()["0.bank_share"][0]
    assert not found.resembles_bank


def test_a_transferred_predictor_is_kept_by_the_catalog_to_the_last_bit(tmp_path: Path) -> None:
    features, values = world()
    found = learn(values[:, 5], features, values, names=tuple(f"place={n}" for n in range(features.shape[1])))
    entry = Catalog(tmp_path).save("new", found.fitted)
    assert (entry.kind, entry.rows, entry.device) == ("transfer", 20, "new")
    with pytest.raises(InputError, match="new/v1 predicts vectors of a space without known layers"):
        Catalog(tmp_path).load("new")
    before, after = (
        predictor.predict_features(features)
        for predictor in (found.fitted.predictor, Catalog(tmp_path).load("new", of_choices=True))
    )
    for name in ("mean", "lower", "upper"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"samples": 9}, "samples must be at least 10, which an interval needs, got 9"),
        ({"samples": 201}, "samples must be at most 200"),
        ({"until_error": 0.0}, "a wanted error must be above zero"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(options: dict[str, object], sentence: str) -> None:
    features, values = world()
    with pytest.raises(InputError, match=sentence):
        learn(values[:, 5], features, values, **options)  # type: ignore[arg-type]


def test_another_network_is_asked_for_where_one_cannot_be_measured() -> None:
    features, values = world()
    learner = learner_of(features, values, samples=12)
    first = learner.ask()
    costs = {row: Cost(float(values[row, 5])) for row in range(200)}
    learner.tell({row: None if row == first[3] else costs[row] for row in first})
    assert learner.steps == []
    (other,) = learner.ask()
    assert other not in first
    learner.tell({other: costs[other]})
    assert [step.rows for step in learner.steps] == [10]
    learner.tell({row: costs[row] for row in learner.ask()})
    assert first[3] not in learner.result().measured
    assert len(learner.result().measured) == 12


def test_too_few_networks_that_can_be_measured_are_told() -> None:
    features, values = world()
    learner = learner_of(features, values, choose=False)
    for _ in range(20):
        learner.tell(dict.fromkeys(learner.ask()))
    with pytest.raises(InputError, match="of 200 networks 200 could not be measured"):
        learner.ask()


def test_noisy_measurements_count_less() -> None:
    errors: dict[float, list[float]] = {0.3: [], 0.0: []}
    for seed in range(5):
        features, values = world(seed)
        rng = np.random.default_rng(seed)
        noisy = rng.random(200) < 0.5
        told = values[:200, 5] * np.where(noisy, np.exp(rng.normal(0, 0.3, 200)), 1.0)
        for noise, found in errors.items():
            learner = learner_of(features, values, samples=14, choose=False, seed=seed)
            while batch := learner.ask():
                learner.tell({row: Cost(float(told[row]), noise if noisy[row] else 0.0) for row in batch})
            predicted = learner.result().fitted.predictor.predict_features(features[TEST]).mean
            found.append(float(np.abs(predicted / values[TEST, 5] - 1).mean()))
    assert np.mean(errors[0.3]) < 0.85 * np.mean(errors[0.0])

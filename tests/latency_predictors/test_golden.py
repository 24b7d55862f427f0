"""A predictor saved once predicts the same for ever: the files of ``golden`` against the outputs recorded with them.

``python -m tests.latency_predictors.test_golden NAME …`` makes them anew; only where a file format changed on purpose.
"""

import json
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from latency_predictors.architecture_cell import decode_architecture
from latency_predictors.architecture_features import architecture_features, feature_columns
from latency_predictors.catalog import Catalog
from latency_predictors.choice_features import choice_names
from latency_predictors.evaluation import FittedPredictor, fit_best_predictor
from latency_predictors.features import FEATURE_NAMES, LEVELS
from latency_predictors.few_shot import Cost, FewShotLearner
from latency_predictors.kinds import list_kinds
from latency_predictors.source_bank import SourceBank
from search_spaces.space import load_space

GOLDEN = Path(__file__).parent / "golden"
NETWORKS = [decode_architecture(json.dumps(vector), "cells") for vector in product(range(4), repeat=3)]
LAYERED = "layers_"
"""Before a kind: of networks whose layers are known, so that physical features are learned from, too."""
HIDDEN = "layers_hidden_"
"""Likewise, of a device where some work hides behind other work, so that costs have corrections."""
SUMMED = "layers_summed_"
"""Likewise, from a bank whose devices' costs are summed; `transfer` alone and of layers were saved before banks did."""
CORRECTED = ("linear", "gaussian_process", "boosted_trees")
TINY = {"tiny": load_space("tiny")}
LAYERED_NETWORKS = [TINY["tiny"].sample(rng) for rng in map(np.random.default_rng, range(56))]
ENDS = ("mean", "lower", "upper")


@pytest.mark.parametrize(
    "name",
    [
        *(f"{layers}{kind}" for layers in ("", LAYERED) for kind in ("transfer", *list_kinds())),
        *(f"{HIDDEN}{kind}" for kind in CORRECTED),
        f"{SUMMED}transfer",
    ],
)
def test_the_saved_predictor_predicts_what_it_did_when_it_was_saved(name: str) -> None:
    predictor = Catalog(GOLDEN).load(f"{name}/v1", of_choices=True)
    known = (LAYERED_NETWORKS, TINY) if name.startswith(LAYERED) else (NETWORKS, {})
    prediction = predictor.predict_architectures(*known)
    recorded = json.loads((GOLDEN / f"{name}.json").read_text())
    for end in ENDS:
        np.testing.assert_allclose(getattr(prediction, end), recorded[end], rtol=1e-6)
    corrections = predictor.arrays().get("0.corrections", np.zeros(1))
    assert corrections.any() == name.startswith(HIDDEN)
    assert predictor.arrays().get("0.source_weights", np.zeros(1)).any() == name.startswith(SUMMED)


def _make(names: Sequence[str]) -> None:
    kinds = [name for name in names if not name.startswith(LAYERED)]
    _make_of_choices(kinds)
    _make_of_layers([name.removeprefix(LAYERED) for name in names if name not in kinds])


def _make_of_layers(kinds: Sequence[str]) -> None:
    """Learns tiny networks on a device with costs of its own for everything that is summed over layers."""
    rng = np.random.default_rng(0)
    plain = architecture_features(LAYERED_NETWORKS, FEATURE_NAMES, TINY)
    moved = sum(plain[:, FEATURE_NAMES.index(f"level{level}.values")] for level in range(LEVELS)) * 1e-6
    hidden = moved - 0.001 * sum(plain[:, FEATURE_NAMES.index(f"depthwise_{k}.calls")] for k in (3, 5, 7))
    tastes = 1 + rng.uniform(0, 1, (len(FEATURE_NAMES), 4))
    values = (plain / plain.mean(axis=0).clip(1e-9)) @ tastes / 40
    values *= np.exp(rng.normal(0, 0.01, values.shape))
    for kind in kinds:
        if kind.endswith("transfer"):
            names, features = FEATURE_NAMES, plain
            bank = SourceBank.fit(features, values[:, :3], ["a", "b", "c"], columns=names)
            fitted = _transferred(bank, features, values[:, 3], names)
        else:
            names = feature_columns(LAYERED_NETWORKS, TINY)
            features = architecture_features(LAYERED_NETWORKS, names, TINY)
            measured = hidden if kind.startswith("hidden_") else values[:, 3]
            kinds_tried = [kind.removeprefix("hidden_")]
            fitted = fit_best_predictor(
                features, measured, metric="latency_ms", device="d", columns=names, kinds=kinds_tried
            )
        _save(f"{LAYERED}{kind}", fitted, features)


def _make_of_choices(kinds: Sequence[str]) -> None:
    rng = np.random.default_rng(0)
    names = tuple(name for name in choice_names(NETWORKS) if "&" not in name)
    features = architecture_features(NETWORKS, names, {})
    common = rng.normal(0, 0.2, len(names))
    logs = features @ (common + rng.normal(0, 0.03, (4, len(names)))).T + rng.normal(0, 0.01, (len(NETWORKS), 4))
    values = np.exp(logs)
    bank = SourceBank.fit(features, values[:, :3], ["a", "b", "c"], columns=names)
    for kind in kinds:
        if kind == "transfer":
            fitted = _transferred(bank, features, values[:, 3], names)
        else:
            # Choices that count double together, which neither a sum of costs nor one of entries can say.
            bent = np.exp(2 * logs[:, 3] + 0.5 * features[:, 1] * features[:, 6])
            fitted = fit_best_predictor(features, bent, metric="latency_ms", device="d", columns=names, kinds=[kind])
        _save(kind, fitted, features)


def _transferred(
    bank: SourceBank, features: NDArray[np.float64], values: NDArray[np.float64], names: tuple[str, ...]
) -> FittedPredictor:
    learner = FewShotLearner(bank, features, 12, device="new", names=names)
    while batch := learner.ask():
        learner.tell({row: Cost(float(values[row])) for row in batch})
    return learner.result().fitted


def _save(name: str, fitted: FittedPredictor, features: NDArray[np.float64]) -> None:
    Catalog(GOLDEN).save(name, fitted)
    prediction = fitted.predictor.predict_features(features)
    content = {end: getattr(prediction, end).tolist() for end in ENDS}
    (GOLDEN / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    _make(sys.argv[1:])

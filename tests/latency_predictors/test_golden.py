"""A predictor saved once predicts the same for ever: the files of ``golden`` against the outputs recorded with them.

``python -m tests.latency_predictors.test_golden`` makes them anew; only where a file format changed on purpose.
"""

import json
from itertools import product
from pathlib import Path

import numpy as np

from latency_predictors.catalog import Catalog
from latency_predictors.choice_features import choice_features, choice_names
from latency_predictors.few_shot import learn_few_shot
from latency_predictors.imported import decode_architecture
from latency_predictors.source_bank import SourceBank

GOLDEN = Path(__file__).parent / "golden"
NETWORKS = [decode_architecture(json.dumps(vector), "cells") for vector in product(range(4), repeat=3)]
ENDS = ("mean", "lower", "upper")


def test_the_saved_predictor_predicts_what_it_did_when_it_was_saved() -> None:
    catalog = Catalog(GOLDEN)
    features = choice_features(NETWORKS, catalog.entry("transfer/v1").features)
    prediction = catalog.load("transfer/v1", of_choices=True).predict_features(features)
    recorded = json.loads((GOLDEN / "transfer.json").read_text())
    for name in ENDS:
        np.testing.assert_allclose(getattr(prediction, name), recorded[name], rtol=1e-6)


def _make() -> None:
    rng = np.random.default_rng(0)
    names = tuple(name for name in choice_names(NETWORKS) if "&" not in name)
    features = choice_features(NETWORKS, names)
    common = rng.normal(0, 0.2, len(names))
    logs = features @ (common + rng.normal(0, 0.03, (4, len(names)))).T + rng.normal(0, 0.01, (len(NETWORKS), 4))
    values = np.exp(logs)
    bank = SourceBank.fit(features, values[:, :3], ["a", "b", "c"])
    found = learn_few_shot(bank, features, lambda row: float(values[row, 3]), 12, device="new", names=names)
    Catalog(GOLDEN).save("transfer", found.fitted)
    prediction = found.fitted.predictor.predict_features(features)
    content = {name: getattr(prediction, name).tolist() for name in ENDS}
    (GOLDEN / "transfer.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    _make()

"""A predictor saved once predicts the same for ever: the files of ``golden`` against the outputs recorded with them.

``python -m tests.latency_predictors.test_golden KIND …`` makes them anew; only where a file format changed on purpose.
"""

import json
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from latency_predictors.architecture_cell import decode_architecture
from latency_predictors.architecture_features import architecture_features
from latency_predictors.catalog import Catalog
from latency_predictors.choice_features import choice_names
from latency_predictors.evaluation import fit_best_predictor
from latency_predictors.few_shot import Cost, FewShotLearner
from latency_predictors.source_bank import SourceBank

GOLDEN = Path(__file__).parent / "golden"
NEW_KINDS = ("lookup_table", "gaussian_process", "boosted_trees")
NETWORKS = [decode_architecture(json.dumps(vector), "cells") for vector in product(range(4), repeat=3)]
ENDS = ("mean", "lower", "upper")


@pytest.mark.parametrize("name", ["transfer", *NEW_KINDS])
def test_the_saved_predictor_predicts_what_it_did_when_it_was_saved(name: str) -> None:
    catalog = Catalog(GOLDEN)
    prediction = catalog.load(f"{name}/v1", of_choices=True).predict_architectures(NETWORKS, {})
    recorded = json.loads((GOLDEN / f"{name}.json").read_text())
    for end in ENDS:
        np.testing.assert_allclose(getattr(prediction, end), recorded[end], rtol=1e-6)


def _make(kinds: Sequence[str]) -> None:
    rng = np.random.default_rng(0)
    names = tuple(name for name in choice_names(NETWORKS) if "&" not in name)
    features = architecture_features(NETWORKS, names, {})
    common = rng.normal(0, 0.2, len(names))
    logs = features @ (common + rng.normal(0, 0.03, (4, len(names)))).T + rng.normal(0, 0.01, (len(NETWORKS), 4))
    values = np.exp(logs)
    bank = SourceBank.fit(features, values[:, :3], ["a", "b", "c"])
    for kind in kinds:
        if kind == "transfer":
            learner = FewShotLearner(bank, features, 12, device="new", names=names)
            while batch := learner.ask():
                learner.tell({row: Cost(float(values[row, 3])) for row in batch})
            fitted = learner.result().fitted
        else:
            # Choices that count double together, which neither a sum of costs nor one of entries can say.
            bent = np.exp(2 * logs[:, 3] + 0.5 * features[:, 1] * features[:, 6])
            fitted = fit_best_predictor(features, bent, metric="latency_ms", device="d", columns=names, kinds=[kind])
        Catalog(GOLDEN).save(kind, fitted)
        prediction = fitted.predictor.predict_features(features)
        content = {name: getattr(prediction, name).tolist() for name in ENDS}
        (GOLDEN / f"{kind}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    _make(sys.argv[1:])

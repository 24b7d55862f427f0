"""Features of many architectures, against the features of their layers one by one."""

import numpy as np
import pytest

from latency_predictors.architecture_cell import decode_architecture
from latency_predictors.architecture_features import architecture_features, feature_columns
from latency_predictors.boosted_trees import BoostedTreesPredictor
from latency_predictors.features import FEATURE_NAMES, network_features
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace, list_spaces, load_space
from search_spaces.stage_table import StageTable

WIDE = {
    "format": 1, "name": "wide", "description": "all that a stage table can vary", "resolution": [32, 64],
    "width": [0.5, 1.0], "image_channels": 3, "classes": 10, "channel_divisor": 8, "stem": {"channels": [8, 16]},
    "stages": [
        {"op": "fused_bottleneck", "channels": [16, 24], "depth": [1, 2], "stride": 1, "kernel": 3,
         "expansion": [1, 2], "activation": "relu", "share": "stage"},
        {"channels": [24, 48], "depth": [2, 4], "stride": 2, "kernel": [3, 5], "expansion": [2, 3],
         "squeeze_excite": [False, True], "activation": ["relu", "hard_swish"]},
        {"op": "typed_bottleneck", "channels": [48, 64], "depth": 2, "stride": 2, "activation": "relu",
         "type": ["skip", "k3_e1", "k5_e6"]},
        {"op": "conv", "channels": 64, "depth": [1, 3], "stride": 1, "kernel": [1, 3], "activation": "relu"},
    ],
    "head": {"conv": 96, "hidden": 32, "activation": "relu"},
}  # fmt: skip


@pytest.mark.parametrize("name", [*list_spaces(), "wide"])
def test_sums_of_blocks_are_the_features_of_the_layers(name: str) -> None:
    space = SearchSpace(StageTable.model_validate(WIDE)) if name == "wide" else load_space(name)
    rng = np.random.default_rng(0)
    architectures = [space.smallest(), space.largest(), *(space.sample(rng) for _ in range(300))]
    columns = feature_columns(architectures, {name: space})
    found = architecture_features(architectures, columns, {name: space})
    expected = network_features(space.layers(architecture) for architecture in architectures)
    np.testing.assert_array_equal(found[:, : len(FEATURE_NAMES)], expected)
    written = [{f"{d}={v}" for d, v in architecture.values} for architecture in architectures]
    for column, choice in enumerate(columns[len(FEATURE_NAMES) :], start=len(FEATURE_NAMES)):
        np.testing.assert_array_equal(found[:, column], [choice in choices for choices in written])


def test_architectures_of_several_spaces_keep_their_order() -> None:
    spaces = {name: load_space(name) for name in ("tiny", "fbnet")}
    rng = np.random.default_rng(1)
    architectures = [spaces[name].sample(rng) for name in ("tiny", "fbnet", "tiny", "fbnet", "fbnet")]
    found = architecture_features(architectures, FEATURE_NAMES, spaces)
    np.testing.assert_array_equal(found, network_features(spaces[a.space].layers(a) for a in architectures))


def test_networks_that_a_space_does_not_have_are_refused_in_one_sentence() -> None:
    tiny = load_space("tiny")
    values = dict(tiny.largest().values)
    wrong = Architecture("tiny", tuple(sorted((values | {"resolution": 17}).items())))
    missing = Architecture("tiny", tuple(sorted((name, v) for name, v in values.items() if name != "resolution")))
    with pytest.raises(InputError, match="layers of space 'tiny' are not known: give its file with --space"):
        architecture_features([tiny.largest()], FEATURE_NAMES, {})
    with pytest.raises(InputError, match=r"space 'tiny' has no choice \('resolution', 17\)"):
        architecture_features([wrong], FEATURE_NAMES, {"tiny": tiny})
    with pytest.raises(InputError, match=f"{missing.key} is no network of space 'tiny'"):
        architecture_features([missing], FEATURE_NAMES, {"tiny": tiny})


def test_a_predictor_of_choices_says_the_same_of_many_architectures_as_of_their_features() -> None:
    rng = np.random.default_rng(2)
    networks = [decode_architecture(str(rng.integers(0, 3, 12).tolist()), "mine") for _ in range(5000)]
    columns = feature_columns(networks[:60], {})
    features = architecture_features(networks, columns, {})
    predictor = BoostedTreesPredictor("latency_ms", "d", columns=columns)
    predictor.fit_features(features[:60], np.exp(features[:60] @ rng.uniform(0, 0.3, len(columns))))
    together, one = predictor.predict_architectures(networks, {}), predictor.predict_features(features)
    for name in ("mean", "lower", "upper"):
        np.testing.assert_allclose(getattr(together, name), getattr(one, name), rtol=1e-12)

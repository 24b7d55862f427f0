import numpy as np

from latency_predictors.architecture_cell import decode_architecture
from latency_predictors.architecture_features import architecture_features
from latency_predictors.choice_features import choice_names


def test_columns_are_choices_and_pairs_of_choices() -> None:
    networks = [decode_architecture(text, "cells") for text in ("[0, 1]", "[2, 1]", "[2, 0]")]
    names = choice_names(networks)
    assert names[:4] == ("place00=0", "place00=2", "place01=0", "place01=1")
    assert names[4:] == ("place00=0&place01=0", "place00=0&place01=1", "place00=2&place01=0", "place00=2&place01=1")
    expected = [[1, 0, 0, 1, 0, 1, 0, 0], [0, 1, 0, 1, 0, 0, 0, 1], [0, 1, 1, 0, 0, 0, 1, 0]]
    np.testing.assert_array_equal(architecture_features(networks, names, {}), expected)


def test_long_vectors_have_no_pairs_and_a_new_choice_has_no_column() -> None:
    networks = [decode_architecture(str([n] * 9), "long") for n in range(3)]
    names = choice_names(networks)
    assert len(names) == 27
    assert architecture_features([decode_architecture(str([7] * 9), "long")], names, {}).sum() == 0

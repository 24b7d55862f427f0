"""Features against closed forms and against the exact costs of `search_spaces.cost`."""

import dataclasses

import numpy as np
import pytest

from latency_predictors.features import CLASSES, FEATURE_NAMES, LEVELS, layer_features, network_features
from search_spaces.cost import network_cost
from search_spaces.layer import IMAGE, LayerSpec
from search_spaces.space import load_space
from tests.latency_predictors.roofline import tiny_networks


def _named(row: np.ndarray) -> dict[str, float]:
    return {name: value for name, value in zip(FEATURE_NAMES, row.tolist(), strict=True) if value}


def test_a_layers_features_are_its_closed_forms() -> None:
    layer = LayerSpec("d", "conv", ("x",), 12, 12, 16, 8, kernel=5, stride=2, groups=12, activation="hard_swish")
    macs, values, weights = 25 * 12 * 8 * 8, 12 * 16 * 16 + 12 * 8 * 8, 25 * 12 + 12
    assert _named(layer_features(layer, 32)) == {
        "depthwise_5.calls": 1, "depthwise_5.macs": macs, "depthwise_5.values": values, "depthwise_5.weights": weights,
        "level2.calls": 1, "level2.macs": macs, "level2.values": values,
        "depthwise_5.padded_macs": pytest.approx(macs * 16 / 12), "depthwise.unaligned_macs": macs,
        "gated.values": 12 * 8 * 8,
    }  # fmt: skip


def test_dense_convolutions_are_padded_on_both_sides_and_aligned_ones_are_not_counted_as_unaligned() -> None:
    one = _named(layer_features(LayerSpec("a", "conv", ("x",), 8, 24, 4, 4, activation="relu"), 4))
    assert one["conv_1x1.padded_macs"] == pytest.approx(8 * 24 * 16 * (16 / 8) * (32 / 24))
    assert "dense.unaligned_macs" not in one
    assert "gated.values" not in one


def test_only_a_large_window_on_a_large_map_is_read_again_for_each_channel() -> None:
    def misses(kernel: int, channels: int, side: int) -> float:
        layer = LayerSpec("d", "conv", ("x",), channels, channels, side, side // 2, kernel, 2, groups=channels)
        return _named(layer_features(layer, side)).get("depthwise_7.misses", 0)

    assert misses(5, 64, 112) == misses(7, 64, 56) == misses(7, 96, 64) == 0
    # 12,544 lines, 256 bytes apart, crowd into a quarter of the sets; beside them 56 * 56 * 49 pointers.
    assert misses(7, 64, 112) == pytest.approx(64 * 112**2 * (1 - 0.6 * 2**21 / (112**2 * 64 * 4 + 56**2 * 49 * 8)))
    assert misses(7, 96, 112) / 96 == pytest.approx(112**2 * (1 - 0.6 * 2**21 / (112**2 * 64 * 2 + 56**2 * 49 * 8)))
    assert misses(7, 64, 112) / 64 > misses(7, 96, 112) / 96 > misses(7, 40, 112) / 40 > 0


def test_a_sum_reads_two_maps_and_has_no_arithmetic() -> None:
    found = _named(layer_features(LayerSpec("a", "add", ("x", "y"), 16, 16, 4, 4), 16))
    assert found == {
        "elementwise.calls": 1, "elementwise.values": 3 * 16 * 16, "level2.calls": 1, "level2.values": 3 * 16 * 16,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["tiny", "mobilenet_v3", "efficientnet"])
def test_classes_and_levels_each_sum_to_the_exact_costs_of_the_network(name: str) -> None:
    space = load_space(name)
    networks = [space.layers(space.sample(np.random.default_rng(seed))) for seed in range(3)]
    for layers, row in zip(networks, network_features(networks), strict=True):
        found = dict(zip(FEATURE_NAMES, row, strict=True))
        cost = network_cost(layers)
        assert sum(found[f"{c}.macs"] for c in CLASSES) == cost.macs
        assert sum(found[f"level{level}.macs"] for level in range(LEVELS)) == cost.macs
        assert sum(found[f"{c}.weights"] for c in CLASSES) * 4 == cost.weight_bytes
        assert sum(found[f"{c}.calls"] for c in CLASSES) == len(layers)


def test_features_do_not_depend_on_names_nor_on_the_other_networks() -> None:
    networks = tiny_networks(5, seed=0)
    renamed = [tuple(dataclasses.replace(layer, name=f"x_{layer.name}") for layer in layers) for layers in networks]
    together = network_features(networks)
    np.testing.assert_array_equal(network_features(renamed), together)
    np.testing.assert_array_equal(np.concatenate([network_features([layers]) for layers in networks]), together)


def test_networks_may_come_from_a_generator_and_may_be_none() -> None:
    networks = tiny_networks(3, seed=0)
    np.testing.assert_array_equal(network_features(layers for layers in networks), network_features(networks))
    assert network_features([]).shape == (0, len(FEATURE_NAMES))


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="network 1 has no layer"):
        network_features([[LayerSpec("a", "conv", (IMAGE,), 1, 1, 4, 4)], []])


def test_shared_layer_features_cannot_be_changed() -> None:
    features = layer_features(LayerSpec("a", "conv", (IMAGE,), 1, 1, 4, 4), 4)
    with pytest.raises(ValueError, match="read-only"):
        features[0] = 1

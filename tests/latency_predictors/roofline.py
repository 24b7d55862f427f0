"""A device of known truth: every layer takes the longer of its arithmetic and its traffic, plus a call."""

from collections.abc import Sequence

import numpy as np

from latency_predictors.features import FEATURE_NAMES, layer_features, network_features
from search_spaces.layer import LayerSpec
from search_spaces.space import load_space

MACS_PER_MS, VALUES_PER_MS, CALL_MS = 4e6, 6e5, 0.002


def tiny_networks(count: int, seed: int) -> list[tuple[LayerSpec, ...]]:
    """Different random networks of the tiny space."""
    space, rng = load_space("tiny"), np.random.default_rng(seed)
    networks = {}
    while len(networks) < count:
        architecture = space.sample(rng)
        networks[architecture.key] = space.layers(architecture)
    return list(networks.values())


def roofline_ms(networks: Sequence[Sequence[LayerSpec]]) -> np.ndarray:
    """Latencies without noise: smooth in no feature and additive over no feature, as on a real device."""
    return np.array([sum(_layer_ms(layer, layers[0].in_size) for layer in layers) for layers in networks])


def additive_ms(networks: Sequence[Sequence[LayerSpec]]) -> np.ndarray:
    """Latencies without noise that `LinearPredictor` can express exactly."""
    features = network_features(networks)
    typical = network_features(tiny_networks(50, seed=0)).mean(axis=0)
    return 0.01 + features @ (np.random.default_rng(0).uniform(0, 1, len(typical)) / np.maximum(typical, 1)) / 500


def _layer_ms(layer: LayerSpec, image_size: int) -> float:
    features = dict(zip(FEATURE_NAMES, layer_features(layer, image_size), strict=True))
    macs = sum(value for name, value in features.items() if name.endswith(".macs") and name.startswith("level"))
    values = sum(value for name, value in features.items() if name.endswith(".values") and name.startswith("level"))
    slow = 3.0 if layer.depthwise else 1.0
    return CALL_MS + max(slow * macs / MACS_PER_MS, values / VALUES_PER_MS)

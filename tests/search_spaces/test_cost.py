from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from torch import nn

from search_spaces.architecture import Architecture
from search_spaces.cost import network_cost, peak_activation_bytes
from search_spaces.layer import IMAGE, LayerSpec
from search_spaces.network import Network
from search_spaces.space import SearchSpace, load_space
from search_spaces.weights import weight_shapes
from tests.search_spaces.strategies import spaces_and_architectures

# Channels, MACs and parameters by hand: a depthwise separable convolution of 8x8 grey images, and a classifier.
SEPARABLE = (
    LayerSpec("wide", "conv", (IMAGE,), 1, 4, 8, 8, activation="relu", batch_norm=True),
    LayerSpec("deep", "conv", ("wide",), 4, 4, 8, 4, kernel=3, stride=2, groups=4, batch_norm=True),
    LayerSpec("gate", "squeeze_excite", ("deep",), 4, 4, 4, 4, activation="sigmoid", squeeze_channels=2),
    LayerSpec("sum", "add", ("gate", "deep"), 4, 4, 4, 4),
    LayerSpec("pool", "global_pool", ("sum",), 4, 4, 4, 1),
    LayerSpec("classifier", "linear", ("pool",), 4, 10, 1, 1),
)


def test_macs_and_parameters_of_a_network_counted_by_hand() -> None:
    cost = network_cost(SEPARABLE)
    assert cost.macs == 4 * 64 + 9 * 4 * 16 + 2 * 4 * 2 + 4 * 10
    assert cost.parameters == (4 + 8) + (9 * 4 + 8) + (2 * 4 * 2 + 4 + 2) + (40 + 10)


def test_weight_bytes_of_a_network_counted_by_hand() -> None:
    weights, biases = 4 + 36 + 16 + 40, 4 + 4 + 6 + 10
    assert network_cost(SEPARABLE, "fp32").weight_bytes == 4 * (weights + biases)
    assert network_cost(SEPARABLE, "int8").weight_bytes == weights + 4 * biases


def test_peak_activation_of_a_network_counted_by_hand() -> None:
    # wide (4x8x8) into deep (4x4x4); the residual keeps deep alive beside gate and sum, which is less.
    assert peak_activation_bytes(SEPARABLE, "int8") == 4 * 64 + 4 * 16
    assert peak_activation_bytes(SEPARABLE, "fp32") == 4 * (4 * 64 + 4 * 16)


def alive_at(layers: Sequence[LayerSpec], index: int) -> int:
    """Elements alive while layer ``index`` runs, looked up map by map."""
    maps = {IMAGE: (-1, layers[0].in_channels * layers[0].in_size ** 2)}
    maps |= {layer.name: (place, layer.out_channels * layer.out_size**2) for place, layer in enumerate(layers)}
    total = 0
    for name, (made, size) in maps.items():
        read = [place for place, layer in enumerate(layers) if name in layer.inputs]
        total += size * (made <= index <= max([*read, made]))
    return total


@given(spaces_and_architectures())
def test_peak_activation_equals_a_brute_force_over_all_maps(pair: tuple[SearchSpace, Architecture]) -> None:
    space, architecture = pair
    layers = space.layers(architecture)
    assert peak_activation_bytes(layers, "int8") == max(alive_at(layers, index) for index in range(len(layers)))


@settings(max_examples=20)
@given(spaces_and_architectures(shipped=False))
def test_costs_are_those_of_the_torch_module(pair: tuple[SearchSpace, Architecture]) -> None:
    space, architecture = pair
    layers = space.layers(architecture)
    network = Network(layers).eval()
    macs = 0

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal macs
        if isinstance(module, nn.Conv2d | nn.Linear):
            macs += output.numel() * module.weight[0].numel()

    for module in network.modules():
        module.register_forward_hook(count)
    network(torch.zeros(1, layers[0].in_channels, layers[0].in_size, layers[0].in_size))
    cost = network_cost(layers)
    assert cost.macs == macs
    assert cost.parameters == sum(parameter.numel() for parameter in network.parameters())
    deployed = weight_shapes(layers)
    assert cost.weight_bytes == 4 * sum(torch.Size(shape).numel() for shape in deployed.values())


def test_costs_grow_with_resolution_alone_only_in_macs_and_activations() -> None:
    space = load_space("tiny")
    values = dict(space.smallest().values)
    small, large = (network_cost(space.layers(space.architecture(values | {"resolution": r}))) for r in (8, 16))
    assert (large.parameters, large.weight_bytes) == (small.parameters, small.weight_bytes)
    assert large.macs > 3.9 * small.macs - 4 * 96 * 10
    assert large.peak_activation_bytes == pytest.approx(4 * small.peak_activation_bytes)

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from safetensors import safe_open
from safetensors.torch import load, save, save_file
from torch import nn

from search_spaces.architecture import Architecture
from search_spaces.blocks import Convolution
from search_spaces.checksum import BLANK, with_checksum
from search_spaces.errors import InputError
from search_spaces.layer import IMAGE, Activation, LayerSpec
from search_spaces.network import Network, calibrate, folded, folded_weights, load_network, save_network
from search_spaces.published import published
from search_spaces.space import SearchSpace, load_space
from search_spaces.weights import weight_shapes
from tests.search_spaces.strategies import spaces_and_architectures

TINY = load_space("tiny")
LAYERS = TINY.layers(TINY.largest())


def images(layers: tuple[LayerSpec, ...], count: int = 4, seed: int = 0) -> torch.Tensor:
    shape = (count, layers[0].in_channels, layers[0].in_size, layers[0].in_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def trained_looking(layers: tuple[LayerSpec, ...], seed: int = 0) -> Network:
    """A network whose norms are neither at their start nor at rest."""
    network = Network(layers, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2, generator)
            nn.init.normal_(module.bias, 0, 0.5, generator)
    calibrate(network, images(layers, 16, seed + 1))
    return network


@settings(max_examples=20)
@given(spaces_and_architectures(shipped=False))
def test_a_network_of_any_space_makes_logits_from_images(pair: tuple[SearchSpace, Architecture]) -> None:
    space, architecture = pair
    layers = space.layers(architecture)
    assert Network(layers)(images(layers)).shape == (4, 3)


@settings(max_examples=20)
@given(spaces_and_architectures(shipped=False))
def test_folded_weights_give_the_logits_of_the_network(pair: tuple[SearchSpace, Architecture]) -> None:
    space, architecture = pair
    layers = space.layers(architecture)
    network = trained_looking(layers)
    folded = folded_weights(network)
    assert {name: array.shape for name, array in folded.items()} == weight_shapes(layers)
    assert all(array.dtype == np.float32 for array in folded.values())

    plain = Network([dataclasses.replace(layer, batch_norm=False) for layer in layers]).eval()
    for name, array in folded.items():
        layer, _, part = name.partition(".")
        prefix = {Convolution: "conv."}.get(type(plain.blocks[layer]), "")
        if part in {"weight", "bias"} and not prefix:
            prefix = "linear."
        plain.blocks[layer].get_parameter(prefix + part).data = torch.from_numpy(array)
    x = images(layers)
    expected = network(x)
    torch.testing.assert_close(plain(x), expected, rtol=1e-4, atol=1e-4 * max(1.0, expected.abs().max().item()))


def test_a_folded_network_gives_the_same_logits_and_leaves_the_network_alone() -> None:
    network, x = trained_looking(LAYERS), images(LAYERS)
    before = network(x)
    copied = folded(network)
    assert not [module for module in copied.modules() if isinstance(module, nn.BatchNorm2d)]
    torch.testing.assert_close(copied(x), before, rtol=1e-5, atol=1e-5 * before.abs().max().item())
    assert torch.equal(network(x), before)


def test_a_convolution_is_the_sum_over_its_padded_window() -> None:
    layer = LayerSpec("conv", "conv", (IMAGE,), 2, 4, 5, 3, kernel=3, stride=2, groups=2)
    network = Network([layer], seed=3)
    x = images((layer,), 1).numpy()[0]
    weights = folded_weights(network)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    expected = np.zeros((4, 3, 3))
    for out in range(4):
        for row in range(3):
            for column in range(3):
                window = padded[out // 2, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
                expected[out, row, column] = (weights["conv.weight"][out, 0] * window).sum()
    np.testing.assert_allclose(network(torch.from_numpy(x[None])).detach()[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        # By the definitions of ONNX's operators (Relu, Clip, HardSwish, x * Sigmoid, Sigmoid, HardSigmoid of 1/6).
        ("none", lambda x: x),
        ("relu", lambda x: max(x, 0.0)),
        ("relu6", lambda x: min(max(x, 0.0), 6.0)),
        ("hard_swish", lambda x: x * max(0.0, min(1.0, x / 6 + 0.5))),
        ("silu", lambda x: x / (1 + math.exp(-x))),
        ("sigmoid", lambda x: 1 / (1 + math.exp(-x))),
        ("hard_sigmoid", lambda x: max(0.0, min(1.0, x / 6 + 0.5))),
    ],
)
def test_an_activation_is_what_its_name_says(activation: Activation, expected) -> None:
    values = torch.linspace(-8, 8, 65)
    network = Network([LayerSpec("line", "linear", (IMAGE,), 1, 1, 1, 1, activation=activation)])
    block = network.blocks["line"]
    block.get_parameter("linear.weight").data.fill_(1)
    actual = network(values[:, None])[:, 0].tolist()
    assert actual == pytest.approx([expected(value) for value in values.tolist()], abs=1e-6)


def test_squeeze_excite_scales_each_channel_by_its_gate() -> None:
    layer = LayerSpec("gate", "squeeze_excite", (IMAGE,), 4, 4, 3, 3, activation="sigmoid", squeeze_channels=2)
    network = Network([layer], seed=1)
    weights, x = folded_weights(network), images((layer,), 1)
    hidden = np.maximum(weights["gate.reduce.weight"] @ x.numpy()[0].mean((1, 2)) + weights["gate.reduce.bias"], 0)
    gate = 1 / (1 + np.exp(-(weights["gate.expand.weight"] @ hidden + weights["gate.expand.bias"])))
    np.testing.assert_allclose(network(x).detach()[0], x.numpy()[0] * gate[:, None, None], rtol=1e-5)


@pytest.mark.parametrize("count", [32, 64, 65, 200])
def test_calibration_sets_the_statistics_of_all_images_and_forgets_what_was_before(count: int) -> None:
    layers = LAYERS[:1]
    network = trained_looking(layers, seed=5)
    # Images of different brightness and contrast: the first batches differ from the last ones.
    x = images(layers, count) * torch.linspace(0.1, 5, count)[:, None, None, None] + torch.linspace(
        -3, 3, count
    ).reshape(-1, 1, 1, 1)
    calibrate(network, x)
    block = network.blocks["stem"]
    assert isinstance(block, Convolution)
    assert block.norm is not None
    maps = block.conv(x).transpose(0, 1).flatten(1)
    torch.testing.assert_close(block.norm.running_mean, maps.mean(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(block.norm.running_var, maps.var(1), rtol=1e-5, atol=1e-5)
    assert block.norm.momentum == nn.BatchNorm2d(1).momentum
    assert not network.training


def test_statistics_hardly_depend_on_how_many_images_pass_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(LAYERS, 256)
    found = {}
    for batch in (64, 128, 256):
        monkeypatch.setattr("search_spaces.network.CALIBRATION_BATCH", batch)
        found[batch] = trained_looking(LAYERS)
        calibrate(found[batch], x)
    stem, *deeper = (module for module in found[256].modules() if isinstance(module, nn.BatchNorm2d))
    for batch in (64, 128):
        same, *others = (module for module in found[batch].modules() if isinstance(module, nn.BatchNorm2d))
        torch.testing.assert_close(same.running_var, stem.running_var, rtol=1e-5, atol=1e-5)
        # What deeper layers read was normalised by its batch.
        for one, other in zip(deeper, others, strict=True):
            torch.testing.assert_close(one.running_var, other.running_var, rtol=0.1, atol=0.0)


def test_calibration_without_images_is_an_error() -> None:
    with pytest.raises(ValueError, match="without images"):
        calibrate(Network(LAYERS), images(LAYERS, 0))


def test_initial_weights_are_he_normal_and_come_from_the_seed_alone() -> None:
    network = Network(published("mobilenet_v2").layers, seed=1)
    weight = network.blocks["head_conv"].get_parameter("conv.weight")
    assert weight.std().item() == pytest.approx(math.sqrt(2 / weight.shape[0]), rel=0.01)

    state = torch.get_rng_state()
    one, same, other = (Network(LAYERS, seed=seed).state_dict() for seed in (7, 7, 8))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["blocks.stem.conv.weight"], other["blocks.stem.conv.weight"])


def test_a_feature_map_is_let_go_after_its_last_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    import gc
    import weakref

    network = Network(LAYERS).eval()
    maps: dict[str, weakref.ref[torch.Tensor]] = {}
    alive: list[int] = []

    def watch(name: str):
        def hook(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
            maps[name] = weakref.ref(output)
            alive.append(sum(reference() is not None for reference in maps.values()))

        return hook

    for name, block in network.blocks.items():
        block.register_forward_hook(watch(name))
    gc.disable()
    try:
        with torch.no_grad():
            network(images(LAYERS))
    finally:
        gc.enable()
    # A layer's input and output, and the input of a residual block.
    assert max(alive) <= 3


def test_layers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="reads 'stem', which no earlier layer makes"):
        Network(LAYERS[1:])


def test_a_saved_network_comes_back_with_its_layers_weights_and_statistics(tmp_path: Path) -> None:
    network = trained_looking(LAYERS)
    save_network(network, tmp_path / "network.safetensors")
    loaded = load_network(tmp_path / "network.safetensors")
    assert loaded.layers == network.layers
    assert not loaded.training
    x = images(LAYERS)
    assert torch.equal(loaded(x), network(x))


def test_a_damaged_missing_or_foreign_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    with pytest.raises(InputError, match="does not exist"):
        load_network(path)
    save_network(Network(LAYERS), path)
    whole = path.read_bytes()
    for damage in (b"", whole[:100], whole[:-7], b"\xff" * 50 + whole[50:]):
        path.write_bytes(damage)
        with pytest.raises(InputError, match=r"network.safetensors is damaged .*make it again"):
            load_network(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="has no checksum"):
        load_network(path)
    for metadata in ("[]", "{", '{"format":"1","kind":"supernet"}'):
        path.write_bytes(with_checksum(save({"a": torch.zeros(1)}, {"hwnas": metadata, "checksum": BLANK})))
        with pytest.raises(InputError, match="must hold a network"):
            load_network(path)


def test_tensors_that_do_not_fit_the_layers_in_the_metadata_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    save_network(Network(LAYERS), path)
    with safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()["hwnas"])
    tensors = load(path.read_bytes())
    for change in ({"layers": "[]"}, {"layers": metadata["layers"].replace('"out_channels":16', '"out_channels":8')}):
        changed = json.dumps(metadata | change | {"checksum": BLANK})
        path.write_bytes(with_checksum(save(tensors, {"hwnas": changed})))
        with pytest.raises(InputError, match=r"is damaged .*make it again") as caught:
            load_network(path)
        assert "checksum" not in str(caught.value)

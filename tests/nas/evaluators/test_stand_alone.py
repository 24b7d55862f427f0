import pickle
from pathlib import Path

import pytest
import torch

from nas.config import DataConfig, StandAloneConfig
from nas.data import inputs, load_data
from nas.evaluators.base import fully_trained
from nas.evaluators.stand_alone import StandAloneEvaluator
from nas.training.accuracy import accuracy
from nas.training.stand_alone import NETWORK_FILE
from search_spaces.network import load_network
from search_spaces.space import load_space

SPACE = load_space("tiny").with_data(image_channels=1, classes=10)
DATA = load_data(DataConfig(max_images=250))
CONFIG = StandAloneConfig(epochs=4, batch_size=16, learning_rate=2e-2)


@pytest.fixture
def evaluator(tmp_path: Path) -> StandAloneEvaluator:
    evaluator = StandAloneEvaluator(SPACE, DATA.without_test(), CONFIG, tmp_path / "networks", seed=0)
    evaluator.setup()
    return evaluator


def test_the_accuracy_is_that_of_the_weights_it_leaves_behind(evaluator: StandAloneEvaluator) -> None:
    architecture = SPACE.smallest()
    found = evaluator.evaluate(architecture)
    network = load_network(evaluator.networks / architecture.key / NETWORK_FILE)
    images = torch.from_numpy(inputs(DATA.validation.images, network.resolution, DATA.mean, DATA.std))
    expected = accuracy(network, images, torch.from_numpy(DATA.validation.labels))
    assert found == {"accuracy": expected, "epochs": 4.0, "full_epochs": 4.0}
    assert expected > 0.3
    assert evaluator.evaluate(architecture) == found


def test_every_epoch_is_told_and_only_the_last_is_fully_trained(evaluator: StandAloneEvaluator) -> None:
    told = list(evaluator.by_epoch(SPACE.smallest()))
    assert [metrics["epochs"] for metrics in told] == [1, 2, 3, 4]
    assert [fully_trained(metrics) for metrics in told] == [False, False, False, True]
    assert told[-1]["accuracy"] > told[0]["accuracy"]


def test_what_is_discarded_leaves_no_checkpoints_and_starts_again(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"checkpoint_seconds": 1e-6})
    evaluator = StandAloneEvaluator(SPACE, DATA.without_test(), config, tmp_path / "networks", seed=0)
    evaluator.setup()
    architecture = SPACE.smallest()
    first = next(evaluator.by_epoch(architecture))
    assert list(tmp_path.rglob("step-*.safetensors"))
    evaluator.discard(architecture)
    assert not list(tmp_path.rglob("step-*.safetensors"))
    assert next(evaluator.by_epoch(architecture)) == first


def test_a_machine_without_the_runs_disk_trains_the_same_in_a_folder_of_its_own(
    evaluator: StandAloneEvaluator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    (tmp_path / "local").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "local"))
    elsewhere = StandAloneEvaluator(SPACE, DATA.without_test(), CONFIG, tmp_path / "not" / "here", seed=0)
    brought = pickle.loads(pickle.dumps(elsewhere))  # noqa: S301  (what Ray does on the wire)
    brought.setup()
    architecture = SPACE.smallest()
    assert brought.evaluate(architecture) == evaluator.evaluate(architecture)
    assert not (tmp_path / "not").exists()
    assert len(list((tmp_path / "local").rglob(NETWORK_FILE))) == 1
    later = StandAloneEvaluator(SPACE, DATA.without_test(), CONFIG, elsewhere.networks, seed=1)
    later.setup()
    later.evaluate(architecture)
    assert len(list((tmp_path / "local").rglob(NETWORK_FILE))) == 2, "not the weights of an earlier run at that place"

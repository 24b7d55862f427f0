import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.data import ImageData, inputs
from nas.training.accuracy import accuracy
from nas.training.supernet import SUPERNET_FILE, calibrated_subnet, calibration_split, train_supernet
from search_spaces.architecture import Architecture
from search_spaces.network import Network
from search_spaces.space import SearchSpace
from search_spaces.stage_table import StageTable
from search_spaces.supernet import Supernet, load_supernet
from tests.nas.training.parts import CONFIG, SPACE

KILLED = """
import os, signal, sys
from pathlib import Path
from nas.training.supernet import train_supernet
from tests.nas.training.parts import CONFIG, SPACE, digits

def listen(step, total, metrics):
    if step > 3:
        os.kill(os.getpid(), signal.SIGKILL)

train_supernet(SPACE, digits(), CONFIG, Path(sys.argv[1]), seed=1, progress=listen)
"""


def subnet_accuracy(supernet: Supernet, architecture: Architecture, data: ImageData) -> float:
    supernet.activate(architecture)
    calibration, validation = (
        torch.from_numpy(inputs(split.images, supernet.resolution, data.mean, data.std))
        for split in (calibration_split(data, 64), data.validation)
    )
    return accuracy(
        calibrated_subnet(supernet, architecture, calibration), validation, torch.from_numpy(data.validation.labels)
    )


def test_training_teaches_the_largest_the_smallest_and_those_between(data: ImageData, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"epochs": 15, "learning_rate": 2e-2, "checkpoint_seconds": 1e9})
    supernet = train_supernet(SPACE, data, config, tmp_path, seed=0)
    rng = np.random.default_rng(0)
    for architecture in (SPACE.smallest(), SPACE.largest(), *(SPACE.sample(rng) for _ in range(3))):
        assert subnet_accuracy(supernet, architecture, data) > 0.4  # by chance 0.1


def test_sgd_trains_layers_that_the_first_subnets_left_out(data: ImageData, tmp_path: Path) -> None:
    # The operation that neither the smallest nor the largest network has is drawn at some step after the first.
    stage = {"op": ["inverted_bottleneck", "conv", "fused_bottleneck"], "channels": 16, "depth": [1, 2], "stride": 2}
    table = SPACE.table.model_dump(mode="json") | {"stages": [stage]}
    space = SearchSpace(StageTable.model_validate(table))
    config = CONFIG.model_copy(update={"optimizer": "sgd", "random_subnets": 1})
    supernet = train_supernet(space, data, config, tmp_path, seed=0)
    assert all(bool(parameter.isfinite().all()) for parameter in supernet.parameters())


def test_killed_training_goes_on_and_ends_with_the_weights_of_one_that_never_stopped(
    data: ImageData, tmp_path: Path
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "killed")],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert list((tmp_path / "killed" / "checkpoints").glob("*.safetensors"))
    assert not (tmp_path / "killed" / SUPERNET_FILE).exists()

    resumed = train_supernet(SPACE, data, CONFIG, tmp_path / "killed", seed=1)
    never_stopped = train_supernet(SPACE, data, CONFIG, tmp_path / "whole", seed=1)
    for name, tensor in never_stopped.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name])
    files = [(tmp_path / folder / SUPERNET_FILE).read_bytes() for folder in ("killed", "whole")]
    assert files[0] == files[1]


def test_the_file_holds_the_trained_supernet_and_checkpoints_are_gone(data: ImageData, tmp_path: Path) -> None:
    supernet = train_supernet(SPACE, data, CONFIG, tmp_path, seed=0)
    loaded = load_supernet(tmp_path / SUPERNET_FILE)
    assert loaded.space == SPACE
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in supernet.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == [SUPERNET_FILE]


def test_a_step_trains_the_largest_then_the_smallest_then_random_subnets(
    data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int]] = []
    forward = Supernet.forward

    def watched(self: Supernet, image: torch.Tensor) -> torch.Tensor:
        seen.append((self.active.key, image.shape[2]))
        assert image.shape[2] == self.resolution
        return forward(self, image)

    monkeypatch.setattr(Supernet, "forward", watched)
    train_supernet(SPACE, data, CONFIG.model_copy(update={"random_subnets": 3}), tmp_path, seed=0)
    steps = [seen[start : start + 5] for start in range(0, len(seen), 5)]
    assert len(steps) == 3 * (len(data.train) // 16)
    assert all(step[0] == (SPACE.largest().key, 8) and step[1] == (SPACE.smallest().key, 6) for step in steps)
    assert len({key for step in steps for key, _ in step[2:]}) > 10


def test_an_attentive_training_goes_on_where_it_was_stopped(data: ImageData, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"attentive": "worst", "epochs": 1})

    def listen(step: int, total: int, metrics: dict[str, float]) -> None:
        if step > 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train_supernet(SPACE, data, config, tmp_path / "stopped", seed=1, progress=listen)
    assert list((tmp_path / "stopped" / "checkpoints").glob("*.safetensors"))
    for folder in ("stopped", "whole", "plain"):
        attentive = config if folder != "plain" else config.model_copy(update={"attentive": None})
        train_supernet(SPACE, data, attentive, tmp_path / folder, seed=1)
    stopped, whole, plain = ((tmp_path / f / SUPERNET_FILE).read_bytes() for f in ("stopped", "whole", "plain"))
    assert stopped == whole
    assert whole != plain


def test_calibration_images_are_the_first_of_the_training_split(data: ImageData) -> None:
    split = calibration_split(data, 50)
    assert np.array_equal(split.images, data.train.images[:50])
    # Their order keeps the classes in proportion.
    assert np.bincount(split.labels, minlength=10).min() >= 3


def test_calibration_takes_as_many_images_at_once_at_every_resolution(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    forward = Network.forward

    def watched(self: Network, image: torch.Tensor) -> torch.Tensor:
        sizes.append(len(image))
        return forward(self, image)

    monkeypatch.setattr(Network, "forward", watched)
    table = SPACE.table.model_copy(update={"resolution": (8, 224)})
    supernet = Supernet(SearchSpace(table))
    for architecture, side in ((supernet.space.smallest(), 8), (supernet.space.largest(), 224)):
        calibrated_subnet(supernet, architecture, torch.randn(70, 1, side, side))
    assert sizes == [35, 35, 35, 35]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_a_gpu_teaches_as_well(data: ImageData, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"epochs": 15, "learning_rate": 2e-2, "checkpoint_seconds": 1e9})
    supernet = train_supernet(SPACE, data, config, tmp_path, seed=0, device="cuda").cpu()
    assert subnet_accuracy(supernet, SPACE.largest(), data) > 0.5

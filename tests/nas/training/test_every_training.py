"""What holds for each of the three trainings: of a supernet, of a network by itself, of a finished network."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nas.config import FinishConfig, StandAloneConfig, SupernetConfig
from nas.data import ImageData
from nas.finish.weights import Distilled
from nas.training.loop import LoopSettings, no_progress
from nas.training.stand_alone import train_stand_alone, trained_alone
from nas.training.supernet import train_supernet
from search_spaces.space import SearchSpace
from search_spaces.stage_table import StageTable
from search_spaces.supernet import Supernet, save_supernet
from tests.nas.training.parts import SPACE as SMALL

# Kernels of several channels and pixels, for which memory formats differ.
STAGE = {"op": "conv", "channels": 16, "depth": [1, 2], "stride": 2}
SPACE = SearchSpace(StageTable.model_validate(SMALL.table.model_dump(mode="json") | {"stages": [STAGE]}))
Training = Callable[[ImageData, Path, bool], nn.Module]


def supernet(data: ImageData, folder: Path, bf16: bool) -> nn.Module:
    config = SupernetConfig(epochs=1, batch_size=64, bf16=bf16)
    return train_supernet(SPACE, data, config, folder, seed=0)


def stand_alone(data: ImageData, folder: Path, bf16: bool) -> nn.Module:
    config = StandAloneConfig(epochs=1, batch_size=64, bf16=bf16)
    return trained_alone(train_stand_alone(SPACE.largest(), SPACE, data, config, folder, seed=0))


def distilled(data: ImageData, folder: Path, bf16: bool) -> nn.Module:
    save_supernet(Supernet(SPACE), folder / "supernet.safetensors")
    config = SupernetConfig(bf16=bf16)
    source = Distilled(folder / "supernet.safetensors", data, config, FinishConfig(epochs=1), seed=0)
    return source.network(SPACE.largest(), folder, no_progress)


@pytest.fixture
def maps(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What convolutions read and make while gradients are computed."""
    seen: list[Tensor] = []
    forward = nn.Conv2d.forward

    def watched(self: nn.Conv2d, image: Tensor) -> Tensor:
        result = forward(self, image)
        if torch.is_grad_enabled():
            seen.extend((image.detach(), result.detach()))
        return result

    monkeypatch.setattr(nn.Conv2d, "forward", watched)
    return seen


@pytest.mark.parametrize("training", [supernet, stand_alone, distilled])
@pytest.mark.parametrize("bf16", [True, False])
def test_the_experiment_decides_whether_layers_compute_in_bfloat16(
    data: ImageData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    maps: list[Tensor],
    training: Training,
    bf16: bool,
) -> None:
    # As if this device were one that is faster with it.
    monkeypatch.setattr(LoopSettings, "uses_bf16", lambda self, device: self.bf16)
    training(data, tmp_path, bf16)
    assert {made.dtype for made in maps[1::2]} == {torch.bfloat16 if bf16 else torch.float32}


@pytest.mark.parametrize("training", [supernet, stand_alone, distilled])
def test_images_weights_and_feature_maps_are_channels_last(
    data: ImageData, tmp_path: Path, maps: list[Tensor], training: Training
) -> None:
    weights = [parameter for parameter in training(data, tmp_path, True).parameters() if parameter.ndim == 4]
    for tensors in (weights, maps):
        assert all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in tensors)
        assert not all(tensor.is_contiguous() for tensor in tensors), "else every format is the same"

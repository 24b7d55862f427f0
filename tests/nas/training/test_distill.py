from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.config import FinishConfig
from nas.data import ImageData, Split, inputs
from nas.training.accuracy import accuracy
from nas.training.distill import distill
from search_spaces.network import Network
from tests.nas.training.parts import SPACE

LABELS = FinishConfig(epochs=30, learning_rate=1e-2, distillation_weight=0)
TEACHER = LABELS.model_copy(update={"distillation_weight": 1.0})

OPTIONS = {
    "batch_size": 16,
    "weight_decay": 0.1,
    "warmup_fraction": 0.5,
    "label_smoothing": 0.2,
    "optimizer": "sgd",
    "ema": 0.9,
    "mixup": 0.2,
    "cutmix": 1.0,
    "random_augment": 0.5,
    "accumulate": 2,
}


def validation_accuracy(network: Network, data: ImageData) -> float:
    images = torch.from_numpy(inputs(data.validation.images, network.resolution, data.mean, data.std))
    return accuracy(network, images, torch.from_numpy(data.validation.labels))


def new(architecture: str, seed: int = 0) -> Network:
    return Network(SPACE.layers(getattr(SPACE, architecture)()), seed=seed)


@pytest.fixture(scope="module")
def teacher(data: ImageData) -> Network:
    network = new("largest")
    distill(network, network, data, LABELS, seed=0)
    return network


def test_labels_alone_teach(teacher: Network, data: ImageData) -> None:
    assert validation_accuracy(teacher, data) > 0.7
    assert not teacher.training


def test_a_teacher_alone_teaches_where_the_labels_are_nonsense(teacher: Network, data: ImageData) -> None:
    shuffled = np.random.default_rng(0).permutation(data.train.labels)
    nonsense = replace(data, train=Split(data.train.images, shuffled))
    student = new("smallest")
    distill(student, teacher, nonsense, TEACHER, seed=0)
    assert student.resolution != teacher.resolution
    assert validation_accuracy(student, data) > 0.5


def test_the_teacher_is_left_as_it_was(teacher: Network, data: ImageData) -> None:
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    distill(new("smallest"), teacher, data, TEACHER.model_copy(update={"epochs": 1}), seed=0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert not teacher.training


@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["plain", "every option"])
def test_interrupted_distillation_goes_on_and_ends_with_the_same_weights(
    teacher: Network, data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    config = LABELS.model_copy(update={"epochs": 3, "distillation_weight": 0.5, **options})

    def distilled(progress: Callable[..., None], checkpoints: Path | None) -> dict[str, torch.Tensor]:
        student = new("smallest")
        distill(
            student,
            teacher,
            data,
            config,
            seed=4,
            checkpoints=checkpoints,
            checkpoint_seconds=1e-9,
            progress=progress,
        )
        return student.state_dict()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    # Progress is told, and checkpoints are written, at every step.
    monkeypatch.setattr("nas.training.loop._REPORT_SECONDS", 0)
    steps: list[int] = []

    def interrupt_at_4(step: int, *_: object) -> None:
        steps.append(step)
        if step == 4:
            interrupt()

    with pytest.raises(KeyboardInterrupt):
        distilled(interrupt_at_4, tmp_path)
    resumed = distilled(lambda step, *_: steps.append(step), tmp_path)
    assert steps[:6] == [1, 2, 3, 4, 4, 5]
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in distilled(lambda *_: None, None).items())


def after_a_step(teacher: Network, data: ImageData, **changes: object) -> torch.Tensor:
    student = new("smallest")
    config = FinishConfig(epochs=1, batch_size=len(data.train), warmup_fraction=0, distillation_weight=0.5)
    distill(student, teacher, data, config.model_copy(update=changes), seed=0)
    return student.blocks.get_parameter("classifier.linear.weight").detach()


@pytest.mark.parametrize("option", [name for name in OPTIONS if name != "warmup_fraction"])
def test_every_option_of_training_is_one_of_distillation(teacher: Network, data: ImageData, option: str) -> None:
    plain = after_a_step(teacher, data)
    assert torch.equal(after_a_step(teacher, data), plain)
    assert not torch.equal(after_a_step(teacher, data, **{option: OPTIONS[option]}), plain)


def test_the_labels_share_of_the_loss_is_smoothed_and_the_teachers_is_not(teacher: Network, data: ImageData) -> None:
    for share, equal in ((1.0, True), (0.0, False)):
        plain, smoothed = (
            after_a_step(teacher, data, distillation_weight=share, label_smoothing=smoothing) for smoothing in (0, 0.3)
        )
        assert torch.equal(plain, smoothed) == equal

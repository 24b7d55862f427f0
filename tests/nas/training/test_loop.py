import dataclasses
import hashlib
import json
import re
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.config import FinishConfig, StandAloneConfig
from nas.data import ImageData
from nas.errors import RunError
from nas.training.images import Batch, TrainingImages
from nas.training.loop import LoopSettings, TrainingStep, _digest, _identity, train
from search_spaces.network import Network
from tests.nas.training.parts import SPACE

SETTINGS = LoopSettings(epochs=4, batch_size=16, learning_rate=1e-2, seed=5, checkpoint_seconds=1e-9)


class StopError(Exception):
    """The training is interrupted."""


def images_of(data: ImageData, **changes: bool) -> TrainingImages:
    return TrainingImages(data.train, data.mean, data.std, **({"shift": True} | changes))


def new_network(seed: int = 1) -> Network:
    return Network(SPACE.layers(SPACE.largest()), seed=seed).train()


def classify(network: Network, stop_at: int | None = None) -> TrainingStep:
    steps = 0

    def step(batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        nonlocal steps
        steps += 1
        if steps == stop_at:
            raise StopError
        # Something random of the step's own, so that a resumed training must draw the same.
        noise = torch.from_numpy(rng.standard_normal(len(batch.labels)).astype(np.float32))
        logits = network(batch.at(8)) + 0.01 * noise[:, None]
        loss = F.cross_entropy(logits, batch.labels)
        loss.backward()
        return {"loss": loss.detach()}

    return step


def trained(data: ImageData, settings: LoopSettings = SETTINGS) -> Network:
    network = new_network()
    train(network, classify(network), images_of(data), settings)
    return network


def equal(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())


@pytest.mark.parametrize("stop_at", [1, 2, 9, 17, 24])
def test_interrupted_and_resumed_training_ends_with_the_weights_of_an_uninterrupted_one(
    data: ImageData, tmp_path: Path, stop_at: int
) -> None:
    network = new_network()
    with pytest.raises(StopError):
        train(network, classify(network, stop_at), images_of(data), SETTINGS, checkpoints=tmp_path)
    resumed = new_network()
    train(resumed, classify(resumed), images_of(data), SETTINGS, checkpoints=tmp_path)
    assert equal(resumed, trained(data))


def test_training_goes_on_from_the_checkpoint_before_a_damaged_one(
    data: ImageData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = new_network()
    with pytest.raises(StopError):
        train(network, classify(network, stop_at=10), images_of(data), SETTINGS, checkpoints=tmp_path)
    last = sorted(tmp_path.glob("*.safetensors"))[-1]
    last.write_bytes(last.read_bytes()[:-1])
    resumed = new_network()
    steps: list[int] = []
    counted = classify(resumed)

    def step(batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        steps.append(1)
        return counted(batch, rng)

    train(resumed, step, images_of(data), SETTINGS, checkpoints=tmp_path)
    assert re.search(r"checkpoint passed over: .* is damaged", caplog.text)
    assert len(steps) == 4 * (len(data.train) // 16) - 8
    assert equal(resumed, trained(data))


def test_a_finished_training_is_not_repeated(data: ImageData, tmp_path: Path) -> None:
    network = new_network()
    train(network, classify(network), images_of(data), SETTINGS, checkpoints=tmp_path)
    again = new_network()
    train(again, classify(again, stop_at=1), images_of(data), SETTINGS, checkpoints=tmp_path)
    assert equal(again, network)


@pytest.mark.parametrize("change", ["settings", "images", "initial weights", "depends_on"])
def test_a_checkpoint_of_a_training_that_would_end_elsewhere_is_not_used(
    data: ImageData, tmp_path: Path, change: str
) -> None:
    network = new_network()
    train(network, classify(network), images_of(data), SETTINGS, checkpoints=tmp_path, depends_on={"a": 1})
    settings = dataclasses.replace(SETTINGS, epochs=5) if change == "settings" else SETTINGS
    images = images_of(data, shift=change != "images")
    other = new_network(seed=2 if change == "initial weights" else 1)
    depends_on = {"a": 2 if change == "depends_on" else 1}
    with pytest.raises(StopError):
        train(other, classify(other, 1), images, settings, checkpoints=tmp_path, depends_on=depends_on)


def test_how_often_checkpoints_are_written_changes_nothing(data: ImageData, tmp_path: Path) -> None:
    network = new_network()
    with pytest.raises(StopError):
        train(network, classify(network, 9), images_of(data), SETTINGS, checkpoints=tmp_path)
    rarely = dataclasses.replace(SETTINGS, checkpoint_seconds=1e9)
    resumed = new_network()
    train(resumed, classify(resumed), images_of(data), rarely, checkpoints=tmp_path)
    assert equal(resumed, trained(data))


def test_the_seed_decides(data: ImageData) -> None:
    other = dataclasses.replace(SETTINGS, seed=6)
    assert equal(trained(data), trained(data))
    assert not equal(trained(data), trained(data, other))


def test_every_image_is_seen_once_an_epoch_but_for_what_no_batch_holds(data: ImageData) -> None:
    network = new_network()
    seen: list[list[int]] = []
    rows = {image.tobytes(): row for row, image in enumerate(data.train.images)}
    assert len(rows) == len(data.train)

    def step(batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        levels = batch.at(8).numpy() * np.float32(data.std[0]) + np.float32(data.mean[0])
        seen.append([rows[image.tobytes()] for image in (levels * 255).round().astype(np.uint8)])
        return classify(network)(batch, rng)

    train(network, step, images_of(data, shift=False), SETTINGS)
    per_epoch = len(data.train) // 16
    epochs = [list(chain(*seen[start : start + per_epoch])) for start in range(0, len(seen), per_epoch)]
    assert len(epochs) == 4
    assert all(len(set(epoch)) == len(epoch) == per_epoch * 16 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_the_learning_rate_rises_linearly_and_falls_as_a_cosine_to_zero() -> None:
    settings = LoopSettings(epochs=1, batch_size=1, learning_rate=2.0, seed=0, warmup_fraction=0.2)
    rates = [settings.learning_rate_at(step, 100) for step in range(100)]
    assert rates[:20] == pytest.approx([2.0 * (step + 1) / 20 for step in range(20)])
    assert rates[20] == 2.0
    assert rates[60] == pytest.approx(1.0)
    assert rates[99] < 0.001
    assert all(later < earlier for earlier, later in pairwise(rates[20:]))


def test_norms_and_biases_do_not_decay(data: ImageData) -> None:
    network = new_network()
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}

    def nothing(batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        return {}

    train(network, nothing, images_of(data), dataclasses.replace(SETTINGS, weight_decay=0.1))
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, before[name]) == (parameter.ndim == 1), name


def test_progress_ends_at_the_last_step_with_its_metrics(data: ImageData) -> None:
    network = new_network()
    told: list[tuple[int, int, dict[str, float]]] = []
    train(network, classify(network), images_of(data), SETTINGS, progress=lambda *state: told.append(state))
    step, total, metrics = told[-1]
    assert step == total == 4 * (len(data.train) // 16)
    assert list(metrics) == ["loss"]


def test_a_training_that_diverges_says_so(data: ImageData) -> None:
    network = new_network()

    def explode(batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        return {"loss": torch.tensor(float("nan"))}

    with pytest.raises(RunError, match=r"diverged at step \d+ .*nan.*; lower its learning_rate"):
        train(network, explode, images_of(data), SETTINGS)


def test_fewer_images_than_a_batch_are_one_batch(data: ImageData) -> None:
    network = new_network()
    told: list[int] = []
    settings = dataclasses.replace(SETTINGS, batch_size=1000)
    train(network, classify(network), images_of(data), settings, progress=lambda step, *_: told.append(step))
    assert told[-1] == 4


def test_a_batch_in_parts_gives_the_gradients_of_the_whole(data: ImageData) -> None:
    def trained_in(parts: int) -> Network:
        # Without batch norm, whose statistics are those of a part.
        layers = [dataclasses.replace(layer, batch_norm=False) for layer in SPACE.layers(SPACE.largest())]
        network = Network(layers, seed=1).train()

        def step(batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
            loss = batch.cross_entropy(network(batch.at(8)))
            loss.backward()
            return {"loss": loss.detach()}

        told: list[float] = []
        settings = dataclasses.replace(SETTINGS, epochs=1, learning_rate=1e-3, accumulate=parts)
        train(network, step, images_of(data), settings, progress=lambda *state: told.append(state[2]["loss"]))
        losses.append(told[-1])
        return network

    losses: list[float] = []
    whole, parts = trained_in(1), trained_in(4)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_sgd_takes_the_step_of_nesterov_momentum(data: ImageData) -> None:
    network = nn.Linear(3, 1, bias=False)
    start = network.weight.detach().clone()

    def step(batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        network.weight.grad = torch.ones_like(network.weight)
        return {}

    settings = LoopSettings(
        epochs=2, batch_size=len(data.train), learning_rate=0.1, seed=0, weight_decay=0, warmup_fraction=0,
        optimizer="sgd",
    )  # fmt: skip
    train(network, step, images_of(data), settings)
    rates = [settings.learning_rate_at(number, 2) for number in range(2)]
    # Momentum 0.9: the velocity is 1, then 1.9; Nesterov's step is the gradient plus 0.9 times the velocity.
    moved = rates[0] * (1 + 0.9 * 1) + rates[1] * (1 + 0.9 * 1.9)
    torch.testing.assert_close(network.weight.detach(), start - moved)


def test_options_that_are_off_leave_checkpoints_and_runs_those_of_a_time_before_them(data: ImageData) -> None:
    network = new_network()
    before = {
        "settings": {
            "epochs": 4, "batch_size": 16, "learning_rate": 1e-2, "seed": 5, "weight_decay": 1e-4,
            "warmup_fraction": 0.1, "checkpoint_seconds": None, "bf16": True,
        },
        "images": images_of(data).description,
        "weights": {name: list(tensor.shape) for name, tensor in network.state_dict().items()},
        "initial": _digest(network),
    }  # fmt: skip
    expected = hashlib.sha256(json.dumps(before, sort_keys=True).encode()).hexdigest()
    assert _identity(network, images_of(data), SETTINGS, {}) == expected
    for change in ({"ema": 0.9}, {"accumulate": 2}, {"optimizer": "sgd"}):
        assert _identity(network, images_of(data), dataclasses.replace(SETTINGS, **change), {}) != expected

    dumped = json.loads(StandAloneConfig().model_dump_json())
    assert set(dumped) == {
        "epochs", "batch_size", "learning_rate", "weight_decay", "warmup_fraction", "label_smoothing", "augment",
        "threads", "checkpoint_seconds", "method", "early_stopping",
    }  # fmt: skip
    assert set(json.loads(FinishConfig().model_dump_json())) == {
        "models", "epochs", "learning_rate", "temperature", "distillation_weight", "calibration_images",
        "max_int8_accuracy_drop",
    }  # fmt: skip
    used = StandAloneConfig(ema=0.99, compile=True)
    assert StandAloneConfig.model_validate(used.model_dump()) == used


def test_only_a_gpu_computes_in_bfloat16_and_only_where_the_settings_say_so() -> None:
    for bf16 in (True, False):
        settings = dataclasses.replace(SETTINGS, bf16=bf16)
        assert settings.uses_bf16(torch.device("cuda", 0)) == bf16
        assert not settings.uses_bf16(torch.device("cpu"))

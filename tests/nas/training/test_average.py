import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from nas.data import ImageData
from nas.training.average import MovingAverage
from nas.training.loop import train, train_by_epoch
from tests.nas.training.test_loop import SETTINGS, StopError, classify, equal, images_of, new_network

AVERAGED = dataclasses.replace(SETTINGS, ema=0.9)


def test_the_average_is_that_of_the_formula() -> None:
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    average = MovingAverage(model, 0.3)
    expected = 1.0
    for step, value in enumerate((5.0, -2.0, 7.0, 3.0)):
        model.weight.data.fill_(value)
        average.update(step)
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.tensors["weight"].item() == pytest.approx(expected)
    assert model.weight.item() == 3.0
    with average.applied():
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == 3.0


def test_the_model_ends_with_the_average_of_weights_that_the_average_does_not_change(data: ImageData) -> None:
    plain, averaged = new_network(), new_network()
    train(plain, classify(plain), images_of(data), SETTINGS)
    raw: list[dict[str, torch.Tensor]] = []
    step = classify(averaged)

    def watched(batch, rng):
        raw.append({name: tensor.clone() for name, tensor in averaged.state_dict().items()})
        return step(batch, rng)

    train(averaged, watched, images_of(data), AVERAGED)
    again = new_network()
    average = MovingAverage(again, 0.9)
    for number, state in enumerate([*raw[1:], plain.state_dict()]):
        again.load_state_dict(state)
        average.update(number)
    average.apply()
    assert equal(averaged, again)
    assert not equal(averaged, plain)


@pytest.mark.parametrize("stop_at", [1, 9, 24])
def test_a_resumed_training_ends_with_the_same_average(data: ImageData, tmp_path: Path, stop_at: int) -> None:
    network, whole = new_network(), new_network()
    with pytest.raises(StopError):
        train(network, classify(network, stop_at), images_of(data), AVERAGED, checkpoints=tmp_path)
    resumed = new_network()
    train(resumed, classify(resumed), images_of(data), AVERAGED, checkpoints=tmp_path)
    train(whole, classify(whole), images_of(data), AVERAGED)
    assert equal(resumed, whole)
    finished = new_network()
    train(finished, classify(finished, stop_at=1), images_of(data), AVERAGED, checkpoints=tmp_path)
    assert equal(finished, whole)


def test_who_asks_between_epochs_sees_the_average_and_changes_nothing(data: ImageData) -> None:
    network, whole = new_network(), new_network()
    seen = []
    for _ in train_by_epoch(network, classify(network), images_of(data), AVERAGED):
        seen.append(network.state_dict()["blocks.stem.conv.weight"].clone())
    train(whole, classify(whole), images_of(data), AVERAGED)
    assert equal(network, whole)
    assert torch.equal(seen[-1], whole.state_dict()["blocks.stem.conv.weight"])

import pytest
import torch
from torch import nn

from nas.training.accuracy import accuracy, batches


@pytest.mark.parametrize(("count", "side"), [(1, 4), (300, 32), (257, 200), (3, 2000)])
def test_batches_are_the_images_in_order_and_nearly_equal(count: int, side: int) -> None:
    images = torch.arange(float(count))[:, None, None, None].expand(count, 1, side, side)
    parts = batches(images)
    assert torch.equal(torch.cat(parts)[:, 0, 0, 0], torch.arange(float(count)))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert max(map(len, parts)) * side**2 <= max(256 * 32**2, side**2)


def test_accuracy_is_the_share_of_right_answers() -> None:
    answers = torch.tensor([0, 1, 2, 1])
    images = torch.nn.functional.one_hot(answers, 3).float()[:, :, None, None]
    assert accuracy(nn.Flatten(), images, torch.tensor([0, 1, 0, 0])) == 0.5

import pytest
import torch

from nas.training.accuracy import accuracy, batches
from search_spaces.layer import IMAGE, LayerSpec
from search_spaces.network import Network


@pytest.mark.parametrize(("count", "side"), [(1, 4), (300, 32), (257, 200), (3, 2000)])
def test_batches_are_the_images_in_order_and_nearly_equal(count: int, side: int) -> None:
    images = torch.arange(float(count))[:, None, None, None].expand(count, 1, side, side)
    parts = batches(images)
    assert torch.equal(torch.cat(parts)[:, 0, 0, 0], torch.arange(float(count)))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert max(map(len, parts)) * side**2 <= max(256 * 32**2, side**2)


def test_accuracy_is_the_share_of_right_answers() -> None:
    pool = LayerSpec("pool", "global_pool", (IMAGE,), 3, 3, 1, 1)
    network = Network([pool, LayerSpec("logits", "linear", ("pool",), 3, 3, 1, 1)]).eval()
    linear = network.blocks["logits"].linear
    linear.weight.data, linear.bias.data = torch.eye(3), torch.zeros(3)
    answers = torch.tensor([0, 1, 2, 1])
    images = torch.nn.functional.one_hot(answers, 3).float()[:, :, None, None]
    assert accuracy(network, images, torch.tensor([0, 1, 0, 0])) == 0.5

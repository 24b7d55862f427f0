import numpy as np
import pytest
import torch

from nas.training.random_augment import _OPERATIONS, random_augment

PICTURE = torch.from_numpy(np.random.default_rng(0).random((40, 3, 12, 12), np.float32))


def test_images_change_more_with_strength_and_stay_images() -> None:
    def change(strength: float) -> float:
        changed = random_augment(PICTURE, strength, np.random.default_rng(1))
        assert changed.shape == PICTURE.shape
        assert changed.min() >= 0
        assert changed.max() <= 1
        return float((changed - PICTURE).abs().mean())

    assert 0 < change(0.1) < change(0.5) < change(1.0)


def test_the_generator_decides() -> None:
    one, same, other = (random_augment(PICTURE, 0.5, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("operation", _OPERATIONS, ids=lambda operation: operation.__name__.strip("_"))
def test_an_operation_of_no_strength_changes_at_most_the_last_of_eight_bits(operation) -> None:
    same = operation(PICTURE, torch.zeros(40, 1, 1, 1))
    torch.testing.assert_close(same, PICTURE, rtol=0, atol=0.5 / 255 + 1e-5)
    grey = PICTURE[:, :1]
    assert operation(grey, torch.full((40, 1, 1, 1), 0.7)).shape == grey.shape


def test_a_rotation_turns_about_the_middle() -> None:
    rotate = next(operation for operation in _OPERATIONS if operation.__name__ == "_rotate")
    bar = torch.zeros(1, 1, 33, 33)
    bar[:, :, 16, 8:25] = 1
    turned = rotate(bar, torch.ones(1, 1, 1, 1))[0, 0]
    rows, columns = torch.nonzero(turned > 0.4, as_tuple=True)
    slope = torch.linalg.lstsq((columns - 16).float()[:, None], (rows - 16).float()[:, None]).solution.item()
    assert abs(slope) == pytest.approx(np.tan(np.pi / 6), abs=0.08)
    assert turned[16, 16] > 0.5

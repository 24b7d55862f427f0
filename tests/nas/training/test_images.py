import numpy as np
import pytest
import torch

from nas.data import ImageData, Split, inputs
from nas.training.images import Batch, TrainingImages


@pytest.mark.parametrize("resolution", [5, 8, 12, 16])
def test_training_sees_the_pixels_that_evaluation_sees(data: ImageData, resolution: int) -> None:
    images = TrainingImages(data.train, data.mean, data.std, shift=False)
    rows = np.array([3, 0, 5])
    batch = images.batch(rows, np.random.default_rng(0))
    expected = inputs(data.train.images[rows], resolution, data.mean, data.std)
    np.testing.assert_allclose(batch.at(resolution).numpy(), expected, atol=1e-5)
    assert batch.labels.tolist() == data.train.labels[rows].tolist()
    assert batch.at(resolution).is_contiguous(memory_format=torch.channels_last)


def test_images_that_are_not_square_are_stretched_as_in_evaluation() -> None:
    split = Split(np.random.default_rng(0).integers(0, 256, (2, 3, 6, 9), np.uint8), np.zeros(2, np.int64))
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    batch = TrainingImages(split, mean, std, shift=False).batch(np.arange(2), np.random.default_rng(0))
    np.testing.assert_allclose(batch.at(7).numpy(), inputs(split.images, 7, mean, std), atol=1e-5)


def test_a_shift_by_whole_pixels_moves_the_picture_and_repeats_its_edge() -> None:
    picture = torch.arange(64.0).reshape(1, 1, 8, 8)
    moved = Batch(picture, torch.zeros(1).long(), shifts=torch.tensor([[2 / 8, -1 / 8]])).at(8)[0, 0]
    rows, columns = (torch.arange(8) + 2).clamp(max=7), (torch.arange(8) - 1).clamp(min=0)
    torch.testing.assert_close(moved, picture[0, 0][rows][:, columns])


def test_a_shift_by_half_a_pixel_is_the_mean_of_neighbours() -> None:
    picture = torch.arange(8.0).expand(1, 1, 8, 8)
    moved = Batch(picture, torch.zeros(1).long(), shifts=torch.tensor([[0.0, 0.5 / 8]])).at(8)
    torch.testing.assert_close(moved[0, 0, 0], torch.tensor([0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.0]))


def test_a_shift_is_the_same_part_of_the_picture_at_every_resolution() -> None:
    blob = torch.zeros(1, 1, 32, 32)
    blob[:, :, 12:20, 12:20] = 1
    batch = Batch(blob, torch.zeros(1).long(), shifts=torch.tensor([[1 / 16, -1 / 16]]))
    for resolution in (8, 12, 16, 32):
        picture = batch.at(resolution)[0, 0]
        places = (torch.arange(resolution) + 0.5) / resolution
        down, right = (picture.sum(axis) @ places / picture.sum() for axis in (1, 0))
        assert (down.item(), right.item()) == pytest.approx((0.5 - 1 / 16, 0.5 + 1 / 16), abs=1e-3)


def test_flipping_mirrors_some_images_and_never_without_being_asked(data: ImageData) -> None:
    rows, rng = np.arange(64), np.random.default_rng(0)
    plain = TrainingImages(data.train, data.mean, data.std, shift=False).batch(rows, rng).at(8)
    flipped = TrainingImages(data.train, data.mean, data.std, shift=False, flip=True).batch(rows, rng).at(8)
    same = [torch.equal(a, b) for a, b in zip(plain, flipped, strict=True)]
    mirrored = [torch.equal(a.flip(2), b) for a, b in zip(plain, flipped, strict=True)]
    assert all(one or other for one, other in zip(same, mirrored, strict=True))
    assert 16 < sum(mirrored) < 48


def test_augmentation_draws_only_from_its_generator(data: ImageData) -> None:
    images = TrainingImages(data.train, data.mean, data.std, shift=True, flip=True)
    rows = np.arange(8)
    one, same, other = (images.batch(rows, np.random.default_rng(seed)).at(8) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_description_tells_other_images_and_other_augmentation_apart(data: ImageData) -> None:
    def described(split: Split, shift: bool) -> dict[str, object]:
        return TrainingImages(split, data.mean, data.std, shift=shift).description

    changed = Split(data.train.images.copy(), data.train.labels)
    changed.images[0, 0, 0, 0] ^= 1
    assert described(data.train, True) == described(data.train, True)
    assert described(data.train, True) != described(data.train, False)
    assert described(data.train, True) != described(changed, True)


def two_kinds() -> Split:
    """Black images of class 0 and white ones of class 1."""
    images = np.zeros((40, 1, 8, 8), np.uint8)
    images[20:] = 255
    return Split(images, np.repeat([0, 1], 20))


@pytest.mark.parametrize("option", ["mixup", "cutmix"])
def test_mixed_images_have_the_labels_of_both_by_their_share_of_the_pixels(option: str) -> None:
    images = TrainingImages(two_kinds(), (0.0,), (1.0,), shift=False, **{option: 1.0})
    shares = []
    for seed in range(10):
        batch = images.batch(np.arange(40), np.random.default_rng(seed))
        white = batch.at(8).mean((1, 2, 3))
        # Logits whose loss is the share of class 1.
        logits = torch.stack([torch.zeros(40), torch.full((40,), 30.0)], 1)
        losses = [
            part.cross_entropy(logits[:1]).item() / 30 for part in batch.parts(40)
        ]  # 1 where class 1 has no part in the label
        np.testing.assert_allclose(1 - np.array(losses), white.numpy(), atol=1e-5)
        assert ((white > 0.5).long() == batch.labels)[white != 0.5].all()
        shares += [share for share in white.tolist() if 0 < share < 1]
        values = batch.at(8).unique()
        assert (len(values) == 2) == (option == "cutmix"), "CutMix pastes pixels, mixup blends them"
    assert len(shares) > 50


def test_what_cutmix_pastes_is_at_most_half_of_an_image() -> None:
    images = TrainingImages(two_kinds(), (0.0,), (1.0,), shift=False, cutmix=100.0)
    for seed in range(20):
        batch = images.batch(np.arange(40), np.random.default_rng(seed))
        assert batch.at(8)[batch.labels == 0].mean((1, 2, 3)).max() <= 0.5


def test_both_kinds_of_mixing_take_turns() -> None:
    images = TrainingImages(two_kinds(), (0.0,), (1.0,), shift=False, mixup=1.0, cutmix=1.0)
    kinds = {len(images.batch(np.arange(40), np.random.default_rng(seed)).at(8).unique()) == 2 for seed in range(20)}
    assert kinds == {True, False}


def test_options_that_are_off_leave_the_description_as_it_was(data: ImageData) -> None:
    plain = TrainingImages(data.train, data.mean, data.std, shift=True)
    assert set(plain.description) == {"sha256", "mean", "std", "shift", "flip"}
    mixed = TrainingImages(data.train, data.mean, data.std, shift=True, cutmix=0.5, random=0.2)
    assert mixed.description == plain.description | {"cutmix": 0.5, "random": 0.2}


def test_the_parts_of_a_batch_are_the_batch(data: ImageData) -> None:
    images = TrainingImages(data.train, data.mean, data.std, shift=True, flip=True, mixup=0.3)
    batch = images.batch(np.arange(21), np.random.default_rng(0))
    parts = batch.parts(4)
    assert [len(part.labels) for part in parts] == [6, 5, 5, 5]
    assert torch.equal(torch.cat([part.at(12) for part in parts]), batch.at(12))
    assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)

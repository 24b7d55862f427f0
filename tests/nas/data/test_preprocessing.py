import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas.data import inputs
from nas.errors import InputError
from tests.nas.data.image_files import random_images


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]), st.integers(0, 100))
def test_resizing_agrees_with_torch(size: int, resolution: int, channels: int, seed: int) -> None:
    images = random_images(2, channels, size, seed)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(images).float() / 255, (resolution, resolution), mode="bilinear", antialias=True
    )
    mean, std = [0.4, 0.5, 0.6][:channels], [0.2, 0.3, 0.4][:channels]
    found = inputs(images, resolution, mean, std)
    normalised = (expected.numpy() - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1))
    np.testing.assert_allclose(found, normalised, atol=2e-5)
    assert found.dtype == np.float32


def test_images_that_have_the_resolution_are_only_scaled_and_normalised() -> None:
    images = random_images(5)
    found = inputs(images, 6, [0.5], [0.25])
    np.testing.assert_allclose(found, (images / 255 - 0.5) / 0.25, atol=1e-6)


@pytest.mark.parametrize("resolution", [6, 5, 16])
def test_an_image_gives_the_same_bits_alone_as_in_a_large_batch(resolution: int) -> None:
    images = random_images(2100)
    every = inputs(images, resolution, [0.1, 0.2, 0.3], [0.3, 0.2, 0.1])
    for row in (0, 1, 1999, 2047, 2048, 2099):
        alone = inputs(images[row : row + 1], resolution, [0.1, 0.2, 0.3], [0.3, 0.2, 0.1])
        np.testing.assert_array_equal(alone[0], every[row])


def test_an_image_that_is_not_square_is_stretched() -> None:
    images = np.full((1, 1, 4, 12), 255, np.uint8)
    np.testing.assert_allclose(inputs(images, 8, [0], [1]), np.ones((1, 1, 8, 8)), atol=1e-6)


@pytest.mark.parametrize(
    ("images", "resolution", "mean", "std"),
    [
        (np.zeros((2, 3, 4, 4), np.float32), 4, [0], [1]),
        (np.zeros((3, 4, 4), np.uint8), 4, [0], [1]),
        (np.zeros((2, 3, 4, 4), np.uint8), 0, [0], [1]),
        (np.zeros((2, 3, 4, 4), np.uint8), 4, [0, 0], [1, 1]),
        (np.zeros((2, 3, 4, 4), np.uint8), 4, [0], [0]),
    ],
)
def test_wrong_arguments_are_refused(images: np.ndarray, resolution: int, mean: list[float], std: list[float]) -> None:
    with pytest.raises(InputError, match="must be"):
        inputs(images, resolution, mean, std)

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.config import DataConfig
from nas.data import ImageData, load_data
from nas.data.loading import channel_statistics, stratified_order
from nas.errors import InputError
from tests.nas.data.image_files import random_images, write_idx


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data(DataConfig())


def test_the_splits_of_digits_cover_all_images_once(digits: ImageData) -> None:
    from sklearn.datasets import load_digits

    every = np.concatenate([digits.train.images, digits.validation.images, digits.test.images])
    original = np.round(load_digits().images * 255 / 16).astype(np.uint8)[:, None]
    assert sorted(image.tobytes() for image in every) == sorted(image.tobytes() for image in original)
    assert (len(digits.train), len(digits.validation), len(digits.test)) == (1150, 288, 359)
    assert (digits.image_channels, digits.image_size, digits.classes) == (1, (8, 8), 10)


def test_every_split_holds_the_classes_in_proportion(digits: ImageData) -> None:
    total = np.bincount(np.concatenate([digits.train.labels, digits.validation.labels, digits.test.labels]))
    for split in (digits.train, digits.validation, digits.test):
        expected = total * len(split) / total.sum()
        assert np.abs(np.bincount(split.labels) - expected).max() <= 2


def test_the_same_seed_gives_the_same_splits_and_another_seed_others(digits: ImageData) -> None:
    assert load_data(DataConfig()).hashes == digits.hashes
    assert load_data(DataConfig(seed=1)).hashes["test"] != digits.hashes["test"]


def test_selection_cannot_read_the_test_split(digits: ImageData) -> None:
    assert len(digits.test) == 359
    view = digits.without_test()
    with pytest.raises(RuntimeError, match="must not see the test split"):
        _ = view.test
    assert view.train is digits.train
    assert digits.test_split is not None
    assert not any(value is digits.test_split for value in vars(view).values())


def test_max_images_limits_training_and_validation_and_leaves_the_test_split_alone(digits: ImageData) -> None:
    small = load_data(DataConfig(max_images=100))
    assert (len(small.train), len(small.validation)) == (80, 20)
    assert small.hashes["test"] == digits.hashes["test"]
    assert set(small.train.labels) == set(range(10))


def test_the_statistics_are_those_of_the_training_split_alone(digits: ImageData) -> None:
    pixels = digits.train.images / 255
    assert digits.mean == pytest.approx([pixels.mean()])
    assert digits.std == pytest.approx([pixels.std()])


def test_a_constant_channel_has_a_deviation_one_can_divide_by() -> None:
    images = random_images(5)
    images[:, 1] = 51
    mean, std = channel_statistics(images)
    assert (mean[1], std[1]) == (pytest.approx(0.2), 1.0)
    assert std[0] == pytest.approx(images[:, 0].std() / 255)


def test_too_few_images_for_every_class_name_the_class_and_the_key() -> None:
    with pytest.raises(InputError, match=r"must hold every class, class '\d' .*config.max_images=8.*raise data.max_im"):
        load_data(DataConfig(max_images=8))


def test_a_split_that_would_be_empty_is_refused(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", random_images(4, channels=1)[:, 0], np.array([0, 1, 0, 1], np.uint8), packed=False)
    with pytest.raises(InputError, match=r"the validation split of .* would be empty"):
        load_data(DataConfig(name="idx", path=tmp_path, validation_fraction=0.01))


def test_a_picture_in_two_splits_is_kept_in_the_more_protected_one(tmp_path: Path) -> None:
    images, labels = random_images(40, channels=1)[:, 0], np.tile(np.array([0, 1], np.uint8), 20)
    images[5] = images[4]  # a repeat with another label among the training images
    test_images = np.concatenate([images[:2], random_images(8, channels=1, seed=1)[:, 0]])
    test_labels = np.concatenate([labels[:2], np.tile(np.array([0, 1], np.uint8), 4)])
    test_labels[0] = 1  # the first of the two shared pictures has another label here
    write_idx(tmp_path, "train", images, labels, packed=False)
    write_idx(tmp_path, "t10k", test_images, test_labels, packed=False)
    found_between_train_and_validation = 0
    for seed in range(8):
        data = load_data(DataConfig(name="idx", path=tmp_path, seed=seed))
        train, validation, test = (
            {image.tobytes() for image in split.images} for split in (data.train, data.validation, data.test)
        )
        assert not train & validation
        assert not (train | validation) & test
        assert len(data.test) == 10
        by_place = {duplicate.place: duplicate for duplicate in data.leakage.dropped}
        first, second = (by_place[f"train-images-idx3-ubyte row {row}"] for row in (0, 1))
        assert first.kept_place == "t10k-images-idx3-ubyte row 0"
        assert (first.kept_split, first.same_label, second.same_label) == ("test", False, True)
        assert len(data.leakage.conflicts) == 2
        repeats = sum(data.leakage.repeats.values())
        assert repeats + len(data.leakage.dropped) == 3
        found_between_train_and_validation += 1 - repeats
    assert found_between_train_and_validation  # some seed puts the repeated pair into different splits


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 5))
def test_every_prefix_of_the_stratified_order_is_in_proportion(labels: list[int], seed: int) -> None:
    array = np.array(labels)
    order = stratified_order(array, np.random.default_rng(seed))
    assert sorted(order) == list(range(len(labels)))
    total = np.bincount(array)
    for count in range(1, len(labels) + 1):
        found = np.bincount(array[order[:count]], minlength=len(total))
        assert np.abs(found - total * count / len(labels)).max() <= 1 + len(total) / 2

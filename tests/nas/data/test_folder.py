import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.config import DataConfig
from nas.data import load_data
from nas.data.folder import read
from nas.errors import InputError
from tests.nas.data.image_files import png, random_images, write_folder

IMAGES = random_images(20)
LABELS = ["dog", "cat"] * 10


def test_class_folders_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    write_folder(tmp_path, IMAGES, LABELS)
    raw = read(tmp_path)
    assert raw.class_names == ("cat", "dog")
    np.testing.assert_array_equal(raw.train.split.images, np.concatenate([IMAGES[1::2], IMAGES[::2]]))
    assert raw.train.split.labels.tolist() == [0] * 10 + [1] * 10
    assert raw.train.places[0] == "cat/001.png"


def test_a_test_folder_is_the_test_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(tmp_path / "train", IMAGES[:14], LABELS[:14])
    write_folder(tmp_path / "val", IMAGES[12:], LABELS[12:])
    write_folder(tmp_path / "test", IMAGES[14:], LABELS[14:])
    with caplog.at_level(logging.WARNING):
        data = load_data(DataConfig(name="folder", path=tmp_path))
    np.testing.assert_array_equal(data.test.images, np.concatenate([IMAGES[15::2], IMAGES[14::2]]))
    assert "val is not used" in caplog.text


def test_images_of_another_size_are_resized_to_the_most_frequent_one_and_counted(tmp_path: Path) -> None:
    write_folder(tmp_path, IMAGES, LABELS)
    (tmp_path / "cat/large.png").write_bytes(png(np.full((3, 24, 12), 7, np.uint8)))
    raw = read(tmp_path)
    assert raw.resized == 1
    assert raw.train.split.images.shape == (21, 3, 6, 6)
    assert (raw.train.split.images[raw.train.places.index("cat/large.png")] == 7).all()


def test_grey_images_stay_grey_until_one_has_colour(tmp_path: Path) -> None:
    write_folder(tmp_path, IMAGES[:, :1], LABELS)
    np.testing.assert_array_equal(read(tmp_path).train.split.images[:10], IMAGES[1::2, :1])
    (tmp_path / "cat/colour.png").write_bytes(png(IMAGES[0]))
    images = read(tmp_path).train.split.images
    assert images.shape == (21, 3, 6, 6)
    np.testing.assert_array_equal(images[0], np.repeat(IMAGES[1, :1], 3, axis=0))


def test_an_image_of_16_bits_is_refused_by_name(tmp_path: Path) -> None:
    write_folder(tmp_path, IMAGES, LABELS)
    Image.fromarray(np.full((6, 6), 40_000, np.uint16)).save(tmp_path / "dog/deep.png")
    with pytest.raises(InputError, match=r"dog/deep\.png must have 8 bits"):
        read(tmp_path)


def test_a_damaged_image_is_refused_by_name(tmp_path: Path) -> None:
    write_folder(tmp_path, IMAGES, LABELS)
    (tmp_path / "dog/000.png").write_bytes(png(IMAGES[0])[:70])
    with pytest.raises(InputError, match=r"dog/000\.png cannot be read"):
        read(tmp_path)


def test_a_class_folder_without_images_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, IMAGES, LABELS)
    (tmp_path / "mouse").mkdir()
    with pytest.raises(InputError, match="mouse holds no images"):
        read(tmp_path)


def test_one_class_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, IMAGES, ["dog"] * 20)
    with pytest.raises(InputError, match=r"at least two classes.*\['dog'\]"):
        read(tmp_path)


def test_a_class_that_only_the_test_folder_has_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", IMAGES, LABELS)
    write_folder(tmp_path / "test", IMAGES[:2], ["dog", "fox"])
    with pytest.raises(InputError, match=r"has classes that .* has not: fox"):
        read(tmp_path)


def test_a_missing_folder_says_what_to_make(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make one folder for each class"):
        read(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no class folders"):
        read(tmp_path)

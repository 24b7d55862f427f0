import gzip
from pathlib import Path

import numpy as np
import pytest

from nas.config import DataConfig
from nas.data import load_data
from nas.data.idx import read
from nas.errors import InputError
from tests.nas.data.image_files import idx_bytes, random_images, write_idx

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
IMAGES = random_images(20, channels=1)[:, 0]
LABELS = np.tile(np.array([0, 1], np.uint8), 10)


@pytest.mark.parametrize("packed", [True, False])
def test_written_files_are_read_back_with_their_own_test_split(tmp_path: Path, packed: bool) -> None:
    write_idx(tmp_path, "train", IMAGES[:14], LABELS[:14], packed)
    write_idx(tmp_path, "t10k", IMAGES[14:], LABELS[14:], packed)
    raw = read(tmp_path)
    assert raw.test
    np.testing.assert_array_equal(raw.train.split.images[:, 0], IMAGES[:14])
    np.testing.assert_array_equal(raw.test.split.images[:, 0], IMAGES[14:])
    np.testing.assert_array_equal(raw.test.split.labels, LABELS[14:])
    assert raw.class_names == ("0", "1")


def test_without_a_test_file_one_is_split_off(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", IMAGES, LABELS, packed=False)
    data = load_data(DataConfig(name="idx", path=tmp_path))
    assert (len(data.train), len(data.validation), len(data.test)) == (13, 3, 4)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: gzip.compress(data)[:-20], "damaged or cut off"),
        (lambda data: data, "damaged or cut off"),
        (lambda data: gzip.compress(data[:-1]), "must hold 720 values"),
        (lambda data: gzip.compress(data + b"x"), "it holds 721"),
        (lambda data: gzip.compress(b"\x00\x00\x0d\x03" + data[4:]), r"IDX header 00 00 08 03.*got 00 00 0d 03"),
        (lambda data: gzip.compress(b""), "got an empty file"),
        (lambda data: gzip.compress(data[:9]), "IDX header"),
    ],
    ids=["truncated gzip", "not gzip", "too short", "too long", "wrong type", "empty", "cut header"],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    write_idx(tmp_path, "train", IMAGES, LABELS, packed=True)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(damage(idx_bytes(IMAGES)))
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path)
    assert "train-images-idx3-ubyte.gz" in str(caught.value)


def test_images_and_labels_must_be_equally_many(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", IMAGES, LABELS[:-1], packed=False)
    with pytest.raises(InputError, match="20 images and train-labels-idx1-ubyte 19 labels"):
        read(tmp_path)


def test_images_without_labels_say_which_file_to_add(tmp_path: Path) -> None:
    write_idx(tmp_path, "train", IMAGES, LABELS, packed=False)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match="add train-labels-idx1-ubyte"):
        read(tmp_path)


@pytest.mark.parametrize("path", ["", "nowhere"])
def test_missing_data_says_how_to_get_it(tmp_path: Path, path: str) -> None:
    with pytest.raises(InputError, match="apt-get install dataset-fashion-mnist"):
        read(tmp_path / path)


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="needs `apt-get install dataset-fashion-mnist`")
def test_fashion_mnist_is_known_with_its_classes_and_licence() -> None:
    raw = read(FASHION_MNIST)
    assert raw.test
    assert (len(raw.train.split), len(raw.test.split)) == (60_000, 10_000)
    assert (raw.name, raw.licence, raw.class_names[9]) == ("fashion-mnist", "MIT", "ankle boot")
    # The first label of the training file is 9 (https://github.com/zalandoresearch/fashion-mnist, README).
    assert raw.train.split.labels[0] == 9

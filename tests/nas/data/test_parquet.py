import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from nas.config import DataConfig
from nas.data import load_data
from nas.data.parquet import read
from nas.errors import InputError
from tests.nas.data.image_files import png, random_images, write_parquet

SHARED = Path(__file__).parents[4] / "shared/data/images"
IMAGES = random_images(20)
LABELS = [0, 1] * 10


def test_written_tables_are_read_back_with_names_and_licence_from_their_metadata(tmp_path: Path) -> None:
    metadata = {"class_names": '["cat", "dog"]', "dataset": "pets", "source": "a shelter", "licence": "CC0"}
    write_parquet(tmp_path / "train.parquet", IMAGES[:14], LABELS[:14], metadata)
    write_parquet(tmp_path / "test.parquet", IMAGES[14:], LABELS[14:])
    raw = read(tmp_path)
    assert raw.test
    np.testing.assert_array_equal(raw.train.split.images, IMAGES[:14])
    np.testing.assert_array_equal(raw.test.split.images, IMAGES[14:])
    np.testing.assert_array_equal(raw.train.split.labels, LABELS[:14])
    assert (raw.name, raw.class_names, raw.source, raw.licence) == ("pets", ("cat", "dog"), "a shelter", "CC0")


def test_a_validation_table_is_the_test_split_where_there_is_no_other(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", IMAGES[:14], LABELS[:14])
    write_parquet(tmp_path / "validation.parquet", IMAGES[14:], LABELS[14:])
    data = load_data(DataConfig(name="parquet", path=tmp_path))
    np.testing.assert_array_equal(data.test.images, IMAGES[14:])


def test_class_names_may_stand_in_the_label_column(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", IMAGES, ["dog", "cat"] * 10)
    raw = read(tmp_path)
    assert raw.class_names == ("cat", "dog")
    assert raw.train.split.labels.tolist() == [1, 0] * 10


def test_tables_in_the_form_of_hugging_face_are_read(tmp_path: Path) -> None:
    features = {"info": {"features": {"label": {"names": ["cat", "dog"]}}}}
    for number, rows in enumerate((range(12), range(12, 20))):
        images = pa.array([{"bytes": png(IMAGES[row]), "path": None} for row in rows])
        table = pa.table({"image": images, "label": [LABELS[row] for row in rows]})
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
        parquet.write_table(table, tmp_path / f"train-0000{number}-of-00002.parquet")
    raw = read(tmp_path)
    np.testing.assert_array_equal(raw.train.split.images, IMAGES)
    assert raw.class_names == ("cat", "dog")


def test_a_missing_column_is_named_with_the_ones_there_are(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"picture": [b""], "label": [0]}), tmp_path / "train.parquet")
    with pytest.raises(InputError, match="columns image and label, it has picture, label"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ([png(IMAGES[0]), b"not a picture"], [0, 1], "train.parquet row 1 cannot be read as an image"),
        ([png(IMAGES[0]), png(IMAGES[1])[:60]], [0, 1], "train.parquet row 1 cannot be read as an image"),
        ([png(IMAGES[0]), None], [0, 1], "image of train.parquet row 1 is missing"),
        ([png(IMAGES[0]), png(IMAGES[1])], [0, None], "label of train.parquet row 1 must be a class name"),
        ([png(IMAGES[0]), png(IMAGES[1])], [0, -1], "must be a class name or its index, got -1"),
        ([png(IMAGES[0]), png(IMAGES[1])], [0.0, 1.0], "must be a class name or its index, got 0.0"),
        ([png(IMAGES[0]), png(IMAGES[1])], [0, 0], "at least two classes"),
        (["a.png", "b.png"], [0, 1], "must hold PNG or JPEG bytes.*string"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, images: list[object], labels: list[object], message: str) -> None:
    parquet.write_table(pa.table({"image": images, "label": labels}), tmp_path / "train.parquet")
    with pytest.raises(InputError, match=message):
        read(tmp_path)


def test_a_label_without_a_class_name_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", IMAGES[:3], [0, 1, 2], {"class_names": '["cat", "dog"]'})
    with pytest.raises(InputError, match=r"must lie in 0..1 .* got 2 in train.parquet row 2"):
        read(tmp_path)


def test_a_file_that_is_not_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(InputError, match=r"train\.parquet.*complete Parquet file"):
        read(tmp_path)


def test_an_empty_folder_says_what_to_put_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"put train\.parquet there"):
        read(tmp_path)


@pytest.mark.skipif(not (SHARED / "cifar10").is_dir(), reason=f"needs CIFAR-10 as Parquet in {SHARED}/cifar10")
def test_cifar10_is_read_with_its_classes(tmp_path: Path) -> None:
    # Its 10,000 test images alone, as the larger file takes long to decode.
    (tmp_path / "train.parquet").symlink_to(SHARED / "cifar10/test.parquet")
    data = load_data(DataConfig(name="parquet", path=tmp_path))
    assert (data.name, data.class_names[:2]) == ("cifar10", ("airplane", "automobile"))
    assert (len(data.train), len(data.validation), len(data.test)) == (6_400, 1_600, 2_000)
    # Channel means of the CIFAR-10 training images as published with many training recipes.
    assert data.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=0.01)


@pytest.mark.skipif(
    not (SHARED / "tiny-imagenet-50").is_dir(), reason=f"needs Tiny ImageNet as Parquet in {SHARED}/tiny-imagenet-50"
)
@pytest.mark.slow
def test_two_pictures_of_tiny_imagenet_are_found_in_both_of_its_parts_under_different_labels(tmp_path: Path) -> None:
    rows = parquet.read_table(SHARED / "tiny-imagenet-50/train.parquet").slice(0, 7_000)
    parquet.write_table(rows, tmp_path / "train.parquet")
    (tmp_path / "validation.parquet").symlink_to(SHARED / "tiny-imagenet-50/validation.parquet")
    data = load_data(DataConfig(name="parquet", path=tmp_path))
    assert data.image_channels == 3  # some of its files are grey
    assert {(duplicate.place, duplicate.kept_place) for duplicate in data.leakage.dropped} == {
        ("train.parquet row 1805", "validation.parquet row 2118"),
        ("train.parquet row 6315", "validation.parquet row 1857"),
    }
    assert not any(duplicate.same_label for duplicate in data.leakage.dropped)
    assert len(data.train) + len(data.validation) == 6_998

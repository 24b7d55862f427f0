import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from nas.config import DataConfig
from nas.data import ImageData, data_card, load_data
from nas.data.stored import StoredImages
from nas.errors import InputError
from tests.nas.data.image_files import png, random_images, write_folder
from tests.processes import end_with_parent

IMAGES = random_images(60, size=9)
LABELS = ["dog", "cat"] * 30


def jpeg(size: tuple[int, int], colour: int) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize(size).point(lambda level: level ^ colour).convert("RGB").save(file, "JPEG")
    return file.getvalue()


def folder(path: Path) -> DataConfig:
    """PNG and JPEG, colour and grey, of several sizes, some of them twice, with a test folder."""
    write_folder(path / "train", IMAGES[:50], LABELS[:50])
    write_folder(path / "train" / "cat" / "deeper", IMAGES[:2], ["a", "b"])
    write_folder(path / "test", IMAGES[45:], LABELS[45:])
    for number in range(6):
        (path / "train" / LABELS[number] / f"photo{number}.jpg").write_bytes(jpeg((12 + number, 7), number))
    (path / "train/dog/grey.png").write_bytes(png(IMAGES[3, :1]))
    return DataConfig(name="folder", path=path)


def tables(path: Path) -> DataConfig:
    """Two files of structs for training, with JPEG of another size among them, and no test split."""
    every = [png(image) for image in IMAGES] + [jpeg((20, 11), 5), *(png(image) for image in IMAGES[:9])]
    labels = [0, 1] * 35
    path.mkdir()
    for number, rows in enumerate((range(40), range(40, len(every)))):
        images = pa.array([{"bytes": every[row], "path": None} for row in rows])
        table = pa.table({"image": images, "label": [labels[row] for row in rows]})
        parquet.write_table(table, path / f"train-{number}.parquet", row_group_size=7)
    return DataConfig(name="parquet", path=path)


def stored(config: DataConfig, cache: Path) -> DataConfig:
    return config.model_copy(update={"memory_gb": 0.0, "cache": cache})


def files(cache: Path) -> list[Path]:
    return sorted(file for file in cache.rglob("*") if file.is_file())


def assert_same(found: ImageData, expected: ImageData) -> None:
    assert json.dumps(data_card(found)) == json.dumps(data_card(expected))
    assert found.leakage == expected.leakage
    pairs = [(found.train, expected.train), (found.validation, expected.validation), (found.test, expected.test)]
    for one, other in pairs:
        np.testing.assert_array_equal(one.images[:], other.images[:])
        np.testing.assert_array_equal(one.labels, other.labels)


@pytest.mark.parametrize("source", [folder, tables])
@pytest.mark.parametrize("max_images", [None, 30])
def test_data_in_a_file_are_the_data_in_memory(source, max_images: int | None, tmp_path: Path) -> None:
    config = source(tmp_path / "data").model_copy(update={"max_images": max_images, "cache": tmp_path / "cache"})
    expected = load_data(config)
    assert isinstance(expected.train.images, np.ndarray)
    assert expected.leakage.dropped
    assert expected.resized
    assert not (tmp_path / "cache").exists()
    for _ in ("decoded", "found"):
        data = load_data(stored(config, tmp_path / "cache"))
        assert isinstance(data.train.images, StoredImages)
        assert_same(data, expected)
    assert_same(load_data(config), expected)  # decoded already, and small enough for memory
    assert isinstance(load_data(config).train.images, np.ndarray)


def test_images_are_decoded_once(tmp_path: Path) -> None:
    config = stored(folder(tmp_path / "data"), tmp_path / "cache")
    expected = load_data(config)
    picture = tmp_path / "data/train/dog/000.png"
    stat, size = picture.stat(), len(picture.read_bytes())
    picture.write_bytes(bytes(size))  # nobody could decode it
    os.utime(picture, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert_same(load_data(config), load_data(config))
    assert load_data(config).hashes == expected.hashes


def test_changed_files_are_decoded_anew(tmp_path: Path) -> None:
    config = stored(folder(tmp_path / "data"), tmp_path / "cache")
    before = load_data(config)
    (tmp_path / "data/train/dog/000.png").write_bytes(png(random_images(1, size=9, seed=5)[0]))
    after = load_data(config)
    assert after.hashes != before.hashes
    assert_same(after, load_data(config.model_copy(update={"memory_gb": 1.0, "cache": tmp_path / "none"})))


@pytest.mark.parametrize("name", ["images.u8", "images.sha256", "manifest.json"])
@pytest.mark.parametrize("cut", [False, True])
def test_damaged_images_are_decoded_anew(
    name: str, cut: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = stored(folder(tmp_path / "data"), tmp_path / "cache")
    expected = load_data(config)
    (file,) = (tmp_path / "cache").glob(f"*/{name}")
    content = bytearray(file.read_bytes())
    content[40] ^= 1
    file.write_bytes(content[:-1] if cut else content)
    with caplog.at_level(logging.WARNING):
        assert_same(load_data(config), expected)
    assert caplog.text.count("are damaged and are decoded again") == 1


def test_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    config = folder(tmp_path / "data")
    (tmp_path / "data/train/dog/gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(InputError, match=r"gone\.png cannot be read: No such file"):
        load_data(config)


def test_the_same_folder_by_another_path_is_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = stored(folder(tmp_path / "data"), tmp_path / "cache")
    load_data(config)
    monkeypatch.chdir(tmp_path)
    load_data(config.model_copy(update={"path": Path("data")}))
    assert len(files(tmp_path / "cache")) == 4


def test_images_that_were_removed_are_missed_with_a_sentence(tmp_path: Path) -> None:
    data = load_data(stored(folder(tmp_path / "data"), tmp_path / "cache"))
    (tmp_path / "cache").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"cannot read the decoded images in .*No such file.*data\.cache"):
        data.train.images[:1]


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    with pytest.raises(InputError, match=r"data\.cache must be a folder that holds .* GB of decoded images"):
        load_data(stored(folder(tmp_path / "data"), tmp_path / "cache"))


def test_a_full_disk_is_noticed_before_anything_is_decoded(tmp_path: Path) -> None:
    code = f"""
import resource
from pathlib import Path
from nas.config import DataConfig
from nas.data import load_data
from nas.errors import InputError
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    load_data(DataConfig(
        name="folder", path={str(tmp_path / "data")!r}, cache={str(tmp_path / "cache")!r}, memory_gb=0
    ))
except InputError as error:
    print(error)
"""
    folder(tmp_path / "data")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "data.cache must be a folder that holds 0.00 GB" in done.stdout
    assert "File too large" in done.stdout
    assert [file.name for file in files(tmp_path / "cache")] == ["lock"]


def test_a_damaged_picture_leaves_nothing_but_the_lock(tmp_path: Path) -> None:
    config = stored(folder(tmp_path / "data"), tmp_path / "cache")
    (tmp_path / "data/train/dog/000.png").write_bytes(png(IMAGES[0])[:90])
    with pytest.raises(InputError, match=r"train/dog/000\.png cannot be read"):
        load_data(config)
    assert [file.name for file in files(tmp_path / "cache")] == ["lock"]


LOAD = """
import sys
from nas.config import DataConfig
from nas.data import load_data
def peak_mb():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1000
load_data(DataConfig(name="folder", path=sys.argv[1], cache=sys.argv[2]))
before = peak_mb()
data = load_data(DataConfig(name="folder", path=sys.argv[3], cache=sys.argv[2], memory_gb=float(sys.argv[4])))
print(peak_mb() - before, data.hashes["train"])
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 MB once decoded."""
    path, levels = tmp_path_factory.mktemp("large"), np.random.default_rng(0).integers(0, 256, (400, 500, 3), np.uint8)
    for number in range(500):
        file = path / LABELS[number % 2] / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((400, 500, 3), levels[number % 400, number], np.uint8)).save(file, compress_level=1)
    return path


def loading(large: Path, cache: Path, memory_gb: float) -> list[str | Path]:
    """Command that tells by how many megabytes its memory grows for the large data set, and a hash of that."""
    small = cache.parent / "small"
    write_folder(small, IMAGES, LABELS)
    return [sys.executable, "-c", LOAD, small, cache, large, str(memory_gb)]


def loaded(large: Path, cache: Path, memory_gb: float) -> tuple[float, str]:
    command = loading(large, cache, memory_gb)
    peak_mb, digest = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(peak_mb), digest


@pytest.fixture(scope="module")
def in_memory(large: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[float, str]:
    return loaded(large, tmp_path_factory.mktemp("none") / "cache", 1.0)


@pytest.mark.slow
def test_a_large_data_set_does_not_come_into_memory(large: Path, in_memory: tuple[float, str], tmp_path: Path) -> None:
    assert in_memory[0] > 300
    for _ in ("decoded", "found"):
        peak_mb, digest = loaded(large, tmp_path / "cache", 0.01)
        assert peak_mb < 75
        assert digest == in_memory[1]


@pytest.mark.slow
def test_a_killed_decoding_is_begun_anew(large: Path, in_memory: tuple[float, str], tmp_path: Path) -> None:
    with subprocess.Popen(
        loading(large, tmp_path / "cache", 0.01),
        stdout=subprocess.DEVNULL,
        preexec_fn=partial(end_with_parent, signal.SIGKILL),
    ) as child:
        while not any(file.name == "images.partial" and file.stat().st_blocks for file in files(tmp_path / "cache")):
            assert child.poll() is None
            time.sleep(0.01)
        child.kill()
    assert [file.name for file in files(tmp_path / "cache")] == ["images.partial", "lock"]
    config = DataConfig(name="folder", path=large)
    assert load_data(stored(config, tmp_path / "cache")).hashes["train"] == in_memory[1]
    names = [file.name for file in files(tmp_path / "cache")]
    assert names == ["images.sha256", "images.u8", "lock", "manifest.json"]

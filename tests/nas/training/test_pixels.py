import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas.config import DataConfig
from nas.data import ImageData, Split, inputs, load_data
from nas.data.stored import StoredImages
from nas.errors import InputError
from nas.evaluators.supernet import SupernetEvaluator
from nas.training.accuracy import accuracy
from nas.training.images import TrainingImages
from nas.training.judged_images import JudgedImages
from nas.training.pixels import pixels_of
from nas.training.supernet import SUPERNET_FILE, train_supernet
from search_spaces.network import Network
from search_spaces.supernet import load_supernet
from tests.nas.data.image_files import write_folder
from tests.nas.training.parts import CONFIG, SPACE, digits

CPU = torch.device("cpu")

EVALUATE = """
import pickle, sys
from tests.nas.training.parts import SPACE
evaluator = pickle.load(sys.stdin.buffer)
evaluator.setup()
print(evaluator.evaluate(SPACE.smallest())["accuracy"])
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    """Digits as PNG files."""
    path, split = tmp_path_factory.mktemp("digits"), digits(300).train
    write_folder(path / "files", split.images[:], [str(label) for label in split.labels])
    return DataConfig(name="folder", path=path / "files", cache=path / "cache")


@pytest.fixture(scope="module")
def in_memory(config: DataConfig) -> ImageData:
    return load_data(config).without_test()


@pytest.fixture(scope="module")
def in_a_file(config: DataConfig) -> ImageData:
    found = load_data(config.model_copy(update={"memory_gb": 0.0})).without_test()
    assert isinstance(found.train.images, StoredImages)
    return found


@pytest.mark.parametrize(
    "options", [{}, {"flip": True, "mixup": 0.4, "random": 0.5}, {"cutmix": 1.0}], ids=["shift", "all", "cutmix"]
)
def test_batches_from_a_file_are_those_from_memory(
    in_memory: ImageData, in_a_file: ImageData, options: dict[str, Any]
) -> None:
    one, other = (TrainingImages(d.train, d.mean, d.std, shift=True, **options) for d in (in_memory, in_a_file))
    assert one.description == other.description
    order = np.random.default_rng(0).permutation(len(one))[:120].reshape(6, 20)
    for place, rows in enumerate(order):
        ahead = order[place + 1] if place in (0, 1, 3) else order[0]  # expected, unexpected, expected by mistake
        batches = [
            images.batch(rows, np.random.default_rng(place), ahead=ahead if place < 5 else None)
            for images in (one, other)
        ]
        assert torch.equal(batches[0].at(7), batches[1].at(7))
        assert torch.equal(batches[0].labels, batches[1].labels)


def test_the_next_batch_is_read_while_this_one_is_used(in_a_file: ImageData) -> None:
    stored = in_a_file.train.images
    assert isinstance(stored, StoredImages)
    expected = stored[:8]
    pixels = pixels_of(stored, CPU)
    pixels.take(np.arange(4), ahead=np.arange(4, 8))
    pixels._thread.shutdown()  # type: ignore[attr-defined]  # has read all that it was told to
    elsewhere = stored.folder.rename(stored.folder.with_name("elsewhere"))
    try:
        np.testing.assert_array_equal(pixels.take(np.arange(4, 8)).numpy(), expected[4:])
        with pytest.raises(InputError, match="cannot read the decoded images"):
            pixels.take(np.arange(4, 8))
    finally:
        elsewhere.rename(stored.folder)


def test_a_supernet_trained_from_a_file_is_the_one_trained_from_memory(
    in_memory: ImageData, in_a_file: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.training.loop._REPORT_SECONDS", 0)
    one = train_supernet(SPACE, in_memory, CONFIG, tmp_path / "memory", seed=3)
    for step in (1, 9):  # killed there, in the first and in the second epoch

        def stop(done: int, total: int, metrics: dict[str, float], step: int = step) -> None:
            if done == step:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train_supernet(SPACE, in_a_file, CONFIG, tmp_path / "file", seed=3, progress=stop)
    other = train_supernet(SPACE, in_a_file, CONFIG, tmp_path / "file", seed=3)
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_accuracy_is_found_in_parts_where_not_all_inputs_fit(
    in_a_file: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network(SPACE.layers(SPACE.smallest())).eval()
    rows = np.arange(5_000) % len(in_a_file.train)
    stored = in_a_file.train.images
    assert isinstance(stored, StoredImages)
    labels = np.random.default_rng(0).integers(0, 10, 5_000)
    images = stored[rows]
    expected = accuracy(
        network, torch.from_numpy(inputs(images, network.resolution, [0.3], [0.5])), torch.from_numpy(labels)
    )
    prepared: list[int] = []

    def noted(some: np.ndarray, *args: Any) -> np.ndarray:
        prepared.append(len(some))
        return inputs(some, *args)

    monkeypatch.setattr("nas.training.judged_images.inputs", noted)
    monkeypatch.setattr("nas.training.judged_images._CHUNK_BYTES", 2048 * network.resolution**2 * 4)
    in_parts, at_once = (JudgedImages(Split(i, labels), [0.3], [0.5], CPU) for i in (stored.take(rows), images))
    assert in_parts.accuracy(network) == at_once.accuracy(network) == at_once.accuracy(network) == expected
    assert prepared == [1, 1, 2048, 2048, 904, 5_000]


def test_an_evaluator_brings_the_place_of_the_images_and_says_where_they_are_missing(
    in_memory: ImageData, in_a_file: ImageData, tmp_path: Path
) -> None:
    supernet = tmp_path / SUPERNET_FILE
    train_supernet(SPACE, in_memory, CONFIG, tmp_path, seed=0)
    assert load_supernet(supernet).space.largest() == SPACE.largest()
    expected, evaluator = (SupernetEvaluator.of(supernet, data, 32) for data in (in_memory, in_a_file))
    expected.setup()
    worker = subprocess.run(
        [sys.executable, "-c", EVALUATE],
        input=pickle.dumps(evaluator),
        cwd=Path(__file__).parents[3],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
    )
    assert float(worker.stdout) == expected.evaluate(SPACE.smallest())["accuracy"]
    stored = evaluator.data.validation.images
    assert isinstance(stored, StoredImages)
    missing = Split(replace(stored, folder=tmp_path / "another machine"), evaluator.data.validation.labels)
    elsewhere = replace(evaluator, data=replace(evaluator.data, validation=missing))
    with pytest.raises(InputError, match=r"another machine: No such file.*a folder that the machines share"):
        elsewhere.setup()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_pixels_are_the_same_wherever_they_are_kept(
    in_memory: ImageData, in_a_file: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.random.default_rng(0).permutation(len(in_memory.train))[:40].reshape(2, 20)
    for share in (1.0, 0.0):
        monkeypatch.setattr("nas.training.pixels._SHARE", share)
        for data in (in_memory, in_a_file):
            pixels = pixels_of(data.train.images, torch.device("cuda"))
            for place in (0, 1):
                found = pixels.take(rows[place], ahead=rows[1])
                assert found.is_cuda
                np.testing.assert_array_equal(found.cpu().numpy(), in_memory.train.images[rows[place]])

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.config import DataConfig, SupernetConfig
from nas.data import inputs, load_data
from nas.errors import InputError
from nas.evaluators.supernet import SupernetEvaluator
from nas.training.supernet import SUPERNET_FILE, train_supernet
from search_spaces.architecture import Architecture
from search_spaces.space import load_space
from search_spaces.supernet import load_supernet

DATA = DataConfig(max_images=250)
SPACE = load_space("tiny")
CONFIG = SupernetConfig(epochs=4, batch_size=16, learning_rate=2e-2, random_subnets=1)

EVALUATE = """
import pickle, sys
from search_spaces.architecture import Architecture

evaluator = pickle.load(sys.stdin.buffer)
evaluator.setup()
for text in sys.argv[1:]:
    print(evaluator.evaluate(Architecture.from_json(text))["accuracy"])
"""


@pytest.fixture(scope="module")
def supernet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("supernet")
    torch.set_num_threads(1)
    train_supernet(SPACE, load_data(DATA).without_test(), CONFIG, folder, seed=0)
    return folder / SUPERNET_FILE


@pytest.fixture
def evaluator(supernet: Path) -> SupernetEvaluator:
    evaluator = SupernetEvaluator.of(supernet, load_data(DATA), 64)
    evaluator.setup()
    return evaluator


def architectures() -> list[Architecture]:
    rng = np.random.default_rng(0)
    return [SPACE.smallest(), SPACE.largest(), *(SPACE.sample(rng) for _ in range(3))]


def test_accuracy_is_that_of_the_calibrated_subnet_on_the_validation_split(
    evaluator: SupernetEvaluator, supernet: Path
) -> None:
    data, loaded = load_data(DATA), load_supernet(supernet)
    for architecture in architectures():
        loaded.activate(architecture)
        calibration, validation = (
            torch.from_numpy(inputs(images, loaded.resolution, data.mean, data.std))
            for images in (data.train.images[:64], data.validation.images)
        )
        loaded.calibrate(calibration)
        with torch.no_grad():
            right = loaded(validation).argmax(1).numpy() == data.validation.labels
        assert evaluator.evaluate(architecture) == {"accuracy": pytest.approx(right.mean(), abs=1e-12)}


def test_accuracies_differ_between_subnets_and_are_better_than_chance(evaluator: SupernetEvaluator) -> None:
    found = [evaluator.evaluate(architecture)["accuracy"] for architecture in architectures()]
    assert len(set(found)) > 1
    assert max(found) > 0.3


def test_the_same_architecture_gets_the_same_accuracy_in_every_worker_and_order(
    evaluator: SupernetEvaluator, supernet: Path
) -> None:
    found = [evaluator.evaluate(architecture)["accuracy"] for architecture in architectures()]
    again = [evaluator.evaluate(architecture)["accuracy"] for architecture in reversed(architectures())]
    worker = subprocess.run(
        [sys.executable, "-c", EVALUATE, *(architecture.to_json() for architecture in architectures())],
        input=pickle.dumps(SupernetEvaluator.of(supernet, load_data(DATA), 64)),
        cwd=Path(__file__).parents[3],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
    )
    elsewhere = [float(line) for line in worker.stdout.decode().split()]
    assert found == again[::-1] == elsewhere


def test_an_evaluator_brings_its_weights_and_only_the_images_that_it_needs(supernet: Path) -> None:
    data = load_data(DATA)
    brought = pickle.dumps(SupernetEvaluator.of(supernet, data, 64), protocol=5)
    needed = supernet.stat().st_size + data.train.images[:64].nbytes + data.validation.images.nbytes
    assert needed < len(brought) < needed + 10_000


def test_arrays_that_nobody_may_write_do(supernet: Path, recwarn: pytest.WarningsRecorder) -> None:
    evaluator = SupernetEvaluator.of(supernet, load_data(DATA), 64)
    for array in (evaluator.supernet, evaluator.data.validation.images, evaluator.data.validation.labels):
        array.flags.writeable = False
    evaluator.setup()
    assert 0 < evaluator.evaluate(SPACE.smallest())["accuracy"] <= 1
    assert not recwarn.list


def test_a_missing_supernet_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.safetensors does not exist"):
        SupernetEvaluator.of(tmp_path / "nowhere.safetensors", load_data(DATA), 64)


def test_the_threads_of_torch_are_pinned(supernet: Path) -> None:
    before = torch.get_num_threads()
    try:
        SupernetEvaluator.of(supernet, load_data(DATA), 64, threads=2).setup()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)

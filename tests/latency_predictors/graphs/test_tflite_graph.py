import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

from latency_predictors.graphs.tflite_graph import TfliteJob, convert_tflite
from search_spaces.errors import HwnasError
from search_spaces.network import folded_weights
from tests.latency_predictors.graphs.networks import make_network


def test_a_killed_tensorflow_process_names_the_file_and_the_signal(tmp_path: Path) -> None:
    network = make_network("tiny")
    job = TfliteJob(network.layers, folded_weights(network), "fp32", None, tmp_path / "model.tflite")
    errors: list[HwnasError] = []

    def convert() -> None:
        try:
            convert_tflite([job])
        except HwnasError as error:
            errors.append(error)

    before = set(psutil.Process().children())
    thread = threading.Thread(target=convert)
    thread.start()
    while thread.is_alive() and not (started := set(psutil.Process().children()) - before):
        time.sleep(0.01)
    started.pop().kill()
    thread.join()
    assert "was killed by SIGKILL while making model.tflite (file 1 of 1)" in str(errors[0])
    assert list(tmp_path.iterdir()) == []


CONVERT = """
import sys
from pathlib import Path
import numpy as np
from latency_predictors.graphs.tflite_graph import TfliteJob, convert_tflite
from search_spaces.space import load_space
from search_spaces.weights import random_weights

layers = load_space("tiny").layers(load_space("tiny").smallest())
weights = random_weights(layers, np.random.default_rng(0))
convert_tflite([TfliteJob(layers, weights, "fp32", None, Path(sys.argv[1]) / f"{i}.tflite") for i in range(200)])
"""


def test_the_tensorflow_process_does_not_outlive_its_parent(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", CONVERT, str(tmp_path)]) as parent:
        while not (children := psutil.Process(parent.pid).children()):
            time.sleep(0.05)
        parent.kill()
    gone, alive = psutil.wait_procs(children, timeout=120)
    assert len(gone) == 1
    assert not alive
    assert len(list(tmp_path.iterdir())) < 200


def test_no_jobs_start_no_process() -> None:
    before = psutil.Process().children()
    convert_tflite([])
    assert psutil.Process().children() == before

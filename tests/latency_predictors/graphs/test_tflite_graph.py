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


def test_no_jobs_start_no_process() -> None:
    before = psutil.Process().children()
    convert_tflite([])
    assert psutil.Process().children() == before

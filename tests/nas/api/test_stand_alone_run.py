"""A run whose candidates are trained one by one, killed and started again."""

import multiprocessing
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from nas import api
from nas.errors import InputError
from nas.run import Run
from nas.search.ledger import Ledger
from tests.nas.search.small import child, wait_until
from tests.nas.test_config import DIGITS

OVERRIDES = (
    "accuracy={method: stand_alone, epochs: 2, checkpoint_seconds: 0.000001}",
    "data={name: digits, max_images: 300}",
    "objectives=[accuracy, macs]",
    "search={sampler: random, budget: 3}",
    "ray.executor=serial",
)


ON_RAY = (
    "accuracy={method: stand_alone, epochs: 4, checkpoint_seconds: 0.000001,"
    " early_stopping: {min_epochs: 1, reduction_factor: 2}}",
    "search={sampler: random, budget: 8}",
    "ray={executor: ray, workers: 2}",
)


def start(runs: Path, *overrides: str) -> Run:
    return api.start(DIGITS, (f"runs_dir={runs}", *OVERRIDES, *overrides))


def search(runs: Path, *overrides: str) -> None:
    tempfile.tempdir = "/tmp"  # short enough for Ray's sockets
    api.search(start(runs, *overrides))


@pytest.mark.slow
def test_a_killed_run_goes_on_in_the_middle_of_a_training_and_ends_the_same(tmp_path: Path) -> None:
    whole, killed = start(tmp_path / "whole"), start(tmp_path / "killed")
    process: multiprocessing.process.BaseProcess = child(search, tmp_path / "killed")
    wait_until(lambda: any(killed.networks_dir.glob("*/checkpoints/step-*.safetensors")))
    process.kill()
    process.join()
    left = {path.parent.parent.name for path in killed.networks_dir.glob("*/checkpoints/step-*.safetensors")}
    assert left, "killed in the middle of a training"
    for run in (killed, whole):
        summary = api.search(run)
        assert summary["evaluated"] == 3
    with Ledger(killed.ledger_path) as one, Ledger(whole.ledger_path) as other:
        assert one.candidates() == other.candidates()
        assert {candidate.metrics["epochs"] for candidate in one.candidates()} == {2.0}
        endings = [attempt.ending for attempt in one.attempts()]
    assert sorted(map(str, endings)) == ["abandoned", "done", "done", "done"]
    files = [{p.parent.name: p.read_bytes() for p in r.networks_dir.glob("*/*.safetensors")} for r in (killed, whole)]
    assert files[0] == files[1]
    assert left <= files[0].keys()
    values = api.front(killed.path).points[0].values
    assert set(values) == {"accuracy", "macs", "parameters"}, "epochs are no objective"


def test_there_is_no_supernet_to_train(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"trains every candidate by itself \(accuracy\.method: stand_alone\)"):
        api.train(start(tmp_path))


@pytest.mark.slow
def test_a_run_on_ray_tune_is_killed_and_goes_on_without_loss_or_double(tmp_path: Path) -> None:
    run = start(tmp_path, *ON_RAY)

    def results() -> int:
        if not run.ledger_path.exists():
            return 0
        with Ledger(run.ledger_path) as ledger:
            return sum(attempt.ending == "done" for attempt in ledger.attempts())

    process = child(search, tmp_path, *ON_RAY)
    wait_until(lambda: any(run.networks_dir.glob("*/network.safetensors")) and results() >= 2, 120)
    process.kill()
    process.join()
    files = {path: path.stat().st_mtime_ns for path in run.networks_dir.glob("*/network.safetensors")}
    process = child(search, tmp_path, *ON_RAY)
    process.join(300)
    assert process.exitcode == 0
    with Ledger(run.ledger_path) as ledger:
        candidates, attempts = ledger.candidates(), ledger.attempts()
    assert [candidate.state for candidate in candidates] == ["done"] * 8
    assert len({candidate.architecture.key for candidate in candidates}) == 8
    endings = Counter(attempt.ending for attempt in attempts)
    assert endings["done"] == 8
    assert set(endings) <= {"done", "abandoned"}
    assert endings["abandoned"] <= 2
    assert all(path.stat().st_mtime_ns == written for path, written in files.items()), "none is trained twice"
    epochs = {candidate.architecture.key: candidate.metrics["epochs"] for candidate in candidates}
    stopped = {key for key, count in epochs.items() if count < 4}
    assert stopped, "somebody falls behind"
    assert set(epochs.values()) <= {1.0, 2.0, 4.0}
    whole = {path.parent.name for path in run.networks_dir.glob("*/network.safetensors")}
    assert whole == epochs.keys() - stopped
    assert {point.key for point in api.front(run.path).points} == whole, "the front compares what is fully trained"

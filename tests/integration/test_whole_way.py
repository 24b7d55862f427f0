"""The whole way, small: killed three times with SIGKILL, started again with the same command, ends well."""

import json
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from nas.front import Front
from nas.search.ledger import Ledger
from tests.processes import end_with_parent

ROOT = Path(__file__).parents[2]
BUDGET = 16
STAGES = ("train", "measure cpu", "fit cpu", "search", "finish")
OVERRIDES = (
    "name=killed", "accuracy.epochs=2", "latency.count=26", f"search.budget={BUDGET}", "search.population=8",
    "finish.models=1", "finish.epochs=1",
)  # fmt: skip


def start(folder: Path) -> subprocess.Popen[str]:
    command = [
        Path(sys.executable).parent / "nas", "run", ROOT / "experiments" / "configs" / "digits.yaml",
        *OVERRIDES, "--format", "json",
    ]  # fmt: skip
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=end_with_parent,
    )  # fmt: skip


def killed_when(folder: Path, reached) -> bool:
    """Runs the command and kills it as soon as a condition holds; returns whether it was still alive then.

    Where a busy machine had too many measurements refused, the same command measures them again.
    """
    for _ in range(3):
        process, deadline, met = start(folder), time.monotonic() + 300, False
        while process.poll() is None and time.monotonic() < deadline and not met:
            time.sleep(0.05)
            met = reached()
        if process.poll() is None:
            process.kill()
            process.wait()
            return met
        told = process.communicate()[1]
        assert re.search(r"^nas: .*different networks", told, re.MULTILINE), told
    return False


@pytest.fixture(scope="module")
def killed_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    run = folder / "runs" / "killed"

    def results() -> int:
        try:
            with Ledger(run / "ledger.db") as ledger:
                return sum(candidate.state == "done" for candidate in ledger.candidates())
        except Exception:
            return 0

    kills = [
        killed_when(folder, lambda: (run / "status.json").exists()),
        killed_when(folder, lambda: results() >= 3),
        killed_when(folder, lambda: results() >= 9),
    ]
    process = start(folder)
    out, err = process.communicate(timeout=900)
    return folder, run, kills, process.returncode, out, err


@pytest.mark.slow
def test_a_run_killed_three_times_ends_well(killed_run):
    _, run, kills, status, out, err = killed_run
    assert kills == [True, True, True]
    assert status == 0, err
    assert json.loads(out)["evaluated"] == BUDGET
    stages = json.loads((run / "status.json").read_text())["stages"]
    assert {name: stage["state"] for name, stage in stages.items()} == dict.fromkeys(STAGES, "done")


@pytest.mark.slow
def test_nothing_is_lost_evaluated_twice_or_left_running(killed_run):
    _, run, *_ = killed_run
    with Ledger(run / "ledger.db") as ledger:
        candidates, attempts = ledger.candidates(), ledger.attempts()
    keys = [candidate.architecture.key for candidate in candidates]
    assert len(set(keys)) == len(keys)
    assert sum(candidate.state == "done" for candidate in candidates) == BUDGET
    assert not [candidate for candidate in candidates if candidate.state == "open"]
    finished = Counter(attempt.candidate for attempt in attempts if attempt.ending == "done")
    assert set(finished.values()) == {1}
    assert not [attempt for attempt in attempts if attempt.ending is None]


@pytest.mark.slow
def test_the_front_has_units_sources_and_intervals(killed_run):
    folder, run, *_ = killed_run
    front = json.loads(subprocess.run(
        [Path(sys.executable).parent / "nas", "front", run, "--format", "json"],
        capture_output=True, text=True, check=True, cwd=folder,
    ).stdout)  # fmt: skip
    assert front["objectives"] == [
        {"name": "accuracy", "unit": "fraction of the validation split", "maximize": True},
        {"name": "latency_ms@cpu", "unit": "ms", "maximize": False},
    ]
    for point in front["points"]:
        latency, accuracy = point["values"]["latency_ms@cpu"], point["values"]["accuracy"]
        assert (latency["source"], accuracy["source"]) == ("predicted", "measured")
        assert 0 < latency["lower"] <= latency["value"] <= latency["upper"]
        assert 0 <= accuracy["lower"] <= accuracy["value"] <= accuracy["upper"] <= 1
    assert Front.load(run / "front.json").knee == front["knee"]


@pytest.mark.slow
def test_the_finished_model_has_four_checked_files_and_its_documents(killed_run):
    _, run, _, _, out, _ = killed_run
    (model,) = json.loads(out)["models"]
    folder = run / "finish" / model["key"]
    named = {file["name"] for file in [*model["files"], *model["refused"]]}
    assert named == {"model.onnx", "model_int8.onnx", "model.tflite", "model_int8.tflite"}
    for file in model["files"]:
        assert (folder / file["name"]).stat().st_size == file["bytes"]
    assert model["key"] in (folder / "MODEL_CARD.md").read_text()


@pytest.mark.slow
def test_a_finished_run_is_started_again_in_no_time_and_changes_nothing(killed_run):
    folder, run, *_ = killed_run
    before = {path: path.stat().st_mtime_ns for path in run.rglob("model*")}
    again = start(folder)
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert json.loads(out)["evaluated"] == BUDGET
    assert {path: path.stat().st_mtime_ns for path in run.rglob("model*")} == before

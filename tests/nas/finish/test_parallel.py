import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nas.config import FinishConfig, RayConfig
from nas.data import ImageData
from nas.errors import RunError
from nas.finish.parallel import PickTraining, at_once, train_at_once
from nas.finish.weights import Distilled
from search_spaces.tensor_file import read_tensors
from tests.nas.finish.parts import make_finishing, make_picks

TWO = RayConfig(workers=2)
ARCHITECTURES = [pick.architecture for pick in make_picks()]

KILLED_IN_TRAINING = """
import os, signal, sys
from pathlib import Path
from nas.config import RayConfig
from nas.finish.parallel import train_at_once
from tests.nas.finish.parts import digits, make_finishing, make_picks

def listen(architecture, share, metrics):
    if share > 0.3 and list(stage.folder.glob("*/checkpoints/step-*")):
        os.kill(os.getpid(), signal.SIGKILL)

stage = make_finishing(Path(sys.argv[1]), digits())
source = stage.weights
object.__setattr__(source, "training", source.training.model_copy(update={"checkpoint_seconds": 0.2}))
picks = [pick.architecture for pick in make_picks()]
train_at_once(source, picks, stage.folder, RayConfig(workers=2), listen)
"""


@pytest.mark.parametrize(
    ("picks", "ray", "device", "threads", "expected"),
    [
        (3, {"executor": "serial"}, "cpu", 1, 1),
        (1, {}, "cpu", 1, 1),
        (3, {}, "cpu", 1, 2),
        (3, {"workers": 8}, "cpu", 1, 3),
        (3, {}, "cpu", 2, 1),  # as many cores at work as here
        (3, {"cpus_per_worker": 2}, "cpu", 2, 2),
        (3, {}, "cuda", 1, 1),  # a GPU here, none for the workers
        (3, {"gpus_per_worker": 0.5}, "cuda", 1, 2),
        (3, {"gpus_per_worker": 1}, "cpu", 8, 2),
    ],
)
def test_workers_train_where_more_is_done_at_once(
    picks: int, ray: dict[str, object], device: str, threads: int, expected: int
) -> None:
    assert at_once(picks, RayConfig.model_validate(ray), device=device, threads=threads) == expected


def weights_of(folder: Path) -> list[dict[str, list[float]]]:
    found = []
    for one in ARCHITECTURES:
        last = sorted((folder / one.key / "checkpoints").glob("step-*.safetensors"))[-1]
        _, tensors = read_tensors(last, "checkpoint")
        found.append({name: tensor.double().flatten().tolist() for name, tensor in tensors.items()})
    return found


@pytest.mark.slow
def test_workers_killed_with_their_driver_leave_what_the_stage_itself_would_have_made(
    data: ImageData, tmp_path: Path
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_IN_TRAINING, str(tmp_path / "workers")],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    stage, alone = make_finishing(tmp_path / "workers", data), make_finishing(tmp_path / "alone", data)
    told: dict[str, list[float]] = {one.key: [] for one in ARCHITECTURES}
    train_at_once(
        stage.weights, ARCHITECTURES, stage.folder, TWO, lambda one, share, metrics: told[one.key].append(share)
    )
    assert all(shares[-1] == 1 and shares == sorted(shares) for shares in told.values())
    for one in ARCHITECTURES:
        alone.weights.network(one, alone.folder / one.key / "checkpoints", lambda *_: None)
    assert weights_of(stage.folder) == weights_of(alone.folder)
    # The stage finds them and trains nothing.
    steps: list[int] = []
    for one in ARCHITECTURES:
        stage.weights.network(one, stage.folder / one.key / "checkpoints", lambda step, *_: steps.append(step))
    assert not steps


@pytest.mark.slow
def test_the_stage_trains_what_workers_could_not_and_tells_why_it_cannot(
    data: ImageData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    diverging = FinishConfig(epochs=1, learning_rate=1e9, calibration_images=64)
    stage = make_finishing(tmp_path, data)
    assert isinstance(stage.weights, Distilled)
    stage = replace(stage, weights=replace(stage.weights, config=diverging), ray=TWO)
    with caplog.at_level(logging.WARNING), pytest.raises(RunError, match="diverged"):
        stage.finish(make_picks())
    texts = [record.getMessage() for record in caplog.records if "is trained in the driver" in record.getMessage()]
    assert len(texts) == 2
    assert all("(RunError: training has diverged" in text for text in texts)


def test_a_machine_without_the_runs_disk_trains_nothing(data: ImageData, tmp_path: Path) -> None:
    evaluator = PickTraining(make_finishing(tmp_path, data).weights, tmp_path / "not here", threads=1)
    evaluator.setup()
    assert evaluator.evaluate(ARCHITECTURES[0]) == {}
    assert not (tmp_path / "not here").exists()


def test_a_worker_tells_where_its_training_stands(data: ImageData, tmp_path: Path) -> None:
    evaluator = PickTraining(make_finishing(tmp_path, data).weights, tmp_path, threads=1)
    evaluator.setup()
    evaluator.evaluate(ARCHITECTURES[0])
    told = json.loads((tmp_path / ARCHITECTURES[0].key / "checkpoints" / "progress.json").read_text())
    assert told["share"] == 1
    assert set(told["metrics"]) == {"loss", "train_accuracy"}

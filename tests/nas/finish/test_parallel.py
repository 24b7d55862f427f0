import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nas.config import FinishConfig, RayConfig, StandAloneConfig
from nas.data import ImageData
from nas.errors import RunError
from nas.finish import finishing
from nas.finish.parallel import train_in_workers, workers_for
from nas.finish.weights import Distilled, TrainedAlone
from search_spaces.network import Network
from tests.nas.finish.parts import CONFIG, SPACE, make_finishing, make_picks, make_stage

TWO = RayConfig(workers=2)
ARCHITECTURES = {pick.architecture.key: pick.architecture for pick in make_picks()}

KILLED_IN_TRAINING = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from nas.config import RayConfig
from tests.nas.finish.parts import digits, make_finishing, make_picks

def listen(progress):
    if progress.done > 20 and list(stage.folder.glob("*/checkpoints/step-*")):
        os.kill(os.getpid(), signal.SIGKILL)

stage = make_finishing(Path(sys.argv[1]), digits())
training = stage.weights.training.model_copy(update={"checkpoint_seconds": 0.2})
stage = replace(stage, ray=RayConfig(workers=2), weights=replace(stage.weights, training=training))
stage.finish(make_picks(), listen)
"""


@pytest.mark.parametrize(
    ("picks", "ray", "device", "threads", "expected"),
    [
        (3, {"executor": "serial"}, "cpu", 1, 0),
        (1, {}, "cpu", 1, 0),
        (3, {}, "cpu", 1, 2),
        (3, {"workers": 8}, "cpu", 1, 3),
        (3, {}, "cpu", 2, 0),  # as many cores at work as here
        (3, {"cpus_per_worker": 2}, "cpu", 2, 2),
        (3, {}, "cuda", 1, 0),  # a GPU here, none for the workers
        (3, {"gpus_per_worker": 0.5}, "cuda", 1, 2),
        (1, {"gpus_per_worker": 0.5}, "cuda", 1, 0),
        (1, {"gpus_per_worker": 1}, "cpu", 8, 1),  # no GPU here
        (0, {"gpus_per_worker": 1}, "cpu", 8, 0),
    ],
)
def test_workers_train_where_they_are_faster_than_this_process(
    picks: int, ray: dict[str, object], device: str, threads: int, expected: int
) -> None:
    assert workers_for(picks, RayConfig.model_validate(ray), device=device, threads=threads) == expected


def assert_equal(one: Network, other: Network) -> None:
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], rtol=0, atol=0)


def only_trained(folder: Path, data: ImageData, monkeypatch: pytest.MonkeyPatch) -> finishing.Finishing:
    """Returns a stage that ends when its networks are trained."""

    class EndError(Exception):
        pass

    def end(*_: object) -> None:
        raise EndError

    monkeypatch.setattr(finishing.Finishing, "_export", end)
    stage = replace(make_finishing(folder, data), ray=TWO)
    with pytest.raises(EndError):
        stage.finish(make_picks())
    return stage


@pytest.mark.slow
def test_a_stage_killed_while_workers_train_ends_with_the_weights_of_one_that_trains_by_itself(
    data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_IN_TRAINING, str(tmp_path / "workers")],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folders = tmp_path / "workers" / "finish"
    assert list(folders.glob("*/checkpoints/step-*"))
    assert not [path for path in folders.glob("*/checkpoints/*.safetensors") if not path.name.startswith("step-")]
    # A relative folder, as runs have: workers of Ray have another working directory.
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.WARNING):
        stage = only_trained(Path("workers"), data, monkeypatch)
    assert not caplog.records
    alone = make_finishing(tmp_path / "alone", data)
    for key, architecture in ARCHITECTURES.items():
        (file,) = (path for path in (stage.folder / key / "checkpoints").iterdir() if not path.name.startswith("step-"))
        network = finishing._trained(file)
        assert network
        assert_equal(network, alone.weights.network(architecture, alone.folder / key, lambda *_: None))
    # The next start trains nothing.
    monkeypatch.setattr(Distilled, "training_of", None)
    only_trained(Path("workers"), data, monkeypatch)


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
    texts = [record.getMessage() for record in caplog.records if "is trained in this process" in record.getMessage()]
    assert len(texts) == 2
    assert all("training has diverged" in text for text in texts)


def test_a_cluster_out_of_reach_is_told_and_the_stage_trains_by_itself(
    data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(finishing, "train_in_workers", out_of_reach)
    with caplog.at_level(logging.WARNING):
        stage = only_trained(tmp_path, data, monkeypatch)
    assert "2 networks are trained in this process: no cluster there" in caplog.text
    assert len(list(stage.folder.glob("*/checkpoints/*.safetensors"))) >= 2


def out_of_reach(*_: object) -> dict[str, Network]:
    raise RunError("no cluster there")


@pytest.mark.slow
def test_networks_come_back_from_machines_that_do_not_share_the_disk(data: ImageData, tmp_path: Path) -> None:
    training = StandAloneConfig(method="stand_alone", epochs=1, learning_rate=1e-2)
    alone = TrainedAlone(tmp_path / "gone" / "networks", SPACE, data.without_test(), training, CONFIG, seed=3)
    stage = make_stage(alone, data, tmp_path)
    assert not any(alone.is_trained(one) for one in ARCHITECTURES.values())
    trainings = {key: alone.training_of(one) for key, one in ARCHITECTURES.items()}
    told: dict[str, list[int]] = {key: [] for key in ARCHITECTURES}
    networks = train_in_workers(
        trainings,
        alone.data,
        {key: stage.folder / key / "checkpoints" for key in ARCHITECTURES},
        TWO,
        lambda key, step, total, metrics: told[key].append(step),
    )
    assert not (tmp_path / "gone").exists()
    for key, architecture in ARCHITECTURES.items():
        assert told[key] == sorted(told[key])
        assert told[key]
        other = replace(alone, networks=tmp_path / "here")
        assert_equal(networks[key], other.network(architecture, tmp_path, lambda *_: None))
        assert other.is_trained(architecture)

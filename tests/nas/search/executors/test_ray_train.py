"""One supernet, two processes: the same training as one process that computes both parts."""

import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest
import torch

from nas.config import RayConfig
from nas.errors import RunError
from nas.search.executors import ray_train
from nas.training.supernet import SUPERNET_FILE, train_supernet
from search_spaces.space import SearchSpace
from search_spaces.supernet import load_supernet
from search_spaces.tensor_file import read_tensors
from tests.nas.training.parts import CONFIG, SPACE, digits

pytestmark = pytest.mark.slow
TWO = CONFIG.model_copy(update={"workers": 2, "random_subnets": 0, "epochs": 2})


@pytest.fixture
def connected(private_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_train, "connect", lambda *_: lambda: None)


@pytest.mark.usefixtures("connected")
def test_two_workers_give_the_weights_of_one_that_computes_both_parts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[tuple[int, int, dict[str, float]]] = []
    data, folder = digits(), tmp_path / "two"
    options = {"ray_config": RayConfig(), "seed": 1}
    handler = signal.getsignal(signal.SIGINT)
    ray_train.train_supernet_with_ray(SPACE, data, TWO, folder, **options, progress=lambda *state: told.append(state))
    assert signal.getsignal(signal.SIGINT) is handler, "Ray's own would take Ctrl-C from what comes after"
    assert [path.name for path in folder.iterdir()] == [SUPERNET_FILE]
    assert capfd.readouterr().out == "", "standard output belongs to the command"
    step, total, metrics = told[-1]
    assert step == total == 2 * (len(data.train) // 16)
    assert set(metrics) == {"loss", "train_accuracy"}

    # Without random subnets, the parts of a batch see the same subnets one after the other as side by side.
    one = CONFIG.model_copy(update={"accumulate": 2, "random_subnets": 0, "epochs": 2})
    alone = train_supernet(SPACE, data, one, tmp_path / "one", seed=1).state_dict()
    for name, tensor in load_supernet(folder / SUPERNET_FILE).state_dict().items():
        torch.testing.assert_close(tensor, alone[name], rtol=1e-3, atol=1e-4)


@dataclass(frozen=True)
class TellingThreads(SearchSpace):
    """A space that tells how many threads torch has where a supernet of it is made."""

    file: Path

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"file": self.file}

    def with_data(self, **data: int) -> Self:
        self.file.write_text(str(torch.get_num_threads()))
        return super().with_data(**data)


@pytest.mark.usefixtures("connected")
def test_workers_have_the_threads_that_the_experiment_gives_them(tmp_path: Path) -> None:
    space = TellingThreads(SPACE.table, tmp_path / "threads")
    config = TWO.model_copy(update={"epochs": 1, "threads": 3})
    ray_train.train_supernet_with_ray(space, digits(), config, tmp_path / "run", ray_config=RayConfig(), seed=1)
    assert space.file.read_text() == "3"


@pytest.mark.usefixtures("connected")
def test_ctrl_c_is_told_as_what_it_is(tmp_path: Path) -> None:
    pressed = threading.Event()

    def press(*_: object) -> None:
        if not pressed.is_set():
            pressed.set()
            os.kill(os.getpid(), signal.SIGINT)

    config = TWO.model_copy(update={"epochs": 1000})
    with pytest.raises(KeyboardInterrupt):
        ray_train.train_supernet_with_ray(
            SPACE, digits(), config, tmp_path, ray_config=RayConfig(), seed=1, progress=press
        )
    assert pressed.is_set()


@pytest.mark.usefixtures("connected")
def test_two_workers_go_on_from_the_checkpoint_of_a_training_that_failed(tmp_path: Path) -> None:
    config = TWO.model_copy(update={"random_subnets": 1, "attentive": "best", "epochs": 1})
    data, options = digits(), {"ray_config": RayConfig(), "seed": 1}
    (tmp_path / SUPERNET_FILE).mkdir()  # so that the end cannot be written
    with pytest.raises(RunError, match="training on 2 workers failed"):
        ray_train.train_supernet_with_ray(SPACE, data, config, tmp_path, **options)
    last = sorted((tmp_path / "checkpoints").glob("*.safetensors"))[-1]
    _, expected = read_tensors(last, "checkpoint")
    last.unlink()  # the one before it is left
    (tmp_path / SUPERNET_FILE).rmdir()
    ray_train.train_supernet_with_ray(SPACE, data, config, tmp_path, **options)
    for name, tensor in load_supernet(tmp_path / SUPERNET_FILE).state_dict().items():
        assert torch.equal(tensor, expected[f"model.{name}"])

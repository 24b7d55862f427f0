import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch._dynamo
from torch import nn
from torch._dynamo.testing import CompileCounter

from nas.config import DataConfig, StandAloneConfig
from nas.data import ImageData, load_data
from nas.errors import InputError
from nas.training.stand_alone import NETWORK_FILE, train_stand_alone, trained_alone
from search_spaces.network import Network
from search_spaces.space import load_space
from tests.nas.training.parts import SPACE as SMALL

SPACE = load_space("tiny")
DATA = DataConfig(max_images=200)
CONFIG = StandAloneConfig(epochs=3, batch_size=16, learning_rate=1e-2, checkpoint_seconds=1e-9)

KILLED = """
import os, signal, sys
from collections.abc import Iterator
from pathlib import Path
import torch
from tests.nas.training.test_stand_alone import train

torch.set_num_threads(1)
for epochs, _ in train(Path(sys.argv[1])):
    if epochs == 2:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_data(DATA).without_test()


def train(folder: Path, seed: int = 0, key: str = "smallest", **options: object):  # type: ignore[no-untyped-def]
    architecture = getattr(SPACE, key)()
    data = load_data(DATA).without_test()
    return train_stand_alone(architecture, SPACE, data, CONFIG, folder, seed=seed, **options)  # type: ignore[arg-type]


def weights(network: Network) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def equal(one: Network, other: Network) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def file(folder: Path) -> Path:
    return folder / SPACE.smallest().key / NETWORK_FILE


def test_a_training_killed_after_an_epoch_goes_on_and_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "killed")],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert killed.returncode == -signal.SIGKILL
    assert not file(tmp_path / "killed").exists()
    steps: list[int] = []
    resumed = [epochs for epochs, _ in train(tmp_path / "killed", progress=lambda step, *_: steps.append(step))]
    assert resumed == [3]
    left = file(tmp_path / "killed").parent / "checkpoints" / "step-00000001.safetensors"
    left.parent.mkdir()
    left.write_bytes(b"of a process that was killed just before it removed this")
    assert [epochs for epochs, _ in train(tmp_path / "killed")] == [3], "a trained network is only loaded"
    assert not left.parent.exists()
    whole = [epochs for epochs, _ in train(tmp_path / "whole")]
    assert whole == [1, 2, 3]
    assert file(tmp_path / "killed").read_bytes() == file(tmp_path / "whole").read_bytes()
    assert [path.name for path in file(tmp_path / "whole").parent.iterdir()] == [NETWORK_FILE]


def test_the_network_is_in_evaluation_mode_between_epochs_and_learns(tmp_path: Path) -> None:
    modes, states = [], []
    for _, network in train(tmp_path):
        modes.append(network.training)
        states.append(weights(network))
    assert modes == [False, False, False]
    assert not torch.equal(*(state["blocks.classifier.linear.weight"] for state in states[1:])), list(states[0])


def test_weights_depend_on_the_seed_and_the_architecture_alone(tmp_path: Path) -> None:
    trained_alone(train(tmp_path / "a", key="largest"))
    after_another = trained_alone(train(tmp_path / "a"))
    alone = trained_alone(train(tmp_path / "b"))
    assert equal(after_another, alone)
    assert not equal(trained_alone(train(tmp_path / "c", seed=1)), alone)


def test_a_trained_network_is_loaded_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    trained = trained_alone(train(tmp_path))
    ((epochs, loaded),) = train(tmp_path)
    assert epochs == CONFIG.epochs
    assert equal(loaded, trained)
    data = bytearray(file(tmp_path).read_bytes())
    file(tmp_path).write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"network\.safetensors is damaged"):
        trained_alone(train(tmp_path))


def test_a_training_with_every_option_goes_on_where_it_was_stopped(data: ImageData, tmp_path: Path) -> None:
    options = {"ema": 0.9, "mixup": 0.2, "cutmix": 1.0, "random_augment": 0.5, "accumulate": 2, "optimizer": "sgd"}
    config = CONFIG.model_copy(update=options)

    def trained(folder: Path) -> Iterator[tuple[int, Network]]:
        return train_stand_alone(SPACE.smallest(), SPACE, data, config, folder, seed=0)

    for epochs, _ in trained(tmp_path / "stopped"):
        if epochs == 2:
            break
    resumed, whole = trained_alone(trained(tmp_path / "stopped")), trained_alone(trained(tmp_path / "whole"))
    assert equal(resumed, whole)
    plain = trained_alone(train(tmp_path / "plain"))
    assert not equal(whole, plain)


def test_a_compiled_training_gives_the_weights_of_a_plain_one(
    data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The backend that generates code takes minutes on a CPU; this one stops before that.
    compiled_by: list[object] = []
    compile_module = torch.compile

    def quick(module: nn.Module) -> object:
        compiled_by.append(module)
        return compile_module(module, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", quick)
    networks = {}
    for compiled in (True, False):
        config = CONFIG.model_copy(update={"epochs": 1, "compile": compiled})
        epochs = train_stand_alone(SPACE.smallest(), SPACE, data, config, tmp_path / str(compiled), seed=0)
        networks[compiled] = trained_alone(epochs)
    assert compiled_by == [networks[True]]
    for name, tensor in weights(networks[False]).items():
        torch.testing.assert_close(weights(networks[True])[name], tensor, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler: apt-get install g++")
def test_the_code_that_torch_compile_makes_computes_and_trains_as_torch_does(data: ImageData, tmp_path: Path) -> None:
    # Few layers in training alone: each kernel costs seconds of the C++ compiler's.
    plain, compiled = (Network(SMALL.layers(SMALL.smallest()), seed=1).train() for _ in range(2))
    images = torch.randn(16, 1, plain.resolution, plain.resolution, generator=torch.Generator().manual_seed(0))
    wanted, found = plain(images), torch.compile(compiled)(images)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    for logits in (wanted, found):
        logits.square().mean().backward()
    for own, other in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-3, atol=1e-4)

    losses: list[float] = []
    config = CONFIG.model_copy(update={"epochs": 10, "compile": True})
    epochs = train_stand_alone(
        SMALL.smallest(), SMALL, data, config, tmp_path, seed=0, progress=lambda *state: losses.append(state[2]["loss"])
    )
    trained_alone(epochs)
    assert losses[-1] < losses[0] - 0.3


def test_every_network_is_compiled_however_many_a_process_has_trained(
    data: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = CompileCounter()
    compile_module = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module: compile_module(module, backend=counter))
    config = CONFIG.model_copy(update={"epochs": 1, "compile": True})
    compiled = []
    with torch._dynamo.config.patch(recompile_limit=1):  # eight by default
        for architecture in (SPACE.smallest(), SPACE.largest()):
            trained_alone(train_stand_alone(architecture, SPACE, data, config, tmp_path, seed=0))
            compiled.append(counter.frame_count)
    assert 0 < compiled[0] < compiled[1]

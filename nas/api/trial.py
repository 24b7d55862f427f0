"""How long training and evaluating take here, found by doing a little of both."""

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas.config import ExperimentConfig, SupernetConfig
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from nas.data import ImageData

_SECONDS = 2.0
"""Of training that is timed at least, and a step."""


@dataclass(frozen=True)
class TrialSeconds:
    """What was timed.

    Attributes:
        train_step: seconds of one training step: of the supernet with all its subnets, or of the typical network.
        train_steps: of a whole training.
        evaluation: seconds of evaluating one network on one worker: for a supernet its batch-norm calibration and the
            validation split, else the whole training, an upper bound where early stopping ends some.
    """

    train_step: float
    train_steps: int
    evaluation: float


class _EnoughError(Exception):
    """Ends a training that has told how fast it is."""


def try_out(
    config: ExperimentConfig, space: SearchSpace, data: "ImageData", networks: Sequence[Architecture]
) -> TrialSeconds:
    """Returns the seconds of an experiment's training and evaluation on this machine.

    Trains for about two seconds, at least two steps, with fresh weights that are thrown away.

    Args:
        config: of the experiment.
        space: with the channels and classes of the data.
        data: the experiment's.
        networks: that are evaluated; the middle one is trained where candidates are trained by themselves.
    """
    with tempfile.TemporaryDirectory(prefix="hwnas-plan-") as folder:
        if isinstance(config.accuracy, SupernetConfig):
            step, steps = _timed(lambda progress: _train_supernet(config, space, data, Path(folder), progress))
            return TrialSeconds(step, steps, _subnet_seconds(config, space, data, networks, Path(folder)))
        typical = networks[len(networks) // 2]
        step, steps = _timed(lambda progress: _train_alone(config, space, data, typical, Path(folder), progress))
        return TrialSeconds(step, steps, step * steps)


TrainingProgress = Callable[[int, int, dict[str, float]], None]


def _timed(train: Callable[[TrainingProgress], None]) -> tuple[float, int]:
    """Returns the seconds of a step and the number of steps of a training, which is stopped soon."""
    seen: list[tuple[float, int, int]] = []

    def progress(done: int, total: int, metrics: dict[str, float]) -> None:
        seen.append((time.monotonic(), done, total))
        if len(seen) > 1 and seen[-1][0] - seen[0][0] >= _SECONDS:
            raise _EnoughError

    started = time.monotonic()
    with suppress(_EnoughError):
        train(progress)
    (first, first_step, total), (last, last_step, _) = seen[0], seen[-1]
    if last_step == first_step:  # a training of so few steps that only its end was told
        return (last - started) / last_step, total
    return (last - first) / (last_step - first_step), total


def _train_supernet(
    config: ExperimentConfig, space: SearchSpace, data: "ImageData", folder: Path, progress: TrainingProgress
) -> None:
    from nas.training.device import training_device
    from nas.training.supernet import train_supernet

    accuracy = config.accuracy
    assert isinstance(accuracy, SupernetConfig)
    device, flip = training_device(accuracy.threads), config.data.flip
    train_supernet(space, data, accuracy, folder, seed=config.seed, device=device, flip=flip, progress=progress)


def _train_alone(
    config: ExperimentConfig,
    space: SearchSpace,
    data: "ImageData",
    network: Architecture,
    folder: Path,
    progress: TrainingProgress,
) -> None:
    from nas.training.device import training_device
    from nas.training.stand_alone import train_stand_alone, trained_alone

    accuracy = config.accuracy
    assert not isinstance(accuracy, SupernetConfig)
    device, flip = training_device(max(1, int(config.ray.cpus_per_worker))), config.data.flip
    epochs = train_stand_alone(
        network, space, data, accuracy, folder, seed=config.seed, device=device, flip=flip, progress=progress
    )
    trained_alone(epochs)


def _subnet_seconds(
    config: ExperimentConfig, space: SearchSpace, data: "ImageData", networks: Sequence[Architecture], folder: Path
) -> float:
    from nas.evaluators.supernet import SupernetEvaluator
    from search_spaces.supernet import Supernet, save_supernet

    assert isinstance(config.accuracy, SupernetConfig)
    path = folder / "untrained.safetensors"
    save_supernet(Supernet(space), path)
    threads = max(1, int(config.ray.cpus_per_worker))
    evaluator = SupernetEvaluator.of(path, data, config.accuracy.calibration_images, threads=threads)
    evaluator.setup()
    evaluator.evaluate(networks[0])  # the first one is slower
    started = time.monotonic()
    for network in networks:
        evaluator.evaluate(network)
    return (time.monotonic() - started) / len(networks)

"""What evaluates the candidates of a run, where, and what its finished networks are made from."""

from pathlib import Path
from typing import TYPE_CHECKING

from nas.config import ExperimentConfig, StandAloneConfig, SupernetConfig
from nas.run import Run
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from nas.data import ImageData
    from nas.evaluators.base import Evaluator
    from nas.evaluators.stand_alone import StandAloneEvaluator
    from nas.finish.weights import WeightSource
    from nas.search.executors.base import Executor


def evaluator_of(run: Run, space: SearchSpace, data: "ImageData") -> "Evaluator":
    """Returns the evaluator of a run; where it has a supernet, that is trained already."""
    config, threads = run.config, max(1, int(run.config.ray.cpus_per_worker))
    if isinstance(config.accuracy, SupernetConfig):
        from nas.evaluators.supernet import SupernetEvaluator
        from nas.training.supernet import SUPERNET_FILE

        path = run.supernet_dir / SUPERNET_FILE
        return SupernetEvaluator.of(path, data, config.accuracy.calibration_images, threads=threads)
    return stand_alone_evaluator(config, config.accuracy, space, data, run.networks_dir.resolve(), seed=config.seed)


def stand_alone_evaluator(
    config: ExperimentConfig,
    training: StandAloneConfig,
    space: SearchSpace,
    data: "ImageData",
    networks: Path,
    *,
    seed: int,
) -> "StandAloneEvaluator":
    """Returns what trains networks of an experiment by themselves.

    Args:
        config: says what else the training depends on, and its threads.
        training: of each network.
        space: with the channels and classes of the data.
        data: the experiment's.
        networks: folder of their weights; absolute, as workers of Ray have another working directory.
        seed: of the training.
    """
    from nas.evaluators.stand_alone import StandAloneEvaluator

    threads = max(1, int(config.ray.cpus_per_worker))
    return StandAloneEvaluator(
        space, data.without_test(), training, networks, seed=seed, flip=config.data.flip, threads=threads
    )


def executor_of(config: ExperimentConfig) -> "Executor":
    """Returns the executor of an experiment: trainings go to Ray Tune, evaluations of subnets to a pool of actors."""
    if config.ray.executor == "serial":
        from nas.search.executors.serial import SerialExecutor

        return SerialExecutor()
    if isinstance(config.accuracy, StandAloneConfig):
        from nas.search.executors.ray_tune import TuneExecutor

        return TuneExecutor(config.ray, config.accuracy.early_stopping, config.accuracy.epochs)
    from nas.search.executors.ray_actors import RayExecutor

    return RayExecutor(config.ray)


def weights_of(run: Run, data: "ImageData") -> "WeightSource":
    """Returns where the weights of a run's finished networks come from."""
    from nas.finish.weights import Distilled, TrainedAlone
    from nas.training.device import training_device
    from nas.training.supernet import SUPERNET_FILE

    config, data = run.config, data.without_test()
    accuracy, finish, device = config.accuracy, config.finish, training_device(config.accuracy.threads)
    if isinstance(accuracy, StandAloneConfig):
        space = config.space.load().with_data(image_channels=data.image_channels, classes=data.classes)
        return TrainedAlone(
            run.networks_dir.resolve(),
            space,
            data,
            accuracy,
            finish,
            seed=config.seed,
            flip=config.data.flip,
            device=device,
        )
    path = run.supernet_dir / SUPERNET_FILE
    return Distilled(path, data, accuracy, finish, seed=config.seed, flip=config.data.flip, device=device)

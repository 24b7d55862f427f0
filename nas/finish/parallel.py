"""Training several picks at once, in workers; the stage finds what they leave and goes on from there.

A worker trains as the stage would and leaves its last checkpoint, or the file of a network trained by itself. What it
could not train, the stage trains: there an error is told as what it is.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nas.config import RayConfig
from nas.evaluators.base import Evaluator
from nas.finish.weights import WeightSource
from search_spaces.architecture import Architecture
from search_spaces.checksum import read_json, write_json

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
_PROGRESS = "progress.json"
_PROGRESS_SECONDS = 1.0

ShareListener = Callable[[Architecture, float, dict[str, float]], None]
"""Called with an architecture, the share of its training that is done, and the metrics of its last step."""


def at_once(picks: int, ray: RayConfig, *, device: str, threads: int) -> int:
    """Returns how many picks to train at once in workers; 1 where this process does as well by itself.

    Args:
        picks: to train.
        ray: the workers.
        device: of torch in this process.
        threads: of torch in this process.
    """
    workers = min(picks, ray.workers) if ray.executor == "ray" else 1
    if ray.gpus_per_worker:
        return workers
    faster_here = device != "cpu" or workers * max(1, int(ray.cpus_per_worker)) <= threads
    return 1 if faster_here else workers


@dataclass
class PickTraining(Evaluator):
    """Trains an architecture as `WeightSource.network` does, for what that leaves in the folder of the bundles.

    A machine that does not share the run's disk trains nothing: what it left would be out of reach.

    Attributes:
        weights: make the networks; their files by absolute paths.
        folder: of the bundles, absolute.
        threads: of torch, in the process that trains.
    """

    weights: WeightSource
    folder: Path
    threads: int

    def setup(self) -> None:
        """Takes a GPU where this process sees one, and pins torch's threads."""
        import torch

        torch.set_num_threads(self.threads)
        self._weights = self.weights.on("cuda" if torch.cuda.is_available() else "cpu")

    def evaluate(self, architecture: Architecture) -> dict[str, float]:
        """Returns no metrics: the training's are in its progress file, for whoever wants to know where it stands."""
        if not self.folder.is_dir():
            logger.warning("%s is not on this machine: %s is trained in the driver", self.folder, architecture.key)
            return {}
        checkpoints = self.folder / architecture.key / CHECKPOINTS
        checkpoints.mkdir(parents=True, exist_ok=True)
        told_at = -_PROGRESS_SECONDS

        def told(step: int, total: int, metrics: dict[str, float]) -> None:
            nonlocal told_at
            if step == total or time.monotonic() - told_at >= _PROGRESS_SECONDS:
                told_at = time.monotonic()
                write_json(checkpoints / _PROGRESS, {"share": step / total, "metrics": metrics})

        self._weights.network(architecture, checkpoints, told)
        return {}


def train_at_once(
    weights: WeightSource, architectures: Sequence[Architecture], folder: Path, ray: RayConfig, listener: ShareListener
) -> None:
    """Trains architectures in workers, as far as that goes.

    Args:
        weights: make the networks; their files by absolute paths.
        architectures: different ones.
        folder: of the bundles.
        ray: the workers.
        listener: told about once a second where each training stands.

    Raises:
        RunError: Ray cannot be started or reached, or no worker can load what it needs.
    """
    from nas.search.executors.base import Job
    from nas.search.executors.ray_actors import RayExecutor

    folder.mkdir(parents=True, exist_ok=True)
    left = {one.key: one for one in architectures}
    with RayExecutor(ray) as executor:
        executor.start(PickTraining(weights, folder.resolve(), max(1, int(ray.cpus_per_worker))))
        for number, architecture in enumerate(architectures):
            executor.submit(Job(number, architecture))
        while left:
            for outcome in executor.wait(_PROGRESS_SECONDS):
                ended = left.pop(outcome.job.architecture.key)
                if outcome.failure:
                    found = outcome.failure
                    logger.warning("%s is trained in the driver (%s: %s)", ended.key, found.error_class, found.text)
                else:
                    _tell(ended, folder, listener)
            for architecture in left.values():
                _tell(architecture, folder, listener)


def _tell(architecture: Architecture, folder: Path, listener: ShareListener) -> None:
    try:
        told = read_json(folder / architecture.key / CHECKPOINTS / _PROGRESS)
    except (OSError, ValueError):  # it has not told anything yet
        return
    listener(architecture, told["share"], told["metrics"])

"""Training several picks at once, on the run's workers; what they cannot train, the stage trains by itself."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nas.config import RayConfig
from nas.data import ImageData
from nas.errors import RunError
from nas.finish.weights import Training
from search_spaces.network import Network

if TYPE_CHECKING:
    from ray.util.queue import Queue

logger = logging.getLogger(__name__)

_TOLD_SECONDS = 1.0
_PATIENCE_SECONDS = 600.0
"""Without a word from any worker: the cluster has no place for them, or has lost them."""

StepListener = Callable[[str, int, int, dict[str, float]], None]
"""Called with the key of a network, steps done, steps in all, and the metrics of the last step."""


def workers_for(picks: int, ray_config: RayConfig, *, device: str, threads: int) -> int:
    """Returns how many workers should train; 0 where this process alone is as fast.

    Args:
        picks: networks left to train.
        ray_config: of the run.
        device: torch device of this process.
        threads: of torch in this process.
    """
    workers = min(picks, ray_config.workers) if ray_config.executor == "ray" else 0
    if ray_config.gpus_per_worker:
        least = 1 if device == "cpu" else 2
        return workers if workers >= least else 0
    if device != "cpu" or workers * max(1, int(ray_config.cpus_per_worker)) <= threads:
        return 0
    return workers


def train_in_workers(
    trainings: Mapping[str, Training],
    data: ImageData,
    checkpoints: Mapping[str, Path],
    ray_config: RayConfig,
    listener: StepListener,
) -> dict[str, Network]:
    """Returns the networks that workers could train, in evaluation mode on the CPU.

    Args:
        trainings: by key.
        data: trained on.
        checkpoints: folders, by key.
        ray_config: of the workers.
        listener: told about once a second.

    Raises:
        RunError: Ray cannot be started or reached, or no worker was heard of for ten minutes.
    """
    import ray
    from ray.exceptions import RayError
    from ray.util.queue import Queue

    from nas.search.executors.ray_session import connect
    from nas.search.executors.ray_worker import shipped_bytes

    threads = max(1, int(ray_config.cpus_per_worker))
    networks: dict[str, Network] = {}
    disconnect = connect(ray_config, shipped_bytes((data, trainings)))
    try:
        told = Queue(actor_options={"num_cpus": 0})
        task = ray.remote(
            num_cpus=ray_config.cpus_per_worker, num_gpus=ray_config.gpus_per_worker, max_retries=0
        )(_train)  # fmt: skip
        shipped = ray.put(data)
        running: dict[Any, str] = {}  # by ray's reference
        for key, training in trainings.items():
            folder = checkpoints[key].resolve()
            folder.parent.mkdir(parents=True, exist_ok=True)
            running[task.remote(key, training, folder, threads, shipped, told)] = key
        heard_at = time.monotonic()
        while running:
            ended, _ = ray.wait(list(running), num_returns=1, timeout=_TOLD_SECONDS)
            for steps in told.get_nowait_batch(told.qsize()):
                heard_at = time.monotonic()
                listener(*steps)
            for reference in ended:
                heard_at, key = time.monotonic(), running.pop(reference)
                try:
                    networks[key] = ray.get(reference)
                except RayError as error:
                    logger.warning("%s is trained in this process (its worker: %s)", key, _last_line(error))
            if time.monotonic() - heard_at > _PATIENCE_SECONDS:
                raise RunError(f"no worker was heard of for {_PATIENCE_SECONDS / 60:.0f} min, {len(running)} are asked")
    except RayError as error:
        raise RunError(f"the cluster was lost ({_last_line(error)})") from None
    finally:
        disconnect()
    return networks


def _train(key: str, training: Training, checkpoints: Path, threads: int, data: ImageData, told: "Queue") -> Network:
    """Trains in a worker, on a GPU where it sees one; returns the network on the CPU."""
    from nas.training.device import training_device

    device, told_at = training_device(threads), 0.0

    def tell(step: int, total: int, metrics: dict[str, float]) -> None:
        nonlocal told_at
        if step == total or time.monotonic() - told_at >= _TOLD_SECONDS:
            told_at = time.monotonic()
            told.put_nowait((key, step, total, metrics))

    with TemporaryDirectory(prefix="hwnas-finish-") as own:
        # A machine that does not see the run's disk keeps checkpoints to itself.
        folder = checkpoints if checkpoints.parent.is_dir() else Path(own)
        return training(data, device, folder, tell).cpu()


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]

"""A supernet trained by several processes of Ray Train, one GPU each where there are any."""

import shutil
import signal
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import ray
import torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.util.queue import Queue

from nas.config import RayConfig, SupernetConfig
from nas.errors import RunError
from nas.search.executors.ray_session import connect
from nas.search.executors.ray_worker import shipped_bytes
from nas.training.loop import TrainingProgress, no_progress
from nas.training.supernet import SUPERNET_FILE, train_supernet
from search_spaces.atomic import write_bytes
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from nas.data import ImageData


def train_supernet_with_ray(
    space: SearchSpace,
    data: "ImageData",
    config: SupernetConfig,
    folder: Path,
    *,
    ray_config: RayConfig,
    seed: int,
    flip: bool = False,
    progress: TrainingProgress = no_progress,
) -> None:
    """Trains as `train_supernet` with ``config.workers`` processes; writes the same file.

    A killed training goes on from its last checkpoint, which the first process writes to ``folder`` as its machine sees
    it: on a cluster that needs a folder that machines share, else the training begins anew.

    Args:
        space: as `train_supernet`.
        data: as `train_supernet`.
        config: as `train_supernet`.
        folder: as `train_supernet`.
        ray_config: where, and a worker's CPUs; with ``gpus_per_worker`` above 0, each gets one GPU.
        seed: as `train_supernet`.
        flip: as `train_supernet`.
        progress: called from another thread.

    Raises:
        RunError: Ray cannot be reached, or the training fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    disconnect = connect(ray_config.model_copy(update={"workers": config.workers}), shipped_bytes(data))
    storage = Path(tempfile.mkdtemp(prefix="hwnas-ray-train-"))
    try:
        told = Queue(actor_options={"num_cpus": 0})
        listener = threading.Thread(target=_listen, args=(told, progress), daemon=True)
        listener.start()
        gpus = {"GPU": 1.0} if ray_config.gpus_per_worker else {}
        trainer = TorchTrainer(
            _train,  # type: ignore[arg-type]  # what it returns comes back as `return_value`
            train_loop_config={
                "space": space, "data": ray.put(data), "config": config, "folder": folder.resolve(), "seed": seed,
                "flip": flip, "told": told,
            },
            scaling_config=ScalingConfig(
                num_workers=config.workers,
                use_gpu=bool(gpus),
                resources_per_worker={"CPU": ray_config.cpus_per_worker, **gpus},
            ),
            run_config=RunConfig(storage_path=str(storage)),
        )  # fmt: skip
        handler = signal.getsignal(signal.SIGINT)
        try:
            weights: bytes = cast(Any, trainer.fit()).return_value  # Any: Ray's types are those of its first version
        except SystemExit as ended:  # what Ray makes of Ctrl-C, with the exit status of success
            raise KeyboardInterrupt from ended
        finally:
            if handler is not None and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, handler)  # Ray's would stay and take Ctrl-C from all that comes after
            told.put(None)
            listener.join()
    except TrainingFailedError as error:
        cause = next(iter(error.worker_failures.values()), error) if hasattr(error, "worker_failures") else error
        raise RunError(f"training on {config.workers} workers failed: {str(cause).strip().splitlines()[-1]}") from error
    finally:
        disconnect()
        shutil.rmtree(storage, ignore_errors=True)
    if not (folder / SUPERNET_FILE).exists():  # the first process ran on another machine
        write_bytes(folder / SUPERNET_FILE, weights)


def _listen(told: Queue, progress: TrainingProgress) -> None:
    while (state := told.get()) is not None:
        progress(*state)


def _train(given: dict[str, Any]) -> bytes:
    """Trains in one process; returns the file of the supernet, of which Ray keeps the first process's."""
    config, folder = given["config"], given["folder"]
    torch.set_num_threads(config.threads)
    train_supernet(
        given["space"],
        ray.get(given["data"]),
        config,
        folder,
        seed=given["seed"],
        device=get_device(),
        flip=given["flip"],
        progress=lambda *state: given["told"].put_nowait(state),
    )
    path = folder / SUPERNET_FILE
    return path.read_bytes() if path.exists() else b""

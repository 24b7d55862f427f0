"""Training of a supernet by the sandwich rule with in-place distillation (BigNAS, arXiv:2003.11142, section 3.1).

Each step trains the largest subnet on the labels, and the smallest and some random ones on the answers of the largest.
"""

import shutil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nas.config import SupernetConfig
from nas.data import ImageData, Split
from nas.training import workers
from nas.training.attentive import AttentiveSampler
from nas.training.images import Batch, TrainingImages
from nas.training.loop import LoopSettings, TrainingProgress, no_progress, train
from nas.training.losses import soft_cross_entropy
from search_spaces.architecture import Architecture
from search_spaces.network import Network, calibrate
from search_spaces.space import SearchSpace
from search_spaces.supernet import Supernet, save_supernet

SUPERNET_FILE = "supernet.safetensors"


def train_supernet(
    space: SearchSpace,
    data: ImageData,
    config: SupernetConfig,
    folder: Path,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    flip: bool = False,
    progress: TrainingProgress = no_progress,
) -> Supernet:
    """Trains a supernet and writes it to ``folder/supernet.safetensors``; goes on where a killed training stopped.

    Args:
        space: its architectures get the channels and classes of the data.
        data: only the training split is read.
        config: of the training.
        folder: of the result and the checkpoints; one training's own.
        seed: of weights, order, augmentation and subnets.
        device: that trains.
        flip: whether images may be mirrored; where ``config.augment`` is on they are also shifted.
        progress: told where the training stands.

    Returns:
        The supernet on ``device``.

    Raises:
        RunError: the training diverges.
    """
    space = space.with_data(image_channels=data.image_channels, classes=data.classes)
    supernet = Supernet(space, seed=seed).to(device)
    images = TrainingImages.of(data, augment=config.augment, flip=flip, device=device, config=config)
    settings = LoopSettings.of(config, seed=seed, bf16=config.bf16, checkpoint_seconds=config.checkpoint_seconds)
    smallest, largest = space.smallest(), space.largest()
    attentive = None
    if config.attentive:
        pool = np.random.default_rng((seed, 2))
        attentive = AttentiveSampler(space, config.attentive, config.attentive_candidates, pool)

    def step(batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        def logits(architecture: Architecture) -> Tensor:
            supernet.activate(architecture)
            return settings.forward(supernet, batch.at(supernet.resolution))

        # One backward pass a subnet: no more than one graph is in memory.
        answers = logits(largest)
        loss = batch.cross_entropy(answers, config.label_smoothing)
        torch.autograd.backward(loss)

        @torch.no_grad()
        def loss_of(architecture: Architecture) -> float:
            return float(workers.mean(soft_cross_entropy(logits(architecture), answers)))

        drawn = (
            attentive.sample(rng, loss_of) if attentive else space.sample(rng) for _ in range(config.random_subnets)
        )
        for architecture in (smallest, *drawn):
            torch.autograd.backward(soft_cross_entropy(logits(architecture), answers))
        return {"loss": loss.detach(), "train_accuracy": (answers.argmax(1) == batch.labels).float().mean()}

    checkpoints = folder / "checkpoints"
    supernet.train()
    train(
        supernet,
        step,
        images,
        settings,
        checkpoints=checkpoints,
        depends_on={
            "space": space.table.model_dump(mode="json"),
            "label_smoothing": config.label_smoothing,
            "random_subnets": config.random_subnets,
            **({"attentive": [config.attentive, config.attentive_candidates]} if config.attentive else {}),
        },
        progress=progress,
    )
    if workers.is_first():
        save_supernet(supernet, folder / SUPERNET_FILE)
        shutil.rmtree(checkpoints)
    return supernet


def calibration_split(data: ImageData, count: int) -> Split:
    """Returns the first images of the training split, which hold the classes in proportion."""
    return Split(data.train.images[:count], data.train.labels[:count])


def calibrated_subnet(supernet: Supernet, architecture: Architecture, calibration: Tensor) -> Network:
    """Returns a subnet as a network of its own, its batch norm calibrated; in evaluation mode.

    Args:
        supernet: holds the weights.
        architecture: of the supernet's space.
        calibration: ``(n, c, s, s)`` float32 at the architecture's resolution, on the supernet's device.
    """
    supernet.activate(architecture)
    network = supernet.extract()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    calibrate(network, calibration)
    return network

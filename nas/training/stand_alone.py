"""Training of one architecture by itself, from fresh weights."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from nas.config import StandAloneConfig
from nas.data import ImageData
from nas.training.images import Batch, TrainingImages
from nas.training.loop import LoopSettings, TrainingProgress, no_progress, train_by_epoch
from search_spaces.architecture import Architecture
from search_spaces.network import Network, load_network, save_network
from search_spaces.space import SearchSpace

NETWORK_FILE = "network.safetensors"
_CHECKPOINTS = "checkpoints"
METHOD = "trained by itself from fresh weights"
"""How the weights were made, in words for reports."""


def train_stand_alone(
    architecture: Architecture,
    space: SearchSpace,
    data: ImageData,
    config: StandAloneConfig,
    folder: Path,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    flip: bool = False,
    progress: TrainingProgress = no_progress,
) -> Iterator[tuple[int, Network]]:
    """Trains a network, one epoch each time it is asked, and writes it to ``folder/KEY/network.safetensors``.

    A killed training goes on from its checkpoint; a network that is there is only loaded. The same seed, architecture
    and kind of device give the same weights, whatever was trained before and however often it was killed.

    Args:
        architecture: of the space.
        space: gets the channels and classes of the data.
        data: only the training split is read.
        config: of the training.
        folder: of all networks of a run.
        seed: of the run; each architecture has weights, order and augmentation of its own.
        device: that trains.
        flip: whether images may be mirrored; where ``config.augment`` is on they are also shifted.
        progress: told where the training stands.

    Yields:
        Epochs done, and the network on ``device`` in evaluation mode; the last one is the fully trained network.

    Raises:
        InputError: the network's file is damaged.
        RunError: the training diverges.
    """
    path, checkpoints = network_file(architecture, folder), folder / architecture.key / _CHECKPOINTS
    if path.exists():
        shutil.rmtree(checkpoints, ignore_errors=True)  # there where the process was killed before it removed them
        yield config.epochs, load_network(path).to(device)
        return
    own_seed = int.from_bytes(hashlib.sha256(f"{seed} {architecture.key}".encode()).digest()[:4])
    space = space.with_data(image_channels=data.image_channels, classes=data.classes)
    network = Network(space.layers(architecture), seed=own_seed).to(device)
    images = TrainingImages.of(data, augment=config.augment, flip=flip, device=device, config=config)
    settings = LoopSettings.of(config, seed=own_seed, bf16=config.bf16, checkpoint_seconds=config.checkpoint_seconds)
    trained: nn.Module = network
    if config.compile:
        torch.compiler.reset()  # else a process no longer compiles after eight networks, and does not say so
        trained = cast(nn.Module, torch.compile(network))  # the same parameters

    def step(batch: Batch, _: np.random.Generator) -> dict[str, Tensor]:
        logits = settings.forward(trained, batch.at(network.resolution))
        loss = batch.cross_entropy(logits, config.label_smoothing)
        torch.autograd.backward(loss)
        return {"loss": loss.detach(), "train_accuracy": (logits.argmax(1) == batch.labels).float().mean()}

    network.train()
    epochs = train_by_epoch(
        network,
        step,
        images,
        settings,
        checkpoints=checkpoints,
        depends_on={"label_smoothing": config.label_smoothing} | ({"compile": True} if config.compile else {}),
        progress=progress,
    )
    for done in epochs:
        if done < config.epochs:
            yield done, network.eval()
            network.train()
    # Here too where the last checkpoint is that of the end.
    save_network(network.eval(), path)
    shutil.rmtree(checkpoints)
    yield config.epochs, network


def network_file(architecture: Architecture, folder: Path) -> Path:
    """Returns where the trained network is; ``folder`` is that of all networks."""
    return folder / architecture.key / NETWORK_FILE


def discard_checkpoints(architecture: Architecture, folder: Path) -> None:
    """Removes the checkpoints of a training that does not go on; ``folder`` is that of all networks."""
    shutil.rmtree(folder / architecture.key / _CHECKPOINTS, ignore_errors=True)


def trained_alone(epochs: Iterator[tuple[int, Network]]) -> Network:
    """Returns the fully trained network of `train_stand_alone`."""
    for _, network in epochs:
        trained = network
    return trained

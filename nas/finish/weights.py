"""Where the weights of a finished network come from: inherited from the supernet and distilled, or trained alone."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import torch

from nas.config import FinishConfig, StandAloneConfig, SupernetConfig
from nas.data import ImageData, inputs
from nas.finish.bundle import stored
from nas.finish.report import Setting
from nas.training import distill, stand_alone
from nas.training.loop import TrainingProgress
from nas.training.supernet import calibrated_subnet, calibration_split
from search_spaces.architecture import Architecture
from search_spaces.network import Network
from search_spaces.space import SearchSpace
from search_spaces.supernet import Supernet, load_supernet

_SHARED = {"augment", "bf16"}
"""What distillation has from the supernet's training and its result depends on."""


class WeightSource(ABC):
    """Makes the weights of picked architectures."""

    @abstractmethod
    def identity(self) -> dict[str, object]:
        """Returns what the weights depend on besides architecture, data, seed and `FinishConfig`, as JSON values."""

    @abstractmethod
    def settings(self) -> dict[str, Setting]:
        """Returns how the weights are made, for the report: ``method`` and whatever belongs to it."""

    @property
    @abstractmethod
    def device(self) -> str:
        """The torch device that trains."""

    @abstractmethod
    def on(self, device: str) -> Self:
        """Returns the same source, training on another torch device."""

    def is_trained(self, architecture: Architecture) -> bool:
        """Returns whether nothing is left to train of an architecture."""
        return False

    @abstractmethod
    def network(self, architecture: Architecture, folder: Path, progress: TrainingProgress) -> Network:
        """Returns the finished network in evaluation mode.

        Args:
            architecture: of the space.
            folder: for checkpoints, removed once the bundle is whole.
            progress: told where training stands.

        Raises:
            InputError: a file of weights is missing or damaged, or the architecture is not of the space.
            RunError: training diverges.
        """


@dataclass(frozen=True)
class Distilled(WeightSource):
    """Subnets of a supernet, fine-tuned against its largest one.

    Attributes:
        supernet: file of the trained supernet.
        data: without its test split.
        training: of the supernet; what of it holds for finishing too.
        config: of distillation.
        seed: of distillation.
        flip: whether it may mirror images.
        device: torch device that trains.
    """

    supernet: Path
    data: ImageData
    training: SupernetConfig
    config: FinishConfig
    seed: int
    flip: bool = False
    device: str = "cpu"

    def identity(self) -> dict[str, object]:
        """Returns the hash of the supernet's file, and what is not as usual in its training."""
        return {"supernet": self._hash, **self.training.model_dump(include=_SHARED, exclude_defaults=True)}

    def settings(self) -> dict[str, Setting]:
        """Returns distillation's settings."""
        return {
            "method": distill.METHOD,
            **self.config.model_dump(mode="json", exclude={"models"}),
            **self.training.model_dump(include=_SHARED),
            "supernet_sha256": self._hash,
        }

    def on(self, device: str) -> Self:
        """Returns the same source, training on another torch device."""
        return replace(self, device=device)

    def network(self, architecture: Architecture, folder: Path, progress: TrainingProgress) -> Network:
        """Returns the distilled subnet; a killed distillation goes on from its checkpoint."""
        supernet, teacher = self._teaching
        network = self._subnet(supernet, architecture)
        distill.distill(
            network,
            teacher,
            self.data,
            self.config,
            seed=self.seed,
            checkpoints=folder,
            augment=self.training.augment,
            flip=self.flip,
            bf16=self.training.bf16,
            checkpoint_seconds=self.training.checkpoint_seconds,
            progress=progress,
        )
        return network

    @cached_property
    def _hash(self) -> str:
        return stored(self.supernet).sha256 if self.supernet.is_file() else ""

    @cached_property
    def _teaching(self) -> tuple[Supernet, Network]:
        supernet = load_supernet(self.supernet).to(self.device)
        return supernet, self._subnet(supernet, supernet.space.largest())

    def _subnet(self, supernet: Supernet, architecture: Architecture) -> Network:
        supernet.activate(architecture)
        images = calibration_split(self.data, self.config.calibration_images).images
        calibration = torch.from_numpy(inputs(images, supernet.resolution, self.data.mean, self.data.std))
        return calibrated_subnet(supernet, architecture, calibration.to(self.device))


@dataclass(frozen=True)
class TrainedAlone(WeightSource):
    """Networks that the search has trained to the end; one whose weights are not in the run is trained again.

    Attributes:
        networks: folder of the weights, one folder per architecture key.
        space: of the architectures.
        data: without its test split.
        training: the candidates' training.
        config: of the stage.
        seed: of the run.
        flip: whether training may mirror images.
        device: torch device that trains.
    """

    networks: Path
    space: SearchSpace
    data: ImageData
    training: StandAloneConfig
    config: FinishConfig
    seed: int
    flip: bool = False
    device: str = "cpu"

    def identity(self) -> dict[str, object]:
        """Returns space and training."""
        return {"space": self.space.table.model_dump(mode="json"), "training": self.training.model_dump(mode="json")}

    def settings(self) -> dict[str, Setting]:
        """Returns the training's settings."""
        return {
            **self.training.model_dump(mode="json", exclude={"method", "early_stopping"}),
            **self.config.model_dump(mode="json", include={"calibration_images", "max_int8_accuracy_drop"}),
            "method": stand_alone.METHOD,
        }

    def on(self, device: str) -> Self:
        """Returns the same source, training on another torch device."""
        return replace(self, device=device)

    def is_trained(self, architecture: Architecture) -> bool:
        """Returns whether the search has left the network's file."""
        return stand_alone.network_file(architecture, self.networks).exists()

    def network(self, architecture: Architecture, folder: Path, progress: TrainingProgress) -> Network:
        """Returns the network with the weights whose accuracy the search has seen."""
        return stand_alone.trained_alone(
            stand_alone.train_stand_alone(
                architecture,
                self.space,
                self.data,
                self.training,
                self.networks,
                seed=self.seed,
                device=self.device,
                flip=self.flip,
                progress=progress,
            )
        )

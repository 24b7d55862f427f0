"""Where the weights of a finished network come from: inherited from the supernet and distilled, or trained alone."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

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

Training = Callable[[ImageData, str, Path, TrainingProgress], Network]
"""Returns the finished network in evaluation mode, of images, on a torch device, with a folder for checkpoints.

A killed training goes on from its checkpoint. It can be pickled and needs no other file, so that it can be done on
another machine.
"""


class WeightSource(ABC):
    """Makes the weights of picked architectures.

    Attributes:
        data: without its test split.
        device: torch device of this process that trains.
    """

    data: ImageData
    device: str

    @abstractmethod
    def identity(self) -> dict[str, object]:
        """Returns what the weights depend on besides architecture, data, seed and `FinishConfig`, as JSON values."""

    @abstractmethod
    def settings(self) -> dict[str, Setting]:
        """Returns how the weights are made, for the report: ``method`` and whatever belongs to it."""

    def is_trained(self, architecture: Architecture) -> bool:
        """Returns whether nothing is left to train of an architecture."""
        return False

    @abstractmethod
    def training_of(self, architecture: Architecture) -> Training:
        """Returns what makes the weights of an architecture of the space.

        Raises:
            InputError: a file of weights is missing or damaged, or the architecture is not of the space.
        """

    def network(self, architecture: Architecture, folder: Path, progress: TrainingProgress) -> Network:
        """Returns the finished network in evaluation mode, trained here.

        Args:
            architecture: of the space.
            folder: for checkpoints, removed once the bundle is whole.
            progress: told where training stands.

        Raises:
            InputError: as `training_of`.
            RunError: training diverges.
        """
        return self.training_of(architecture)(self.data, self.device, folder, progress)


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

    def training_of(self, architecture: Architecture) -> Training:
        """Returns the distillation of a subnet."""
        supernet, teacher = self._teaching
        return partial(
            _distilled,
            student=self._subnet(supernet, architecture).cpu(),
            teacher=teacher,
            config=self.config,
            training=self.training,
            seed=self.seed,
            flip=self.flip,
        )

    @cached_property
    def _hash(self) -> str:
        return stored(self.supernet).sha256 if self.supernet.is_file() else ""

    @cached_property
    def _teaching(self) -> tuple[Supernet, Network]:
        supernet = load_supernet(self.supernet).to(self.device)
        return supernet, self._subnet(supernet, supernet.space.largest()).cpu()

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

    def is_trained(self, architecture: Architecture) -> bool:
        """Returns whether the search has left the network's file."""
        return stand_alone.network_file(architecture, self.networks).exists()

    def training_of(self, architecture: Architecture) -> Training:
        """Returns the training whose accuracy the search has seen."""
        return partial(
            _alone,
            architecture=architecture,
            space=self.space,
            config=self.training,
            networks=self.networks,
            seed=self.seed,
            flip=self.flip,
        )


def _distilled(
    data: ImageData,
    device: str,
    folder: Path,
    progress: TrainingProgress,
    *,
    student: Network,
    teacher: Network,
    config: FinishConfig,
    training: SupernetConfig,
    seed: int,
    flip: bool,
) -> Network:
    student = student.to(device)
    distill.distill(
        student,
        teacher.to(device),
        data,
        config,
        seed=seed,
        checkpoints=folder,
        augment=training.augment,
        flip=flip,
        bf16=training.bf16,
        checkpoint_seconds=training.checkpoint_seconds,
        progress=progress,
    )
    return student


def _alone(
    data: ImageData,
    device: str,
    folder: Path,
    progress: TrainingProgress,
    *,
    architecture: Architecture,
    space: SearchSpace,
    config: StandAloneConfig,
    networks: Path,
    seed: int,
    flip: bool,
) -> Network:
    epochs = stand_alone.train_stand_alone(
        architecture,
        space,
        data,
        config,
        networks if networks.parent.is_dir() else folder,  # another machine may not see the run's disk
        seed=seed,
        device=device,
        flip=flip,
        progress=progress,
    )
    return stand_alone.trained_alone(epochs)

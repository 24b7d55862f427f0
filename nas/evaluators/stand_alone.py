"""Accuracy of an architecture that is trained by itself."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from nas.config import StandAloneConfig
from nas.evaluators.base import EPOCHS, FULL_EPOCHS, Evaluator
from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from nas.data import ImageData
    from nas.training.judged_images import JudgedImages


@dataclass
class StandAloneEvaluator(Evaluator):
    """Trains a network from fresh weights and runs it on the validation split, after every epoch.

    Attributes:
        space: of the architectures.
        data: training and validation split; the test split is not looked at.
        config: of the training.
        networks: folder of weights and checkpoints. Where its parent is not there, on a machine that does not share
            the run's disk, a folder for temporary files is used, another one for every run and way of training: a
            training goes on there after its process was killed, not after the machine was lost.
        seed: of the run.
        flip: whether training may mirror images.
        threads: of torch, in the process that evaluates.
    """

    space: SearchSpace
    data: "ImageData"
    config: StandAloneConfig
    networks: Path
    seed: int
    flip: bool = False
    threads: int = 1

    def setup(self) -> None:
        """Takes a GPU where this process sees one, and pins torch's threads.

        Raises:
            InputError: the images are in a file that is not on this machine.
        """
        import torch

        from nas.training.device import training_device

        self._device = torch.device(training_device(self.threads))
        self._validation()
        self._folder = self.networks
        if not self.networks.parent.is_dir():
            # Nobody removes it with the run, and a new run may have the same place.
            made_of = (str(self.networks), self.seed, self.flip, self.data.hashes["train"])
            texts = repr((*made_of, self.config.model_dump_json(), self.space.table.model_dump_json()))
            name = sha256(texts.encode()).hexdigest()[:12]
            self._folder = Path(tempfile.gettempdir()) / f"hwnas-networks-{name}"

    def _validation(self) -> "JudgedImages":
        from nas.training.judged_images import JudgedImages

        return JudgedImages(self.data.validation, self.data.mean, self.data.std, self._device)

    def evaluate(self, architecture: Architecture) -> dict[str, float]:
        """Returns the metrics of the fully trained network."""
        *_, last = self.by_epoch(architecture)
        return last

    def by_epoch(self, architecture: Architecture) -> Iterator[dict[str, float]]:
        """Yields the share of validation images classified correctly as ``accuracy``, and the epochs behind it."""
        from nas.training.stand_alone import train_stand_alone

        validation = self._validation()
        trained = train_stand_alone(
            architecture,
            self.space,
            self.data,
            self.config,
            self._folder,
            seed=self.seed,
            device=self._device,
            flip=self.flip,
        )
        for epochs, network in trained:
            found = validation.accuracy(network)
            yield {"accuracy": found, EPOCHS: float(epochs), FULL_EPOCHS: float(self.config.epochs)}

    def discard(self, architecture: Architecture) -> None:
        """Removes the checkpoints."""
        from nas.training.stand_alone import discard_checkpoints

        discard_checkpoints(architecture, self._folder)

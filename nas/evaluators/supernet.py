"""Accuracy of a subnet with the weights of a trained supernet."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from nas.errors import InputError
from nas.evaluators.base import Evaluator
from search_spaces.architecture import Architecture

if TYPE_CHECKING:
    import torch

    from nas.data import ImageData


@dataclass
class SupernetEvaluator(Evaluator):
    """Takes a subnet out of the supernet, calibrates its batch norm, and runs it on the validation split.

    Attributes:
        supernet: the bytes of the supernet's file, uint8.
        data: its training split holds only the images for batch norm, and there is no test split.
        threads: of torch, in the process that evaluates.
    """

    supernet: NDArray[np.uint8]
    data: "ImageData"
    threads: int = 1

    @classmethod
    def of(cls, supernet: Path, data: "ImageData", calibration_images: int, *, threads: int = 1) -> Self:
        """Returns the evaluator of a trained supernet.

        Args:
            supernet: its file.
            data: as the supernet was trained on.
            calibration_images: of the training split, for batch norm.
            threads: of torch, in the process that evaluates.

        Raises:
            InputError: the file is missing.
        """
        from nas.training.supernet import calibration_split

        try:
            weights = np.fromfile(supernet, np.uint8)
        except FileNotFoundError:
            raise InputError(f"{supernet} does not exist; run the stage that writes it first") from None
        return cls(weights, replace(data.without_test(), train=calibration_split(data, calibration_images)), threads)

    def setup(self) -> None:
        """Loads the supernet and the images, onto a GPU where this process sees one, and pins torch's threads.

        Raises:
            InputError: the supernet's file is damaged, or the images are in a file that is not on this machine.
        """
        import torch

        from nas.training.device import training_device
        from nas.training.judged_images import JudgedImages
        from search_spaces.supernet import load_supernet

        device = torch.device(training_device(self.threads))
        with tempfile.NamedTemporaryFile(prefix="hwnas-supernet-") as file:
            self.supernet.tofile(file)
            file.flush()
            supernet = load_supernet(Path(file.name))
        self._supernet, self._device = supernet.to(device), device
        self._validation = JudgedImages(self.data.validation, self.data.mean, self.data.std, device)
        self._calibration: dict[int, torch.Tensor] = {}

    def evaluate(self, architecture: Architecture) -> dict[str, float]:
        """Returns the share of validation images that the subnet classifies correctly, as ``accuracy``."""
        from nas.training.supernet import calibrated_subnet

        self._supernet.activate(architecture)
        calibration = self._calibration_inputs(self._supernet.resolution)
        network = calibrated_subnet(self._supernet, architecture, calibration)
        return {"accuracy": self._validation.accuracy(network)}

    def _calibration_inputs(self, resolution: int) -> "torch.Tensor":
        """Returns the calibration images ``(n, c, resolution, resolution)``, on the device; prepared once."""
        from nas.data import inputs
        from nas.training.pixels import read_only_tensor

        if resolution not in self._calibration:
            prepared = inputs(self.data.train.images, resolution, self.data.mean, self.data.std)
            self._calibration[resolution] = read_only_tensor(prepared).to(self._device)
        return self._calibration[resolution]

"""Accuracy of a subnet with the weights of a trained supernet."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nas.config import DataConfig
from nas.evaluators.base import Evaluator
from search_spaces.architecture import Architecture

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from nas.data import ImageData
    from search_spaces.supernet import Supernet


@dataclass
class SupernetEvaluator(Evaluator):
    """Takes a subnet out of the supernet, calibrates its batch norm, and runs it on the validation split.

    Attributes:
        supernet: file of the trained supernet.
        data: as the supernet was trained on; the test split is not looked at.
        calibration_images: of the training split, for batch norm.
        threads: of torch, in the process that evaluates.
    """

    supernet: Path
    data: DataConfig
    calibration_images: int
    threads: int = 1

    def setup(self) -> None:
        """Loads the supernet and the images, onto a GPU where this process sees one, and pins torch's threads.

        Raises:
            InputError: the supernet's file or the data is missing or damaged.
        """
        import torch

        from nas.data import load_data
        from search_spaces.supernet import load_supernet

        torch.set_num_threads(self.threads)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._loaded = _Loaded(load_supernet(self.supernet).to(device), load_data(self.data).without_test(), device, {})

    def evaluate(self, architecture: Architecture) -> dict[str, float]:
        """Returns the share of validation images that the subnet classifies correctly, as ``accuracy``."""
        from nas.training.accuracy import accuracy
        from nas.training.supernet import calibrated_subnet

        loaded = self._loaded
        loaded.supernet.activate(architecture)
        calibration, validation = loaded.inputs(loaded.supernet.resolution, self.calibration_images)
        network = calibrated_subnet(loaded.supernet, architecture, calibration)
        return {"accuracy": accuracy(network, validation, loaded.labels)}


@dataclass
class _Loaded:
    """What a worker holds; images are prepared once for each resolution."""

    supernet: "Supernet"
    images: "ImageData"
    device: "torch.device"
    prepared: "dict[int, tuple[torch.Tensor, torch.Tensor]]"

    def inputs(self, resolution: int, calibration_images: int) -> "tuple[torch.Tensor, torch.Tensor]":
        """Returns calibration and validation images ``(n, c, resolution, resolution)``, on the device."""
        from nas.data import inputs
        from nas.training.supernet import calibration_split

        if resolution not in self.prepared:
            splits = calibration_split(self.images, calibration_images), self.images.validation
            calibration, validation = (
                self._tensor(inputs(split.images, resolution, self.images.mean, self.images.std)) for split in splits
            )
            self.prepared[resolution] = calibration, validation
        return self.prepared[resolution]

    @property
    def labels(self) -> "torch.Tensor":
        return self._tensor(self.images.validation.labels)

    def _tensor(self, array: "NDArray[np.float32] | NDArray[np.int64]") -> "torch.Tensor":
        import torch

        return torch.from_numpy(array).to(self.device)

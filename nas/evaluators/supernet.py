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
    from search_spaces.supernet import Supernet


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
            InputError: the supernet's file is damaged.
        """
        import torch

        from search_spaces.supernet import load_supernet

        torch.set_num_threads(self.threads)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with tempfile.NamedTemporaryFile(prefix="hwnas-supernet-") as file:
            self.supernet.tofile(file)
            file.flush()
            supernet = load_supernet(Path(file.name))
        self._loaded = _Loaded(supernet.to(device), self.data, device, {})

    def evaluate(self, architecture: Architecture) -> dict[str, float]:
        """Returns the share of validation images that the subnet classifies correctly, as ``accuracy``."""
        from nas.training.accuracy import accuracy
        from nas.training.supernet import calibrated_subnet

        loaded = self._loaded
        loaded.supernet.activate(architecture)
        calibration, validation = loaded.inputs(loaded.supernet.resolution)
        network = calibrated_subnet(loaded.supernet, architecture, calibration)
        return {"accuracy": accuracy(network, validation, loaded.labels)}


@dataclass
class _Loaded:
    """What a worker holds; images are prepared once for each resolution."""

    supernet: "Supernet"
    images: "ImageData"
    device: "torch.device"
    prepared: "dict[int, tuple[torch.Tensor, torch.Tensor]]"

    def inputs(self, resolution: int) -> "tuple[torch.Tensor, torch.Tensor]":
        """Returns calibration and validation images ``(n, c, resolution, resolution)``, on the device."""
        from nas.data import inputs

        if resolution not in self.prepared:
            splits = self.images.train, self.images.validation
            calibration, validation = (
                self._tensor(inputs(split.images, resolution, self.images.mean, self.images.std)) for split in splits
            )
            self.prepared[resolution] = calibration, validation
        return self.prepared[resolution]

    @property
    def labels(self) -> "torch.Tensor":
        return self._tensor(self.images.validation.labels)

    def _tensor(self, array: NDArray[np.float32] | NDArray[np.int64]) -> "torch.Tensor":
        from nas.training.images import read_only_tensor

        return read_only_tensor(array).to(self.device)

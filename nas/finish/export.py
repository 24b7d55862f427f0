"""The four files of a network."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latency_predictors.graphs.model_file import ModelJob, Runtime
from search_spaces.cost import Precision
from search_spaces.network import Network, folded_weights


@dataclass(frozen=True)
class FileKind:
    """One of the files that finishing makes of a network.

    Attributes:
        name: of the file.
        runtime: that runs it.
        precision: of weights and feature maps.
    """

    name: str
    runtime: Runtime
    precision: Precision

    @property
    def device(self) -> str:
        """The device of this machine that runs it."""
        return f"local/{self.runtime}"


FILE_KINDS = (
    FileKind("model.onnx", "onnxruntime", "fp32"),
    FileKind("model_int8.onnx", "onnxruntime", "int8"),
    FileKind("model.tflite", "litert", "fp32"),
    FileKind("model_int8.tflite", "litert", "int8"),
)


def export_jobs(
    network: Network, folder: Path, calibration: NDArray[np.float32], metadata: Mapping[str, str]
) -> list[ModelJob]:
    """Returns what `build_models` needs to make the four files of a network.

    Args:
        network: in evaluation mode.
        folder: of the files.
        calibration: ``(n, c, s, s)``, preprocessed training images that set INT8 ranges.
        metadata: text properties of the ONNX files.
    """
    weights = folded_weights(network)
    return [
        ModelJob(
            network.layers, weights, kind.runtime, kind.precision,
            calibration if kind.precision == "int8" else None, folder / kind.name, metadata,
        )
        for kind in FILE_KINDS
    ]  # fmt: skip

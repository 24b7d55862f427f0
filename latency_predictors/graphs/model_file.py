"""Model files for a runtime and a precision: made from layers and weights, and run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from latency_predictors.graphs.tflite_graph import TfliteJob, convert_tflite
from search_spaces.atomic import write_bytes
from search_spaces.cost import Precision
from search_spaces.errors import HwnasError
from search_spaces.layer import IMAGE, LayerSpec
from search_spaces.weights import Weights

Runtime = Literal["onnxruntime", "litert", "openvino", "torch_eager", "torch_graph"]
SUFFIXES: dict[Runtime, str] = {
    "onnxruntime": ".onnx",
    "litert": ".tflite",
    "openvino": ".onnx",
    "torch_eager": ".safetensors",
    "torch_graph": ".safetensors",
}
Layout = Literal["NCHW", "NHWC", "NC"]
RUN_BATCH = 64
"""Images at a time in `run_file`."""


class UnrunnableFileError(HwnasError, RuntimeError):
    """A file's own runtime cannot load or run it; the text is the runtime's reason, in one line."""


@dataclass(frozen=True)
class ModelJob:
    """A model file to make.

    Attributes:
        layers: in execution order; the last one makes the logits.
        weights: of those layers, batch norm folded.
        runtime: which the file is for; decides the format.
        precision: of weights and feature maps.
        calibration: (n, channels, size, size), preprocessed images that set the INT8 ranges; None for FP32 and FP16.
        path: of the file; ends with the runtime's suffix.
        metadata: text properties, written into ONNX files.
    """

    layers: Sequence[LayerSpec]
    weights: Weights
    runtime: Runtime
    precision: Precision
    calibration: NDArray[np.float32] | None
    path: Path
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path.suffix != SUFFIXES[self.runtime]:
            raise ValueError(f"a file for {self.runtime} ends with {SUFFIXES[self.runtime]}, got {self.path}")
        if (self.precision == "int8") != (self.calibration is not None):
            raise ValueError(f"calibration images belong to int8 and only to it, got {self.precision} for {self.path}")
        first = self.layers[0]
        shape = (first.in_channels, first.in_size, first.in_size)
        if self.calibration is not None and (self.calibration.shape[1:] != shape or not len(self.calibration)):
            raise ValueError(f"calibration images must be (n, {shape}), got {self.calibration.shape} for {self.path}")


def build_models(jobs: Sequence[ModelJob], progress: Callable[[int, int], None] | None = None) -> None:
    """Makes the files of all jobs; those for LiteRT share one TensorFlow process.

    Args:
        jobs: in any order.
        progress: called with (files made, files in all) after each.

    Raises:
        ConversionError: TFLite files could not be made; all others were.
        HwnasError: the TensorFlow process died; the text names the file it was at.
    """
    made = 0

    def done() -> None:
        nonlocal made
        made += 1
        if progress:
            progress(made, len(jobs))

    for job in jobs:
        if job.path.suffix == ".onnx":
            write_bytes(job.path, _onnx_bytes(job))
            done()
        elif job.path.suffix == ".safetensors":
            from latency_predictors.graphs.torch_file import write_torch_file  # torch is not needed for the others

            write_torch_file(job.layers, job.weights, job.precision, job.path)
            done()
    tflite = [
        TfliteJob(job.layers, job.weights, job.precision, job.calibration, job.path)
        for job in jobs
        if job.path.suffix == ".tflite"
    ]
    convert_tflite(tflite, done)


def _onnx_bytes(job: ModelJob) -> bytes:
    # Both take a while to import and are not needed to run a .tflite file.
    from latency_predictors.graphs.onnx_graph import build_onnx
    from latency_predictors.graphs.onnx_quantization import quantize_onnx

    model = build_onnx(job.layers, job.weights, integer=job.precision == "int8", metadata=job.metadata)
    if job.calibration is not None:
        model = quantize_onnx(model, job.calibration)
    return bytes(model.SerializeToString())


@dataclass(frozen=True)
class TensorFormat:
    """What a file expects or gives, for one image.

    Attributes:
        name: of the tensor.
        layout: order of the axes: batch, channels (or classes), height, width.
        shape: sides of the axes.
        dtype: numpy name of the values' type.
        scale: real value of one integer step; None in floating point.
        zero_point: integer that stands for 0; None in floating point.
    """

    name: str
    layout: Layout
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


def tensor_formats(path: Path) -> tuple[TensorFormat, TensorFormat]:
    """Returns what an .onnx or .tflite file made by `build_models` takes and gives."""
    if path.suffix == ".onnx":
        session = _session(path, 1)
        (image,), (logits,) = session.get_inputs(), session.get_outputs()
        return (
            TensorFormat(image.name, "NCHW", (1, *image.shape[1:]), "float32"),
            TensorFormat(logits.name, "NC", (1, *logits.shape[1:]), "float32"),
        )
    interpreter = _interpreter(path, 1)
    (image,), (logits,) = interpreter.get_input_details(), interpreter.get_output_details()
    return _tflite_format(image, "NHWC"), _tflite_format(logits, "NC")


def _tflite_format(tensor: Mapping[str, Any], layout: Layout) -> TensorFormat:  # Any: LiteRT has no types
    scale, zero_point = tensor["quantization"]
    quantization = (float(scale), int(zero_point)) if tensor["dtype"] == np.int8 else (None, None)
    shape = tuple(map(int, tensor["shape"]))
    return TensorFormat(tensor["name"], layout, shape, np.dtype(tensor["dtype"]).name, *quantization)


def run_file(path: Path, images: NDArray[np.float32], *, threads: int = 1) -> NDArray[np.float32]:
    """Returns the logits (n, classes) that a file's own runtime computes.

    Args:
        path: an .onnx or .tflite file made by `build_models`.
        images: (n, channels, size, size), preprocessed; quantized here where the file has an INT8 input.
        threads: of the runtime.

    Raises:
        UnrunnableFileError: the runtime refuses the file. XNNPACK does so with an INT8 file whose scales are too far
            apart, as those of a squeeze-and-excite that is 0 on all calibration images.
    """
    run = {".onnx": _run_onnx, ".tflite": _run_tflite}[path.suffix]
    batches = [images[start : start + RUN_BATCH] for start in range(0, len(images), RUN_BATCH)]
    try:
        return np.concatenate(run(path, batches, threads))
    except Exception as error:  # runtimes have no common type of error, and each concerns this file alone
        raise UnrunnableFileError(" ".join(f"{type(error).__name__}: {error}".split())) from error


def _session(path: Path, threads: int) -> Any:  # Any: onnxruntime has no types
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _interpreter(path: Path, threads: int) -> Any:  # Any: LiteRT has no types
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(str(path), num_threads=threads)


def _run_onnx(path: Path, batches: list[NDArray[np.float32]], threads: int) -> list[NDArray[np.float32]]:
    session = _session(path, threads)
    return [session.run(None, {IMAGE: batch})[0] for batch in batches]


def _run_tflite(path: Path, batches: list[NDArray[np.float32]], threads: int) -> list[NDArray[np.float32]]:
    interpreter = _interpreter(path, threads)
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    logits = []
    size = 0
    for batch in batches:
        if len(batch) != size:
            size = len(batch)
            interpreter.resize_tensor_input(source["index"], (size, *source["shape"][1:]))
            interpreter.allocate_tensors()
        interpreter.set_tensor(source["index"], _quantized(batch.transpose(0, 2, 3, 1), source))
        interpreter.invoke()
        logits.append(_dequantized(interpreter.get_tensor(target["index"]), target))
    return logits


def _quantized(values: NDArray[np.float32], tensor: Mapping[str, Any]) -> NDArray[np.generic]:  # Any: as above
    if tensor["dtype"] == np.float32:
        return values
    scale, zero_point = tensor["quantization"]
    integers: NDArray[np.int8] = np.clip(np.round(values / scale) + zero_point, -128, 127).astype(np.int8)
    return integers


def _dequantized(values: NDArray[np.generic], tensor: Mapping[str, Any]) -> NDArray[np.float32]:  # Any: as above
    if tensor["dtype"] == np.float32:
        return values.astype(np.float32)
    scale, zero_point = tensor["quantization"]
    logits: NDArray[np.float32] = (values.astype(np.float32) - zero_point) * np.float32(scale)
    return logits

"""Converts networks to TFLite files; the only module that imports TensorFlow, and only in a process of its own.

Run by `tflite_graph.convert_tflite` as ``python -m latency_predictors.graphs.tflite_child JOBS.json``. The file holds a
list of jobs: ``layers`` (as dicts), ``weights`` (safetensors file), ``precision``, ``calibration`` (.npy file of
preprocessed images, channels last; INT8 only), ``path`` of the result. For each finished job one JSON line goes to the
standard output, in order: ``{"job": 0, "error": null}``; everything that TensorFlow prints goes to standard error. The
process ends when its standard input is closed.

Image input: (1, size, size, channels), channels last. Output: (1, classes).
"""

import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from search_spaces.atomic import write_bytes
from search_spaces.layer import IMAGE, Activation, LayerSpec
from search_spaces.weights import Weights

Floats = NDArray[np.float32]
Tensor = Any  # TensorFlow is published without type information

_SILENT = 1e-3
_BATCH = 8  # calibration images at a time


def _activation(tf: Any, activation: Activation, x: Tensor, *, integer: bool) -> Tensor:  # Any: TensorFlow has no types
    if activation == "relu":
        return tf.nn.relu(x)
    if activation == "relu6":
        return tf.nn.relu6(x)
    if activation == "sigmoid":
        return tf.nn.sigmoid(x)
    if activation == "silu":
        return x * tf.nn.sigmoid(x)
    if activation == "hard_sigmoid":
        return tf.nn.relu6(x + 3.0) * (1 / 6)
    if activation == "hard_swish":
        # The converter turns x * (relu6(x + 3) / 6) into HARD_SWISH, which XNNPACK has in float but not in INT8, where
        # it splits the graph; another order of the same products stays add, relu6 and mul.
        return (x * (1 / 6)) * tf.nn.relu6(x + 3.0) if integer else x * (tf.nn.relu6(x + 3.0) * (1 / 6))
    return x


def _conv(tf: Any, layer: LayerSpec, x: Tensor, weights: Weights) -> Tensor:  # Any: TensorFlow has no types
    kernel, stride, padding = layer.kernel, layer.stride, layer.kernel // 2
    # "SAME" puts the odd pixel at the end; ours is symmetric. Where both mean the same pixels no pad is needed.
    same_padding = max((layer.out_size - 1) * stride + kernel - layer.in_size, 0) // 2
    if padding != same_padding:
        x = tf.pad(x, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
    mode = "SAME" if padding == same_padding else "VALID"
    weight = weights[f"{layer.name}.weight"]
    if layer.depthwise and layer.out_channels == layer.in_channels:
        x = tf.nn.depthwise_conv2d(x, weight.transpose(2, 3, 0, 1), [1, stride, stride, 1], mode)
    else:
        x = tf.nn.conv2d(x, weight.transpose(2, 3, 1, 0), stride, mode)
    return tf.nn.bias_add(x, weights[f"{layer.name}.bias"])


def _dense(tf: Any, x: Tensor, weights: Weights, name: str) -> Tensor:  # Any: as above
    x = tf.nn.conv2d(x, weights[f"{name}.weight"].T[None, None], 1, "VALID")
    return tf.nn.bias_add(x, weights[f"{name}.bias"])


def _reduced(tf: Any, layer: LayerSpec, x: Tensor, weights: Weights) -> Tensor:  # Any: as above
    return tf.nn.relu(_dense(tf, tf.reduce_mean(x, [1, 2], keepdims=True), weights, f"{layer.name}.reduce"))


def _gate(tf: Any, layer: LayerSpec, x: Tensor, weights: Weights, *, integer: bool) -> Tensor:  # Any: as above
    gate = _dense(tf, _reduced(tf, layer, x, weights), weights, f"{layer.name}.expand")
    return _activation(tf, layer.activation, gate, integer=integer)


def _outputs(
    tf: Any,
    layers: Sequence[LayerSpec],
    weights: Weights,
    image: Tensor,
    constant: Mapping[str, Floats],
    *,
    integer: bool,
) -> dict[str, Tensor]:  # Any: as above
    """Returns what each layer computes, with some gates of squeeze-and-excites constant."""
    values = {IMAGE: image}
    for layer in layers:
        x = values[layer.inputs[0]]
        if layer.op == "squeeze_excite":
            gate = constant.get(layer.name)
            values[layer.name] = x * (_gate(tf, layer, x, weights, integer=integer) if gate is None else gate)
            continue
        if layer.op == "conv":
            x = _conv(tf, layer, x, weights)
        elif layer.op == "linear":
            x = tf.nn.bias_add(tf.matmul(x, weights[f"{layer.name}.weight"].T), weights[f"{layer.name}.bias"])
        elif layer.op == "add":
            x = x + values[layer.inputs[1]]
        else:
            x = tf.reduce_mean(x, [1, 2])
        values[layer.name] = _activation(tf, layer.activation, x, integer=integer)
    return values


def _constant_gates(
    tf: Any, layers: Sequence[LayerSpec], weights: Weights, images: Floats
) -> dict[str, Floats]:  # Any: as above
    """Returns the gates of squeeze-and-excites whose reduction is 0 for all images, to `_SILENT` of what is reduced.

    Such a range would be a scale of 1e-8 beside those of 1e-2 around it: XNNPACK refuses the file, or ends the process
    that loads it.
    """
    squeezes = [layer for layer in layers if layer.op == "squeeze_excite"]
    if not squeezes:
        return {}

    def ranges(batch: Tensor) -> list[list[Tensor]]:
        values = _outputs(tf, layers, weights, batch, {}, integer=True)
        inputs = [values[layer.inputs[0]] for layer in squeezes]
        return [
            [tf.reduce_max(_reduced(tf, layer, x, weights)), tf.reduce_max(tf.abs(tf.reduce_mean(x, [1, 2])))]
            for layer, x in zip(squeezes, inputs, strict=True)
        ]

    traced = tf.function(ranges)
    found = np.max([traced(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)], axis=0)
    silent = [layer for layer, (left, pooled) in zip(squeezes, found, strict=True) if left <= _SILENT * pooled]
    biases = {layer: weights[f"{layer.name}.expand.bias"][None, None, None] for layer in silent}
    return {
        layer.name: _activation(tf, layer.activation, tf.constant(bias), integer=True).numpy()
        for layer, bias in biases.items()
    }


def _convert(tf: Any, job: dict[str, Any]) -> bytes:  # Any: TensorFlow has no types; a job is JSON
    layers = [LayerSpec(**{**layer, "inputs": tuple(layer["inputs"])}) for layer in job["layers"]]
    integer = job["precision"] == "int8"
    shape = [1, layers[0].in_size, layers[0].in_size, layers[0].in_channels]
    weights = load_file(job["weights"])
    calibration: Floats = np.load(job["calibration"], allow_pickle=False) if integer else np.empty(0, np.float32)
    constant = _constant_gates(tf, layers, weights, calibration) if integer else {}

    def network(image: Tensor) -> Tensor:
        return _outputs(tf, layers, weights, image, constant, integer=integer)[layers[-1].name]

    # Weights are constants of the function, so that nothing has to be frozen.
    concrete = tf.function(network).get_concrete_function(tf.TensorSpec(shape, tf.float32, name=IMAGE))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    if integer:

        def images() -> Iterator[list[Tensor]]:
            for image in calibration:
                yield [image[None]]

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = images
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def _end_with_parent() -> None:
    # The parent holds the other end of the standard input; the system closes it however the parent ends. An orphan
    # would write its files over those of the parent's next start.
    os.read(0, 1)
    os._exit(1)


def main(jobs_file: str) -> None:
    """Converts the jobs of a file; a job that fails is reported and the next one goes on."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # TensorFlow writes to the standard output too: keep a private copy of it and point the original at standard error.
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for index, job in enumerate(json.loads(Path(jobs_file).read_text())):
        error = None
        try:
            write_bytes(Path(job["path"]), _convert(tf, job))
        except Exception as problem:  # whatever the converter raises concerns this job alone
            error = f"{type(problem).__name__}: {str(problem).strip()}".splitlines()[0]
        print(json.dumps({"job": index, "error": error}), file=report, flush=True)  # the protocol


if __name__ == "__main__":
    main(sys.argv[1])

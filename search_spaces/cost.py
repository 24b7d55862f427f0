"""Exact analytic costs of a network, from its layers.

Conventions, those of fvcore and of the MobileNet papers: one multiply-accumulate is one MAC; convolutions, matrix
products and the two products inside squeeze-excite count, batch normalisation (folded at inference), activations,
pools and sums do not. Batch-norm running statistics are not parameters.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from search_spaces.layer import IMAGE, LayerSpec

Precision = Literal["fp32", "fp16", "int8"]
BYTES_PER_VALUE: dict[Precision, int] = {"fp32": 4, "fp16": 2, "int8": 1}


@dataclass(frozen=True)
class Cost:
    """Analytic costs of one network for one image.

    Attributes:
        macs: multiply-accumulates.
        parameters: trainable values.
        weight_bytes: weights as deployed: batch norm folded into the convolution, one bias per output channel;
            INT8 stores weights in one byte and biases in four.
        peak_activation_bytes: the most bytes of feature maps alive at once when layers run in the given order,
            the input and output of the running layer and every map that a later layer still reads included.
    """

    macs: int
    parameters: int
    weight_bytes: int
    peak_activation_bytes: int


def layer_macs(layer: LayerSpec) -> int:
    """Returns the multiply-accumulates of one layer for one image."""
    if layer.op == "conv":
        return layer.kernel**2 * layer.in_channels // layer.groups * layer.out_channels * layer.out_size**2
    if layer.op == "squeeze_excite":
        return 2 * layer.in_channels * layer.squeeze_channels
    return layer.in_channels * layer.out_channels if layer.op == "linear" else 0


def _weights_and_biases(layer: LayerSpec) -> tuple[int, int]:
    if layer.op == "conv":
        return layer.kernel**2 * layer.in_channels // layer.groups * layer.out_channels, layer.out_channels
    if layer.op == "squeeze_excite":
        return 2 * layer.in_channels * layer.squeeze_channels, layer.in_channels + layer.squeeze_channels
    return (layer.in_channels * layer.out_channels, layer.out_channels) if layer.op == "linear" else (0, 0)


def layer_parameters(layer: LayerSpec) -> int:
    """Returns the trainable values of one layer; batch norm has a scale and a shift per channel."""
    weights, biases = _weights_and_biases(layer)
    return weights + biases * (2 if layer.batch_norm else 1)


def peak_activation_bytes(layers: Sequence[LayerSpec], precision: Precision = "fp32") -> int:
    """Returns the most bytes of feature maps alive at once, for one image."""
    last_use = {source: index for index, layer in enumerate(layers) for source in layer.inputs}
    alive = {IMAGE: layers[0].in_channels * layers[0].in_size ** 2}
    peak = 0
    for index, layer in enumerate(layers):
        alive[layer.name] = layer.out_channels * layer.out_size**2
        peak = max(peak, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last_use.get(name, len(layers)) > index}
    return peak * BYTES_PER_VALUE[precision]


def weight_bytes(layers: Sequence[LayerSpec], precision: Precision = "fp32") -> int:
    """Returns the bytes of the weights as deployed (see `Cost`)."""
    per_value = BYTES_PER_VALUE[precision]
    return sum(weights * per_value + biases * 4 for weights, biases in map(_weights_and_biases, layers))


METRICS: Mapping[str, Callable[[Sequence[LayerSpec], Precision], int]] = {
    "macs": lambda layers, _: sum(map(layer_macs, layers)),
    "parameters": lambda layers, _: sum(map(layer_parameters, layers)),
    "weight_bytes": weight_bytes,
    "peak_activation_bytes": peak_activation_bytes,
}
"""The costs by the names of `Cost`, for who needs only one of them."""
ADDITIVE = ("macs", "parameters", "weight_bytes")
"""Those that are sums over layers."""


def network_cost(layers: Sequence[LayerSpec], precision: Precision = "fp32") -> Cost:
    """Returns the costs of a network.

    Args:
        layers: in execution order.
        precision: of weights and feature maps; decides the bytes.
    """
    return Cost(**{name: metric(layers, precision) for name, metric in METRICS.items()})

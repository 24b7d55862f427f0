"""ONNX models built straight from layers and folded weights: no tracing, so a network takes milliseconds.

Input ``image``: float32 (batch, channels, size, size), the batch free. Output ``logits``: float32 (batch, classes).
The node that ends a layer, and its output, carry the layer's name; nodes before it are named ``layer/part``.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from search_spaces.layer import IMAGE, Activation, LayerSpec
from search_spaces.weights import Weights

LOGITS = "logits"
OPSET = 17
"""The oldest operator set that has every operator used here, so that older runtimes on devices load the file."""
IR_VERSION = 8
"""The file format of that operator set's time."""


class _Builder:
    """Collects nodes and constants."""

    def __init__(self, *, integer: bool) -> None:
        self.integer = integer
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: float | int | list[int]) -> str:
        node = helper.make_node(op, list(inputs), [output], name=output)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.nodes.append(node)
        return output

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.constants[name] = numpy_helper.from_array(value, name)
        return name

    def scalar(self, value: float) -> str:
        return self.constant(f"constant_{value:g}", np.array(value, np.float32))

    def activation(self, activation: Activation, source: str, output: str) -> str:
        """Appends the nodes of an activation; with ``integer``, only operators that have integer kernels."""
        if activation == "relu":
            return self.node("Relu", [source], output)
        if activation == "relu6":
            return self.node("Clip", [source, self.scalar(0), self.scalar(6)], output)
        if activation == "sigmoid":
            return self.node("Sigmoid", [source], output)
        if activation == "silu":
            gate = self.node("Sigmoid", [source], f"{output}/gate")
            return self.node("Mul", [source, gate], output)
        if activation == "hard_swish" and not self.integer:
            return self.node("HardSwish", [source], output)
        if activation == "hard_sigmoid" and not self.integer:
            return self.node("HardSigmoid", [source], output, alpha=1 / 6, beta=0.5)
        # relu6(x + 3) / 6, and that times x (Howard et al., arXiv:1905.02244, section 5.2).
        shifted = self.node("Add", [source, self.scalar(3)], f"{output}/shifted")
        clipped = self.node("Clip", [shifted, self.scalar(0), self.scalar(6)], f"{output}/clipped")
        if activation == "hard_swish":
            clipped = self.node("Mul", [source, clipped], f"{output}/product")
        return self.node("Mul", [clipped, self.scalar(1 / 6)], output)

    def conv(self, source: str, weight: str, bias: str, layer: LayerSpec | None, output: str) -> str:
        kernel = layer.kernel if layer else 1
        return self.node(
            "Conv", [source, weight, bias], output,
            kernel_shape=[kernel, kernel], pads=[kernel // 2] * 4,
            strides=[layer.stride if layer else 1] * 2, group=layer.groups if layer else 1,
        )  # fmt: skip

    def layer(self, layer: LayerSpec, inputs: Sequence[str], output: str, weights: Weights) -> None:
        """Appends the nodes of a layer; the last one is named ``output``."""
        before = output if layer.activation == "none" else f"{output}/linear"
        if layer.op == "conv":
            weight = self.constant(f"{layer.name}.weight", weights[f"{layer.name}.weight"])
            bias = self.constant(f"{layer.name}.bias", weights[f"{layer.name}.bias"])
            self.conv(inputs[0], weight, bias, layer, before)
        elif layer.op == "linear":
            weight = self.constant(f"{layer.name}.weight", weights[f"{layer.name}.weight"])
            bias = self.constant(f"{layer.name}.bias", weights[f"{layer.name}.bias"])
            self.node("Gemm", [inputs[0], weight, bias], before, transB=1)
        elif layer.op == "add":
            self.node("Add", inputs, before)
        elif layer.op == "global_pool":
            pooled = self.node("GlobalAveragePool", inputs, f"{output}/mean")
            self.node("Flatten", [pooled], before)
        else:
            self.squeeze_excite(layer, inputs[0], output, weights)
            return
        if layer.activation != "none":
            self.activation(layer.activation, before, output)

    def squeeze_excite(self, layer: LayerSpec, source: str, output: str, weights: Weights) -> None:
        value = self.node("GlobalAveragePool", [source], f"{output}/mean")
        for part in ("reduce", "expand"):
            weight = self.constant(
                f"{layer.name}.{part}.weight", weights[f"{layer.name}.{part}.weight"][:, :, None, None]
            )
            bias = self.constant(f"{layer.name}.{part}.bias", weights[f"{layer.name}.{part}.bias"])
            value = self.conv(value, weight, bias, None, f"{output}/{part}")
            activation: Activation = "relu" if part == "reduce" else layer.activation
            if activation != "none":
                value = self.activation(activation, value, f"{output}/{part}_{activation}")
        self.node("Mul", [source, value], output)


def build_onnx(
    layers: Sequence[LayerSpec],
    weights: Weights,
    *,
    integer: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """Returns the FP32 model of a network; it has passed `onnx.checker`.

    Args:
        layers: in execution order; the last one makes the logits.
        weights: of those layers, batch norm folded (`search_spaces.weights`).
        integer: build for quantization: hard-swish and hard-sigmoid, which have no integer kernel in ONNX Runtime,
            as sums, clips and products.
        metadata: text properties of the file, such as the architecture's key and the preprocessing.

    Raises:
        KeyError: a weight is missing.
    """
    build = _Builder(integer=integer)
    names = {IMAGE: IMAGE, **{layer.name: layer.name for layer in layers}, layers[-1].name: LOGITS}
    for layer in layers:
        build.layer(layer, [names[source] for source in layer.inputs], names[layer.name], weights)
    first, last = layers[0], layers[-1]
    image_shape: list[str | int | None] = ["batch", first.in_channels, first.in_size, first.in_size]
    graph = helper.make_graph(
        build.nodes,
        "network",
        [helper.make_tensor_value_info(IMAGE, TensorProto.FLOAT, image_shape)],
        [helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, ["batch", last.out_channels])],
        list(build.constants.values()),
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="hwnas"
    )
    helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model, full_check=True)
    return model

"""One layer of a network as plain data: what cost models, builders and exporters read.

A network is a tuple of `LayerSpec` in execution order. Each layer names the layers it reads, so that residual
connections are data too. Names are identifiers (``stage1_block0_expand``): the same name is the torch module, the
ONNX node, the Keras layer and the key of the weights in a checkpoint.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Op = Literal["conv", "squeeze_excite", "add", "global_pool", "linear"]
Activation = Literal["none", "relu", "relu6", "hard_swish", "silu", "sigmoid", "hard_sigmoid"]

OPS: tuple[str, ...] = get_args(Op)
ACTIVATIONS: tuple[str, ...] = get_args(Activation)
IMAGE = "image"
"""The name of the network's input, as layers read it."""


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """A layer with its shapes; feature maps are square, channels first.

    Ops:
        conv: convolution (depthwise where ``groups == in_channels``), padding ``kernel // 2`` on every side, then
            batch normalisation where ``batch_norm`` (else a bias), then the activation.
        squeeze_excite: global mean, 1x1 conv to ``squeeze_channels`` with bias and ReLU, 1x1 conv back with bias,
            the gate ``activation`` (sigmoid or hard_sigmoid), multiplied with the input.
        add: the sum of its two inputs.
        global_pool: the mean over both spatial axes; output of shape (batch, channels).
        linear: matrix product with bias, then the activation.

    Attributes:
        name: unique in its network; letters, digits and underscores.
        op: what the layer computes.
        inputs: names of the layers it reads; `IMAGE` is the network's input.
        in_channels: channels (features) of the first input.
        out_channels: channels (features) of the output.
        in_size: height and width of the first input, in pixels; 1 after ``global_pool``.
        out_size: height and width of the output, in pixels.
        kernel: height and width of a conv's window.
        stride: step of a conv's window.
        groups: groups of a conv.
        activation: applied last.
        batch_norm: whether a conv is followed by batch normalisation (and so has no bias).
        squeeze_channels: hidden channels of ``squeeze_excite``; 0 elsewhere.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    in_channels: int
    out_channels: int
    in_size: int
    out_size: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    activation: Activation = "none"
    batch_norm: bool = False
    squeeze_channels: int = 0

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"a layer name must be letters, digits and underscores, got {self.name=}")
        if self.op not in OPS or self.activation not in ACTIVATIONS:
            raise ValueError(f"layer {self.name}: unknown {self.op=} or {self.activation=}")
        if min(self.in_channels, self.out_channels, self.in_size, self.out_size, self.kernel, self.stride) < 1:
            raise ValueError(f"layer {self.name}: channels, sizes, kernel and stride must be at least 1, got {self}")
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ValueError(
                f"layer {self.name}: groups must divide the channels, got {self.groups=}, "
                f"{self.in_channels=}, {self.out_channels=}"
            )
        if (self.squeeze_channels > 0) != (self.op == "squeeze_excite"):
            raise ValueError(f"layer {self.name}: squeeze_channels belongs to squeeze_excite, got {self}")

    @property
    def depthwise(self) -> bool:
        """Whether every channel is convolved by itself."""
        return self.op == "conv" and self.groups == self.in_channels > 1


def conv_output_size(size: int, kernel: int, stride: int) -> int:
    """Returns the side in pixels of a conv's output under padding ``kernel // 2``."""
    return (size + 2 * (kernel // 2) - kernel) // stride + 1


def check_chain(layers: Sequence[LayerSpec]) -> None:
    """Checks that every layer reads what was made before it, with the shape it expects.

    Raises:
        ValueError: for a repeated name, an input that no earlier layer makes, or shapes that do not fit.
    """
    made: dict[str, tuple[int, int]] = {}
    for layer in layers:
        if layer.name in made or layer.name == IMAGE:
            raise ValueError(f"layer name {layer.name!r} is used twice")
        if len(layer.inputs) != (2 if layer.op == "add" else 1):
            raise ValueError(f"layer {layer.name}: {layer.op} cannot read {len(layer.inputs)} inputs")
        for source in layer.inputs:
            if source == IMAGE:
                made.setdefault(IMAGE, (layer.in_channels, layer.in_size))
            if source not in made:
                raise ValueError(f"layer {layer.name} reads {source!r}, which no earlier layer makes")
            if made[source] != (layer.in_channels, layer.in_size):
                raise ValueError(
                    f"layer {layer.name} expects {(layer.in_channels, layer.in_size)} (channels, pixels), "
                    f"{source!r} makes {made[source]}"
                )
        made[layer.name] = (layer.out_channels, layer.out_size)

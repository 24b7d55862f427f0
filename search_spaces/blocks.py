"""The torch module of each kind of layer.

Parameters are named after their part (``conv.weight``, ``norm.bias``, ``reduce.weight``, ...), the same in a network
and in a supernet, so that a subnet's tensors are found by name in the shared ones.
"""

import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.layer import Activation, LayerSpec

BATCH_NORM_EPSILON = 1e-5
"""Added to the variance by every batch normalisation; torch's and ONNX's default, Keras's is 1e-3."""

_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": torch.relu_,  # in place: what an activation reads, its layer has just made
    "relu6": F.relu6,
    "hard_swish": F.hardswish,  # x * relu6(x + 3) / 6
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": F.hardsigmoid,  # relu6(x + 3) / 6
}


class Block(nn.Module):
    """One layer of a network; reads the feature maps that its layer names, makes one."""

    def __init__(self, layer: LayerSpec) -> None:
        super().__init__()
        self.activation = layer.activation

    def activate(self, x: Tensor) -> Tensor:
        """Returns the layer's activation of x, of the same shape."""
        return _ACTIVATIONS[self.activation](x)


class Convolution(Block):
    """Convolution with padding ``kernel // 2``, batch normalisation or a bias, activation."""

    def __init__(self, layer: LayerSpec) -> None:
        super().__init__(layer)
        self.conv = nn.Conv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel,
            layer.stride,
            layer.kernel // 2,
            groups=layer.groups,
            bias=not layer.batch_norm,
        )
        self.norm = nn.BatchNorm2d(layer.out_channels, BATCH_NORM_EPSILON) if layer.batch_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """Maps (n, in, s, s) to (n, out, s', s')."""
        x = self.conv(x)
        return self.activate(x if self.norm is None else self.norm(x))


class SqueezeExcite(Block):
    """Channel gates from the global mean (Hu et al., arXiv:1709.01507)."""

    def __init__(self, layer: LayerSpec) -> None:
        super().__init__(layer)
        self.reduce = nn.Linear(layer.in_channels, layer.squeeze_channels)
        self.expand = nn.Linear(layer.squeeze_channels, layer.in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (n, c, s, s) to the same shape."""
        gate = self.activate(self.expand(F.relu(self.reduce(x.mean((2, 3))))))
        return x * gate[:, :, None, None]


class Linear(Block):
    """Matrix product with bias, activation."""

    def __init__(self, layer: LayerSpec) -> None:
        super().__init__(layer)
        self.linear = nn.Linear(layer.in_channels, layer.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (n, in) to (n, out)."""
        return self.activate(self.linear(x))


class Add(Block):
    """The sum of two feature maps."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Maps two (n, c, s, s) to one."""
        return self.activate(x + y)


class GlobalPool(Block):
    """The mean over both spatial axes."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (n, c, s, s) to (n, c)."""
        return self.activate(x.mean((2, 3)))


_BLOCKS: dict[str, type[Block]] = {
    "conv": Convolution,
    "squeeze_excite": SqueezeExcite,
    "add": Add,
    "global_pool": GlobalPool,
    "linear": Linear,
}


def make_blocks(layers: Iterable[LayerSpec], *, seed: int, device: torch.device | str = "cpu") -> nn.ModuleDict:
    """Returns the module of each layer by name, initialised.

    Convolutions start from He normal values by fan-out (arXiv:1502.01852, section 2.2), as MobileNets do; linear layers
    and squeeze-excite from a normal of standard deviation ``1 / sqrt(inputs)``; norms from 1, biases from 0.

    Args:
        layers: with distinct names.
        seed: of the values; torch's global generators are left alone.
        device: where the parameters live; ``meta`` makes shapes without values.
    """
    if torch.device(device).type == "meta":
        with torch.device("meta"):
            return _make(layers)
    # torch's modules draw values of their own when they are made. Ours are drawn on the CPU, so that every device
    # starts from the same ones.
    with torch.random.fork_rng(devices=[]):
        blocks = _make(layers)
    generator = torch.Generator().manual_seed(seed)
    for module in blocks.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            if isinstance(module, nn.Conv2d):
                fan = module.out_channels * module.kernel_size[0] * module.kernel_size[1] / module.groups
                deviation = math.sqrt(2 / fan)
            else:
                deviation = math.sqrt(1 / module.in_features)
            nn.init.normal_(module.weight, 0, deviation, generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return blocks.to(device)


def _make(layers: Iterable[LayerSpec]) -> nn.ModuleDict:
    return nn.ModuleDict({layer.name: _BLOCKS[layer.op](layer) for layer in layers})

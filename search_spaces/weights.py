"""The weights of a network as deployed: plain arrays by name, batch normalisation folded into the convolutions.

This is the one form in which weights pass from torch to the exporters. For a layer ``name``:

=================  ==========================================================================================
conv               ``name.weight`` (out, in / groups, kernel, kernel), ``name.bias`` (out,)
squeeze_excite     ``name.reduce.weight`` (squeezed, channels), ``name.reduce.bias`` (squeezed,),
                   ``name.expand.weight`` (channels, squeezed), ``name.expand.bias`` (channels,)
linear             ``name.weight`` (out, in), ``name.bias`` (out,)
=================  ==========================================================================================
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search_spaces.layer import LayerSpec

Weights = dict[str, NDArray[np.float32]]


def weight_shapes(layers: Sequence[LayerSpec]) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every array of a network, in layer order."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in layers:
        if layer.op == "conv":
            shapes[f"{layer.name}.weight"] = (
                layer.out_channels, layer.in_channels // layer.groups, layer.kernel, layer.kernel,
            )  # fmt: skip
            shapes[f"{layer.name}.bias"] = (layer.out_channels,)
        elif layer.op == "squeeze_excite":
            shapes[f"{layer.name}.reduce.weight"] = (layer.squeeze_channels, layer.in_channels)
            shapes[f"{layer.name}.reduce.bias"] = (layer.squeeze_channels,)
            shapes[f"{layer.name}.expand.weight"] = (layer.in_channels, layer.squeeze_channels)
            shapes[f"{layer.name}.expand.bias"] = (layer.in_channels,)
        elif layer.op == "linear":
            shapes[f"{layer.name}.weight"] = (layer.out_channels, layer.in_channels)
            shapes[f"{layer.name}.bias"] = (layer.out_channels,)
    return shapes


def random_weights(layers: Sequence[LayerSpec], rng: np.random.Generator) -> Weights:
    """Returns weights for a network that is only measured: He-scaled, so that activations stay in range."""
    return {
        name: (rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))).astype(np.float32)
        if len(shape) > 1
        else np.zeros(shape, np.float32)
        for name, shape in weight_shapes(layers).items()
    }

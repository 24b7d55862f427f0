"""Physical features of networks: what a runtime spends time on, summed over layers, in fixed columns.

A layer belongs to one class (how it is computed) and to one level (how often the image's side has been halved at its
output, which tells caches and vector units apart). The columns do not depend on a search space, so networks of any
space share one table, and every column is a sum over layers, so that a cost per unit of each adds up to a latency.

======================  ==============================================================================================
``CLASS.calls``         layers of the class
``CLASS.macs``          multiply-accumulates
``CLASS.values``        feature-map values read and written
``CLASS.weights``       weights and biases read
``CLASS.padded_macs``   convolutions only: multiply-accumulates if channels were rounded up to `VECTOR`
``levelN.calls``        layers whose output is the image halved N times; the last level holds all smaller ones
``levelN.macs``         their multiply-accumulates
``levelN.values``       their feature-map values
``dense.unaligned_macs``, ``depthwise.unaligned_macs``
                        multiply-accumulates of convolutions with channels that are not a multiple of `ALIGNMENT`:
                        blocked kernels cannot take them
``gated.values``        values through an activation other than ReLU and ReLU6, which costs extra calls or a table
``depthwise_7.misses``  cache lines that are read again for every channel; see `_misses`
======================  ==============================================================================================

Values and weights are counts, not bytes: within one precision the factor is part of the learned cost.
"""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from search_spaces.cost import layer_macs
from search_spaces.layer import LayerSpec
from search_spaces.weights import weight_shapes

CONVOLUTIONS = ("conv", "conv_1x1", "depthwise_3", "depthwise_5", "depthwise_7")
"""Classes of convolutions; a depthwise one by its window, 1 counted with 3 and all above 5 with 7."""
CLASSES = (*CONVOLUTIONS, "squeeze_excite", "linear", "elementwise")
LEVELS = 6
VECTOR = 16
"""Channels that a wide vector register holds: 512 bits of FP32, 128 bits of INT8."""
ALIGNMENT = 8
"""Channels that blocked layouts need a multiple of: 256 bits of FP32."""
CACHE_BYTES, CACHE_SETS, LINE_BYTES = 2**21, 2048, 64
"""Second-level cache of a core of current server processors: 2 MiB in 16 ways."""
CACHE_USED = 0.6
"""Share of it above which misses begin; of 0.4, 0.6 and 0.8 the one that explains `mobilenet_v3` in LiteRT best."""

FEATURE_NAMES: tuple[str, ...] = (
    *(f"{name}.{quantity}" for name in CLASSES for quantity in ("calls", "macs", "values", "weights")),
    *(f"{name}.padded_macs" for name in CONVOLUTIONS),
    *(f"level{level}.{quantity}" for level in range(LEVELS) for quantity in ("calls", "macs", "values")),
    "dense.unaligned_macs",
    "depthwise.unaligned_macs",
    "gated.values",
    "depthwise_7.misses",
)
"""The columns, in order."""
_COLUMN = {name: index for index, name in enumerate(FEATURE_NAMES)}


def physical_places(columns: Sequence[str]) -> list[int]:
    """Returns where in `FEATURE_NAMES` the physical features among columns stand.

    A predictor keeps the columns that it was fitted to, and earlier versions had fewer.
    """
    return [_COLUMN[name] for name in columns if name in _COLUMN]


def network_features(networks: Iterable[Sequence[LayerSpec]]) -> NDArray[np.float64]:
    """Returns the features of networks, ``(n, d)`` float64, columns as `FEATURE_NAMES`.

    Args:
        networks: each in execution order; read once, so a generator will do.

    Raises:
        ValueError: a network has no layer.
    """
    index: dict[tuple[LayerSpec, int], int] = {}  # networks of a space share most layers: each is worked out once
    places: list[int] = []
    ends = [0]
    for number, layers in enumerate(networks):
        if not layers:
            raise ValueError(f"network {number} has no layer")
        image_size = layers[0].in_size
        places.extend([index.setdefault((layer, image_size), len(index)) for layer in layers])
        ends.append(len(places))
    if not index:
        return np.empty((0, len(FEATURE_NAMES)))
    counts = sparse.csr_array((np.ones(len(places)), places, ends), shape=(len(ends) - 1, len(index)))
    return np.asarray(counts @ np.stack([layer_features(layer, image_size) for layer, image_size in index]))


@lru_cache(maxsize=1 << 16)
def layer_features(layer: LayerSpec, image_size: int) -> NDArray[np.float64]:
    """Returns the share of one layer in its network's features, ``(d,)`` float64; read-only, because it is shared.

    Args:
        layer: any layer.
        image_size: side of the network's input in pixels.
    """
    macs = layer_macs(layer)
    outputs = layer.out_channels * layer.out_size**2
    values = len(layer.inputs) * layer.in_channels * layer.in_size**2 + outputs
    weights = sum(map(math.prod, weight_shapes([layer]).values()))
    name, level = _class(layer), f"level{_level(layer, image_size)}"
    found: dict[str, float] = {
        f"{name}.calls": 1, f"{name}.macs": macs, f"{name}.values": values, f"{name}.weights": weights,
        f"{level}.calls": 1, f"{level}.macs": macs, f"{level}.values": values,
    }  # fmt: skip
    if layer.op == "conv":
        found[f"{name}.padded_macs"] = macs * _padding(layer)
        if layer.in_channels % ALIGNMENT or layer.out_channels % ALIGNMENT:
            found[f"{'depthwise' if layer.depthwise else 'dense'}.unaligned_macs"] = macs
    if name == "depthwise_7":
        found["depthwise_7.misses"] = _misses(layer)
    if layer.activation not in {"none", "relu", "relu6"}:
        # The gate of squeeze-excite acts on one value per channel.
        found["gated.values"] = layer.out_channels if layer.op == "squeeze_excite" else outputs
    features = np.zeros(len(FEATURE_NAMES))
    for column, value in found.items():
        features[_COLUMN[column]] = value
    features.flags.writeable = False
    return features


def _class(layer: LayerSpec) -> str:
    if layer.op != "conv":
        return layer.op if layer.op in CLASSES else "elementwise"
    if layer.depthwise:
        return f"depthwise_{3 if layer.kernel <= 3 else 5 if layer.kernel <= 5 else 7}"
    return "conv_1x1" if layer.kernel == 1 else "conv"


def _level(layer: LayerSpec, image_size: int) -> int:
    return min(LEVELS - 1, max(0, round(math.log2(image_size / layer.out_size))))


def _padding(layer: LayerSpec) -> float:
    """Returns how many times the arithmetic grows if channels are rounded up to `VECTOR`."""
    channels = (layer.out_channels,) if layer.groups > 1 else (layer.in_channels, layer.out_channels)
    return math.prod(-(-count // VECTOR) * VECTOR / count for count in channels)


def _misses(layer: LayerSpec) -> float:
    """Returns the cache lines that a large depthwise convolution reads again for every channel.

    XNNPACK has depthwise kernels of up to 25 taps; a larger window it computes as a grouped convolution, channel after
    channel, each of which touches a line of every pixel and a pointer (8 bytes) for every tap of every output. Where
    both no longer fit in the cache the next channel reads them again. Pixels whose distance is a power of two of lines
    share few of the cache's sets. Found in FP32 rows of `mobilenet_v3` in LiteRT on one kind of machine, whose networks
    with such layers take up to a fifth longer than their arithmetic and traffic tell.
    """
    lines = layer.in_size**2
    apart, rest = divmod(4 * layer.in_channels, LINE_BYTES)
    crowding = math.gcd(apart, CACHE_SETS) if apart and not rest else 1
    used = (lines * LINE_BYTES * crowding + layer.out_size**2 * layer.kernel**2 * 8) / CACHE_BYTES
    return layer.in_channels * lines * max(0.0, 1 - CACHE_USED / used)

"""Networks that together use every layer, activation, kernel size and stride."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from search_spaces.network import Network
from search_spaces.space import SearchSpace, load_space
from search_spaces.stage_table import StageTable

MIXED = {
    "name": "mixed",
    "resolution": 17,
    "image_channels": 3,
    "classes": 7,
    "stem": {"channels": 8, "kernel": 3, "stride": 2, "activation": "silu"},
    "stages": [
        {"op": "conv", "channels": 8, "kernel": 3, "depth": 2, "activation": "relu6"},
        {"op": "fused_bottleneck", "channels": 8, "kernel": 5, "expansion": 2, "activation": "hard_sigmoid",
         "squeeze_excite": True},
        {"op": "universal_bottleneck", "type": "s5_m3", "channels": 8, "expansion": 2, "activation": "relu6"},
        {"op": "universal_bottleneck", "type": "s0_m0", "channels": 8, "expansion": 2, "activation": "silu"},
        {"channels": 16, "kernel": 7, "expansion": 3, "stride": 2, "depth": 2, "activation": "hard_swish",
         "squeeze_excite": True, "gate": "sigmoid"},
        {"channels": 16, "kernel": 5, "expansion": 2, "depth": 2, "activation": "sigmoid", "squeeze_excite": True},
    ],
    "head": {"conv": 24, "hidden": 32, "activation": "hard_swish"},
}  # fmt: skip


def _random_statistics(network: Network, seed: int) -> Network:
    """Gives batch norm something to do, so that folding it wrongly shows."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor, low in ((module.running_var, 0.5), (module.weight.data, 0.5), (module.bias.data, -0.5)):
                assert tensor is not None
                tensor.uniform_(low, low + 1, generator=generator)
    return network.eval()


def _tiny() -> Network:
    space = load_space("tiny")
    return Network(space.layers(space.largest()))


def _mobilenet() -> Network:
    table = load_space("mobilenet_v3").table
    space = SearchSpace(table.model_copy(update={"resolution": (32,), "width": (0.25,), "classes": 10}))
    return Network(space.layers(space.smallest()))


def _mixed() -> Network:
    space = SearchSpace(StageTable.model_validate(MIXED))
    return Network(space.layers(space.smallest()))


_MAKERS: dict[str, Callable[[], Network]] = {"tiny": _tiny, "mobilenet": _mobilenet, "mixed": _mixed}
NAMES = sorted(_MAKERS)


def make_network(name: str) -> Network:
    return _random_statistics(_MAKERS[name](), seed=1)


def make_images(network: Network, count: int, seed: int = 0) -> NDArray[np.float32]:
    first = network.layers[0]
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, first.in_channels, first.in_size, first.in_size)).astype(np.float32)


@torch.no_grad()
def torch_logits(network: Network, images: NDArray[np.float32]) -> NDArray[np.float32]:
    return network(torch.from_numpy(images)).numpy()


def relative_difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The greatest difference over the standard deviation of what is expected."""
    return float(np.abs(found - expected).max() / expected.std())


def run_onnx(model: onnx.ModelProto, images: NDArray[np.float32]) -> NDArray[np.float32]:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": images})[0]

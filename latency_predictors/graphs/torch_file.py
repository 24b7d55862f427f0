"""Networks for PyTorch: a file of `search_spaces.network` whose batch norms are folded, in FP32 or FP16."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open

from search_spaces.cost import Precision
from search_spaces.layer import LayerSpec
from search_spaces.network import Network, load_network, save_network
from search_spaces.weights import Weights

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16}


def write_torch_file(layers: Sequence[LayerSpec], weights: Weights, precision: Precision, path: Path) -> None:
    """Writes a network as it is deployed.

    Args:
        layers: in execution order.
        weights: of those layers, batch norm folded.
        precision: ``fp32`` or ``fp16``.
        path: ends with ``.safetensors``.
    """
    network = Network([dataclasses.replace(layer, batch_norm=False) for layer in layers], device="meta")
    places = {"conv": "conv.", "linear": "linear.", "squeeze_excite": ""}
    tensors = {
        f"blocks.{layer.name}.{places[layer.op]}{name.removeprefix(f'{layer.name}.')}": torch.from_numpy(array)
        for layer in layers
        for name, array in weights.items()
        if name.rpartition(".")[0] in (layer.name, f"{layer.name}.reduce", f"{layer.name}.expand")
    }
    network.load_state_dict(tensors, assign=True)
    save_network(network.to(DTYPES[precision]), path)


def load_torch_file(path: Path) -> Network:
    """Returns the network of a file, on the CPU, in the precision of its weights.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    network = load_network(path)
    with safe_open(path, "pt") as file:
        return network.to(file.get_tensor(next(iter(file.keys()))).dtype)

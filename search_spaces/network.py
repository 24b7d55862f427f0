"""A network as a torch module, built from its layers; its deployed weights; its file."""

import copy
import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from search_spaces.blocks import Convolution, Linear, SqueezeExcite, make_blocks
from search_spaces.layer import IMAGE, LayerSpec, check_chain
from search_spaces.tensor_file import damaged, read_tensors, write_tensors
from search_spaces.weights import Weights

_KIND = "network"


def run_layers(layers: Sequence[LayerSpec], image: Tensor, run_layer: Callable[..., Tensor]) -> Tensor:
    """Returns the output of the last layer; a feature map is let go after its last reader.

    Args:
        layers: in execution order.
        image: what the layers that read `IMAGE` get.
        run_layer: called with a layer and the feature maps that it reads, returns the one it makes.
    """
    last_reader = {source: layer.name for layer in layers for source in layer.inputs}
    maps = {IMAGE: image}
    for layer in layers:
        maps[layer.name] = run_layer(layer, *(maps[source] for source in layer.inputs))
        maps = {name: kept for name, kept in maps.items() if last_reader.get(name) != layer.name}
    return maps[layers[-1].name]


class Network(nn.Module):
    """Runs its layers in order.

    Attributes:
        layers: in execution order.
        blocks: the module of each layer, by the layer's name.
    """

    def __init__(self, layers: Sequence[LayerSpec], *, seed: int = 0, device: torch.device | str = "cpu") -> None:
        """Makes a network with fresh weights (`make_blocks`).

        Args:
            layers: in execution order; the last one makes the logits.
            seed: of the initial weights.
            device: where the weights live; ``meta`` makes shapes without values.

        Raises:
            ValueError: the layers do not fit each other.
        """
        super().__init__()
        check_chain(layers)
        self.layers = tuple(layers)
        self.blocks = make_blocks(layers, seed=seed, device=device)

    @property
    def resolution(self) -> int:
        """Side of the input image in pixels."""
        return self.layers[0].in_size

    def forward(self, image: Tensor) -> Tensor:
        """Maps (n, image channels, s, s) float32 to logits (n, classes)."""
        return run_layers(self.layers, image, lambda layer, *maps: self.blocks[layer.name](*maps))


@torch.no_grad()
def calibrate(network: Network, batches: Iterable[Tensor]) -> None:
    """Sets every batch norm's running statistics to those of the given images, and the network to evaluation mode.

    One batch gives the exact statistics; of several, the mean over the batches, as in BigNAS (arXiv:2003.11142,
    section 3.1), so batches should be of equal size. Variances are the unbiased ones, torch's convention.

    Args:
        network: changed in place.
        batches: at least one, each (n, image channels, s, s) float32 as the network reads it.

    Raises:
        ValueError: there is no batch.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    network.train()
    empty = True
    for batch in batches:
        network(batch)
        empty = False
    network.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    if empty:
        raise ValueError("batch norm cannot be calibrated without images")


def folded(network: Network) -> nn.Module:
    """Returns a copy for inference alone, batch norm folded into the convolutions; the same logits in less time.

    On a CPU a pass over images takes about two thirds of the time; logits differ by rounding, about 1e-6 of their size.

    Args:
        network: in evaluation mode.
    """
    copied = copy.deepcopy(network)
    for block in copied.blocks.values():
        if isinstance(block, Convolution) and block.norm is not None:
            norm = block.norm
            assert norm.running_mean is not None
            assert norm.running_var is not None
            block.conv.weight, block.conv.bias = fuse_conv_bn_weights(
                block.conv.weight,
                block.conv.bias,
                norm.running_mean,
                norm.running_var,
                norm.eps,
                norm.weight,
                norm.bias,
            )
            block.norm = None
    return copied


def folded_weights(network: Network) -> Weights:
    """Returns the weights as deployed, batch norm folded into the convolutions.

    Folding runs in float64 and is rounded to float32 once.
    """
    weights: Weights = {}
    for layer in network.layers:
        block = network.blocks[layer.name]
        if isinstance(block, Convolution):
            weight = _float64(block.conv.weight)
            if block.norm is None:
                assert block.conv.bias is not None
                bias = _float64(block.conv.bias)
            else:
                norm = block.norm
                assert norm.running_mean is not None
                assert norm.running_var is not None
                scale = _float64(norm.weight) / np.sqrt(_float64(norm.running_var) + norm.eps)
                weight = weight * scale[:, None, None, None]
                bias = _float64(norm.bias) - _float64(norm.running_mean) * scale
            weights[f"{layer.name}.weight"] = weight.astype(np.float32)
            weights[f"{layer.name}.bias"] = bias.astype(np.float32)
        elif isinstance(block, SqueezeExcite | Linear):
            for name, tensor in block.named_parameters():
                weights[f"{layer.name}.{name.removeprefix('linear.')}"] = _float64(tensor).astype(np.float32)
    return weights


def _float64(tensor: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return tensor.detach().cpu().numpy().astype(np.float64)


def save_network(network: Network, path: Path) -> None:
    """Writes a network, batch-norm statistics included, as safetensors with its layers in the metadata."""
    layers = json.dumps([dataclasses.asdict(layer) for layer in network.layers], separators=(",", ":"))
    write_tensors(path, _KIND, network.state_dict(), {"layers": layers})


def load_network(path: Path) -> Network:
    """Returns the network of a file that `save_network` wrote, on the CPU, in evaluation mode.

    Raises:
        InputError: the file is missing, damaged, or holds something else.
    """
    metadata, tensors = read_tensors(path, _KIND)
    try:
        layers = [LayerSpec(**{**layer, "inputs": tuple(layer["inputs"])}) for layer in json.loads(metadata["layers"])]
        network = Network(layers)
        network.load_state_dict(tensors)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise damaged(path, error) from None
    return network.eval()

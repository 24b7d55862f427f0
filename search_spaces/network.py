"""A network as a torch module, built from its layers; its deployed weights; its file."""

import copy
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from search_spaces.blocks import Convolution, Linear, SqueezeExcite, make_blocks
from search_spaces.layer import IMAGE, LayerSpec, check_chain
from search_spaces.tensor_file import damaged, read_tensors, write_tensors
from search_spaces.weights import Weights

CALIBRATION_BATCH = 64
"""Images that share the statistics of a calibrating pass, at every resolution and on every device.

What a layer reads was normalised by its batch, so that another size gives slightly other statistics: it must be the
same wherever networks are compared. Logits of networks of ``tiny`` are off by 0.2 % of their spread from those of one
batch of 256 images (16 images a batch: 1.3 %, 5: 9 %); at 224 pixels a pass of ``mobilenet_v3`` takes 0.7 GB.
"""
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
def calibrate(network: Network, images: Tensor) -> None:
    """Sets every batch norm's running statistics to those of the given images, and the network to evaluation mode.

    The images pass in batches of nearly equal size, at most `CALIBRATION_BATCH`. A layer's mean and variance are those
    of its feature maps of all images together, differences between the batches included; what it reads has been
    normalised batch by batch, as in training (BigNAS, arXiv:2003.11142, section 3.1, which takes the mean of the
    batches' variances instead). Variances are the unbiased ones, torch's convention.

    Args:
        network: changed in place.
        images: ``(n, image channels, s, s)`` float32 as the network reads them; at least one.

    Raises:
        ValueError: there is no image.
    """
    if not len(images):
        raise ValueError("batch norm cannot be calibrated without images")
    norms = {
        block.norm: layer.out_size**2
        for layer in network.layers
        if isinstance(block := network.blocks[layer.name], Convolution) and block.norm is not None
    }
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = 1.0  # the statistics of the last batch alone
    network.train()
    sizes, found = [], []
    for batch in images.tensor_split(-(-len(images) // CALIBRATION_BATCH)):
        network(batch.contiguous(memory_format=torch.channels_last))
        sizes.append(len(batch))
        found.append([[tensor.double() for tensor in _statistics(norm)] for norm in norms])
    network.eval()
    for (norm, pixels), momentum, batches in zip(norms.items(), momenta, zip(*found, strict=True), strict=True):
        norm.momentum = momentum
        means, variances = (torch.stack(values) for values in zip(*batches, strict=True))
        counts = pixels * torch.tensor(sizes, device=means.device)[:, None]
        total = counts.sum()
        mean = (counts * means).sum(0) / total
        squares = (counts - 1) * variances + counts * (means - mean) ** 2  # within the batches, and between them
        running_mean, running_var = _statistics(norm)
        running_mean.copy_(mean)
        running_var.copy_(squares.sum(0) / (total - 1))


def _statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Returns the running mean and variance, tensors of the norm."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var


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
            block.conv.weight, block.conv.bias = fuse_conv_bn_weights(
                block.conv.weight,
                block.conv.bias,
                *_statistics(norm),
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
                mean, variance = map(_float64, _statistics(norm))
                scale = _float64(norm.weight) / np.sqrt(variance + norm.eps)
                weight = weight * scale[:, None, None, None]
                bias = _float64(norm.bias) - mean * scale
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

"""A trained network as a function of images, as fast as its device allows."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from latency_predictors.graphs.onnx_graph import build_onnx
from search_spaces.layer import IMAGE
from search_spaces.network import Network, folded, folded_weights

_CPU_IMAGES = 8
"""That ONNX Runtime gets at a time: more, and feature maps leave the cache (1.1 to 1.8 times as slow at 64 to 512)."""
_GPU_PIXELS = 1 << 24
"""Of one channel, that a GPU gets at a time: 334 images of 224 pixels."""


def inference(network: Network) -> Callable[[Tensor], Tensor]:
    """Returns a function that maps images to logits as the network does, up to rounding (about 1e-5 of their size).

    On a CPU it is ONNX Runtime that computes, with as many threads as torch has now, in 0.25 to 0.7 of torch's time
    (`experiments/benchmarks/supernet_speed.py`); on a GPU it is torch, batch norm folded.

    Args:
        network: in evaluation mode; what becomes of it later does not matter.

    Returns:
        A function of ``(n, c, s, s)`` float32 on the network's device that returns ``(n, classes)`` float32 there,
        without gradients.
    """
    if next(network.parameters()).is_cuda:
        return _on_gpu(network)

    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    model = build_onnx(network.layers, folded_weights(network)).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def logits(images: Tensor) -> Tensor:
        parts = [part.contiguous().numpy() for part in torch.split(images.detach(), _CPU_IMAGES)]
        return torch.from_numpy(np.concatenate([session.run(None, {IMAGE: part})[0] for part in parts]))

    return logits


def _on_gpu(network: Network) -> Callable[[Tensor], Tensor]:
    copied = folded(network)

    @torch.no_grad()  # tensors of inference mode could not be a teacher's answers
    def logits(images: Tensor) -> Tensor:
        parts = torch.split(images, max(1, _GPU_PIXELS // (images.shape[2] * images.shape[3])))
        return torch.cat([copied(part.contiguous(memory_format=torch.channels_last)) for part in parts])

    return logits

"""The accuracy of a network."""

import torch
from torch import Tensor

from nas.training.inference import inference
from search_spaces.network import Network

_BATCH_PIXELS = 256 * 32 * 32  # of one channel; keeps the feature maps of a batch small at every resolution


def batches(images: Tensor) -> list[Tensor]:
    """Returns images ``(n, c, s, s)`` in batches of nearly equal size, channels last, that fit in memory."""
    per_batch = max(1, _BATCH_PIXELS // (images.shape[2] * images.shape[3]))
    count = -(-len(images) // per_batch)
    return [part.contiguous(memory_format=torch.channels_last) for part in images.tensor_split(count)]


def accuracy(network: Network, images: Tensor, labels: Tensor) -> float:
    """Returns the share of images whose greatest logit is that of their label.

    Args:
        network: in evaluation mode, on the images' device.
        images: ``(n, c, s, s)`` float32 as the network reads them.
        labels: ``(n,)`` int64.
    """
    return float((inference(network)(images).argmax(1) == labels).double().mean())

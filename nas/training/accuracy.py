"""The accuracy of a network."""

import torch
from torch import Tensor, nn

_BATCH_PIXELS = 256 * 32 * 32  # of one channel; keeps the feature maps of a batch small at every resolution


def batches(images: Tensor) -> list[Tensor]:
    """Returns images ``(n, c, s, s)`` in batches of nearly equal size, channels last, that fit in memory."""
    per_batch = max(1, _BATCH_PIXELS // (images.shape[2] * images.shape[3]))
    count = -(-len(images) // per_batch)
    return [part.contiguous(memory_format=torch.channels_last) for part in images.tensor_split(count)]


@torch.inference_mode()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Returns the share of images whose greatest logit is that of their label.

    Args:
        network: in evaluation mode, on the images' device.
        images: ``(n, c, s, s)`` float32 as the network reads them.
        labels: ``(n,)`` int64.
    """
    answers = torch.cat([network(part).argmax(1) for part in batches(images)])
    return float((answers == labels).double().mean())

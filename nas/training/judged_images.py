"""Images that networks are judged on, prepared as inputs of theirs."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nas.data import Split, inputs
from nas.training.inference import inference
from nas.training.pixels import fit, read_only_tensor
from search_spaces.network import Network

_CHUNK_BYTES = 2**27  # of inputs that are prepared at a time where all do not fit


class JudgedImages:
    """A split for a device; the inputs are kept for each resolution where they fit, else made anew each time."""

    def __init__(self, split: Split, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        """Makes sure that the images can be read.

        Args:
            split: the images.
            mean: per channel on the 0..1 scale.
            std: per channel on the 0..1 scale.
            device: of the networks.

        Raises:
            InputError: the images are in a file that is not on this machine.
        """
        self._split, self._mean, self._std, self._device = split, mean, std, device
        self._labels = read_only_tensor(split.labels).to(device)
        self._kept: dict[int, Tensor] = {}
        self._inputs(slice(1), max(split.images.shape[2:]))

    def accuracy(self, network: Network) -> float:
        """Returns the share of images whose greatest logit is that of their label.

        Args:
            network: in evaluation mode, on the device.
        """
        logits = inference(network)
        right = sum(
            int((logits(images).argmax(1) == labels).sum()) for images, labels in self._parts(network.resolution)
        )
        return right / len(self._split)

    def _parts(self, resolution: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields inputs and labels: all at once where they are kept."""
        images, count = self._split.images, len(self._split)
        image_bytes = images.shape[1] * resolution**2 * torch.float32.itemsize
        if resolution not in self._kept and fit(images, self._device, count * image_bytes):
            self._kept[resolution] = self._inputs(slice(None), resolution)
        if resolution in self._kept:
            yield self._kept[resolution], self._labels
            return
        step = max(1, _CHUNK_BYTES // image_bytes)
        for part in (slice(start, start + step) for start in range(0, count, step)):
            yield self._inputs(part, resolution), self._labels[part]

    def _inputs(self, rows: slice, resolution: int) -> Tensor:
        return read_only_tensor(inputs(self._split.images[rows], resolution, self._mean, self._std)).to(self._device)

"""Images on the device that trains on them, augmented and resized there in whole batches."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nas.data import Split
from nas.data.preprocessing import resize_matrix

_MAX_SHIFT = 1 / 8  # of the side; the 4 of 32 pixels of the CIFAR recipe (He et al., arXiv:1512.03385, section 4.2)


class Batch:
    """The images of one step; every subnet sees the same pictures, each at its own resolution.

    Attributes:
        labels: ``(b,)`` int64.
    """

    def __init__(self, images: Tensor, labels: Tensor, shifts: Tensor | None = None, flips: Tensor | None = None):
        """Makes a batch.

        Args:
            images: ``(b, c, h, w)`` float32, normalised.
            labels: ``(b,)`` int64.
            shifts: ``(b, 2)`` down and right, as a fraction of the side; pixels at the edge are repeated.
            flips: ``(b,)`` bool, mirrored left to right.
        """
        self.labels = labels
        self._images, self._shifts, self._flips = images, shifts, flips

    def at(self, resolution: int) -> Tensor:
        """Returns ``(b, c, resolution, resolution)`` float32, channels last in memory."""
        height, width = self._images.shape[2:]
        images = self._images
        if (height, width) != (resolution, resolution):
            # The same matrices as `nas.data.inputs` uses, so that training and evaluation see the same pixels.
            rows, columns = (_matrix(size, resolution, images.device) for size in (height, width))
            images = rows @ images @ columns.T
        if self._flips is not None:
            images = torch.where(self._flips[:, None, None, None], images.flip(3), images)
        if self._shifts is not None:
            pixels = torch.arange(resolution, device=images.device)
            moved = pixels - (self._shifts * resolution).round().long()[:, :, None]
            row, column = moved.clamp(0, resolution - 1).unbind(1)
            batch = torch.arange(len(images), device=images.device)[:, None, None]
            # Advanced indices around a slice put the channels last.
            return images[batch, :, row[:, :, None], column[:, None, :]].permute(0, 3, 1, 2)
        return images.contiguous(memory_format=torch.channels_last)


def _matrix(size: int, target: int, device: torch.device) -> Tensor:
    return torch.from_numpy(resize_matrix(size, target)).to(device)


class TrainingImages:
    """A training split on a device.

    Attributes:
        labels: ``(n,)`` int64.
        description: JSON values that tell these images and their augmentation from others.
    """

    def __init__(
        self,
        split: Split,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        shift: bool,
        flip: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        """Moves the split to the device, eight bits a pixel.

        Args:
            split: the images.
            mean: per channel on the 0..1 scale.
            std: per channel on the 0..1 scale.
            shift: whether images are shifted at random, by up to an eighth of the side.
            flip: whether images are mirrored at random; only for data that means the same mirrored.
            device: of the training.
        """
        self._images = torch.from_numpy(split.images).to(device)
        self.labels = torch.from_numpy(split.labels).to(device)
        self._mean, self._std = (torch.tensor(value, device=device).float()[:, None, None] for value in (mean, std))
        self._shift, self._flip = shift, flip

        digest = hashlib.sha256(split.images.tobytes() + split.labels.tobytes()).hexdigest()
        self.description: dict[str, object] = {
            "sha256": digest, "mean": list(mean), "std": list(std), "shift": shift, "flip": flip,
        }  # fmt: skip

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: np.ndarray[tuple[int], np.dtype[np.int64]], rng: np.random.Generator) -> Batch:
        """Returns the images of these rows, augmented with random numbers of ``rng``."""
        device = self.labels.device
        index = torch.from_numpy(rows).to(device)
        shifts = rng.uniform(-_MAX_SHIFT, _MAX_SHIFT, (len(rows), 2)).astype(np.float32) if self._shift else None
        flips = rng.random(len(rows)) < 0.5 if self._flip else None
        return Batch(
            (self._images[index].float() / 255 - self._mean) / self._std,
            self.labels[index],
            None if shifts is None else torch.from_numpy(shifts).to(device),
            None if flips is None else torch.from_numpy(flips).to(device),
        )

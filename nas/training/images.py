"""Images on the device that trains on them, augmented and resized there in whole batches.

Where a split does not fit there, its batches are brought to the device one by one.
"""

import hashlib
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nas.data import ImageData, Split
from nas.data.stored import chunks
from nas.training.pixels import Rows, pixels_of, read_only_tensor
from nas.training.random_augment import random_augment
from nas.training_config import TrainingConfig

_MAX_SHIFT = 1 / 16  # of the side; half of the CIFAR recipe's 4 of 32 pixels, as small images fill their frame


class Batch:
    """The images of one step; every subnet sees the same pictures, each at its own resolution.

    Attributes:
        labels: ``(b,)`` int64; of mixed images that of their greater part.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        shifts: Tensor | None = None,
        flips: Tensor | None = None,
        mixed: tuple[Tensor, float] | None = None,
    ) -> None:
        """Makes a batch.

        Args:
            images: ``(b, c, h, w)`` float32, normalised.
            labels: ``(b,)`` int64.
            shifts: ``(b, 2)`` up and left, as a fraction of the side; pixels at the edge are repeated.
            flips: ``(b,)`` bool, mirrored left to right.
            mixed: ``(b,)`` labels of what was mixed into the images, and its share, at most a half.
        """
        self._mixed = mixed
        self.labels = labels
        self._images = images if flips is None else torch.where(flips[:, None, None, None], images.flip(3), images)
        self._shifts = torch.zeros(1, 2, device=images.device) if shifts is None else shifts

    def cross_entropy(self, logits: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Returns the mean cross entropy of logits ``(b, classes)`` against the labels, all of them where mixed."""
        loss = F.cross_entropy(logits, self.labels, label_smoothing=label_smoothing)
        if self._mixed is None:
            return loss
        others, share = self._mixed
        return torch.lerp(loss, F.cross_entropy(logits, others, label_smoothing=label_smoothing), share)

    def parts(self, count: int) -> list["Batch"]:
        """Returns the batch in parts of nearly equal size."""
        if count == 1:
            return [self]
        parts = []
        for rows in torch.arange(len(self.labels), device=self.labels.device).tensor_split(count):
            shifts = self._shifts[rows] if len(self._shifts) > 1 else None
            mixed = (self._mixed[0][rows], self._mixed[1]) if self._mixed else None
            parts.append(Batch(self._images[rows], self.labels[rows], shifts, None, mixed))
        return parts

    def at(self, resolution: int) -> Tensor:
        """Returns ``(b, c, resolution, resolution)`` float32, channels last in memory."""
        height, width = self._images.shape[2:]
        rows = _resize_matrices(height, resolution, self._shifts[:, 0])
        columns = _resize_matrices(width, resolution, self._shifts[:, 1])
        images = rows @ self._images @ columns.mT
        return images.contiguous(memory_format=torch.channels_last)


def _resize_matrices(size: int, target: int, shifts: Tensor) -> Tensor:
    """Returns ``(b, 1, target, size)`` weights: those of `nas.data.preprocessing.resize_matrix`, moved by shifts.

    Shifting within the resize moves pictures by parts of a pixel, by the same part of the picture at every resolution.
    """
    ratio = size / target
    support = max(ratio, 1.0)
    pixels, targets = (torch.arange(count, device=shifts.device) + 0.5 for count in (size, target))
    centres = (targets * ratio + shifts[:, None] * size).clamp(0.5, size - 0.5)
    weights = (1 - (pixels - centres[:, :, None]).abs() / support).clamp(min=0)
    return (weights / weights.sum(2, keepdim=True))[:, None]


class TrainingImages:
    """A training split for a device.

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
        mixup: float = 0.0,
        cutmix: float = 0.0,
        random: float = 0.0,
        device: torch.device | str = "cpu",
    ) -> None:
        """Moves the split to the device, eight bits a pixel, where it fits there (`nas.training.pixels`).

        Args:
            split: the images.
            mean: per channel on the 0..1 scale.
            std: per channel on the 0..1 scale.
            shift: whether images are shifted at random, by up to a sixteenth of the side.
            flip: whether images are mirrored at random; only for data that means the same mirrored.
            mixup: as `TrainingConfig`.
            cutmix: as `TrainingConfig`.
            random: strength of `random_augment`; 0 for none.
            device: of the training.
        """
        self._pixels = pixels_of(split.images, torch.device(device))
        self.labels = read_only_tensor(split.labels).to(device)
        self._mean, self._std = (torch.tensor(value, device=device).float()[:, None, None] for value in (mean, std))
        self._shift, self._flip = shift, flip
        self._mixup, self._cutmix, self._random = mixup, cutmix, random

        digest = hashlib.sha256()
        for chunk in chunks(split.images):
            digest.update(chunk.tobytes())
        digest.update(split.labels.tobytes())
        self.description: dict[str, object] = {
            "sha256": digest.hexdigest(), "mean": list(mean), "std": list(std), "shift": shift, "flip": flip,
        }  # fmt: skip
        options = {"mixup": mixup, "cutmix": cutmix, "random": random}
        self.description |= {name: value for name, value in options.items() if value}

    @classmethod
    def of(
        cls,
        data: ImageData,
        *,
        augment: bool,
        flip: bool,
        device: torch.device | str,
        config: TrainingConfig | None = None,
    ) -> Self:
        """Returns the training split of a data set.

        Args:
            data: only the training split is read.
            augment: whether images are shifted, and mirrored where they may be.
            flip: whether they may be mirrored.
            device: of the training.
            config: whose mixing and random operations are used; None for none.
        """
        options = {"mixup": config.mixup, "cutmix": config.cutmix, "random": config.random_augment} if config else {}
        flip = augment and flip
        return cls(data.train, data.mean, data.std, shift=augment, flip=flip, device=device, **options)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: Rows, rng: np.random.Generator, ahead: Rows | None = None) -> Batch:
        """Returns the images of these rows, augmented with random numbers of ``rng``.

        Args:
            rows: ``(b,)`` int64.
            rng: everything random comes from here.
            ahead: rows of the batch that is likely asked for next; where images must be brought to the device, its are
                gathered meanwhile.
        """
        device = self.labels.device
        index = torch.from_numpy(rows).to(device)
        shifts = rng.uniform(-_MAX_SHIFT, _MAX_SHIFT, (len(rows), 2)).astype(np.float32) if self._shift else None
        flips = rng.random(len(rows)) < 0.5 if self._flip else None
        images, labels = self._pixels.take(rows, ahead).float() / 255, self.labels[index]
        if self._random:
            images = random_augment(images, self._random, rng)
        images = (images - self._mean) / self._std
        mixed = None
        if self._mixup or self._cutmix:
            images, labels, mixed = self._mix(images, labels, rng)
        return Batch(
            images,
            labels,
            None if shifts is None else torch.from_numpy(shifts).to(device),
            None if flips is None else torch.from_numpy(flips).to(device),
            mixed,
        )

    def _mix(
        self, images: Tensor, labels: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, tuple[Tensor, float]]:
        """Returns images into which others were mixed, their labels, and the others' labels and share."""
        order = torch.from_numpy(rng.permutation(len(labels))).to(labels.device)
        cut = bool(self._cutmix) and (not self._mixup or rng.random() < 0.5)
        alpha = self._cutmix if cut else self._mixup
        share = float(rng.beta(alpha, alpha))
        share = min(share, 1 - share)  # the same pairs of images in either case: the first one has the greater part
        if not cut:
            return torch.lerp(images, images[order], share), labels, (labels[order], share)
        height, width = images.shape[2:]
        rows, columns = (max(1, int(side * share**0.5)) for side in (height, width))
        top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
        images = images.clone()
        images[:, :, top : top + rows, left : left + columns] = images[order][
            :, :, top : top + rows, left : left + columns
        ]
        return images, labels, (labels[order], rows * columns / (height * width))

"""Two random operations on each image, whole batches at a time (after RandAugment, Cubuk et al., arXiv:1909.13719).

The operations and their ranges are ours: those of the paper that mean something for small images and are cheap on
tensors; shifts are `TrainingImages`' own.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

OPERATIONS_AN_IMAGE = 2
_Operation = Callable[[Tensor, Tensor], Tensor]
"""Takes images ``(n, c, h, w)`` on the 0..1 scale and ``(n, 1, 1, 1)`` strengths from -1 to 1, returns such images."""


def random_augment(images: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Returns images that two random operations have changed, each by a random amount.

    Args:
        images: ``(n, c, h, w)`` float32 on the 0..1 scale, one or three channels.
        strength: 0 to 1; of the greatest change.
        rng: everything random comes from here.
    """
    for _ in range(OPERATIONS_AN_IMAGE):
        chosen = rng.integers(len(_OPERATIONS), size=len(images))
        amounts = torch.from_numpy(rng.uniform(-strength, strength, len(images)).astype(np.float32))
        amounts = amounts.to(images.device)[:, None, None, None]
        changed = images.clone()
        for number, operation in enumerate(_OPERATIONS):
            rows = torch.from_numpy(np.flatnonzero(chosen == number)).to(images.device)
            if len(rows):
                changed[rows] = operation(images[rows], amounts[rows])
        images = changed.clamp(0, 1)
    return images


def _brightness(images: Tensor, amount: Tensor) -> Tensor:
    return images * (1 + 0.9 * amount)


def _contrast(images: Tensor, amount: Tensor) -> Tensor:
    grey = images.mean((1, 2, 3), keepdim=True)
    return grey + (images - grey) * (1 + 0.9 * amount)


def _saturation(images: Tensor, amount: Tensor) -> Tensor:
    grey = images.mean(1, keepdim=True)
    return grey + (images - grey) * (1 + 0.9 * amount)


def _sharpness(images: Tensor, amount: Tensor) -> Tensor:
    smooth = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return smooth + (images - smooth) * (1 + 0.9 * amount)


def _posterize(images: Tensor, amount: Tensor) -> Tensor:
    levels = 2 ** (8 - 5 * amount.abs()) - 1
    return (images * levels).round() / levels


def _solarize(images: Tensor, amount: Tensor) -> Tensor:
    return torch.where(images > 1 - 0.5 * amount.abs(), 1 - images, images)


def _affine(images: Tensor, matrices: Tensor) -> Tensor:
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _rotate(images: Tensor, amount: Tensor) -> Tensor:
    angle = amount.flatten() * (torch.pi / 6)  # up to 30 degrees
    cos, sin, none = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
    return _affine(images, torch.stack([torch.stack([cos, -sin, none], 1), torch.stack([sin, cos, none], 1)], 1))


def _shear(images: Tensor, amount: Tensor) -> Tensor:
    by = 0.3 * amount.flatten()
    one, none = torch.ones_like(by), torch.zeros_like(by)
    return _affine(images, torch.stack([torch.stack([one, by, none], 1), torch.stack([none, one, none], 1)], 1))


def _unchanged(images: Tensor, amount: Tensor) -> Tensor:
    return images


_OPERATIONS: tuple[_Operation, ...] = (
    _unchanged, _brightness, _contrast, _saturation, _sharpness, _posterize, _solarize, _rotate, _shear,
)  # fmt: skip

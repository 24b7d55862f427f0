"""Where the pixels of a split are while a device needs them, and how they get there.

On the device, where they fit into a share of its memory; else on the host, whence what is needed is brought.
"""

import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.data.stored import Images, chunks

Rows = NDArray[np.int64]

_SHARE = 1 / 8  # of a GPU's free memory: the rest is for networks, their feature maps, and other workers


def read_only_tensor(array: NDArray[Any]) -> Tensor:
    """Returns an array's memory as a tensor that nobody writes to.

    Torch warns of arrays that must not be written, such as those that processes share through Ray's object store.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def fit(images: Images, device: torch.device, needed_bytes: int) -> bool:
    """Returns whether images, or what is made of them, may be kept on a device.

    On a CPU, images in an array may, as they are in its memory already, and images in a file may not.

    Args:
        images: as stored.
        device: that needs them.
        needed_bytes: that it would keep.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return needed_bytes <= _SHARE * free
    return isinstance(images, np.ndarray)


class Pixels(Protocol):
    """The pixels of a split."""

    def take(self, rows: Rows, ahead: Rows | None = None) -> Tensor:
        """Returns the pixels of rows ``(b,)`` as ``(b, c, h, w)`` uint8 on the device.

        Args:
            rows: of the split.
            ahead: rows that are likely asked for next.
        """
        ...


def pixels_of(images: Images, device: torch.device) -> Pixels:
    """Returns the pixels of images, kept on a device where they fit there."""
    return Kept(images, device) if fit(images, device, images.nbytes) else Brought(images, device)


class Kept:
    """Pixels that are all on the device."""

    def __init__(self, images: Images, device: torch.device) -> None:
        if isinstance(images, np.ndarray):
            self._all = read_only_tensor(images).to(device)
            return
        self._all = torch.empty(images.shape, dtype=torch.uint8, device=device)
        start = 0
        for chunk in chunks(images):
            self._all[start : start + len(chunk)] = torch.from_numpy(chunk).to(device)
            start += len(chunk)

    def take(self, rows: Rows, ahead: Rows | None = None) -> Tensor:
        """Returns the pixels of rows."""
        return self._all[torch.from_numpy(rows).to(self._all.device)]


class Brought:
    """Pixels that stay on the host; a thread gathers those of the next batch while the device works on this one."""

    def __init__(self, images: Images, device: torch.device) -> None:
        self._images, self._device = images, device
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hwnas-pixels")
        self._coming: tuple[Rows, Future[Tensor]] | None = None

    def take(self, rows: Rows, ahead: Rows | None = None) -> Tensor:
        """Returns the pixels of rows and begins to gather those of ``ahead``."""
        coming, self._coming = self._coming, None
        expected = coming is not None and np.array_equal(coming[0], rows)
        gathered = coming[1].result() if coming and expected else self._gathered(rows)
        if ahead is not None:
            self._coming = ahead, self._thread.submit(self._gathered, ahead)
        # From pinned memory the copy goes on beside the device's work.
        return gathered.to(self._device, non_blocking=True)

    def _gathered(self, rows: Rows) -> Tensor:
        pixels = torch.from_numpy(self._images[rows])
        return pixels.pin_memory() if self._device.type == "cuda" else pixels

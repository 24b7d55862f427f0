"""Where a process trains."""

import torch


def training_device(threads: int) -> str:
    """Returns ``cuda`` where this process sees a GPU, else ``cpu``; pins torch's CPU threads."""
    torch.set_num_threads(threads)
    return "cuda" if torch.cuda.is_available() else "cpu"

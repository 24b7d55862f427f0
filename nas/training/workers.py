"""Several processes that train one model together: each computes its part of every batch, gradients are averaged.

The processes are those of `torch.distributed`, where somebody has set it up (`nas.search.executors.ray_train`); without
it, there is one. All draw the same random numbers and so build the same batches and the same subnets.
"""

from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

from nas.training.images import Batch

Value = TypeVar("Value")


def count() -> int:
    """Returns the number of processes."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def is_first() -> bool:
    """Returns whether this process is the one that reads and writes files."""
    return count() == 1 or distributed.get_rank() == 0


def own_part(batch: Batch) -> Batch:
    """Returns this process's part of a batch."""
    return batch if count() == 1 else batch.parts(count())[distributed.get_rank()]


def average_gradients(model: nn.Module) -> None:
    """Replaces the gradients by their mean over the processes; all must have them for the same parameters."""
    if count() == 1:
        return
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    together = mean(torch.cat([gradient.flatten() for gradient in gradients]))
    parts = torch.split_with_sizes(together, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def mean(values: Tensor) -> Tensor:
    """Returns the mean of a tensor over the processes."""
    if count() == 1:
        return values
    values = values.detach().clone()
    distributed.all_reduce(values)
    return values / count()


def from_first(value: Value) -> Value:
    """Returns what the first process has; the others' values are ignored."""
    if count() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]

"""The exponential moving average of a model's weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """An average of what the parameters and the batch-norm statistics were after each step.

    The decay rises to its value, ``min(decay, (1 + n) / (10 + n))`` after n steps, as in TensorFlow's
    ``ExponentialMovingAverage``, so that the fresh weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Starts from the model's weights.

        Args:
            model: on its device.
            decay: below 1; weight of the past.
        """
        self._model, self._decay = model, decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in self._averaged()}

    def _averaged(self) -> list[tuple[str, Tensor]]:
        return [(name, tensor) for name, tensor in self._model.state_dict().items() if tensor.is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the model's weights after a step, counted from 0."""
        weight = 1 - min(self._decay, (1 + step) / (10 + step))
        current = [tensor for _, tensor in self._averaged()]
        torch._foreach_lerp_(list(self.tensors.values()), current, weight)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Sets the average to a stored one."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

    @torch.no_grad()
    def apply(self) -> None:
        """Gives the model the averaged weights."""
        for name, tensor in self._averaged():
            tensor.copy_(self.tensors[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Gives the model the averaged weights for a while."""
        before = {name: tensor.clone() for name, tensor in self._averaged()}
        self.apply()
        yield
        with torch.no_grad():
            for name, tensor in self._averaged():
                tensor.copy_(before[name])

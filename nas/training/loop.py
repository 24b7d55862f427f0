"""The training loop: AdamW or SGD, cosine schedule with warm-up, checkpoints; exact when resumed.

All randomness is drawn from (seed, epoch) and (seed, step), never from a running generator, so that a training that is
killed and goes on from a checkpoint ends with the weights of one that never stopped.
"""

import dataclasses
import hashlib
import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from nas.config import TrainingConfig
from nas.errors import RunError
from nas.training import workers
from nas.training.average import MovingAverage
from nas.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from nas.training.images import Batch, TrainingImages

TrainingProgress = Callable[[int, int, dict[str, float]], None]
"""Called with steps done, steps in all, and the metrics of the last step; about five times a second."""

TrainingStep = Callable[[Batch, np.random.Generator], dict[str, Tensor]]
"""Adds the gradients of one step to the model's parameters, returns scalar metrics; draws only from the generator."""

_REPORT_SECONDS = 0.2
_OPTIONS = {"optimizer", "ema", "accumulate"}
_log = logging.getLogger(__name__)


def no_progress(step: int, total: int, metrics: dict[str, float]) -> None:
    """Ignores progress."""


@dataclass(frozen=True)
class LoopSettings:
    """How a model is trained.

    Attributes:
        epochs: passes over the images; what is left of an epoch after the last whole batch is dropped.
        batch_size: images a step; at most the number of images.
        learning_rate: the highest.
        seed: of order, augmentation and whatever the step draws.
        weight_decay: decoupled (Loshchilov and Hutter, arXiv:1711.05101) for AdamW; not of norms and biases.
        warmup_fraction: share of the steps with linearly rising learning rate, before the cosine falls to 0.
        checkpoint_seconds: between checkpoints.
        bf16: whether a CUDA device computes in bfloat16 where that is safe; a CPU is slower with it.
        optimizer: AdamW, or SGD with Nesterov momentum and its plain weight decay.
        ema: decay of the moving average that the model ends with; 0 for none.
        accumulate: parts that a batch is computed in.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    weight_decay: float = 1e-4
    warmup_fraction: float = 0.1
    checkpoint_seconds: float = 20.0
    bf16: bool = True
    optimizer: Literal["adamw", "sgd"] = "adamw"
    ema: float = 0.0
    accumulate: int = 1

    @classmethod
    def of(cls, config: TrainingConfig, *, seed: int, bf16: bool, checkpoint_seconds: float) -> Self:
        """Returns the settings of an experiment's training."""
        return cls(
            epochs=config.epochs,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            seed=seed,
            weight_decay=config.weight_decay,
            warmup_fraction=config.warmup_fraction,
            checkpoint_seconds=checkpoint_seconds,
            bf16=bf16,
            optimizer=config.optimizer,
            ema=config.ema,
            accumulate=config.accumulate,
        )

    def learning_rate_at(self, step: int, total: int) -> float:
        """Returns the learning rate of a step, counted from 0, of ``total``."""
        warmup = round(self.warmup_fraction * total)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        return self.learning_rate * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))) / 2

    def uses_bf16(self, device: torch.device) -> bool:
        """Returns whether a device computes in bfloat16 where that is safe."""
        return self.bf16 and device.type == "cuda"

    def forward(self, model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Returns the model's logits in float32, computed in bfloat16 where the settings and the device say so."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.uses_bf16(images.device)):
            return model(images).float()


def train(
    model: nn.Module,
    step: TrainingStep,
    images: TrainingImages,
    settings: LoopSettings,
    *,
    checkpoints: Path | None = None,
    depends_on: Mapping[str, object] | None = None,
    progress: TrainingProgress = no_progress,
) -> None:
    """Trains a model in place to the end, as `train_by_epoch` does."""
    epochs = train_by_epoch(
        model, step, images, settings, checkpoints=checkpoints, depends_on=depends_on, progress=progress
    )
    deque(epochs, maxlen=0)


def train_by_epoch(
    model: nn.Module,
    step: TrainingStep,
    images: TrainingImages,
    settings: LoopSettings,
    *,
    checkpoints: Path | None = None,
    depends_on: Mapping[str, object] | None = None,
    progress: TrainingProgress = no_progress,
) -> Iterator[int]:
    """Trains a model in place, from its last checkpoint where there is one, one epoch each time it is asked.

    With a moving average, whoever asks sees the averaged weights, and the model ends with them.

    Args:
        model: on the device of the images; its memory format becomes channels last.
        step: what a step computes; called with the gradients set to none, or, for the later parts of a batch, those of
            the earlier ones.
        images: trained on.
        settings: of the loop.
        checkpoints: folder of the checkpoints; None to keep none.
        depends_on: JSON values that the result depends on besides settings, images and initial weights; a checkpoint
            of other ones is not used.
        progress: told where the training stands.

    Yields:
        How many epochs are done, at the end of each that was trained now. The model may be used in between, and its
        mode must be as it was when it goes on.

    Raises:
        RunError: a metric is not a finite number: the training has diverged.
    """
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = _optimizer(model, settings)
    batch_size = min(settings.batch_size, len(images))
    steps_per_epoch = len(images) // batch_size
    total = settings.epochs * steps_per_epoch
    identity = _identity(model, images, settings, depends_on or {})
    average = MovingAverage(model, settings.ema) if settings.ema else None
    done = _resume(model, optimizer, average, checkpoints, identity)
    saved_at = reported_at = time.monotonic()
    order = np.zeros((0, batch_size), np.int64)
    for number in range(done, total):
        epoch, place = divmod(number, steps_per_epoch)
        if place == 0 or not len(order):
            order = np.random.default_rng((settings.seed, 0, epoch)).permutation(len(images))
            order = order[: steps_per_epoch * batch_size].reshape(steps_per_epoch, batch_size)
        rng = np.random.default_rng((settings.seed, 1, number))
        batch = images.batch(order[place], rng, ahead=order[place + 1] if place + 1 < steps_per_epoch else None)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate_at(number, total)
        optimizer.zero_grad(set_to_none=True)
        metrics = _accumulated(model, step, workers.own_part(batch), rng, settings.accumulate)
        workers.average_gradients(model)
        optimizer.step()
        if average:
            average.update(number)
        now = time.monotonic()
        last = number == total - 1
        first = workers.is_first()
        if first and (last or now - reported_at >= _REPORT_SECONDS):
            reported_at = now
            progress(number + 1, total, _finite(metrics, number + 1))
        if first and checkpoints is not None and (last or now - saved_at >= settings.checkpoint_seconds):
            save_checkpoint(checkpoints, identity, Checkpoint(number + 1, _state(model, optimizer, average)))
            saved_at = time.monotonic()
        if place == steps_per_epoch - 1:
            with average.applied() if average else nullcontext():
                yield epoch + 1
    if average:
        average.apply()


def _accumulated(
    model: nn.Module, step: TrainingStep, batch: Batch, rng: np.random.Generator, parts: int
) -> Mapping[str, Tensor]:
    """Adds the gradients of a step to the model's parameters, their mean over parts of the batch; returns metrics."""
    if parts == 1:
        return step(batch, rng)
    told = [step(part, rng) for part in batch.parts(min(parts, len(batch.labels)))]
    torch._foreach_div_([p.grad for p in model.parameters() if p.grad is not None], len(told))
    return {name: torch.stack([metrics[name] for metrics in told]).mean() for name in told[0]}


def _finite(metrics: Mapping[str, Tensor], step: int) -> dict[str, float]:
    values = {name: float(value) for name, value in metrics.items()}
    if not all(math.isfinite(value) for value in values.values()):
        raise RunError(f"training has diverged at step {step} ({values}); lower its learning_rate and start it again")
    return values


def _optimizer(model: nn.Module, settings: LoopSettings) -> torch.optim.Optimizer:
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if settings.optimizer == "sgd":
        sgd = torch.optim.SGD(groups, lr=settings.learning_rate, momentum=0.9, nesterov=True, fused=True)
        # The fused step takes no mixture of parameters with and without momentum, as there is in a supernet whose first
        # subnets left some out; zeros are what the first gradient is added to anyway.
        for parameter in model.parameters():
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return sgd
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def _identity(
    model: nn.Module, images: TrainingImages, settings: LoopSettings, depends_on: Mapping[str, object]
) -> str:
    # Options that are off are left out, as before there were any: their checkpoints are used.
    off = {field.name for field in dataclasses.fields(settings) if getattr(settings, field.name) == field.default}
    used = {name: v for name, v in dataclasses.asdict(settings).items() if name not in off & _OPTIONS}
    everything = {
        "settings": {**used, "checkpoint_seconds": None},
        "images": images.description,
        "weights": {name: list(tensor.shape) for name, tensor in model.state_dict().items()},
        "initial": _digest(model),
        **({"workers": workers.count()} if workers.count() > 1 else {}),
        **depends_on,
    }
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def _digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _state(model: nn.Module, optimizer: torch.optim.Optimizer, average: MovingAverage | None) -> dict[str, Tensor]:
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    state |= {f"average.{name}": tensor for name, tensor in average.tensors.items()} if average else {}
    for name, parameter in model.named_parameters():
        for key, tensor in optimizer.state.get(parameter, {}).items():
            state[f"optimizer.{name}.{key}"] = tensor
    return {name: tensor.detach().cpu() for name, tensor in state.items()}


def _resume(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: MovingAverage | None,
    checkpoints: Path | None,
    identity: str,
) -> int:
    here = checkpoints is not None and workers.is_first()
    checkpoint = workers.from_first(load_checkpoint(checkpoints, identity) if checkpoints and here else None)
    if checkpoint is None:
        return 0
    model.load_state_dict(
        {name.removeprefix("model."): t for name, t in checkpoint.tensors.items() if name.startswith("model.")}
    )
    if average:
        average.load({name.removeprefix("average."): tensor for name, tensor in checkpoint.tensors.items()})
    for name, parameter in model.named_parameters():
        prefix = f"optimizer.{name}."
        state = {key.removeprefix(prefix): t for key, t in checkpoint.tensors.items() if key.startswith(prefix)}
        if state:
            optimizer.state[parameter] = {
                # The moments in the memory format of their parameter, as if never stored.
                key: torch.empty_like(parameter).copy_(t) if t.ndim else t.to(parameter.device)
                for key, t in state.items()
            }
    _log.info("training goes on from step %d of %s", checkpoint.step, checkpoints)
    return checkpoint.step

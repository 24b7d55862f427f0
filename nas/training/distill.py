"""Fine-tuning of a network against a teacher."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nas.config import FinishConfig
from nas.data import ImageData
from nas.training.images import Batch, TrainingImages
from nas.training.loop import LoopSettings, TrainingProgress, no_progress, train
from nas.training.losses import soft_cross_entropy
from search_spaces.network import Network, folded

CHECKPOINT_SECONDS = 20.0
METHOD = "inherit weights, then distil from the largest subnet"
"""What finishing does to a subnet, in words for reports."""


def distill(
    student: Network,
    teacher: Network,
    data: ImageData,
    config: FinishConfig,
    *,
    seed: int,
    checkpoints: Path | None = None,
    augment: bool = True,
    flip: bool = False,
    progress: TrainingProgress = no_progress,
) -> None:
    """Fine-tunes a network in place on the labels and on a teacher's answers (Hinton et al., arXiv:1503.02531).

    Args:
        student: its weights are where training starts; ends in evaluation mode.
        teacher: on the same device; reads the same pictures at its own resolution.
        data: only the training split is read.
        config: epochs, learning rate, temperature and the teacher's share of the loss.
        seed: of order and augmentation.
        checkpoints: folder of the checkpoints of this network; None to keep none.
        augment: whether images are shifted.
        flip: whether images may be mirrored.
        progress: told where the training stands.

    Raises:
        RunError: the training diverges.
    """
    device = next(student.parameters()).device
    images = TrainingImages.of(data, augment=augment, flip=flip, device=device)
    settings = LoopSettings(
        epochs=config.epochs,
        batch_size=64,
        learning_rate=config.learning_rate,
        seed=seed,
        checkpoint_seconds=CHECKPOINT_SECONDS,
    )
    share = config.distillation_weight
    teacher.eval()
    answering = folded(teacher).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def step(batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        with torch.no_grad():
            answers = settings.forward(answering, batch.at(teacher.resolution))
        logits = settings.forward(student, batch.at(student.resolution))
        soft = soft_cross_entropy(logits, answers, config.temperature)
        loss = share * soft + (1 - share) * F.cross_entropy(logits, batch.labels)
        torch.autograd.backward(loss)
        return {"loss": loss.detach(), "train_accuracy": (logits.argmax(1) == batch.labels).float().mean()}

    student.train()
    train(
        student,
        step,
        images,
        settings,
        checkpoints=checkpoints,
        depends_on={"temperature": config.temperature, "distillation_weight": share},
        progress=progress,
    )
    student.eval()

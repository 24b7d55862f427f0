"""Fine-tuning of a network against a teacher."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nas.config import FinishConfig
from nas.data import ImageData
from nas.training.images import Batch, TrainingImages
from nas.training.inference import inference
from nas.training.loop import LoopSettings, TrainingProgress, no_progress, train
from nas.training.losses import soft_cross_entropy
from search_spaces.network import Network

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
    bf16: bool = True,
    checkpoint_seconds: float = 20.0,
    progress: TrainingProgress = no_progress,
) -> None:
    """Fine-tunes a network in place on the labels and on a teacher's answers (Hinton et al., arXiv:1503.02531).

    Args:
        student: its weights are where training starts; ends in evaluation mode.
        teacher: on the same device; reads the same pictures at its own resolution.
        data: only the training split is read.
        config: the training's options, temperature and the teacher's share of the loss. What is mixed into an image or
            done to it, the teacher sees too; smoothing concerns the labels' share of the loss.
        seed: of order and augmentation.
        checkpoints: folder of the checkpoints of this network; None to keep none.
        augment: whether images are shifted.
        flip: whether they may be mirrored.
        bf16: as `AccuracyConfig`.
        checkpoint_seconds: as `AccuracyConfig`.
        progress: told where the training stands.

    Raises:
        RunError: the training diverges.
    """
    device = next(student.parameters()).device
    images = TrainingImages.of(data, augment=augment, flip=flip, device=device, config=config)
    settings = LoopSettings.of(config, seed=seed, bf16=bf16, checkpoint_seconds=checkpoint_seconds)
    share = config.distillation_weight
    teacher.eval()
    answering = inference(teacher)

    def step(batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        answers = settings.forward(answering, batch.at(teacher.resolution))
        logits = settings.forward(student, batch.at(student.resolution))
        soft = soft_cross_entropy(logits, answers, config.temperature)
        loss = share * soft + (1 - share) * batch.cross_entropy(logits, config.label_smoothing)
        torch.autograd.backward(loss)
        return {"loss": loss.detach(), "train_accuracy": (logits.argmax(1) == batch.labels).float().mean()}

    student.train()
    train(
        student,
        step,
        images,
        settings,
        checkpoints=checkpoints,
        depends_on={
            "temperature": config.temperature,
            "distillation_weight": share,
            **({"label_smoothing": config.label_smoothing} if config.label_smoothing else {}),
        },
        progress=progress,
    )
    student.eval()

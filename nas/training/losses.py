"""The loss against another network's answers."""

import torch.nn.functional as F
from torch import Tensor


def soft_cross_entropy(logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Returns the mean cross entropy of the softened answers, times the squared temperature.

    Hinton et al., arXiv:1503.02531, section 2: the factor keeps the gradients' size as the temperature changes.

    Args:
        logits: ``(n, classes)``.
        teacher_logits: ``(n, classes)``; no gradient flows into them.
        temperature: both are divided by it.
    """
    answers = F.softmax(teacher_logits.detach() / temperature, 1)
    return F.cross_entropy(logits / temperature, answers) * temperature**2

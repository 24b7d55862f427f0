import numpy as np
import pytest
import torch

from nas.training.losses import soft_cross_entropy


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_cross_entropy_is_its_definition(temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits, teacher = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))

    def softened(values: np.ndarray) -> np.ndarray:
        powers = np.exp(values / temperature)
        return powers / powers.sum(1, keepdims=True)

    expected = temperature**2 * -(softened(teacher) * np.log(softened(logits))).sum(1).mean()
    actual = soft_cross_entropy(torch.from_numpy(logits), torch.from_numpy(teacher), temperature)
    assert actual.item() == pytest.approx(expected)


def test_the_loss_is_least_where_the_student_answers_as_the_teacher_and_leaves_the_teacher_alone() -> None:
    teacher = torch.randn(4, 3, requires_grad=True)
    student = teacher.detach().clone().requires_grad_()
    soft_cross_entropy(student, teacher, 2.0).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().max().item() < 1e-6

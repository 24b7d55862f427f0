import numpy as np
import pytest

from nas.pareto import hypervolume
from nas.search.samplers.improvement import FreeBoxes


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_a_certain_candidate_gains_exactly_the_difference_of_hypervolumes(objectives: int) -> None:
    rng = np.random.default_rng(objectives)
    losses, reference = rng.random((12, objectives)), np.full(objectives, 1.1)
    boxes = FreeBoxes.of(losses, reference)
    candidates = rng.random((30, objectives)) * 1.3 - 0.1
    before = hypervolume(losses, reference)
    expected = [hypervolume(np.vstack([losses, candidate]), reference) - before for candidate in candidates]
    gains = boxes.expected_improvement(candidates, np.zeros_like(candidates))
    np.testing.assert_allclose(gains, expected, atol=1e-12)


@pytest.mark.parametrize("objectives", [2, 3])
def test_the_expectation_is_that_of_a_simulation(objectives: int) -> None:
    rng = np.random.default_rng(0)
    losses, reference = rng.random((8, objectives)), np.ones(objectives)
    boxes = FreeBoxes.of(losses, reference)
    mean, std = np.full((1, objectives), 0.3), np.full((1, objectives), 0.2)
    draws = rng.normal(mean, std, size=(40_000, objectives))
    simulated = boxes.expected_improvement(draws, np.zeros_like(draws))
    error = simulated.std() / np.sqrt(len(draws))
    assert abs(boxes.expected_improvement(mean, std)[0] - simulated.mean()) < 4 * error


def test_the_boxes_do_not_overlap_and_leave_the_dominated_part_out() -> None:
    rng = np.random.default_rng(1)
    losses, reference = rng.random((15, 3)), np.ones(3)
    boxes = FreeBoxes.of(losses, reference)
    points = rng.random((2000, 3))
    inside = ((points[:, None] > boxes.lower) & (points[:, None] < boxes.upper)).all(2).sum(1)
    dominated = (losses[None] <= points[:, None]).all(2).any(1)
    np.testing.assert_array_equal(inside, (~dominated).astype(int))


def test_an_empty_front_leaves_one_box_and_points_beyond_the_reference_gain_nothing() -> None:
    boxes = FreeBoxes.of(np.array([[2.0, 0.0]]), np.ones(2))
    assert len(boxes.upper) == 1
    gains = boxes.expected_improvement(np.array([[0.5, 0.25], [0.5, 1.5]]), np.zeros((2, 2)))
    np.testing.assert_allclose(gains, [0.375, 0.0])


def test_a_large_front_is_thinned_to_a_bounded_number_of_boxes() -> None:
    angle = np.linspace(0, np.pi / 2, 2000)
    front = 1 - np.stack([np.sin(angle), np.cos(angle)], axis=1)
    assert len(FreeBoxes.of(front, np.ones(2)).upper) <= 401

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from nas.pareto import chord_excess, hypervolume, knee, non_dominated, ranks

Losses = NDArray[np.float64]


def grids(rows: int = 12, columns: int = 4, top: int = 4) -> st.SearchStrategy[Losses]:
    """Losses on a small integer grid, so that ties and repeats are common."""
    shapes = st.tuples(st.integers(1, rows), st.integers(1, columns))
    return shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=st.integers(0, top).map(float)))


def dominates(first: Losses, second: Losses) -> bool:
    return bool((first <= second).all() and (first < second).any())


@given(grids())
def test_the_front_is_what_comparing_all_pairs_gives(losses: Losses) -> None:
    expected = [not any(dominates(other, row) for other in losses) for row in losses]
    assert non_dominated(losses).tolist() == expected


@given(grids(), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_change_the_front(losses: Losses, random) -> None:  # type: ignore[no-untyped-def]
    order = list(range(len(losses)))
    random.shuffle(order)
    assert non_dominated(losses[order]).tolist() == non_dominated(losses)[order].tolist()


@given(grids())
def test_a_row_is_in_the_first_layer_after_all_that_dominate_it(losses: Losses) -> None:
    layers = ranks(losses)
    assert ((layers == 1) == non_dominated(losses)).all()
    for row, layer in zip(losses, layers, strict=True):
        above = [layers[other] for other in range(len(losses)) if dominates(losses[other], row)]
        assert layer == max(above, default=0) + 1


@given(grids(rows=8))
def test_the_hypervolume_is_the_number_of_unit_cells_that_are_dominated(losses: Losses) -> None:
    corners = itertools.product(range(5), repeat=losses.shape[1])
    cells = sum(bool((losses <= np.array(corner)).all(1).any()) for corner in corners)
    assert hypervolume(losses, np.full(losses.shape[1], 5.0)) == pytest.approx(cells)


def test_the_hypervolume_of_three_dimensions_agrees_with_inclusion_and_exclusion() -> None:
    losses = np.random.default_rng(0).random((8, 3))
    expected = 0.0
    for size in range(1, 9):
        for subset in itertools.combinations(losses, size):
            expected += (-1) ** (size + 1) * np.prod(1.1 - np.max(subset, axis=0))
    assert hypervolume(losses, [1.1, 1.1, 1.1]) == pytest.approx(expected)


def test_rows_outside_the_reference_add_nothing() -> None:
    assert hypervolume([[0, 5], [3, 0], [1, 1], [np.inf, -1]], [3, 4]) == pytest.approx(6)
    assert hypervolume(np.empty((0, 2)), [1, 1]) == 0


@given(grids(), st.lists(st.integers(0, 4), min_size=4, max_size=4))
def test_another_point_never_lowers_the_hypervolume(losses: Losses, extra: list[int]) -> None:
    reference = np.full(losses.shape[1], 5.0)
    more = np.vstack([losses, extra[: losses.shape[1]]])
    assert hypervolume(more, reference) >= hypervolume(losses, reference) - 1e-9


def test_the_knee_is_furthest_from_the_chord() -> None:
    # Distances to the line from (0, 10) to (10, 0), by hand: (1, 2) is 7 / sqrt(2) before it, (4, 1) only 5 / sqrt(2).
    front = [[0, 10], [1, 2], [4, 1], [10, 0]]
    assert knee(front) == 1
    assert chord_excess(front) == pytest.approx([0, -0.7 / np.sqrt(2), -0.5 / np.sqrt(2), 0])


@given(
    grids(columns=3),
    st.lists(st.sampled_from([0.5, 2.0, 1024.0]), min_size=3, max_size=3),
    st.lists(st.integers(-8, 8), min_size=3, max_size=3),
)
def test_units_do_not_move_the_knee(losses: Losses, factors: list[float], offsets: list[int]) -> None:
    columns = losses.shape[1]
    changed = losses * factors[:columns] + np.array(offsets[:columns])
    assert knee(changed) == knee(losses)


def test_the_knee_of_one_point_is_that_point() -> None:
    assert knee([[3.0, 4.0]]) == 0


@pytest.mark.parametrize("function", [non_dominated, ranks, knee, lambda losses: hypervolume(losses, [1, 1])])
def test_nan_is_refused(function) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="without NaN"):
        function([[0.0, np.nan], [1.0, 1.0]])


@pytest.mark.parametrize(
    ("losses", "reference", "message"),
    [
        ([[0, 0]], [1], "2 finite values"),
        ([[0, 0]], [1, np.inf], "2 finite values"),
        ([[0, -np.inf]], [1, 1], "infinitely good"),
    ],
)
def test_a_volume_without_bounds_is_refused(losses: list[list[float]], reference: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hypervolume(losses, reference)


def test_the_knee_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        knee(np.empty((0, 2)))


def test_a_front_among_thousands_is_found_at_once() -> None:
    losses = np.random.default_rng(0).random((5_000, 3))
    mask = non_dominated(losses)
    front = losses[mask]
    assert not any(((other <= front) & (other != front)).all(1).any() for other in losses)
    assert all((front <= other).all(1).any() for other in losses)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import InputError
from nas.front import Front, FrontPoint
from nas.objectives import Constraint
from nas.pick import pick
from tests.nas.front_example import front_of, network

# accuracy, latency: 5 is dominated by 2
FRONT = front_of([(0.40, 0.5), (0.90, 1.0), (0.95, 2.0), (0.97, 6.0), (0.98, 9.0), (0.90, 2.5)])


def numbers(points: tuple[FrontPoint, ...]) -> list[int]:
    return [int(point.architecture["resolution"]) - 8 for point in points]


def budgets(*texts: str) -> list[Constraint]:
    return [Constraint.parse(text) for text in texts]


def test_without_a_wish_the_knee_is_picked() -> None:
    assert pick(FRONT)[0].key == FRONT.knee == network(1).key
    assert pick(FRONT, "knee", count=2)[0].key == FRONT.knee


def test_within_a_budget_the_most_accurate_is_picked() -> None:
    assert numbers(pick(FRONT, within=budgets("latency_ms@cpu <= 6"))) == [3]
    assert numbers(pick(FRONT, within=budgets("latency_ms@cpu <= 5.99"))) == [2]
    assert numbers(pick(FRONT, "latency_ms@cpu", budgets("accuracy >= 0.92"))) == [2]


def test_the_knee_within_budgets_is_that_of_the_networks_within_them() -> None:
    assert numbers(pick(FRONT, "knee", budgets("accuracy >= 0.92"))) == [3]


def test_three_are_the_most_accurate_the_knee_and_a_reasonable_one_far_from_both() -> None:
    # The knee loses 0.08, so 0.40 loses too much. Scaled over the rest, 2 is 0.64 from the knee and 3 0.40 from 4.
    assert numbers(pick(FRONT, count=3)) == [4, 1, 2]


def test_the_useless_end_is_taken_only_when_nothing_else_is_left() -> None:
    assert numbers(pick(FRONT, "spread", count=4))[:3] == [4, 1, 2]
    assert sorted(numbers(pick(FRONT, "spread", count=4))) == [1, 2, 3, 4]
    assert sorted(numbers(pick(FRONT, "spread", count=9))) == [0, 1, 2, 3, 4]


def test_among_equally_accurate_networks_the_cheapest_is_picked() -> None:
    front = front_of([(0.9, 2.0, 100.0), (0.9, 1.0, 200.0), (0.8, 0.5, 50.0)], ("accuracy", "latency_ms@cpu", "macs"))
    assert numbers(pick(front, "accuracy")) == [1]


def test_a_budget_on_what_is_no_objective_can_pick_off_the_front() -> None:
    front = front_of([(0.95, 1.0, 900.0), (0.90, 1.5, 100.0), (0.85, 1.6, 100.0)], extra=["parameters"])
    assert len(front.best) == 1
    assert numbers(pick(front, within=budgets("parameters <= 500"))) == [1]
    assert numbers(pick(front, "spread", budgets("parameters <= 500"), count=3)) == [1]


def test_networks_that_break_the_run_s_own_constraints_are_never_picked() -> None:
    front = front_of([(0.95, 1.0), (0.99, 3.0)], constraints=["latency_ms@cpu <= 2"])
    assert numbers(pick(front, "accuracy", count=5)) == [0]


def test_an_impossible_budget_gives_the_nearest_value() -> None:
    with pytest.raises(InputError, match=rf"keeps latency_ms@cpu <= 0\.1; the nearest has 0\.5 \({network(0).key}\)"):
        pick(FRONT, within=budgets("latency_ms@cpu <= 0.1"))


def test_budgets_that_only_clash_give_the_nearest_network() -> None:
    with pytest.raises(InputError, match=r"together, though each .* nearest has latency_ms@cpu 9, accuracy 0\.98"):
        pick(FRONT, within=budgets("latency_ms@cpu <= 8.95", "accuracy >= 0.98"))


def test_a_budget_on_an_unknown_value_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="knows no latency_ms@phone; it knows accuracy, latency_ms@cpu"):
        pick(FRONT, within=budgets("latency_ms@phone <= 1"))


def test_an_unknown_rule_names_the_rules() -> None:
    with pytest.raises(InputError, match=r"knee, spread or an objective \(accuracy, latency_ms@cpu\), got 'best'"):
        pick(FRONT, "best")
    with pytest.raises(InputError, match="count must be at least 1"):
        pick(FRONT, count=0)


@pytest.mark.parametrize(
    ("front", "message"),
    [
        (front_of([]), "none of the 0 networks .*: search first"),
        (
            front_of([(0.9, 1.0)], constraints=["latency_ms@cpu <= 0.5"]),
            r"none of the 1 networks .* \(latency_ms@cpu <= 0.5\): search longer or loosen",
        ),
    ],
)
def test_a_front_without_a_feasible_network_is_refused(front: Front, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pick(front)


@given(
    st.lists(st.tuples(st.floats(0.1, 1), st.floats(0.1, 100)), min_size=1, max_size=12),
    st.sampled_from(["knee", "spread", "accuracy", "latency_ms@cpu"]),
    st.integers(1, 14),
    st.floats(0.1, 100),
)
def test_every_pick_is_within_the_budget_and_dominated_by_nothing_within_it(
    rows: list[tuple[float, float]], rule: str, count: int, bound: float
) -> None:
    front = front_of(rows)
    budget = Constraint.parse(f"latency_ms@cpu <= {bound!r}")
    inside = [row for row in rows if row[1] <= bound]
    if not inside:
        with pytest.raises(InputError, match="the nearest has"):
            pick(front, rule, [budget], count)
        return
    picks = pick(front, rule, [budget], count)
    found = [(point.values["accuracy"].value, point.values["latency_ms@cpu"].value) for point in picks]
    best = [row for row in inside if not any(o[0] >= row[0] and o[1] <= row[1] and o != row for o in inside)]
    assert set(found) <= set(best)
    assert len({point.key for point in picks}) == len(picks) == min(count, len(best))
    if rule in {"accuracy", "spread"}:
        assert found[0][0] == max(row[0] for row in inside)

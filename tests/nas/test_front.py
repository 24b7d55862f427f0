import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.api.results import point_rows
from nas.errors import InputError, RunError
from nas.front import Front
from nas.objectives import Objective, Value
from search_spaces.checksum import write_json
from tests.nas.front_example import front_of, network

# accuracy, latency: 0, 1, 2, 4 are the front; 3 is dominated by 1
ROWS = [(0.70, 1.0), (0.95, 2.0), (0.97, 6.0), (0.90, 2.5), (0.98, 9.0)]


def test_the_front_its_knee_and_its_layers_are_found() -> None:
    front = front_of(ROWS)
    assert [point.key for point in front.best] == [network(number).key for number in (0, 1, 2, 4)]
    assert front.knee == network(1).key
    assert {point.key: point.rank for point in front.points}[network(3).key] == 2
    # By hand, from the worst of each, (0.70, 9): columns of width 4, 3 and 0 above it.
    assert front.reference == (0.70, 9.0)
    assert front.hypervolume == pytest.approx(4 * 0.25 + 3 * 0.27)


def test_a_network_that_breaks_a_constraint_is_never_on_the_front() -> None:
    front = front_of(ROWS, constraints=["latency_ms@cpu <= 5", "accuracy >= 0.8"])
    assert [point.key for point in front.best] == [network(1).key]
    assert {point.key for point in front.points if point.rank is None} == {network(n).key for n in (0, 2, 4)}
    assert not any(point.feasible for point in front.points if point.rank is None)


def test_a_front_survives_its_file(tmp_path: Path) -> None:
    front = front_of(ROWS, constraints=["accuracy >= 0.8"])
    front.save(tmp_path / "front.json")
    assert Front.load(tmp_path / "front.json") == front


def test_how_likely_a_bound_is_kept_is_in_the_file_and_files_without_it_are_read(tmp_path: Path) -> None:
    bound = "latency_ms@cpu <= 7"
    data = front_of(ROWS, constraints=[bound]).to_dict()
    points: list[dict[str, object]] = data["points"]  # type: ignore[assignment]
    for number, point in enumerate(points):
        point["probabilities"] = {bound: number / 10}
    front = Front.from_dict(data)
    assert [point.probabilities[bound] for point in front.points] == [0.0, 0.1, 0.2, 0.3, 0.4]
    front.save(tmp_path / "front.json")
    assert Front.load(tmp_path / "front.json") == front
    assert [row.get(f"P({bound})") for row in point_rows(front.points[3:])] == ["0.30", "0.40"]
    for point in points:
        del point["probabilities"]
    assert Front.from_dict(data) == front_of(ROWS, constraints=[bound])


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(1e-3, 1e3)), max_size=8))
def test_json_keeps_every_front(rows: list[tuple[float, float]]) -> None:
    front = front_of(rows)
    assert Front.from_dict(json.loads(json.dumps(front.to_dict()))) == front


def test_the_file_gives_every_value_with_unit_source_and_interval() -> None:
    data = front_of(ROWS).to_dict()
    point = next(point for point in data["points"] if point["key"] == network(1).key)  # type: ignore[attr-defined]
    assert point["values"]["latency_ms@cpu"] == {
        "value": 2.0,
        "unit": "ms",
        "source": "predicted",
        "lower": pytest.approx(1.8),
        "upper": pytest.approx(2.2),
    }
    assert (point["on_front"], point["rank"], point["feasible"]) == (True, 1, True)
    assert point["architecture"] == {"space": "tiny", "values": {"resolution": 9}}
    assert data["hypervolume"]["reference"] == {"accuracy": 0.70, "latency_ms@cpu": 9.0}  # type: ignore[index]
    assert (data["evaluated"], data["feasible"], data["on_front"]) == (5, 5, 4)


def test_a_search_without_a_feasible_network_has_an_empty_front() -> None:
    for front in (front_of(ROWS, constraints=["latency_ms@cpu <= 0.1"]), front_of([])):
        assert (front.best, front.knee, front.hypervolume) == ((), None, 0.0)


def test_three_objectives_keep_what_is_best_in_any() -> None:
    rows = [(0.9, 1.0, 500.0), (0.9, 2.0, 400.0), (0.9, 2.0, 600.0)]
    front = front_of(rows, names=("accuracy", "latency_ms@cpu", "macs"))
    assert [point.key for point in front.best] == [network(0).key, network(1).key]


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"front\.json does not exist: search first"):
        Front.load(tmp_path / "front.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data | {"format": 2}, "has format 2, this version of hwnas reads 1"),
        (lambda data: {key: value for key, value in data.items() if key != "points"}, "is damaged .KeyError: 'points'"),
        (lambda data: data | {"points": [data["points"][0] | {"key": "tiny-0"}]}, "'tiny-0' does not belong"),
        (lambda data: data | {"points": data["points"] * 2}, "given twice"),
        (lambda data: data | {"objectives": [{"name": "speed"}]}, "a metric must be one of"),
        (lambda data: data | {"points": [3]}, "is damaged"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "front.json"
    write_json(path, change(front_of(ROWS).to_dict()))
    with pytest.raises(RunError, match=message):
        Front.load(path)


def test_a_half_written_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "front.json"
    front_of(ROWS).save(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(RunError, match=r"front\.json is damaged .*: write it again with `nas search`"):
        Front.load(path)


def test_candidates_must_be_complete_and_different() -> None:
    accuracy, latency = Objective("accuracy"), Objective("latency_ms", "cpu")
    value = Value(0.5, "measured")
    with pytest.raises(ValueError, match="has no value of latency_ms@cpu"):
        Front.of("x", [accuracy, latency], [], [(network(0), {"accuracy": value})])
    both = {"accuracy": value, "latency_ms@cpu": value}
    with pytest.raises(ValueError, match="given twice"):
        Front.of("x", [accuracy, latency], [], [(network(0), both), (network(0), both)])
    with pytest.raises(ValueError, match="accuracy and at least one cost"):
        Front.of("x", [accuracy], [], [])


def test_a_key_that_was_not_evaluated_is_refused() -> None:
    front = front_of(ROWS)
    assert front.point(network(3).key).rank == 2
    with pytest.raises(InputError, match="'tiny-nothing' is no network of run example"):
        front.point("tiny-nothing")

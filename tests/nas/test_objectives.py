import pytest

from nas.objectives import Constraint, Objective, Value
from search_spaces.errors import InputError


@pytest.mark.parametrize("text", ["accuracy", "macs", "parameters", "latency_ms@cpu", "weight_bytes@cpu"])
def test_an_objective_reads_back_as_it_is_written(text):
    assert Objective.parse(text).name == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latncy_ms@cpu", "did you mean 'latency_ms'?"),
        ("latency_ms", "write latency_ms@NAME"),
        ("accuracy@cpu", "accuracy belongs to no device"),
    ],
)
def test_a_wrong_objective_names_the_mend(text, message):
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        Objective.parse(text)


def test_only_accuracy_is_maximized():
    assert Objective.parse("accuracy").loss(0.9) == -0.9
    assert Objective.parse("macs").loss(7) == 7


@pytest.mark.parametrize(
    ("text", "value", "violation"),
    [
        ("macs <= 10", 12, 2),
        ("macs<=10", 10, 0),
        ("accuracy >= 0.5", 0.25, 0.25),
        ("latency_ms@cpu<=1e-1", 0.05, -0.05),
    ],
)
def test_a_constraint_measures_how_far_it_is_broken(text, value, violation):
    assert Constraint.parse(text).violation(value) == pytest.approx(violation)


@pytest.mark.parametrize("text", ["macs", "macs < 10", "macs <= ten", "macs <= nan", "10 >= macs", "macs <= 1 2"])
def test_what_is_no_constraint_is_refused(text):
    with pytest.raises(InputError, match="a constraint is"):
        Constraint.parse(text)


def test_a_constraint_reads_back_as_it_is_written():
    assert Constraint.parse(Constraint.parse("latency_ms@cpu<=2").text) == Constraint.parse("latency_ms@cpu <= 2.0")


@pytest.mark.parametrize(
    "fields",
    [
        {"value": float("nan")},
        {"value": 1.0, "lower": 0.5},
        {"value": 1.0, "lower": 1.5, "upper": 2.0},
        {"value": 1.0, "lower": 0.5, "upper": float("inf")},
    ],
)
def test_a_value_that_makes_no_sense_cannot_exist(fields):
    with pytest.raises(ValueError, match=r"finite|two ends|lie in its interval"):
        Value(source="measured", **fields)

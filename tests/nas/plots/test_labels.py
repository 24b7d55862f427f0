import subprocess
import sys

import pytest

from nas.objectives import Objective
from nas.plots.labels import axis_label, quantity
from tests.nas.front_example import front_of


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("accuracy", "accuracy"),
        ("latency_ms@cpu", "latency on cpu"),
        ("weight_bytes@phone", "weight on phone"),
        ("energy_mj@phone", "energy on phone"),
        ("peak_memory_mb@phone", "peak memory on phone"),
        ("peak_activation_bytes@phone", "peak activation on phone"),
        ("parameters", "parameters"),
    ],
)
def test_a_quantity_is_named_without_its_unit(name: str, words: str) -> None:
    assert quantity(Objective.parse(name)) == words


def test_an_axis_names_unit_and_source() -> None:
    front = front_of([(0.9, 1.0, 5.0)], ("accuracy", "latency_ms@cpu", "parameters"))
    assert axis_label(front, "latency_ms@cpu") == "latency on cpu (ms, predicted)"
    assert axis_label(front, "parameters") == "parameters (analytic)"
    assert axis_label(front_of([]), "latency_ms@cpu") == "latency on cpu (ms)"


def test_drawing_libraries_are_loaded_only_to_draw() -> None:
    code = (
        "import sys, nas.plots.front_html, nas.plots.front_png, nas.pick;"
        "print([m for m in ('plotly', 'matplotlib', 'torch', 'ray') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"

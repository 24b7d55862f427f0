from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.plots.front_png import draw_front, write_front_png
from tests.nas.front_example import front_of

ROWS = [(0.70, 1.0, 40e3), (0.95, 2.0, 30e3), (0.97, 6.0, 50e3), (0.90, 2.5, 60e3), (0.98, 9.0, 90e3)]
NAMES = ("accuracy", "latency_ms@cpu", "macs")


def test_the_picture_shows_front_knee_and_dominated_points(tmp_path: Path) -> None:
    write_front_png(front_of(ROWS, NAMES), tmp_path / "front.png")
    with Image.open(tmp_path / "front.png") as image:
        assert (image.format, image.size) == ("PNG", (1600, 1000))
        pixels = np.asarray(image.convert("RGB")).astype(int)
    for colour, least in (((0x1F, 0x6F, 0xB4), 500), ((0xF5, 0xB3, 0x01), 200), ((0xC3, 0xCA, 0xD1), 50)):
        assert (np.abs(pixels - colour).sum(2) < 12).sum() > least


def test_the_same_front_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_front_png(front_of(ROWS, NAMES), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_axes_legend_and_constraint_are_named() -> None:
    axes = draw_front(front_of(ROWS, NAMES, constraints=["macs <= 55000"]), "macs").axes[0]
    assert axes.get_xlabel() == "macs (multiply-accumulates, analytic)"
    assert axes.get_ylabel() == "accuracy (fraction of the validation split, measured)"
    legend = axes.get_legend()
    assert legend
    assert [text.get_text() for text in legend.get_texts()] == [
        "Pareto front",
        "breaks a constraint",
        "knee",
        "constraint macs <= 55000",
    ]


@pytest.mark.parametrize("rows", [[], [(0.5, 1.0)]])
def test_small_fronts_are_drawn_too(tmp_path: Path, rows: list[tuple[float, float]]) -> None:
    write_front_png(front_of(rows), tmp_path / "front.png")
    assert (tmp_path / "front.png").stat().st_size > 1000


def test_a_cost_that_is_no_objective_is_refused() -> None:
    with pytest.raises(ValueError, match="a cost must be one of"):
        draw_front(front_of(ROWS, NAMES), "accuracy")

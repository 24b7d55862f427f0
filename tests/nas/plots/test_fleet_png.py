from pathlib import Path

from PIL import Image

from nas.plots.fleet_png import draw_fleet, write_fleet_png
from tests.nas.plots.test_fleet_html import example


def test_the_picture_is_the_same_for_the_same_plan(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_fleet_png(example(), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert (image.format, image.size) == ("PNG", (1600, 1000))


def test_regret_is_drawn_against_the_number_of_networks() -> None:
    axes = draw_fleet(example()).axes[0]
    assert (axes.get_xlabel(), axes.get_title(loc="left")) == ("networks to maintain", "Fleet of example: 3 devices")
    curve, star = axes.lines[0], axes.lines[-1]
    assert list(curve.get_xdata()) == [1, 2, 3]
    assert list(star.get_xdata()) == [2]

import pytest

from latency_predictors.learning_curve import LearningStep
from nas.plots.learning_png import draw_learning, write_learning_png

STEPS = [LearningStep(10, 0.05, 0.01, 0.09, 0.9), LearningStep(12, 0.03, 0.02, 0.04, 0.9)]


def test_the_picture_shows_error_and_interval_in_percent() -> None:
    (axes,) = draw_learning(STEPS, "phone", wanted=0.05, found=0.04).axes
    curve, wanted, found = axes.lines
    assert list(curve.get_xdata()) == [10, 12]
    assert list(curve.get_ydata()) == pytest.approx([5, 3])
    assert list(wanted.get_ydata()) == pytest.approx([5, 5])
    assert list(found.get_ydata()) == pytest.approx([4])
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((1, 9))
    assert axes.get_ylim()[0] == 0


def test_the_same_curve_gives_the_same_file(tmp_path) -> None:
    for name in ("a.png", "b.png"):
        write_learning_png(STEPS, "phone", tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()

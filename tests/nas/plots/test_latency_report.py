import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latency_predictors.base import Prediction
from latency_predictors.learning_curve import LearningStep
from nas.errors import InputError
from nas.plots.latency_files import write_report
from nas.plots.latency_html import latency_html
from nas.plots.latency_png import draw_latency
from nas.plots.latency_report import LatencyReport
from search_spaces.space import load_space
from tests.nas.plots.browser import in_browser, needs_browser
from tests.nas.plots.test_front_html import Page

CURVE = (LearningStep(10, 0.05, 0.01, 0.09, 0.9), LearningStep(12, 0.03, 0.02, 0.04, 0.9))
READY = 'byId("choices")._fullLayout'


def example(predictor: str = "phone/v1", curve: tuple[LearningStep, ...] = CURVE) -> LatencyReport:
    space, rng = load_space("tiny"), np.random.default_rng(0)
    architectures = list({space.sample(rng): None for _ in range(60)})
    mean = rng.uniform(1, 10, len(architectures))
    measured = 1.2 * mean * np.exp(rng.normal(0, 0.03, len(mean)))
    prediction = Prediction(mean, 0.9 * mean, 1.1 * mean)
    return LatencyReport.of(
        predictor,
        "phone/fp32/1-thread",
        "latency_ms",
        architectures,
        prediction,
        measured,
        rows_learned=40,
        curve=curve,
    )


def test_the_page_holds_the_whole_report_and_the_picture_lies_beside_it(tmp_path: Path) -> None:
    write_report(example(), tmp_path / "r.html")
    data = json.loads(Page((tmp_path / "r.html").read_text(encoding="utf-8")).text["script"])
    assert data == json.loads(json.dumps(example().to_dict()))
    assert data["quantity"] == "latency (ms)"
    assert "above the predicted ones" in data["drift"]
    assert Image.open(tmp_path / "r.png").size == (3600, 1000)


def test_a_report_is_a_page(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must end with \.html, got"):
        write_report(example(), tmp_path / "r.pdf")


def test_text_of_the_report_cannot_become_part_of_the_page() -> None:
    evil = "</script><script>alert(1)</script><!--<script>"
    page, clean = Page(latency_html(example(evil))), Page(latency_html(example()))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in clean.tags]


def test_without_a_learning_curve_the_picture_has_two_parts() -> None:
    assert len(draw_latency(example(curve=())).axes) == 2
    fit = draw_latency(example()).axes[0]
    assert (fit.get_xlabel(), fit.get_xscale()) == ("measured latency (ms)", "log")


class TestInABrowser:
    pytestmark = needs_browser

    def test_the_page_draws_every_part_and_choices_of_another_stage_on_demand(self, tmp_path: Path) -> None:
        steps = """
        const before = byId("choices").data[0].y;
        const stages = byId("stages").data[0].y;
        await set("stage", stages[0], "change");
        return {
          points: byId("fit").data[1].x.length, stages, best: byId("best").textContent, before,
          after: byId("choices").data[0].y, curve: byId("curve").data[2].y, learning: byId("learning").hidden,
        };
        """
        seen = in_browser(latency_html(example()), steps, tmp_path, READY)
        report = example()
        assert seen["points"] == len(report.keys)
        assert seen["stages"] == [error.stage for error in report.stages][::-1]
        assert seen["before"] == [choice.choice for choice in report.stages[0].choices][::-1]
        assert seen["after"] == [choice.choice for choice in report.stages[-1].choices][::-1]
        assert seen["curve"] == pytest.approx([5, 3])
        assert not seen["learning"]
        assert "No longer matches the device" in seen["best"]

    def test_a_predictor_without_a_learning_curve_shows_none(self, tmp_path: Path) -> None:
        page = latency_html(example(curve=()))
        assert in_browser(page, 'return byId("learning").hidden;', tmp_path, READY)

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nas.front import Front
from nas.plots.front_html import front_html, write_front_html
from tests.nas.front_example import front_of, network
from tests.nas.plots.browser import in_browser, needs_browser, screenshot

# accuracy, latency, macs: 3 is dominated; the knee is 1
ROWS = [(0.70, 1.0, 40e3), (0.95, 2.0, 30e3), (0.97, 6.0, 50e3), (0.90, 2.5, 60e3), (0.98, 9.0, 90e3)]
NAMES = ("accuracy", "latency_ms@cpu", "macs")
KEYS = [network(number).key for number in range(5)]


_VISIT = """
const plot = byId("plot"), trace = (name) => plot.data.find((one) => one.name === name);
const axis = () => plot._fullLayout.xaxis;
const note = () => {
  const budget = Number(byId("budget").value);
  return {
    budget,
    best: byId("best").textContent.replace(/copy$/, ""),
    ring: trace("best within the budget").x[0] ?? null,
    gap: parseFloat(byId("budget-line").style.left) - axis()._offset - axis().d2p(budget),
  };
};
const seen = {
  begin: {
    summary: byId("summary").textContent,
    best: byId("best").textContent,
    rows: [...byId("table").tBodies[0].rows].map((row) => row.textContent),
    marked: document.querySelectorAll("tr.best .knee").length,
    over: document.querySelectorAll("tr.over").length,
    traces: plot.data.map((one) => [one.name, one.x.length]),
    bars: trace("Pareto front").error_x.array,
    hover: trace("knee").text[0],
    axes: [plot.layout.xaxis.title.text, plot.layout.yaxis.title.text],
  },
};
await set("budget", "8.99", "input");
seen.number = note();
await set("budget-slider", "1000", "input");
seen.slider = note();
for (let press = 0; press < 3; press++)
  byId("budget-line").dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft", bubbles: true }));
await pause();
seen.keys = note();
// Zoom as people do, by drawing a box with the mouse.
const mouse = (target, type, x, y) => target.dispatchEvent(new MouseEvent(type, {
  clientX: plot.getBoundingClientRect().left + axis()._offset + axis().d2p(x),
  clientY: plot.getBoundingClientRect().top + plot._fullLayout.yaxis._offset + y,
  bubbles: true, cancelable: true, button: 0, buttons: type === "mouseup" ? 0 : 1,
}));
mouse(plot.querySelector(".nsewdrag"), "mousedown", 0.9, 20);
mouse(document, "mousemove", 4, 100);
mouse(document, "mousemove", 7.5, 350);
mouse(document, "mouseup", 7.5, 350);
await pause();
seen.zoomed = [plot._fullLayout.xaxis.range];
const left = plot.getBoundingClientRect().left;
const pointer = (type, value) => new PointerEvent(type, {
  clientX: left + axis()._offset + axis().d2p(value), bubbles: true, cancelable: true,
});
byId("budget-line").dispatchEvent(pointer("pointerdown", 2));
seen.drag = [];
for (const value of [7, 1.5, 0.95]) {
  window.dispatchEvent(pointer("pointermove", value));
  await pause();
  seen.drag.push(note());
}
window.dispatchEvent(pointer("pointerup", 0.95));
window.dispatchEvent(pointer("pointermove", 5));
await pause();
seen.drag.push(note());
seen.zoomed.push(plot._fullLayout.xaxis.range);
await set("budget", "6.1", "input");
seen.cautious = [note()];
await set("cautious", true, "change");
seen.cautious.push(note());
return seen;
"""


class Page(HTMLParser):
    """The tags of a page in order, its title, and its embedded JSON (as ``script``)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.tags[-1] if self.tags else ("", {})
        if tag == "title" or attributes.get("type") == "application/json":
            self.text[tag] = self.text.get(tag, "") + data

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}", {}))


def example() -> Front:
    return front_of(ROWS, NAMES)


def test_the_page_holds_the_whole_front_as_json(tmp_path: Path) -> None:
    write_front_html(example(), tmp_path / "front.html", Path("runs/my run"))
    page = Page((tmp_path / "front.html").read_text(encoding="utf-8"))
    data = json.loads(page.text["script"])
    assert Front.from_dict(data["front"]) == example()
    assert data["labels"]["latency_ms@cpu"] == "latency on cpu (ms, predicted)"
    assert data["costs"] == ["latency_ms@cpu", "macs"]
    assert data["finish"] == "nas finish 'runs/my run'"
    assert page.text["title"] == "Pareto front of example"


def test_the_page_asks_for_nothing_from_outside() -> None:
    page = Page(front_html(example(), "runs/example"))
    assert not [tag for tag, attributes in page.tags if {"src", "href", "action"} & set(attributes)]
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert policy
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_text_of_the_run_cannot_become_part_of_the_page() -> None:
    evil = "</script><script>alert(1)</script><!--<script>"
    front = front_of(ROWS, NAMES, space=evil)
    front = Front.of(evil, front.objectives, [], [(point.architecture, point.values) for point in front.points])
    page = Page(front_html(front, evil))
    clean = Page(front_html(example(), "runs/example"))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in clean.tags]
    data = json.loads(page.text["script"])
    assert data["front"]["run"] == evil
    assert data["front"]["points"][0]["text"].startswith(evil)


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one visit to the page saw, in the order in which it did things."""
    page = front_html(example(), "runs/example")
    seen: dict[str, Any] = in_browser(page, _VISIT, tmp_path_factory.mktemp("visit"))
    return seen


class TestInABrowser:
    pytestmark = needs_browser

    def test_the_page_begins_at_the_knee_and_lists_the_front_by_latency(self, visit: dict[str, Any]) -> None:
        found = visit["begin"]
        assert found["summary"] == "5 networks evaluated · 4 on the front"
        assert found["best"].startswith(
            "Best with latency on cpu of at most 2 ms: accuracy 0.95 (0.94 to 0.96) at 2 ms"
        )
        assert f"nas finish runs/example {KEYS[1]}" in found["best"]
        assert [next(k for k in KEYS if k in row) for row in found["rows"]] == [KEYS[n] for n in (0, 1, 2, 4)]
        assert (found["marked"], found["over"]) == (1, 2)

    def test_the_plot_shows_dominated_points_the_front_its_intervals_and_the_knee(self, visit: dict[str, Any]) -> None:
        found = visit["begin"]
        assert dict(found["traces"]) == {
            "dominated": 1,
            "front line": 4,
            "Pareto front": 4,
            "knee": 1,
            "best within the budget": 1,
        }
        assert found["bars"] == pytest.approx([0.1, 0.2, 0.6, 0.9])
        assert found["axes"] == [
            "latency on cpu (ms, predicted)",
            "accuracy (fraction of the validation split, measured)",
        ]

    def test_pointing_at_a_network_shows_all_about_it(self, visit: dict[str, Any]) -> None:
        for text in (
            network(1).text,
            KEYS[1],
            "knee of the front",
            "<b>0.95</b> fraction of the validation split, 0.94 to 0.96 · measured",
            "latency on cpu: <b>2</b> ms, 1.8 to 2.2 · predicted",
            "macs: <b>30,000</b> multiply-accumulates · analytic",
        ):
            assert text in visit["begin"]["hover"]

    def test_the_number_the_slider_and_arrow_keys_set_the_budget(self, visit: dict[str, Any]) -> None:
        assert visit["number"]["budget"] == 8.99
        assert KEYS[2] in visit["number"]["best"]
        assert visit["slider"]["budget"] == pytest.approx(9 + 8 / 50)
        assert KEYS[4] in visit["slider"]["best"]
        assert visit["keys"]["budget"] == pytest.approx(9 + 8 / 50 - 3 * 0.01 * 8 * 1.04, abs=1e-3)
        assert KEYS[2] in visit["keys"]["best"]

    def test_dragging_the_budget_line_changes_the_best_network(self, visit: dict[str, Any]) -> None:
        high, low, none, released = visit["drag"]
        assert [drag["budget"] for drag in (high, low, none)] == pytest.approx([7, 1.5, 0.95], abs=0.02)
        assert [drag["ring"] for drag in (high, low, none)] == [6, 1, None]
        assert KEYS[2] in high["best"]
        assert KEYS[0] in low["best"]
        assert none["best"].startswith("No network has latency on cpu of at most 0.9")
        assert none["best"].endswith("the least is 1 ms.")
        assert [drag["gap"] for drag in visit["drag"]] == pytest.approx([0] * 4, abs=0.5)
        assert released["budget"] == none["budget"]

    def test_dragging_keeps_the_axes_where_people_zoomed_to(self, visit: dict[str, Any]) -> None:
        before, after = visit["zoomed"]
        assert before == pytest.approx([0.9, 7.5], abs=0.02)
        assert after == before

    def test_the_whole_interval_can_be_kept_within_the_budget(self, visit: dict[str, Any]) -> None:
        before, after = visit["cautious"]
        assert KEYS[2] in before["best"]
        assert KEYS[1] in after["best"]  # 6 ms may be 6.6, which is over 6.1

    def test_another_cost_can_be_chosen(self, tmp_path: Path) -> None:
        found = in_browser(
            front_html(front_of(ROWS, NAMES, constraints=["macs <= 55000"]), "runs/example"),
            """
            await set("cost", "macs", "change");
            return { title: byId("plot").layout.xaxis.title.text, budget: byId("budget").value,
                     shapes: byId("plot").layout.shapes.map((shape) => shape.x0), best: byId("best").textContent,
                     line: byId("plot").data.find((trace) => trace.name === "front line").x,
                     broken: byId("plot").data[0].name,
                     cautious: byId("cautious-choice").hidden, summary: byId("summary").textContent };
            """,
            tmp_path,
        )
        assert found["title"] == "macs (multiply-accumulates, analytic)"
        assert (found["budget"], found["shapes"]) == ("55000", [55000])
        assert "accuracy 0.97" in found["best"]
        assert found["line"] == [30000, 50000]  # 0 is on the front for its latency alone
        assert (found["broken"], found["cautious"]) == ("breaks a constraint", True)
        assert found["summary"] == "5 networks evaluated · 3 keep macs <= 55000 · 3 on the front"

    def test_markup_in_names_is_shown_and_not_obeyed(self, tmp_path: Path) -> None:
        evil = '<img src=x onerror="document.title=1"><b>&lt;'
        found = in_browser(
            front_html(front_of(ROWS, NAMES, space=evil), "runs/example"),
            """
            const points = byId("plot").data.findIndex((trace) => trace.name === "Pareto front");
            Plotly.Fx.hover(byId("plot"), [{ curveNumber: points, pointNumber: 0 }]);
            await pause();
            return { images: document.images.length, title: document.title, best: byId("best").textContent,
                     hover: document.querySelector(".hoverlayer").textContent };
            """,
            tmp_path,
        )
        assert (found["images"], found["title"]) == (0, "Pareto front of example")
        assert evil in found["best"]
        assert evil in found["hover"]

    @pytest.mark.parametrize("rows", [[], [(0.5, 1.0)]])
    def test_small_fronts_are_shown_too(self, tmp_path: Path, rows: list[tuple[float, float]]) -> None:
        page = front_html(front_of(rows), "runs/example")
        found = in_browser(page, "return [byId('best').textContent, byId('table').tBodies[0].rows.length]", tmp_path)
        assert found[0].startswith("Best with" if rows else "No network has")
        assert found[1] == min(len(rows), 1)

    def test_the_picture_shows_front_knee_and_budget(self, tmp_path: Path) -> None:
        picture = screenshot(front_html(example(), "runs/example"), tmp_path)
        pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)

        def count(colour: str) -> int:
            wanted = [int(colour[place : place + 2], 16) for place in (0, 2, 4)]
            return int((np.abs(pixels - wanted).sum(2) < 12).sum())

        assert count("1f6fb4") > 500  # front points and line
        assert count("f5b301") > 100  # the star
        assert count("d9480f") > 1000  # the budget line and its label
        assert count("c3cad1") > 30  # the dominated point

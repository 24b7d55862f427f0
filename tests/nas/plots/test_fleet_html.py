import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nas.fleet import FleetDevice, FleetPlan, plan_fleet
from nas.front import Front
from nas.plots.fleet_html import fleet_html, write_fleet_html
from tests.nas.front_example import front_of, network
from tests.nas.plots.browser import in_browser, needs_browser, screenshot
from tests.nas.plots.test_front_html import Page

# accuracy, latency: each is wider than the one before; the first two differ by less than their error bars of 0.01
ROWS = [(0.900, 1.0), (0.905, 2.0), (0.95, 5.0)]
DEVICES = ("watch: latency_ms@cpu <= 1", "phone: latency_ms@cpu <= 2", "hub: latency_ms@cpu <= 5")
READY = 'byId("plot")._fullLayout && byId("table").tBodies.length'


def example(run: str = "example") -> FleetPlan:
    front = front_of(ROWS)
    front = Front.of(run, front.objectives, [], [(point.architecture, point.values) for point in front.points])
    return plan_fleet(front, [FleetDevice.parse(text) for text in DEVICES])


def test_the_page_holds_the_whole_plan_as_json(tmp_path: Path) -> None:
    write_fleet_html(example(), tmp_path / "fleet.html", Path("runs/my run"))
    data = json.loads(Page((tmp_path / "fleet.html").read_text(encoding="utf-8")).text["script"])
    assert data["plan"] == example().to_dict()
    assert data["finish"] == "nas finish 'runs/my run'"


def test_text_of_the_run_cannot_become_part_of_the_page() -> None:
    evil = "</script><script>alert(1)</script><!--<script>"
    page, clean = Page(fleet_html(example(evil), evil)), Page(fleet_html(example(), "runs/example"))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in clean.tags]
    assert json.loads(page.text["script"])["plan"]["run"] == evil


class TestInABrowser:
    pytestmark = needs_browser

    def test_the_page_begins_with_the_fewest_networks_within_the_error_and_shows_others_on_demand(
        self, tmp_path: Path
    ) -> None:
        steps = """
        const note = () => ({
          size: byId("size").value, best: byId("best").textContent.replace(/copy$/, ""),
          rows: [...byId("table").tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.textContent)),
        });
        const plot = byId("plot");
        const seen = { begin: note(), sizes: [...byId("size").options].map((option) => option.text) };
        seen.regrets = plot.data[0].y;
        seen.bars = plot.data[0].error_y.array;
        seen.star = plot.data[1].x;
        await set("size", "1", "change");
        seen.one = note();
        plot.emit("plotly_click", { points: [{ x: 3 }] });
        await pause();
        seen.three = note();
        return seen;
        """
        seen: dict[str, Any] = in_browser(fleet_html(example(), "runs/example"), steps, tmp_path, READY)
        keys = [network(number).key for number in range(3)]
        assert (seen["begin"]["size"], seen["sizes"]) == ("2", ["1", "2", "3"])
        assert seen["begin"]["best"].startswith("2 networks for 3 devices: accuracy 0.9167, regret 0.001667 ± ")
        assert "within its error." in seen["begin"]["best"]
        assert seen["begin"]["best"].endswith(f"nas finish runs/example {keys[2]} {keys[0]}")
        watch, phone, hub = seen["begin"]["rows"]
        assert (watch[0], watch[4]) == ("watchshare 0.3333", "0")
        assert phone[1] == "1 for latency_ms@cpu <= 2predicted, 0.9 to 1.1"
        assert (phone[4], phone[2].endswith(keys[0])) == ("0.005", True)
        assert hub[1] == "5 for latency_ms@cpu <= 5predicted, 4.5 to 5.5, part of it beyond the budget"
        assert seen["regrets"] == pytest.approx([(0.005 + 0.05) / 3, 0.005 / 3, 0])
        assert seen["bars"][2] == 0 < seen["bars"][1] < seen["bars"][0]
        assert seen["star"] == [2]
        assert "more than its error explains" in seen["one"]["best"]
        assert (seen["three"]["size"], [row[4] for row in seen["three"]["rows"]]) == ("3", ["0", "0", "0"])

    def test_the_picture_shows_the_curve_and_what_is_enough(self, tmp_path: Path) -> None:
        picture = screenshot(fleet_html(example(), "runs/example"), tmp_path)
        pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
        for colour, least in (((0x1F, 0x6F, 0xB4), 500), ((0xF5, 0xB3, 0x01), 100), ((0xD9, 0x48, 0x0F), 200)):
            assert (np.abs(pixels - colour).sum(2) < 12).sum() > least

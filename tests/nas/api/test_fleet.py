"""`nas fleet` on a run directory, also for a device that only has a predictor."""

import json
from pathlib import Path

import numpy as np
import pytest

from latency_predictors.catalog import Catalog
from latency_predictors.evaluation import fit_predictor
from nas.api import fleet, fleet_rows
from nas.cli import run as nas
from nas.config import load_config
from nas.errors import InputError
from nas.evaluators.costs import AnalyticAndPredictedCosts
from nas.front import Front
from nas.objectives import Objective, Value
from nas.run import Run
from search_spaces.checksum import read_json
from search_spaces.cost import network_cost
from tests.latency_predictors.roofline import roofline_ms, tiny_networks

DIGITS = Path(__file__).parents[3] / "experiments" / "configs" / "digits.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose search is over: a front of 40 networks, and a predictor of a phone that was not searched for."""
    run = Run.start(load_config(DIGITS, (f"runs_dir={tmp_path_factory.mktemp('runs')}",)))
    space = run.config.space.load().with_data(image_channels=1, classes=10)
    objectives = run.config.parsed_objectives
    rng = np.random.default_rng(0)
    networks = {one.key: one for one in (space.sample(rng) for _ in range(40))}
    macs = {key: network_cost(space.layers(one)).macs for key, one in networks.items()}
    candidates = [
        (one, {
            "accuracy": Value(1 - 1e3 / macs[key], "measured", 1 - 1.5e3 / macs[key], 1 - 0.5e3 / macs[key]),
            "latency_ms@cpu": Value(macs[key] / 1e6, "predicted", macs[key] / 2e6, macs[key] / 0.5e6),
            "parameters": Value(1e4, "analytic"),
        })
        for key, one in networks.items()
    ]  # fmt: skip
    Front.of("digits", objectives, run.config.parsed_constraints, candidates).save(run.front_path)
    measured = tiny_networks(30, seed=1)
    fitted = fit_predictor(
        measured, roofline_ms(measured), metric="latency_ms", device="local/litert/int8/1-thread", kinds=["linear"],
        repeats=1,
    )  # fmt: skip
    Catalog(run.predictors_dir).save("phone", fitted)
    return run


def test_a_device_that_was_not_searched_for_is_told_by_its_predictor(run: Run) -> None:
    found = Front.load(run.front_path)
    space = run.config.space.load().with_data(image_channels=1, classes=10)
    names = ("latency_ms@phone", "weight_bytes@phone")
    costs = AnalyticAndPredictedCosts(
        space,
        [Objective.parse(name) for name in names],
        precisions={"phone": "int8"},
        predictors={"phone": Catalog(run.predictors_dir).load("phone")},
    )
    of_all = costs.costs_of([point.architecture for point in found.points])
    bound = float(np.median([cost["latency_ms@phone"].value for cost in of_all]))
    plan = fleet(
        run.path, [f"cpu: latency_ms <= 9, share 3; phone: latency_ms <= {bound}, weight_bytes <= 1e6, share 1"]
    )
    wide, phone = plan.own.assigned
    assert wide.values["accuracy"].value == max(point.values["accuracy"].value for point in found.points)
    fitting = [
        point.values["accuracy"].value
        for point, cost in zip(found.points, of_all, strict=True)
        if cost["latency_ms@phone"].value <= bound
    ]
    assert phone.values["accuracy"].value == max(fitting)
    assert phone.values["latency_ms@phone"].source == "predicted"
    assert [device.share for device in plan.devices] == [0.75, 0.25]
    assert read_json(run.path / "fleet.json") == plan.to_dict()
    assert (run.path / "fleet.png").read_bytes().startswith(b"\x89PNG")
    assert plan.own.models[0].key in (run.path / "fleet.html").read_text()


def test_a_device_without_predictor_is_told_with_the_command_that_makes_one(run: Run) -> None:
    with pytest.raises(
        InputError,
        match="no predictor of 'tv', only of phone: fit one with `nas latency fit DATA --metric latency_ms --name tv",
    ):
        fleet(run.path, ["tv: latency_ms <= 1"])


def test_the_table_has_a_row_for_each_network_of_each_size(run: Run) -> None:
    plan = fleet(run.path, ["a: latency_ms@cpu <= 0.2", "b: latency_ms@cpu <= 2"])
    rows = fleet_rows(plan)
    assert [row["networks"] for row in rows] == [1, 2, ""]
    assert [row["devices"] for row in rows] == ["a, b", "b", "a"]
    assert [row[""] for row in rows].count("enough") == 1


def test_the_command_prints_the_plan_and_names_the_next_one(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert nas(["fleet", str(run.path), "--devices", "a: latency_ms@cpu <= 0.2", "--format", "json"]) == 0
    captured = capsys.readouterr()
    plan = json.loads(captured.out)
    (key,) = plan["fleets"][0]["models"]
    assert f"next: nas finish {run.path} {key}" in captured.err
    assert nas(["fleet", str(run.path), "--devices", "a: latency_ms@cpu <= 1e-9"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "nas: device a: no network of run digits keeps latency_ms@cpu <= 1e-09; the nearest has" in captured.err

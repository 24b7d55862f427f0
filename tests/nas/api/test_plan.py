import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from latency_predictors.catalog import Catalog
from latency_predictors.evaluation import fit_predictor
from nas import api
from nas.cli import run as command_line
from search_spaces.cost import network_cost
from search_spaces.space import load_space
from tests.latency_predictors.roofline import roofline_ms, tiny_networks
from tests.nas.search.small import Small
from tests.nas.test_config import DIGITS

TINY = load_space("tiny")


def plan_of(runs_dir: Path, *overrides: str, trial: bool = False) -> api.Plan:
    return api.plan(DIGITS, (f"runs_dir={runs_dir}", *overrides), trial=trial)


def test_a_plan_tells_the_costs_of_the_space_and_writes_nothing(tmp_path: Path) -> None:
    found = plan_of(tmp_path, "constraints=[parameters <= 20000, weight_bytes@cpu <= 30000]")
    assert found.size == 115_200
    by_name = {term.objective.name: term for term in found.terms}
    for place, architecture in enumerate((TINY.smallest(), found.networks[1], TINY.largest())):
        cost = network_cost(TINY.layers(architecture), "int8")
        assert by_name["macs"].values[place].value == cost.macs
        assert by_name["peak_activation_bytes@cpu"].values[place].value == cost.peak_activation_bytes
    ((_, share),) = by_name["parameters"].constraints
    assert share is not None
    # The share by another draw.
    others = [sum(network_cost(layers).parameters <= 20_000 for layers in tiny_networks(400, seed=9)) / 400]
    assert share == pytest.approx(others[0], abs=0.08)
    assert 0 < found.feasible <= share
    assert not found.infeasible
    assert any("latency_ms@cpu: no predictor yet" in note for note in found.notes)
    assert not list(tmp_path.iterdir())


def test_a_constraint_that_no_network_keeps_is_told_with_the_nearest_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = (f"runs_dir={tmp_path}", "constraints=[parameters <= 5000, macs <= 1e6]", "--no-trial")
    assert command_line(["plan", str(DIGITS), *overrides, "--format", "json"]) == 1
    out, err = capsys.readouterr()
    least = network_cost(TINY.layers(TINY.smallest())).parameters
    assert "infeasible: parameters <= 5000: the nearest of" in err
    assert f"networks has {least}" in err
    data = json.loads(out)
    assert (data["feasible_share"], len(data["infeasible"])) == (0, 1)


def test_a_network_that_no_draw_shows_is_found_before_constraints_are_called_infeasible(tmp_path: Path) -> None:
    least = network_cost(TINY.layers(TINY.smallest())).parameters
    # Few parameters, much arithmetic: the smallest network at a greater resolution.
    found = plan_of(tmp_path, f"constraints=[parameters <= {least}, macs >= 150000]")
    assert found.feasible == 0
    assert not found.infeasible
    assert any("none of 1000 networks drawn keeps every constraint, though some do" in note for note in found.notes)


def test_latency_is_predicted_where_an_earlier_start_has_fitted_a_predictor(tmp_path: Path) -> None:
    networks = tiny_networks(40, seed=2)
    fitted = fit_predictor(networks, roofline_ms(networks), metric="latency_ms", device="simulated")
    Catalog(tmp_path / "digits" / "predictors").save("cpu", fitted)
    found = plan_of(tmp_path, "constraints=[latency_ms@cpu <= 0.05]")
    (term,) = [term for term in found.terms if term.objective.name == "latency_ms@cpu"]
    true = roofline_ms([TINY.layers(architecture) for architecture in found.networks])
    assert [value.source for value in term.values] == ["predicted"] * 3
    assert [value.value for value in term.values] == pytest.approx(true.tolist(), rel=0.3)
    assert term.constraints[0][1] is not None
    assert not any(stage.name.startswith("measure") for stage in found.stages)


SAME = ("accuracy.epochs=1", "data.max_images=200", "constraints=[]")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has a supernet and a predictor of its device."""
    runs_dir = tmp_path_factory.mktemp("runs")
    run = api.start(DIGITS, (f"runs_dir={runs_dir}", *SAME))
    api.train(run)
    networks = tiny_networks(40, seed=2)
    fitted = fit_predictor(networks, roofline_ms(networks), metric="latency_ms", device="simulated")
    Catalog(run.predictors_dir).save("cpu", fitted)
    return run.path


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("accuracy.epochs=400", "accuracy"),
        ("devices.cpu.precision=fp32", "devices"),
        ("space=efficientnet_mixed", "space"),
        ("data.max_images=300", "data.max_images"),
        ("seed=1", "seed"),
    ],
)
@pytest.mark.parametrize("by_directory", [True, False])
def test_a_folder_of_another_experiment_tells_nothing_of_this_one(
    trained: Path, override: str, key: str, by_directory: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    own = api.plan(trained, trial=False)
    assert (own.new_name, own.stages[0].basis) == (None, "done")
    assert not any("no predictor yet" in note for note in own.notes)
    before = sorted(trained.parent.rglob("*"))
    given = [str(trained)] if by_directory else [str(DIGITS), f"runs_dir={trained.parent}", *SAME]
    assert command_line(["plan", *given, override, "--no-trial", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["new_name"] == "digits-2"
    assert f"note: {trained} was started with another `{key}`" in err
    assert "; this is the plan of a new run, name=digits-2" in err
    assert (found["stages"][0]["name"], found["stages"][0]["basis"]) == ("train", "unknown")
    assert [stage["name"] for stage in found["stages"]] == ["train", "measure cpu", "search", "finish"]
    assert not [cost for cost in found["costs"] if cost["objective"] == "latency_ms@cpu" and "typical" in cost]
    assert sorted(trained.parent.rglob("*")) == before
    # What is told next is a run that starts.
    (told,) = [line for line in err.splitlines() if line.startswith("next: ")]
    _, *command = shlex.split(told)
    assert command[:2] == ["nas", "run"]
    assert command[-1] == "name=digits-2"
    started = api.start(Path(command[2]), tuple(command[3:]))
    assert started.path == trained.parent / "digits-2"
    shutil.rmtree(started.path)


def test_times_come_from_a_trial_and_from_evaluations_that_the_run_has_behind_it(tmp_path: Path) -> None:
    small = ("accuracy.epochs=4", "data.max_images=300", "ray.executor=serial", "search.budget=6")
    trial = {stage.name: stage for stage in plan_of(tmp_path, *small, trial=True).stages}
    assert {stage.name: stage.basis for stage in trial.values()} == {
        "train": "measured now", "measure cpu": "guess", "search": "measured now", "finish": "guess",
    }  # fmt: skip
    assert all(stage.seconds for stage in trial.values())
    assert not list(tmp_path.iterdir())
    (shared,) = [
        one for one in plan_of(tmp_path, *small, "accuracy.workers=2", trial=True).stages if one.name == "train"
    ]
    steps, step = (float(word) for word in re.findall(r"\d[\d.e-]*", shared.text)[:2])
    assert shared.seconds == pytest.approx(steps * step, rel=0.01)
    assert shared.text.endswith("s on this machine, 2 workers")

    Small(tmp_path / "digits", budget=4, sampler="random").run()
    (search,) = [stage for stage in plan_of(tmp_path, *small).stages if stage.name == "search"]
    assert search.basis == "earlier run"
    assert search.text.startswith("2 evaluations of")


def test_candidates_that_are_trained_by_themselves_are_timed_by_their_training(tmp_path: Path) -> None:
    small = ("accuracy.method=stand_alone", "accuracy.epochs=2", "data.max_images=200", "ray.executor=serial")
    found = {stage.name: stage for stage in plan_of(tmp_path, *small, "search.budget=10", trial=True).stages}
    assert "train" not in found
    assert found["search"].basis == "measured now"
    assert found["search"].seconds
    assert "at most" not in found["search"].text
    assert (found["finish"].basis, "distillation" in found["finish"].text) == ("guess", False)
    stopped = (*small[:3], "ray.executor=ray", "accuracy.early_stopping={min_epochs: 1}", "search.budget=10")
    (search,) = [stage for stage in plan_of(tmp_path, *stopped, trial=True).stages if stage.name == "search"]
    assert search.text.startswith("10 evaluations of at most ")


def test_the_run_that_is_told_next_is_the_planned_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = [f"runs_dir={tmp_path}", "constraints=[parameters <= 20000]"]
    assert command_line(["plan", str(DIGITS), *overrides, "--no-trial"]) == 0
    (told,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("next: ")]
    assert shlex.split(told) == ["next:", "nas", "run", str(DIGITS), *overrides]

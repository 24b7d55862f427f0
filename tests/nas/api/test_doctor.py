"""`nas doctor` on a real small run: damage of every file kind is told, never read as data, and mended."""

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from latency_predictors.catalog import Catalog
from latency_predictors.evaluation import fit_predictor
from latency_predictors.store import MeasurementSet
from nas import api
from nas.cli import run as nas
from nas.config import load_config
from nas.errors import HwnasError, InputError, RunError
from nas.front import Front
from nas.run import Run
from nas.search.ledger import Ledger
from nas.search.results import evaluated
from nas.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from search_spaces.supernet import load_supernet
from tests.latency_predictors.roofline import roofline_ms, tiny_networks
from tests.latency_predictors.rows import make_measurement
from tests.nas.damage import DAMAGE, damaged

DIGITS = Path(__file__).parents[3] / "experiments" / "configs" / "digits.yaml"
ROUNDS = 21


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose search is over. Only the latencies are not measured: they come from a formula."""
    overrides = (
        f"runs_dir={tmp_path_factory.mktemp('runs')}", "accuracy.epochs=1", "search.budget=8", "search.population=4",
        "ray.executor=serial",
    )  # fmt: skip
    run = Run.start(load_config(DIGITS, overrides))
    networks = tiny_networks(30, seed=1)
    with run.stage("measure cpu"):
        MeasurementSet(run.measurements_path("cpu")).append([make_measurement(kernel) for kernel in range(3, 40)])
    with run.stage("fit cpu"):
        device = "local/onnxruntime/int8/1-thread"
        latencies = roofline_ms(networks)
        fitted = fit_predictor(networks, latencies, metric="latency_ms", device=device, kinds=["linear"], repeats=1)
        Catalog(run.predictors_dir).save("cpu", fitted)
    api.search(run)
    api.pick(run.path, rule="knee")
    api.fleet(run.path, ["cpu: latency_ms <= 100"])
    for step in (1, 2):
        save_checkpoint(run.supernet_dir / "checkpoints", "this", Checkpoint(step, {"weight": torch.ones(300)}))
    return run


@pytest.fixture
def copied(run: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run.path, tmp_path / "copied"))


def results(run_dir: Path) -> object:
    with Ledger(run_dir / "ledger.db") as ledger:
        return evaluated(ledger), ledger.candidates(), ledger.proposals(), ledger.attempts(), ledger.lives()


def checkpoint_step(run_dir: Path) -> int:
    found = load_checkpoint(run_dir / "supernet" / "checkpoints", "this")
    assert found is not None
    assert torch.equal(found.tensors["weight"], torch.ones(300))
    return found.step


def weights(run_dir: Path) -> dict[str, list[float]]:
    supernet = load_supernet(run_dir / "supernet" / "supernet.safetensors")
    return {name: tensor.flatten().tolist() for name, tensor in supernet.state_dict().items()}


# What reads a file; files that only people and their programs read have no entry.
READERS: Mapping[str, Callable[[Path], object]] = {
    "config": lambda run: Run.open(run).config,
    "results": results,
    "supernet": weights,
    "measurements": lambda run: MeasurementSet(run / "measurements/cpu.parquet").read(),
    "predictor": lambda run: Catalog(run / "predictors").load("cpu").predict(tiny_networks(5, seed=2)).mean.tolist(),
    "front": lambda run: Front.load(run / "front.json"),
    "picks": lambda run: api.pipeline.read_picks(Run.open(run)),
}  # fmt: skip

# One of each group is damaged in a round; what belongs to one group stands or falls together.
GROUPS = (
    (("config.yaml", "config"), ("status.json", "")),
    (("ledger.db", "results"), ("ledger.journal", "results")),
    (("supernet/supernet.safetensors", "supernet"),),
    (("supernet/checkpoints/step-00000002.safetensors", ""),),
    (("measurements/cpu.parquet", "measurements"),),
    (("predictors/cpu/v1/manifest.json", "predictor"), ("predictors/cpu/v1/arrays.safetensors", "predictor")),
    (("front.json", "front"),),
    (("front.html", ""), ("front.png", "")),
    (("picks.json", "picks"),),
    (("fleet.json", ""), ("fleet.html", ""), ("fleet.png", "")),
)


def states(run_dir: Path) -> dict[str, str]:
    return {file.path: file.state for file in api.doctor(run_dir).files}


@pytest.mark.slow
def test_damage_of_any_file_is_told_never_read_as_data_and_mended(run: Run, tmp_path: Path) -> None:
    truth = {name: read(run.path) for name, read in READERS.items()}
    whole = states(run.path)
    assert set(whole.values()) == {"good", "unfinished"}
    seen: Counter[str] = Counter()
    for number in range(ROUNDS):
        run_dir = Path(shutil.copytree(run.path, tmp_path / str(number)))
        chance = random.Random(number)
        hurt = {}
        for place, group in enumerate(GROUPS):
            name, reader = group[number % len(group)]
            way = list(DAMAGE)[(number + place) % len(DAMAGE)]
            path = run_dir / name
            path.write_bytes(damaged(path.read_bytes(), way, chance))
            hurt[name] = reader
            seen[name] += 1
        found = {file.path: file for file in api.doctor(run_dir).files}
        for name, reader in hurt.items():
            # Damage in a part of a page that holds nothing.
            harmless = name.startswith("ledger.") and found[name].state in ("good", "leftover")
            assert found[name].state == "damaged" or harmless, (number, name)
            if not reader:
                continue
            if harmless or "lacks the last" in found[name].problem:  # which reading brings back
                assert READERS[reader](run_dir) == truth[reader], (number, name)
            elif "config.yaml" not in hurt or reader != "picks":  # which are not looked for before the config is read
                with pytest.raises(HwnasError, match="damaged"):
                    READERS[reader](run_dir)
        assert checkpoint_step(run_dir) == 1
        assert Run(run_dir, run.config).status().get("stages", {}).keys() <= run.status()["stages"].keys()

        diagnosis = api.doctor(run_dir, repair=True)
        assert not [file for file in diagnosis.files if file.state == "damaged"], number
        for name in ("config", "results", "front"):
            assert READERS[name](run_dir) == truth[name], (number, name)
        for name in hurt:
            kept = [path for path in run_dir.rglob("*") if ".damaged-" in str(path)]
            assert any(name.split("/")[-1] in path.name for path in kept) or name.startswith("ledger"), (number, name)
        missing = {file.path for file in diagnosis.files if file.state == "missing"}
        assert missing <= {
            "supernet/supernet.safetensors", "measurements/cpu.parquet", "predictors/cpu/v1/manifest.json",
        }  # fmt: skip
        shutil.rmtree(run_dir)
    assert seen.total() >= 200
    assert seen.keys() == {name for group in GROUPS for name, _ in group}


def test_a_whole_run_is_good_and_looking_changes_nothing(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    assert nas(["doctor", str(run.path), "--format", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["healthy"] is True
    kinds = {file["kind"] for file in answer["files"]}
    assert kinds == {
        "config", "status", "results of the search", "front", "picks", "fleet", "supernet", "checkpoint",
        "measurements", "predictor", "lock",
    }  # fmt: skip
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_damage_ends_with_status_1_and_names_the_repair(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (copied / "picks.json").write_text("{}")
    assert nas(["doctor", str(copied)]) == 1
    captured = capsys.readouterr()
    assert "choose again with `nas pick`" in captured.out
    assert captured.err == f"next: nas doctor {copied} --repair\n"
    assert nas(["doctor", str(copied), "--repair"]) == 0
    assert "repaired: picks.json was set aside as picks.json.damaged-" in capsys.readouterr().err
    assert nas(["doctor", str(copied)]) == 0


def test_an_edited_config_is_restored_as_it_was_at_the_last_start(copied: Path, run: Run) -> None:
    path = copied / "config.yaml"
    path.write_text(path.read_text().replace("budget: 8", "budget: 9"))
    with pytest.raises(InputError, match="was edited or damaged"):
        Run.open(copied)
    api.doctor(copied, repair=True)
    assert Run.open(copied).config == run.config
    (kept,) = copied.glob("config.yaml.damaged-*")
    assert "budget: 9" in kept.read_text()


def test_without_a_copy_of_the_config_the_results_stay_and_the_mend_is_named(copied: Path) -> None:
    (copied / "config.yaml").write_text("seed: 1")
    (copied / "status.json").unlink()
    diagnosis = api.doctor(copied, repair=True)
    assert "start the run again with its experiment file" in " ".join(diagnosis.repaired)
    assert not diagnosis.healthy
    assert results(copied)


def test_deleted_files_are_missing_and_those_that_follow_from_others_come_back(copied: Path, run: Run) -> None:
    for name in ("front.html", "front.json", "ledger.journal", "config.yaml"):
        (copied / name).unlink()
    assert {name for name, state in states(copied).items() if state == "missing"} == {
        "front.html", "front.json", "ledger.journal", "config.yaml",
    }  # fmt: skip
    assert api.doctor(copied, repair=True).healthy
    assert Front.load(copied / "front.json") == Front.load(run.front_path)


def test_a_run_that_has_lost_its_ledger_is_not_healthy(copied: Path) -> None:
    for name in ("ledger.db", "ledger.journal"):
        (copied / name).unlink()
    diagnosis = api.doctor(copied, repair=True)
    assert {file.path: file.consequence for file in diagnosis.files if file.state == "missing"} == {
        "ledger.db": "results are lost"
    }
    assert not diagnosis.healthy


def test_what_killed_processes_left_is_removed(copied: Path) -> None:
    (copied / ".front.json.abc.tmp").write_text("half")
    folder = copied / "predictors" / "cpu" / ".new-0123"
    folder.mkdir()
    (folder / "arrays.safetensors").write_bytes(b"half")
    with (copied / "ledger.journal").open("ab") as file:
        file.write(b"half")
    diagnosis = api.doctor(copied)
    assert diagnosis.healthy
    assert sorted(file.path for file in diagnosis.files if file.state == "leftover") == [
        ".front.json.abc.tmp", "ledger.journal", "predictors/cpu/.new-0123/arrays.safetensors",
    ]  # fmt: skip
    assert len(api.doctor(copied, repair=True).repaired) == 3
    assert not folder.exists()
    assert not [state for state in states(copied).values() if state == "leftover"]


def test_foreign_files_are_left_alone(copied: Path) -> None:
    (copied / "notes.txt").write_text("mine")
    assert states(copied)["notes.txt"] == "not checked"
    assert api.doctor(copied, repair=True).repaired == ()
    assert (copied / "notes.txt").read_text() == "mine"


def test_a_repair_waits_for_no_one_and_a_look_needs_no_lock(copied: Path, run: Run) -> None:
    with Run(copied, run.config).locked():
        assert api.doctor(copied).healthy
        with pytest.raises(RunError, match="is held by process"):
            api.doctor(copied, repair=True)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no run directory"):
        api.doctor(tmp_path)


@pytest.mark.slow
def test_the_same_run_makes_again_what_was_set_aside_and_evaluates_nothing_again(copied: Path, run: Run) -> None:
    path = copied / "supernet" / "supernet.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    moved = Run(copied, run.config)
    with pytest.raises(HwnasError, match=r"is damaged .*--repair` sets it aside"):
        api.search(moved)
    assert not api.doctor(copied, repair=True).healthy
    shutil.rmtree(copied / "supernet" / "checkpoints")
    before = results(copied)[:4]
    api.search(moved)
    assert path.read_bytes() == whole
    assert results(copied)[:4] == before
    assert api.doctor(copied).healthy


def test_a_front_that_cannot_be_made_again_is_told_and_the_rest_is_mended(copied: Path, run: Run) -> None:
    Run(copied, run.config.model_copy(update={"objectives": ("accuracy", "weight_bytes@cpu")})).write_config()
    (copied / "front.json").unlink()
    (copied / "picks.json").write_text("{}")
    diagnosis = api.doctor(copied, repair=True)
    assert "front.json cannot be made again: " in diagnosis.repaired[0]
    assert "picks.json was set aside" in diagnosis.repaired[1]
    assert not diagnosis.healthy

"""Commands on tables of others: `nas latency lint`, `import`, `fit`, `evaluate`, `audit`."""

import dataclasses
import json
import shutil
from pathlib import Path

from latency_predictors.environment import Environment
from latency_predictors.store import MeasurementSet
from nas.api import import_latency
from nas.cli import run
from tests.nas.cli.latency_examples import write_fbnet, write_own_space, write_table

SAMPLE = Path(__file__).parents[3] / "experiments" / "sample_data"
DATA = Path(__file__).parents[4] / "shared" / "data" / "device_latency"


def test_lint_names_rule_rows_consequence_and_mend(tmp_path, capsys):
    assert run(["latency", "lint", str(write_table(tmp_path / "t.jsonl", spoiled=True)), "--format", "json"]) == 0
    captured = capsys.readouterr()
    (finding,) = json.loads(captured.out)
    assert (finding["rule"], finding["device"], finding["rows"]) == ("thousandth", "phone", [7])
    assert "seconds among milliseconds" in finding["consequence"]
    assert finding["mend"] == "convert or drop them"
    assert "1 finding in" in captured.err


def test_lint_fails_on_findings_only_where_it_is_strict(tmp_path, capsys):
    clean, spoiled = write_table(tmp_path / "c.jsonl"), write_table(tmp_path / "s.jsonl", spoiled=True)
    assert run(["latency", "lint", str(clean), "--strict"]) == 0
    assert "no findings" in capsys.readouterr().err
    assert run(["latency", "lint", str(spoiled)]) == 0
    assert run(["latency", "lint", str(spoiled), "--strict"]) == 1
    assert "thousandth" in capsys.readouterr().out


def test_an_imported_table_can_be_fitted_and_evaluated(tmp_path, capsys):
    table, measurements, store = write_fbnet(tmp_path / "t.csv"), str(tmp_path / "m.parquet"), str(tmp_path / "store")
    options = ["--device", "phone", "--precision", "int8", "--latency-unit", "us", "--format", "json"]
    assert run(["latency", "import", str(table), "--out", measurements, *options]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "rows": 40, "devices": 1, "accepted": 40, "noisy": 0, "refused": 0, "findings": [],
    }  # fmt: skip
    assert run(["latency", "fit", measurements, "--name", "phone", "--store", store]) == 0
    capsys.readouterr()
    report = tmp_path / "report.html"
    evaluate = ["latency", "evaluate", "phone", "--data", measurements, "--store", store, "--format", "json"]
    assert run([*evaluate, "--report", str(report)]) == 0
    assert report.is_file()
    assert report.with_suffix(".png").is_file()
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["device"] == "phone/int8/1-thread"
    assert found["within_10"] > 0.9
    assert [step["rows"] for step in found["learning_curve"]] == [10, 20, 40]
    assert "expected error, by networks learned from: " in err


def test_rows_of_a_space_of_ones_own_are_fitted_and_evaluated_with_its_file(tmp_path, capsys):
    own, table = write_own_space(tmp_path, {"phone": 1.0})
    measured, store = str(tmp_path / "m.parquet"), ["--store", str(tmp_path / "store")]
    assert run(["latency", "import", str(table), "--out", measured]) == 0
    fit = ["latency", "fit", measured, "--name", "phone", *store]
    evaluate = ["latency", "evaluate", "phone", "--data", measured, *store]
    assert run([*fit, "--space", own]) == 0
    capsys.readouterr()
    assert run([*evaluate, "--space", own, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["within_10"] > 0.9
    for command in (fit, evaluate):
        assert run(command) == 2
        assert "networks are of space 'ours', none that ships" in capsys.readouterr().err


def test_energy_is_fitted_and_evaluated_like_latency(tmp_path, capsys):
    table, store = write_fbnet(tmp_path / "t.csv"), str(tmp_path / "store")
    found = import_latency(table, tmp_path / "m.parquet", device="phone", precision="int8", latency_unit="us")
    rows = [dataclasses.replace(row, energy_mj=3 * row.latency_ms) for row in found.measurements[:30]]
    MeasurementSet(tmp_path / "e.parquet").append([*rows, *found.measurements[30:]])  # some have no energy
    fit = ["latency", "fit", "--name", "phone-energy", "--metric", "energy_mj", "--store", store, "--format", "json"]
    assert run([*fit, str(tmp_path / "e.parquet")]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["metric"], summary["rows"]) == ("energy_mj", 30)
    evaluate = ["latency", "evaluate", "phone-energy", "--data", str(tmp_path / "e.parquet"), "--store", store]
    assert run([*evaluate, "--format", "json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["metric"] == "energy_mj"
    assert scores["within_10"] > 0.9
    assert run([*fit, str(tmp_path / "m.parquet")]) == 2
    assert "has energy_mj: measure again with --preset energy" in capsys.readouterr().err


def test_import_keeps_rows_of_networks_it_cannot_build_and_says_so(tmp_path, capsys):
    table, measurements = tmp_path / "t.csv", tmp_path / "m.parquet"
    lines = [f"timm_mobile,{name},gpu,fp32,{ms}" for name, ms in (("efficientnet_b0", 4.5), ("resnet50", 9.5))]
    table.write_text("\n".join(["space,arch,device,precision,latency_ms", *lines, "timm_mobile,,gpu,fp32,3.5"]) + "\n")
    assert run(["latency", "import", str(table), "--out", str(measurements), "--format", "json"]) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["accepted"], json.loads(out)["refused"]) == (1, 2)
    assert "unknown_network: gpu: 2 rows are of no network that this product can build" in err
    (usable,) = MeasurementSet(measurements).read_usable()
    assert usable.architecture.space == "efficientnet"


def test_import_names_the_devices_of_a_file_where_the_wanted_one_is_not_there(tmp_path, capsys):
    table = str(write_fbnet(tmp_path / "t.csv", 5))
    assert run(["latency", "import", table, "--device", "fone", "--out", str(tmp_path / "m.parquet")]) == 2
    assert "has no rows of 'fone', it has board, phone" in capsys.readouterr().err
    assert not (tmp_path / "m.parquet").exists()


def test_vectors_of_an_unknown_encoding_are_fitted_and_every_kind_is_shown(tmp_path, capsys):
    rows, store = str(tmp_path / "m.parquet"), str(tmp_path / "predictors")
    table = str(write_table(tmp_path / "t.jsonl"))
    assert run(["latency", "import", table, "--out", rows, "--space", "mine", "--precision", "fp32"]) == 0
    capsys.readouterr()
    assert run(["latency", "fit", rows, "--name", "phone", "--store", store, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["kind"] for row in found["tried"]} == {"linear", "lookup_table", "gaussian_process", "boosted_trees"}
    assert found["tried"][0]["kind"] == found["kind"]
    assert found["spearman"] > 0.9
    assert run(["latency", "evaluate", "phone", "--data", rows, "--store", store, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["within_10"] > 0.9
    one = tmp_path / "one.parquet"
    MeasurementSet(one).append(MeasurementSet(Path(rows)).read_usable()[:1])
    assert run(["latency", "evaluate", "phone", "--data", str(one), "--store", store]) == 2
    assert "an evaluation takes at least 2 networks" in capsys.readouterr().err


def _changed(source: Path, out: Path, factor: float) -> None:
    lines = [json.loads(line) for line in source.read_text().splitlines()]
    slow = sorted(row["latency_ms"] for row in lines)[-len(lines) // 4]
    for row in lines:
        row["latency_ms"] *= factor if row["latency_ms"] >= slow else 1
    out.write_text("".join(json.dumps(row) + "\n" for row in lines))


def test_an_audit_refuses_fresh_rows_of_another_machine(tmp_path, capsys):
    found = import_latency(write_table(tmp_path / "t.jsonl"), tmp_path / "m.parquet", space="mine", precision="fp32")
    for name in ("theirs", "ours"):
        environment = Environment(f"processor of {name}", 2, "x86_64", "Linux", "3.11", "a runtime")
        rows = [dataclasses.replace(row, environment=environment) for row in found.measurements]
        MeasurementSet(tmp_path / f"{name}.parquet").append(rows)
    theirs, ours, unknown = (str(tmp_path / f"{name}.parquet") for name in ("theirs", "ours", "m"))
    assert run(["latency", "audit", theirs, "--fresh", ours]) == 2
    told = capsys.readouterr().err
    assert "theirs.parquet was measured on processor of theirs, the fresh rows are of processor of ours" in told
    assert not list(tmp_path.glob("*.quarantine.json"))
    assert run(["latency", "audit", unknown, "--fresh", ours]) == 0
    assert "the rows do not state their machine" in capsys.readouterr().err


def test_a_set_that_fresh_measurements_contradict_is_quarantined_listed_and_lifted(tmp_path, capsys):
    true, wrong = write_table(tmp_path / "t.jsonl"), tmp_path / "w.jsonl"
    _changed(true, wrong, 0.7)
    for table in (true, wrong):
        options = ["--space", "mine", "--precision", "fp32", "--out", str(table.with_suffix(".parquet"))]
        assert run(["latency", "import", str(table), *options]) == 0
    fresh, data = str(true.with_suffix(".parquet")), str(wrong.with_suffix(".parquet"))
    fit = ["latency", "fit", data, "--name", "phone", "--store", str(tmp_path / "store")]
    capsys.readouterr()
    assert run(["latency", "audit", data, "--fresh", str(tmp_path / "none.parquet")]) == 1
    assert "20 rows are not in" in capsys.readouterr().err
    assert run(["latency", "audit", fresh, "--fresh", fresh]) == 2
    assert "must be in a file of their own, got the set itself" in capsys.readouterr().err
    copied = str(shutil.copy(fresh, tmp_path / "copied.parquet"))
    assert run(["latency", "audit", fresh, "--fresh", copied]) == 0
    assert "0 of 20 rows were wrong, no more than an honest set may have" in capsys.readouterr().err
    assert run(["latency", "audit", data, "--fresh", fresh]) == 1
    assert "is in quarantine" in capsys.readouterr().err
    transfer = ["latency", "transfer", "--sources", fresh, "--sources", data, "--target", "phone", "--space", "mine"]
    for command in (fit, transfer):
        assert run(command) == 2
        assert "is in quarantine since" in capsys.readouterr().err
    assert run(["latency", "quarantine", str(tmp_path), "--format", "json"]) == 0
    assert [row["set"] for row in json.loads(capsys.readouterr().out)] == [data]
    assert run(["latency", "quarantine", data, "--lift"]) == 0
    assert run(fit) == 0
    assert run(["latency", "quarantine", data, "--lift"]) == 2

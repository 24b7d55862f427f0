"""`nas latency transfer`: from tables of others, and measured on the device."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from latency_predictors.architecture_cell import decode_architecture
from latency_predictors.catalog import Catalog
from latency_predictors.measurement import DeviceProfile
from latency_predictors.session import SITTINGS
from latency_predictors.store import MeasurementSet
from nas.cli import run
from tests.nas.cli.latency_examples import write_cells, write_own_space

SAMPLE = Path(__file__).parents[3] / "experiments" / "sample_data"
DATA = Path(__file__).parents[4] / "shared" / "data" / "device_latency"


def test_a_device_is_learned_from_few_networks_of_a_space_of_ones_own_with_its_file(tmp_path, capsys):
    own, table = write_own_space(tmp_path, {"a": 2.0, "b": 0.5, "c": 3.0, "new": 1.0}, count=80)
    transfer = ["latency", "transfer", "--sources", str(table), "--target", "new", "--samples", "16"]
    transfer += ["--store", str(tmp_path / "store"), "--format", "json"]
    assert run([*transfer, "--space", own]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scores"]["within_10"] > 0.8
    assert 0 <= found["own_share"] <= 1
    assert run(["latency", "import", str(table), "--device", "new", "--out", str(tmp_path / "m.parquet")]) == 0
    evaluate = ["latency", "evaluate", "new", "--data", str(tmp_path / "m.parquet"), "--store", str(tmp_path / "store")]
    assert run([*evaluate, "--space", own]) == 0  # from layers: integer vectors need no file
    capsys.readouterr()
    assert run(transfer) == 2
    assert "networks are of space 'ours', none that ships" in capsys.readouterr().err


def test_networks_to_measure_are_chosen_and_listed_until_their_rows_are_there(tmp_path, capsys):
    own, table = write_own_space(tmp_path, {"a": 2.0, "b": 0.5, "c": 3.0, "new": 1.0}, count=80)
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    of_new = {row["arch"]: row | {"threads": 1, "arch_id": "-"} for row in rows if row["device"] == "new"}
    sources, data = tmp_path / "sources.jsonl", tmp_path / "new.jsonl"
    sources.write_text("".join(json.dumps(row) + "\n" for row in rows if row["device"] != "new"))
    transfer = [
        "latency",
        "transfer",
        "--sources",
        str(sources),
        "--target",
        "new",
        "--data",
        str(data),
        "--space",
        own,
    ]
    transfer += ["--samples", "12", "--store", str(tmp_path / "store"), "--format", "json"]

    def next_networks() -> tuple[list[dict[str, str]], int]:
        assert run(transfer) == 1
        out, err = capsys.readouterr()
        found = json.loads(out)
        assert f"{len(found['measure_next'])} networks are not in {data}: measure them on new" in err
        return found["measure_next"], len(found["learning_curve"])

    def measured(networks: list[dict[str, str]]) -> str:
        return "".join(json.dumps(of_new[one["arch"]] | {"verdict": "accepted"}) + "\n" for one in networks)

    first, steps = next_networks()
    assert (len({one["key"] for one in first}), steps) == (10, 0)
    assert next_networks()[0] == first
    data.write_text(measured(first[:7]))
    assert next_networks()[0] == first[7:]
    refused = of_new[first[9]["arch"]] | {"verdict": "refused", "arch_id": first[9]["key"]}
    data.write_text(measured(first[:9]) + json.dumps(refused) + "\n")
    assert next_networks()[0] == first[9:]
    data.write_text(measured(first[:9]) + 2 * (json.dumps(refused) + "\n"))
    (other,), _ = next_networks()
    assert other not in first
    data.write_text(data.read_text() + measured([other]))
    last, steps = next_networks()
    assert (len(last), steps) == (2, 1)
    data.write_text(data.read_text() + measured(last))
    assert run(transfer) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["measured"]) == {one["key"] for one in [*first[:9], other, *last]}
    assert [step["rows"] for step in found["learning_curve"]] == [10, 12]


def test_what_is_to_be_measured_needs_a_set_a_preset_and_networks_that_can_be_built(tmp_path, capsys):
    own, table = write_own_space(tmp_path, {"a": 2.0, "b": 0.5}, count=60)
    transfer = ["latency", "transfer", "--target", "local/onnxruntime", "--measure", "--store", str(tmp_path / "store")]
    data = ["--data", str(tmp_path / "m.parquet")]
    assert run([*transfer, "--sources", str(table), "--space", own]) == 2
    assert "name one with --data" in capsys.readouterr().err
    cells = str(write_cells(tmp_path / "cells.jsonl"))
    assert run([*transfer, *data, "--sources", cells, "--space", "cells"]) == 2
    assert "cannot be built here" in capsys.readouterr().err
    energy = tmp_path / "e.jsonl"
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    energy.write_text("".join(json.dumps(row | {"energy_mj": row["latency_ms"]}) + "\n" for row in rows))
    assert run([*transfer, *data, "--sources", str(energy), "--space", own, "--metric", "energy_mj"]) == 2
    assert "the preset quick measures no energy" in capsys.readouterr().err


@pytest.mark.slow
def test_chosen_networks_are_measured_and_a_second_start_measures_none_again(tmp_path, capsys):
    bank, data = tmp_path / "bank.parquet", tmp_path / "fresh.parquet"
    for device, precision in (("board_a/onnxruntime", "fp32"), ("board_b/onnxruntime", "int8")):
        sample = MeasurementSet(SAMPLE / f"tiny-local-onnxruntime-{precision}.parquet").read_usable()
        rows = sorted(sample, key=lambda row: row.key)[:100]
        MeasurementSet(bank).append(
            [dataclasses.replace(row, profile=DeviceProfile(device, row.profile.precision)) for row in rows]
        )
    transfer = ["latency", "transfer", "--sources", str(bank), "--target", "local/onnxruntime", "--precision", "fp32"]
    transfer += ["--measure", "--data", str(data), "--samples", "12", "--store", str(tmp_path / "store")]
    code = run([*transfer, "--format", "json"])
    out, err = capsys.readouterr()
    rows = MeasurementSet(data).read()
    tries: dict[str, list[bool]] = {}
    for row in rows:
        tries.setdefault(row.key, []).append(row.usable)
    assert all(len(tried) <= SITTINGS and not any(tried[:-1]) for tried in tries.values())
    if code == 1:
        assert "networks could not be measured on local/onnxruntime/fp32/1-thread, the last because" in err
        assert sum(not any(tried) for tried in tries.values()) >= 10
        pytest.skip("this machine is too busy to measure on")
    assert code == 0
    found = json.loads(out)
    assert set(found["measured"]) == {row.key for row in rows if row.usable}
    assert [step["rows"] for step in found["learning_curve"]] == [10, 12]
    assert "transfer: 10 networks: expected error " in err
    assert run([*transfer, "--format", "json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["measured"], again["predictor"]) == (found["measured"], "local-onnxruntime-fp32/v2")
    assert MeasurementSet(data).read() == rows


def test_energy_is_transferred_like_latency(tmp_path, capsys):
    table = write_cells(tmp_path / "t.jsonl")
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    for row in rows:
        row["energy_mj"] = None if row["arch"][0] == 3 else 3 * row["latency_ms"]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--sources", str(table), "--target", "new", "--samples", "12", "--space", "cells", "--format", "json"]
    transfer = ["latency", "transfer", *options, "--store", str(tmp_path / "store")]
    assert run([*transfer, "--metric", "energy_mj"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bank_rows"] < len(rows) / 6
    assert found["scores"]["spearman"] > 0.9  # of 22 networks
    assert found["scores"]["within_10"] > 0.5
    predictor = Catalog(tmp_path / "store").load("new", of_choices=True)
    assert predictor.metric == "energy_mj"
    with_energy = [row for row in rows if row["device"] == "new" and row["energy_mj"]]
    networks = [decode_architecture(json.dumps(row["arch"]), "cells") for row in with_energy]
    told = predictor.predict_architectures(networks, {}).mean / [row["energy_mj"] for row in with_energy]
    assert np.median(told) == pytest.approx(1, abs=0.05)
    assert run([*transfer, "--metric", "peak_memory_mb"]) == 2
    assert "they have none with rows of peak_memory_mb to learn from" in capsys.readouterr().err


def test_transfer_learns_a_device_and_evaluate_finds_it_good(tmp_path, capsys):
    table, store = str(write_cells(tmp_path / "t.jsonl")), str(tmp_path / "store")
    options = ["--target", "new", "--samples", "12", "--space", "cells", "--store", store]
    assert run(["latency", "transfer", "--sources", table, *options, "--format", "json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert (found["predictor"], found["device"], found["reached"]) == ("new/v1", "new/int8/1-thread", None)
    assert found["sources"] == ["a", "b_bs1", "b_bs32", "c", "d"]
    assert [step["rows"] for step in found["learning_curve"]] == [10, 12]
    assert len(set(found["measured"])) == 12
    assert found["scores"]["spearman"] > 0.95
    assert found["scores"]["within_10"] > 0.7
    assert "saved: new/v1" in captured.err
    assert Path(found["picture"]).read_bytes().startswith(b"\x89PNG")

    measurements = str(tmp_path / "m.parquet")
    assert run(["latency", "import", table, "--device", "new", "--space", "cells", "--out", measurements]) == 0
    capsys.readouterr()
    assert run(["latency", "evaluate", "new", "--data", measurements, "--store", store, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["spearman"] > 0.95
    assert run(["latency", "list", "--store", store, "--format", "json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed["meant_by_name"]
    assert listed["last_verified"].endswith(" m.parquet")
    assert run(["latency", "promote", "new/v1", "--store", store]) == 0
    capsys.readouterr()
    # A measurement set is a table too: of the target here.
    assert run(["latency", "transfer", "--sources", table, "--data", measurements, *options]) == 0
    assert "saved: new/v2" in capsys.readouterr().err
    assert run(["latency", "list", "--store", store, "--format", "json"]) == 0
    assert [row["meant_by_name"] for row in json.loads(capsys.readouterr().out)] == [True, False]


def test_what_transfer_learned_from_a_table_without_precisions_is_evaluated_on_its_imported_rows(tmp_path, capsys):
    cells, store = write_cells(tmp_path / "t.jsonl"), str(tmp_path / "store")
    rows = [json.loads(line) for line in cells.read_text().splitlines()]
    bare = tmp_path / "bare.jsonl"
    bare.write_text("".join(json.dumps(row | {"precision": "unknown"}) + "\n" for row in rows))
    transfer = ["latency", "transfer", "--sources", str(bare), "--target", "new", "--samples", "12"]
    assert run([*transfer, "--space", "cells", "--store", store]) == 0
    err = capsys.readouterr().err
    assert "saved: new/v1 for new in" in err
    new, other = (str(tmp_path / name) for name in ("new.parquet", "c.parquet"))
    for device, out in (("new", new), ("c", other)):
        to_set = ["--device", device, "--space", "cells", "--precision", "int8", "--out", out]
        assert run(["latency", "import", str(bare), *to_set]) == 0
    command = err.splitlines()[-1].removeprefix("next: nas ").replace("OTHER.parquet", new).split()
    assert command[:3] == ["latency", "evaluate", "new/v1"]
    capsys.readouterr()
    assert run([*command, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["within_10"] > 0.8
    assert run(["latency", "evaluate", "new/v1", "--data", other, "--store", store]) == 2
    assert "new/v1 predicts new, " in capsys.readouterr().err


def test_transfer_leaves_the_family_of_the_target_out_of_the_bank(tmp_path, capsys):
    table = str(write_cells(tmp_path / "t.jsonl"))
    options = [
        "--target",
        "b_bs32",
        "--samples",
        "10",
        "--space",
        "cells",
        "--store",
        str(tmp_path),
        "--format",
        "json",
    ]
    assert run(["latency", "transfer", "--sources", table, *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["sources"], found["left_out"]) == (["a", "c", "d", "new"], ["b_bs1"])


def test_a_report_that_no_network_is_left_for_is_told(tmp_path, capsys):
    table = write_cells(tmp_path / "t.jsonl")
    lines = table.read_text().splitlines(keepends=True)
    few = tmp_path / "few.jsonl"
    few.write_text("".join([line for line in lines if '"new"' in line][:11]))
    report = tmp_path / "report.html"
    options = ["--data", str(few), "--target", "new", "--samples", "10", "--space", "cells", "--store", str(tmp_path)]
    assert run(["latency", "transfer", "--sources", str(table), *options, "--report", str(report)]) == 0
    assert "no report: fewer than 2 networks of new are left to score it on" in capsys.readouterr().err
    assert not report.exists()


def test_a_target_that_is_not_there_is_refused_with_those_that_are(tmp_path, capsys):
    table = str(write_cells(tmp_path / "t.jsonl"))
    assert run(["latency", "transfer", "--sources", table, "--target", "nwe", "--space", "cells"]) == 2
    assert (
        "must be one device of the tables, got 'nwe'; they have a, b_bs1, b_bs32, c, d, new" in capsys.readouterr().err
    )


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared measurement tables are not here")
def test_transfer_to_a_phone_of_the_public_table_reaches_its_known_quality(tmp_path, capsys):
    options = ["--target", "samsung_a50", "--samples", "20", "--choose", "--store", str(tmp_path), "--format", "json"]
    scores = []
    for seed in ("0", "1", "2"):  # one draw of 20 rows of a phone that counts milliseconds tells little
        table = str(DATA / "fbnet_help.parquet")
        assert run(["latency", "transfer", "--sources", table, "--seed", seed, *options]) == 0
        found = json.loads(capsys.readouterr().out)
        assert len(found["sources"]) == 17  # sums of block costs and simulations are left out
        assert found["scores"]["rows"] == 1008
        scores.append(found["scores"])
    assert np.mean([score["spearman"] for score in scores]) > 0.89
    assert np.mean([score["within_10"] for score in scores]) > 0.85
    assert 0.8 < np.mean([score["coverage"] for score in scores]) < 0.98

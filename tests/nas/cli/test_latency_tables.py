"""Commands on tables of others: `nas latency lint`, `import`."""

import json
from pathlib import Path

import numpy as np

from nas.cli import run
from search_spaces.cost import network_cost
from search_spaces.encodings import encoding


def write_table(path: Path, spoiled: bool = False) -> Path:
    """Writes 40 clean rows of one device; one of them in seconds where they are to be spoiled."""
    rng = np.random.default_rng(0)
    vectors = rng.integers(0, 3, (40, 4))
    values = np.exp(1 + 0.2 * vectors.sum(axis=1) + rng.normal(0, 0.02, 40))
    if spoiled:
        values[7] /= 1000
    rows = [
        {"arch": vector, "device": "phone", "latency_ms": value}
        for vector, value in zip(vectors.tolist(), values.tolist(), strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


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


def write_fbnet(path: Path, count: int = 40) -> Path:
    """Writes a CSV of networks of the fbnet space in microseconds, on two devices; latency follows the arithmetic."""
    rng, public = np.random.default_rng(1), encoding("fbnet")
    lines = ["space,arch,device,latency_ms"]
    for _ in range(count):
        architecture = public.search_space.sample(rng)
        macs = network_cost(public.search_space.layers(architecture)).macs
        for device, speed in (("phone", 2e4), ("board", 1e4)):
            microseconds = macs / speed * np.exp(rng.normal(0, 0.01))
            lines.append(f'fbnet,"{list(public.encode(architecture))}",{device},{microseconds:.3f}')
    path.write_text("\n".join(lines) + "\n")
    return path


def test_an_imported_table_can_be_fitted_and_evaluated(tmp_path, capsys):
    table, measurements, store = write_fbnet(tmp_path / "t.csv"), str(tmp_path / "m.parquet"), str(tmp_path / "store")
    options = ["--device", "phone", "--precision", "int8", "--latency-unit", "us", "--format", "json"]
    assert run(["latency", "import", str(table), "--out", measurements, *options]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "rows": 40, "devices": 1, "accepted": 40, "noisy": 0, "refused": 0, "findings": [],
    }  # fmt: skip
    assert run(["latency", "fit", measurements, "--name", "phone", "--store", store]) == 0
    capsys.readouterr()
    evaluate = ["latency", "evaluate", "phone", "--data", measurements, "--store", store, "--format", "json"]
    assert run(evaluate) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["device"] == "phone/int8/1-thread"
    assert found["within_10"] > 0.9


def test_import_names_the_devices_of_a_file_where_the_wanted_one_is_not_there(tmp_path, capsys):
    table = str(write_fbnet(tmp_path / "t.csv", 5))
    assert run(["latency", "import", table, "--device", "fone", "--out", str(tmp_path / "m.parquet")]) == 2
    assert "has no rows of 'fone', it has board, phone" in capsys.readouterr().err
    assert not (tmp_path / "m.parquet").exists()

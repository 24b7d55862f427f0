"""Commands on tables of others: `nas latency lint`."""

import json
from pathlib import Path

import numpy as np

from nas.cli import run


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

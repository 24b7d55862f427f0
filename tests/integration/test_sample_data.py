"""The command that measures the sample data set, with a few networks: stopped, resumed, checked, described."""

import subprocess
import sys
from pathlib import Path

import pytest

from latency_predictors.measurement import SCHEMA
from latency_predictors.store import MeasurementSet

SCRIPT = Path(__file__).parents[2] / "experiments" / "sample_data" / "measure.py"


@pytest.mark.slow
def test_a_few_networks_are_measured_once_and_described(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path), "--turns", "1", "--least", "0"]
    command += ["--profiles", "local/onnxruntime:fp32", "local/onnxruntime:int8", "--count"]
    first = subprocess.run([*command, "4"], capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    store = MeasurementSet(tmp_path / "tiny-local-onnxruntime-int8.parquet")
    before = store.read()
    assert len({row.key for row in before}) == 4
    card = (tmp_path / "DATA_CARD.md").read_text()
    assert "Licence: Apache-2.0" in card
    assert "no network, by its layers, is on both sides" in card
    assert before[0].environment.cpu in card
    assert all(f"`{name}`" in card for name in SCHEMA.names)

    command[command.index("0")] = "1.5"
    again = subprocess.run([*command, "4"], capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "of 4 networks are usable: run the command again" in again.stderr
    usable = sum(row.usable for row in before)
    assert len(store.read()) == len(before) + (4 - usable), "only what was refused is measured again"

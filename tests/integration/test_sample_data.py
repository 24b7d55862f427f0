"""The sample data set as it ships, and the command that measures it, with a few networks."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from latency_predictors.lint import lint
from latency_predictors.measurement import SCHEMA
from latency_predictors.store import MeasurementSet
from latency_predictors.table_file import read_table

FOLDER = Path(__file__).parents[2] / "experiments" / "sample_data"
SCRIPT = FOLDER / "measure.py"


@pytest.mark.parametrize("device", ["onnxruntime-fp32", "onnxruntime-int8", "litert-fp32", "litert-int8"])
def test_what_ships_is_what_the_card_describes(device: str) -> None:
    file = FOLDER / f"tiny-local-{device}.parquet"
    assert f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}" in (FOLDER / "DATA_CARD.md").read_text()
    rows = MeasurementSet(file).read_usable()
    assert len(rows) >= 500
    assert lint(read_table(file)) == []
    assert {(row.architecture and row.architecture.space, row.profile.id) for row in rows} == {
        ("tiny", f"local/{device.replace('-', '/')}/1-thread")
    }


@pytest.mark.slow
def test_a_few_networks_are_measured_once_and_described(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--out", str(tmp_path), "--least", "0"]
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
    after = store.read()
    assert after[: len(before)] == before
    usable = {row.key for row in before if row.usable}
    assert not usable & {row.key for row in after[len(before) :]}, "only what was refused is measured again"

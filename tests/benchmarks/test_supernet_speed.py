"""The script experiments/benchmarks/supernet_speed.py on a few images."""

import csv
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from search_spaces.architecture import Architecture

BENCHMARKS = Path(__file__).parents[2] / "experiments" / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import supernet_speed

    return supernet_speed


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["ofa", "ours in its place"])
def test_every_repetition_has_its_rows_and_goals_hold_in_all_of_them(
    benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str
) -> None:
    if reference == "ofa":
        if importlib.util.find_spec("ofa") is None:
            pytest.skip("needs the extra `peers`")
    else:

        class InItsPlace(benchmark.Ours):  # type: ignore[misc, name-defined]
            name = "ofa"

            def parameters(self, subnet: Architecture) -> int:
                return int(super().parameters(subnet)) - int(benchmark.HIDDEN_BIASES)

        monkeypatch.setattr(benchmark, "Reference", InItsPlace)
    monkeypatch.setattr(benchmark, "RESOLUTION", 32)  # but for the memory, which is another process's
    sizes = ["--batch", "2", "--calibration", "2", "--validation", "2", "--rounds", "1", "--memory-steps", "1"]
    files = ["--results", str(tmp_path), "--json", str(tmp_path / "out.json")]
    monkeypatch.setattr(sys, "argv", ["supernet_speed.py", "--repeats", "2", *sizes, *files])
    benchmark.main()
    with (tmp_path / "supernet_speed_cpu.csv").open() as file:
        rows = list(csv.DictReader(file))
    reach = json.loads((tmp_path / "out.json").read_text())["reach"]
    for task in ("training", "evaluation"):
        for side in ("hwnas", "ofa"):
            whole = [row for row in rows if (row["task"], row["side"], row["part"]) == (task, side, "all")]
            assert [row["repeat"] for row in whole] == ["1", "2"]
            assert all(float(row["ms"]) > 0 for row in whole)
            if side == "hwnas":
                told = reach[f"images_per_second_{task}"]["value"]
                assert told == pytest.approx(min(float(row["times_as_fast"]) for row in whole), abs=0.006)
    peaks = [float(row["memory_gb"]) for row in rows if row["part"] == "peak memory"]
    assert len(peaks) == 2
    assert reach["peak_memory_gb"]["value"] == pytest.approx(max(peaks), abs=0.006)
    assert 0.5 < max(peaks) < 6, "of the process that trained"

"""Which devices experiments/benchmarks/few_shot_latency.py takes for new ones, and which it learns them from."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from search_spaces.encodings import encoding

BENCHMARKS = Path(__file__).parents[2] / "experiments" / "benchmarks"
CLASSES = {"a_gpu_bs1": "gpu", "a_gpu_bs32": "gpu", "a_tpu": "tpu", "one_fpga": "fpga", "other_fpga": "fpga"}


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import few_shot_latency

    return few_shot_latency


def write_table(path: Path, devices: dict[str, str], networks: int = 90) -> Path:
    """Writes latencies that follow the numbers of blocks, each device in a way of its own."""
    rng, public = np.random.default_rng(0), encoding("mnasnet_anb")
    vectors = np.array([public.encode(public.search_space.sample(rng)) for _ in range(networks)])
    rows = [
        {"space": "mnasnet_anb", "arch": str(vector.tolist()), "device": name, "device_class": own, "latency_ms": value}
        for name, own in devices.items()
        for vector, value in zip(vectors, vectors @ rng.uniform(1, 2, 28) + rng.normal(0, 0.1, networks), strict=True)
    ]
    pq.write_table(pa.Table.from_pylist([row | {"kind": "measured"} for row in rows]), path)
    return path


def test_every_device_of_the_class_is_new_in_turn_and_none_of_it_a_source(benchmark, tmp_path) -> None:
    table = benchmark.load_table(write_table(tmp_path / "t.parquet", CLASSES))
    task = benchmark.TASKS["mnasnet_anb"]
    rows = list(benchmark.seed_rows("mnasnet_anb", task, table, 0))
    assert {row["device"] for row in rows} == {"one_fpga", "other_fpga"}
    whole = benchmark.SourceBank.fit(table.features, table.values, table.devices, table.families, columns=table.columns)
    banks = [benchmark.bank_of(whole, table, task, table.devices.index(name)) for name in ("one_fpga", "other_fpga")]
    assert [bank.devices for bank in banks] == [("a_gpu_bs1", "a_gpu_bs32", "a_tpu")] * 2
    everything = benchmark.TASKS["nasbench201"]
    assert benchmark.bank_of(whole, table, everything, 0).devices == ("a_tpu", "one_fpga", "other_fpga")


def test_a_table_without_a_device_of_the_class_is_told(benchmark, tmp_path, capsys, monkeypatch) -> None:
    write_table(tmp_path / "mnasnet_anb.parquet", {"a_gpu": "gpu", "a_tpu": "tpu"})
    options = ["--data", str(tmp_path), "--csv", str(tmp_path / "out.csv"), "--tasks", "mnasnet_anb", "--seeds", "1"]
    monkeypatch.setattr("sys.argv", ["few_shot_latency.py", *options])
    benchmark.main()
    assert "mnasnet_anb: no device of" in capsys.readouterr().out

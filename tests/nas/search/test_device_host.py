"""A real Ray cluster whose second machine has the device; the first one cannot measure, and Ray has no other."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

import nas.search.executors  # noqa: F401  (before ray, which reads its settings then)
from latency_predictors import session
from latency_predictors.devices.base import Block, BlockPlan, DeviceError
from latency_predictors.measurement import DeviceProfile
from latency_predictors.preset import PRESETS
from latency_predictors.store import MeasurementSet
from nas.api.latency import distinct_networks
from nas.config import RayConfig
from search_spaces.space import load_space
from tests.latency_predictors.devices.simulated import SimulatedDevice
from tests.nas.search.small import child, lines, wait_until
from tests.nas.search.test_node_loss import TOKEN, cluster  # noqa: F401 (a fixture)

pytestmark = pytest.mark.slow

NETWORKS = 3


def measure_on_cluster(folder: Path, address: str, token: str) -> None:
    logging.disable(logging.WARNING)
    os.environ.update(RAY_AUTH_TOKEN=token, RAY_AUTH_MODE="token")  # read when ray is imported
    from latency_predictors.devices.base import DeviceError
    from latency_predictors.devices.runner_device import REFERENCES
    from nas.search.executors import device_host

    device_host.JOB_NETWORKS = 2
    networks = distinct_networks(load_space("tiny"), NETWORKS, 0)
    store, profile = MeasurementSet(folder / "m.parquet"), DeviceProfile("local/onnxruntime")
    options = {"preset": "quick", "seed": 0, "store": store}

    def told(done: int, total: int, text: str) -> None:
        with (folder / "told.log").open("a") as log:
            log.write(f"{text}\n")

    def measure() -> None:
        rows = device_host.measure_networks_on(
            "board",
            RayConfig(address=address),
            networks,
            profile,
            **options,
            progress=told,  # type: ignore[arg-type]
        )
        assert [row.architecture for row in rows] == [architecture for architecture, _ in networks]

    measure()
    measure()  # what is usable is not measured again
    files = [REFERENCES / "fp32.onnx"]
    rows = device_host.measure_files_on(
        "board", RayConfig(address=address), files, profile,
        architectures=[architecture for architecture, _ in networks[:1]], **options, progress=told,  # type: ignore[arg-type]
    )  # fmt: skip
    assert [row.key for row in rows] == [architecture.key for architecture, _ in networks[:1]]
    with pytest.raises(DeviceError, match="999 threads need as many cores"):
        device_host.measure_networks_on(
            "board", RayConfig(address=address), networks, DeviceProfile("local/onnxruntime", "fp32", 999),
            **options, progress=told,  # type: ignore[arg-type]
        )  # fmt: skip
    told(0, 0, "end")


def test_measuring_waits_for_the_machine_with_the_device_and_runs_there(
    cluster: "Cluster",  # noqa: F821, F811
    tmp_path: Path,
) -> None:
    process = child(measure_on_cluster, tmp_path, cluster.address, TOKEN)
    log = tmp_path / "told.log"
    wait_until(lambda: log.exists() and len(lines(log)) == 2, 120)
    assert lines(log)[0] == "waiting for a machine with the Ray resource device:board"
    assert not (tmp_path / "m.parquet").exists()
    cluster.add_node(num_cpus=0, resources={"device:board": 1})
    process.join(300)
    assert process.exitcode == 0
    assert lines(log)[-1] == "end"
    rows = MeasurementSet(tmp_path / "m.parquet").read()
    usable = [row.network_hash for row in rows if row.usable]
    assert len(usable) == len(set(usable)), "what is usable is not measured again"
    assert len({row.network_hash for row in rows}) == NETWORKS + 1


def test_rows_finished_before_the_device_fails_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.search.executors import device_host  # not above: with ray, which children import when its token is set

    class Failing(SimulatedDevice):
        def measure_block(self, models: Sequence[Path], *, threads: int, plan: BlockPlan) -> Block:
            if len(self.launches) >= 2 * PRESETS["quick"].min_blocks:
                raise DeviceError("the board is gone")
            return super().measure_block(models, threads=threads, plan=plan)

    monkeypatch.setattr(session, "get_device", lambda name: Failing(quiet=lambda launch, path: path.stem != busy))
    networks, profile = distinct_networks(load_space("tiny"), NETWORKS, 0), DeviceProfile("local/onnxruntime")
    busy = ""
    rows, new, failure = device_host._networks_there(networks, profile, "quick", 0, [])
    assert (rows, failure) == (new, "")
    busy = rows[0].network_hash
    others = {row.network_hash for row in rows[1:]}
    rows, new, failure = device_host._networks_there(networks, profile, "quick", 0, [])
    assert (rows, failure) == ([], "the board is gone")
    assert {row.network_hash for row in new if row.usable} == others

"""The contract of `Device`, for every registered one."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from latency_predictors.devices import Device, get_device, list_devices, register_device
from latency_predictors.devices.base import BlockPlan, DeviceError
from latency_predictors.devices.local import LocalDevice
from search_spaces.cost import Precision
from search_spaces.errors import InputError

PLAN = BlockPlan(window_ms=1, min_inferences=3, patience=3, warmup_ms=1, timeout_seconds=60)
BROKEN = {".onnx": b"not a model", ".tflite": b"TFL3 not a model" * 100}


@pytest.fixture(params=list_devices())
def device(request: pytest.FixtureRequest) -> Device:
    return get_device(request.param)


@pytest.fixture(autouse=True)
def _no_process_survives() -> Iterator[None]:
    before = set(psutil.Process().children(recursive=True))
    yield
    assert set(psutil.Process().children(recursive=True)) <= before


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_block_times_each_model_in_the_order_given(device: Device, precision: Precision) -> None:
    model = device.reference(precision)
    block = device.measure_block([model, model, model], threads=1, plan=PLAN)
    assert [result.model for result in block.results] == [model] * 3
    for result in block.results:
        assert result.failure == ""
        assert result.timing is not None
        assert 0 < result.timing.first_inference_ms < 1000
        assert 0 < result.timing.load_ms < 10000
    assert block.probe_floor_ns > 0


def test_the_environment_tells_processor_system_and_runtime(device: Device) -> None:
    environment = device.environment()
    assert environment == device.environment()
    assert environment.machine == os.uname().machine
    assert environment.cores == len(os.sched_getaffinity(0))
    assert environment.runtime[-1].isdigit()


def test_a_file_that_is_no_model_fails_by_itself(device: Device, tmp_path: Path) -> None:
    good, broken, missing = device.reference("fp32"), tmp_path / f"a{device.suffix}", tmp_path / f"b{device.suffix}"
    broken.write_bytes(BROKEN[device.suffix])
    block = device.measure_block([broken, good, missing, good], threads=1, plan=PLAN)
    assert [result.timing is not None for result in block.results] == [False, True, False, True]
    assert all("\n" not in result.failure for result in block.results)


def test_a_model_that_hangs_ends_the_block_and_is_reported(device: Device, tmp_path: Path) -> None:
    hanging = tmp_path / f"hanging{device.suffix}"
    os.mkfifo(hanging)  # reading it waits for ever
    good = device.reference("fp32")
    plan = BlockPlan(window_ms=1, min_inferences=3, patience=3, warmup_ms=1, timeout_seconds=8)
    block = device.measure_block([good, hanging, good], threads=1, plan=plan)
    assert [result.model for result in block.results] == [good, hanging]
    assert block.results[1].failure == "no answer within 8 s; the process was killed"


def test_a_process_that_dies_ends_the_block_and_is_reported(device: Device, tmp_path: Path) -> None:
    waiting = tmp_path / f"waiting{device.suffix}"
    os.mkfifo(waiting)

    def kill_when_it_waits() -> None:
        while True:
            for child in psutil.Process().children():
                child.suspend()
                try:
                    # Fails unless the runner is just opening the other end.
                    os.close(os.open(waiting, os.O_WRONLY | os.O_NONBLOCK))
                except OSError:
                    child.resume()
                else:
                    child.kill()
                    return
            time.sleep(0.01)

    killer = threading.Thread(target=kill_when_it_waits)
    killer.start()
    block = device.measure_block([waiting, device.reference("fp32")], threads=1, plan=PLAN)
    killer.join()
    assert len(block.results) == 1
    assert block.results[0].failure.startswith("the process ended (signal 9)")


def test_more_threads_than_cores_are_an_error(device: Device) -> None:
    with pytest.raises(DeviceError, match=f"device {device.name} cannot measure: 999 threads need as many cores"):
        device.measure_block([], threads=999, plan=PLAN)


def test_each_block_is_a_fresh_process_that_is_gone_afterwards(device: Device) -> None:
    # Checked by `_no_process_survives`, also when the call raises; here that two blocks may follow each other at once.
    for _ in range(2):
        assert device.measure_block([], threads=1, plan=PLAN).results == ()


def test_blocks_on_this_machine_wait_for_each_other() -> None:
    spans: list[tuple[float, float]] = []

    class Timed(LocalDevice):
        name, runtime, suffix = "local/timed", "onnxruntime", ".onnx"

    plan = BlockPlan(window_ms=1, min_inferences=3, patience=3, warmup_ms=1, timeout_seconds=60)
    reference = Timed().reference("fp32")

    def measure() -> None:
        block = Timed().measure_block([reference], threads=1, plan=plan)
        assert block.results[0].timing
        spans.append((block.results[0].timing.load_ms, time.monotonic()))

    workers = [threading.Thread(target=measure) for _ in range(2)]
    for worker in workers:
        worker.start()
    running = 0
    while any(worker.is_alive() for worker in workers):
        children = [child for child in psutil.Process().children() if child.is_running()]
        running = max(running, len(children))
        time.sleep(0.01)
    assert len(spans) == 2
    assert running == 1


def test_an_unknown_device_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(
        InputError, match=r"device must be one of local/litert, local/onnxruntime, got 'local/lightrt'; did you mean"
    ):
        get_device("local/lightrt")


def test_a_taken_name_cannot_be_registered() -> None:
    with pytest.raises(ValueError, match="device 'local/litert' is registered already, by LitertDevice"):
        register_device(type(get_device("local/litert")))

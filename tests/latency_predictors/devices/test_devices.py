"""The contract of `Device`, for every registered one."""

import fcntl
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from onnx import TensorProto, helper

from latency_predictors.devices import Device, get_device, lease, list_devices, register_device
from latency_predictors.devices.base import Block, BlockPlan, DeviceError
from search_spaces.errors import InputError
from tests.latency_predictors.devices import phone

PLAN = BlockPlan(window_ms=1, min_inferences=3, patience=3, warmup_ms=1, timeout_seconds=60)
BROKEN = {".onnx": b"not a model", ".safetensors": b"not a model", ".tflite": b"TFL3 not a model" * 100}


CONTRACT = [
    f"adb/{phone.SERIAL}/litert",
    "cuda/0/eager",
    "cuda/0/graph",
    "local/litert",
    "local/onnxruntime",
    "local/openvino",
    "ssh/board/litert",
    "ssh/board/onnxruntime",
]
"""Each device keeps the contract by being listed here."""


@pytest.fixture(params=CONTRACT)
def device(request: pytest.FixtureRequest) -> Device:
    if request.param.endswith("/openvino"):
        pytest.importorskip("openvino", reason="needs OpenVINO (`pip install 'hwnas[openvino]'`)")
    if request.param.startswith("cuda/") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    if request.param.startswith("ssh/"):
        request.getfixturevalue("board")
    if request.param.startswith("adb/"):
        request.getfixturevalue("phone")
    return get_device(request.param)


def test_every_device_runs_the_contract() -> None:
    families = {(name.split("/")[0], name.split("/")[-1]) for name in CONTRACT}
    assert {(name.split("/")[0], name.split("/")[-1]) for name in list_devices()} == families
    assert [get_device(name).name for name in CONTRACT] == CONTRACT


@pytest.fixture(autouse=True)
def _no_process_survives() -> Iterator[None]:
    before = set(psutil.Process().children(recursive=True))
    yield
    assert set(psutil.Process().children(recursive=True)) <= before


@pytest.fixture
def hanging(device: Device, tmp_path: Path) -> Path:
    """A file that the runtime never gets done with."""
    path = tmp_path / f"hanging{device.suffix}"
    if device.name.startswith(("local/", "cuda/")):
        os.mkfifo(path)  # reading it waits for ever
    elif device.name.startswith("adb/"):
        path.write_bytes(phone.HANGING)
    elif device.suffix == ".onnx":
        path.write_bytes(endless_onnx())
    else:
        pytest.skip("a .tflite file that never ends cannot be made by hand; the runtime is the same as local/litert's")
    return path


@pytest.mark.parametrize("which", [0, 1])
def test_a_block_times_each_model_in_the_order_given(device: Device, which: int) -> None:
    precision = device.precisions[which]
    model = device.reference(precision)
    block = device.measure_block([model, model, model], threads=1, plan=PLAN)
    assert [result.model for result in block.results] == [model] * 3
    for result in block.results:
        assert result.failure == ""
        assert result.timing is not None
        assert 0 < result.timing.first_inference_ms < 1000
        assert 0 < result.timing.load_ms < 10000
        assert result.timing.peak_memory_mb is not None
        assert 0 <= result.timing.peak_memory_mb < 1000
    assert block.probe_floor_ns is None or block.probe_floor_ns > 0


def test_the_environment_tells_processor_system_and_runtime(device: Device) -> None:
    environment = device.environment()
    assert environment == device.environment()
    assert environment.machine == os.uname().machine
    assert environment.cores == len(os.sched_getaffinity(0))
    assert re.search(r" [\d.]*\d$| sha256 [0-9a-f]{12}$", environment.runtime)


def test_a_file_that_is_no_model_fails_by_itself(device: Device, tmp_path: Path) -> None:
    good, broken, missing = device.reference("fp32"), tmp_path / f"a{device.suffix}", tmp_path / f"b{device.suffix}"
    broken.write_bytes(BROKEN[device.suffix])
    block = device.measure_block([broken, good, missing, good], threads=1, plan=PLAN)
    assert [result.timing is not None for result in block.results] == [False, True, False, True]
    assert all("\n" not in result.failure for result in block.results)


def test_a_model_that_hangs_ends_the_block_and_is_reported(device: Device, hanging: Path) -> None:
    good = device.reference("fp32")
    plan = BlockPlan(window_ms=1, min_inferences=3, patience=3, warmup_ms=1, timeout_seconds=8)
    block = device.measure_block([good, hanging, good], threads=1, plan=plan)
    assert [result.model for result in block.results] == [good, hanging]
    assert block.results[1].failure == "no answer within 8 s; the process was killed"


def test_a_process_that_dies_ends_the_block_and_is_reported(device: Device, hanging: Path) -> None:
    def kill_when_it_hangs() -> None:
        while True:
            for process in psutil.Process().children(recursive=True):
                if is_runner(process) and hangs(process, hanging):
                    process.kill()
                    return
            time.sleep(0.01)

    killer = threading.Thread(target=kill_when_it_hangs)
    killer.start()
    block = device.measure_block([hanging, device.reference("fp32")], threads=1, plan=PLAN)
    killer.join()
    assert len(block.results) == 1
    assert block.results[0].failure.startswith("the process ended (signal 9)")


def is_runner(process: psutil.Process) -> bool:
    try:
        return any(word.endswith(("runner.py", "/benchmark_model")) for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False


def hangs(runner: psutil.Process, model: Path) -> bool:
    """Whether a runner is at a model that hangs."""
    if model.is_fifo():
        runner.suspend()
        try:
            # Fails unless the runner is just opening the other end.
            os.close(os.open(model, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False
        finally:
            runner.resume()
        return True
    if model.read_bytes() == phone.HANGING:
        return "sleep" in runner.status()
    # The far end stores the model before it tells the runner of it, so the file is there.
    return (Path(runner.cmdline()[-1]).parent / "model.onnx").exists()


def endless_onnx() -> bytes:
    """Returns a model with a loop that has no end."""
    go_on = helper.make_tensor_value_info("go_on", TensorProto.BOOL, [])
    value = helper.make_tensor_value_info("value", TensorProto.FLOAT, [1])
    body = helper.make_graph(
        [helper.make_node("Identity", ["go_on"], ["again"]), helper.make_node("Neg", ["value"], ["negated"])],
        "body",
        [helper.make_tensor_value_info("number", TensorProto.INT64, []), go_on, value],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("negated", TensorProto.FLOAT, [1]),
        ],
    )
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1])
    end = helper.make_tensor_value_info("end", TensorProto.FLOAT, [1])
    true = helper.make_tensor("true", TensorProto.BOOL, [], [True])
    graph = helper.make_graph(
        [helper.make_node("Loop", ["", "true", "image"], ["end"], body=body)], "endless", [image], [end], [true]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def test_more_threads_than_cores_are_an_error(device: Device) -> None:
    with pytest.raises(DeviceError, match=f"device {device.name} cannot measure: 999 threads need as many cores"):
        device.measure_block([], threads=999, plan=PLAN)


def test_each_block_is_a_fresh_process_that_is_gone_afterwards(device: Device) -> None:
    # Checked by `_no_process_survives`, also when the call raises; here that two blocks may follow each other at once.
    for _ in range(2):
        assert device.measure_block([], threads=1, plan=PLAN).results == ()


@pytest.fixture
def own_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Takes turns only with the processes of this test; returns the file that is locked."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path / f"hwnas-measuring-{os.getuid()}.lock"


def test_blocks_on_this_machine_wait_for_each_other(own_turns: Path) -> None:
    device = get_device("local/onnxruntime")
    blocks: list[Block] = []

    def measure() -> None:
        for _ in range(2):
            blocks.append(device.measure_block([device.reference("fp32")], threads=1, plan=PLAN))

    others = set(psutil.Process().children())  # that tests before have left running
    workers = [threading.Thread(target=measure) for _ in range(2)]
    for worker in workers:
        worker.start()
    most = 0
    while any(worker.is_alive() for worker in workers):
        most = max(most, len(set(psutil.Process().children()) - others))
        time.sleep(0.01)
    assert len(blocks) == 4
    assert most == 1


def test_a_stopped_process_that_measures_is_not_waited_for_for_ever(
    own_turns: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lease, "PATIENCE_SECONDS", 0.5)
    with own_turns.open("w") as stopped:
        stopped.write("4711\n")
        stopped.flush()
        fcntl.flock(stopped, fcntl.LOCK_EX)
        assert get_device("local/litert").environment()
    assert "the lease of process 4711, which measures, is over; measuring beside it" in caplog.text


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "openvino.py").write_text("raise ImportError(\"No module named 'openvino'\")")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(DeviceError, match=r"No module named 'openvino'; `pip install 'hwnas\[openvino\]'` brings it"):
        get_device("local/openvino").environment()


def test_an_unknown_device_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(
        InputError,
        match=r"device must be one of .*local/litert, .*ssh/HOST/litert.*; did you mean 'local/litert'",
    ):
        get_device("local/lightrt")


def test_a_taken_name_cannot_be_registered() -> None:
    with pytest.raises(ValueError, match="device 'local/litert' is registered already, by LitertDevice"):
        register_device(type(get_device("local/litert")))

"""What can be tested of GPUs without one; the contract (`test_devices.py`) runs on them where there is one."""

from pathlib import Path

import pytest
import torch

from latency_predictors.devices import get_device
from latency_predictors.devices.base import DeviceError
from latency_predictors.measurement import DeviceProfile
from latency_predictors.session import measure_files
from nas.config import load_config
from search_spaces.errors import InputError

QUICKSTART = Path("nas/quickstart.yaml")


def test_a_machine_without_a_gpu_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    message = r"device cuda/99/graph cannot measure: PyTorch .* sees no CUDA device 99"
    with pytest.raises(DeviceError, match=message) as it:
        get_device("cuda/99/graph").environment()
    assert "\n" not in str(it.value)


def test_an_index_counts_in_the_list_of_visible_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "97,98")
    with pytest.raises(DeviceError, match="sees no CUDA device 98"):
        get_device("cuda/1/graph").environment()
    with pytest.raises(DeviceError, match="CUDA_VISIBLE_DEVICES, which is '97,98', and must be below 2"):
        get_device("cuda/2/graph").environment()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(DeviceError, match="sees no CUDA device 99"):
        get_device("cuda/99/graph").environment()


def test_names_runtimes_and_precisions() -> None:
    eager, graph = get_device("cuda/0/eager"), get_device("cuda/1/graph")
    assert (eager.runtime, graph.runtime, graph.name) == ("torch_eager", "torch_graph", "cuda/1/graph")
    assert DeviceProfile.of_id("cuda/1/graph/fp16/1-thread") == DeviceProfile(graph.name, "fp16")
    with pytest.raises(InputError, match="a GPU is named by its number, such as cuda/0/graph, got 'a'"):
        get_device("cuda/a/eager")


@pytest.mark.parametrize(
    ("device", "precision", "message"),
    [
        ("cuda/0/eager", "int8", "cuda/0/eager runs fp32 and fp16 files, got precision int8"),
        ("local/litert", "fp16", "local/litert runs fp32 and int8 files, got precision fp16"),
    ],
)
def test_a_precision_that_the_device_does_not_run_is_refused(device: str, precision: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure_files([], DeviceProfile(device, precision))  # type: ignore[arg-type]


def test_an_experiment_cannot_name_a_gpu() -> None:
    with pytest.raises(InputError, match="cuda/0/graph can be measured and learned with `nas latency`, not searched"):
        load_config(QUICKSTART, ("devices.cpu.device=cuda/0/graph",))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_graph_of_a_small_network_is_faster_than_its_operators_one_by_one() -> None:
    from tests.latency_predictors.devices.test_devices import PLAN

    medians = []
    for name in ("cuda/0/eager", "cuda/0/graph"):
        device = get_device(name)
        result = device.measure_block([device.reference("fp32")], threads=1, plan=PLAN).results[0]
        assert result.timing, result.failure
        assert result.timing.median_ms
        medians.append(result.timing.median_ms)
    assert medians[1] < medians[0]

"""NVIDIA GPUs of this machine with PyTorch, operator by operator (``eager``) or as one CUDA graph (``graph``)."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latency_predictors.devices.base import DeviceError
from latency_predictors.devices.local import runner_environment
from latency_predictors.devices.runner_device import RunnerDevice
from latency_predictors.devices.runner_process import RunnerProcess
from search_spaces.cost import Precision
from search_spaces.errors import InputError

CUDA_RUNNER = Path(__file__).with_name("cuda_runner.py")


class TorchCudaDevice(RunnerDevice):
    """Runs `cuda_runner.py` with this interpreter; subclasses say how the GPU gets its work.

    Args:
        index: of the GPU, as ``nvidia-smi`` counts them; where CUDA_VISIBLE_DEVICES is set, in its list.

    Raises:
        InputError: not a number.
    """

    suffix = ".safetensors"
    precisions: tuple[Precision, ...] = ("fp32", "fp16")

    def __init__(self, index: str) -> None:
        if not index.isdecimal():
            raise InputError(f"a GPU is named by its number, such as cuda/0/graph, got {index!r}")
        self.index = int(index)
        self.name = f"cuda/{self.index}/{self.runtime.removeprefix('torch_')}"

    @contextmanager
    def _runner(self, threads: int) -> Iterator[RunnerProcess]:
        chosen = self._visible_name()
        environment = {**runner_environment(threads), "CUDA_VISIBLE_DEVICES": chosen, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        with RunnerProcess([sys.executable, "-P", str(CUDA_RUNNER)], environment) as runner:
            yield runner

    def _visible_name(self) -> str:
        """Returns what CUDA_VISIBLE_DEVICES must be for the runner to see this GPU alone."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if not visible:  # Ray empties it for work that asked for no GPU
            return str(self.index)
        names = visible.split(",")
        if self.index >= len(names):
            raise DeviceError(
                f"device {self.name} cannot measure: INDEX counts in CUDA_VISIBLE_DEVICES, which is {visible!r}, and "
                f"must be below {len(names)}"
            )
        return names[self.index].strip()


class EagerDevice(TorchCudaDevice):
    """As PyTorch runs networks by itself; small ones take as long as the processor needs to launch their kernels."""

    name = "cuda/INDEX/eager"
    runtime = "torch_eager"


class GraphDevice(TorchCudaDevice):
    """The kernels captured once and replayed together."""

    name = "cuda/INDEX/graph"
    runtime = "torch_graph"

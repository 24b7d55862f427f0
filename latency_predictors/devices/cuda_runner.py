"""`runner.py` for the one GPU that CUDA_VISIBLE_DEVICES leaves, timed by CUDA events around each inference."""

import os
from pathlib import Path

import torch

from latency_predictors.devices import runner
from latency_predictors.graphs.torch_file import load_torch_file


class CudaInference:
    """One inference of a network on the GPU, batch 1; the image is there already.

    Args:
        path: of the network.
        as_graph: replay it as a CUDA graph.
    """

    def __init__(self, path: str, *, as_graph: bool) -> None:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        self._before = torch.cuda.memory_allocated()
        # FP32 means FP32: by default cuDNN rounds the factors of a convolution to TF32.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        network = load_torch_file(Path(path))
        dtype = next(network.parameters()).dtype
        first = network.layers[0]
        image = torch.from_numpy(runner.random_input((1, first.in_channels, first.in_size, first.in_size), "float32"))
        # torch's types do not know this form of `to`, which is in its documentation.
        self._network = network.to("cuda").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._image = image.to("cuda", dtype, memory_format=torch.channels_last)
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        self._graph = self._captured() if as_graph else None

    @torch.inference_mode()
    def __call__(self) -> int:
        """Returns nanoseconds between the two events."""
        self._start.record()
        if self._graph:
            self._graph.replay()
        else:
            self._network(self._image)
        self._end.record()
        self._end.synchronize()
        return int(self._start.elapsed_time(self._end) * 1e6)

    def peak_memory_mb(self) -> float:
        """Returns the most GPU memory (10^6 bytes) that the network's tensors took at once."""
        return max(0, torch.cuda.max_memory_allocated() - self._before) / 1e6

    @torch.inference_mode()
    def _captured(self) -> torch.cuda.CUDAGraph:
        # Libraries choose and set up their kernels in the first inferences, which must not be captured.
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._network(self._image)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._network(self._image)
        return graph


def version() -> str:
    """Returns the GPU and the software.

    Raises:
        ValueError: there is no GPU.
    """
    if not torch.cuda.is_available():
        wanted = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        raise ValueError(f"PyTorch {torch.__version__} sees no CUDA device {wanted}")
    torch.set_num_threads(1)
    return f"{torch.cuda.get_device_name()} CUDA {torch.version.cuda} PyTorch {torch.__version__.partition('+')[0]}"


def energy_gpu() -> int | str:
    """Returns the number or the UUID by which NVML knows the GPU."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    return int(visible) if visible.isdecimal() else visible


def main() -> None:
    """Answers the host's lines until its input ends."""
    runner.LOADERS["torch_eager"] = lambda path, threads: CudaInference(path, as_graph=False)
    runner.LOADERS["torch_graph"] = lambda path, threads: CudaInference(path, as_graph=True)
    runner.VERSIONS["torch_eager"] = runner.VERSIONS["torch_graph"] = version
    runner.main(gpu=energy_gpu())


if __name__ == "__main__":
    main()

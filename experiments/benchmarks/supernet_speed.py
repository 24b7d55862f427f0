"""How fast are a training step on random subnets and the evaluation of a subnet, ours against Once-for-All's code?

The reference is package ``ofa`` (Cai et al., arXiv:1908.09791): its elastic MobileNetV3 is activated, trained and
validated as its own training loop does, which cuts weights in every forward pass and resets batch norm by its
`set_running_statistics`. Only its data code wants torchvision, and is not imported. Both hold the same space, see the
same images in the same batches, train and evaluate the same subnets, by turns in one process on one thread. Each has
the memory format that it comes with: ours channels last, the reference's torch's default.

Reported are medians over the rounds: CPU time of the process on a CPU, which others on the machine disturb least, and
the clock on a GPU; and where the time goes: cutting or copying weights, forward and backward pass, optimizer,
calibration of batch norm, validation, and by kernel. The memory figure is the peak of resident memory of a new process
(on a GPU, of the memory that torch has taken there) in whole training steps (sandwich rule) of ``mobilenet_v3`` at 128
pixels in batches of 32, as the product does. All of it is done ``--repeats`` times; every repetition has rows of its
own in the CSV file, and a goal holds where it holds in each of them.

    pip install -e '.[peers]'
    OMP_NUM_THREADS=1 python experiments/benchmarks/supernet_speed.py --json out.json --device cpu
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from csv_file import write_csv
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from nas.config import SupernetConfig
from nas.data import ImageData, Leakage, Split
from nas.training.accuracy import accuracy, batches
from nas.training.supernet import calibrated_subnet, train_supernet
from search_spaces.architecture import Architecture
from search_spaces.cost import network_cost
from search_spaces.encodings import encoding
from search_spaces.network import CALIBRATION_BATCH
from search_spaces.space import SearchSpace, load_space
from search_spaces.supernet import Supernet

GOAL_TRAINING, GOAL_EVALUATION, GOAL_MEMORY_GB = 1.5, 2.0, 6.0
RESOLUTION = 128
RANDOM_SUBNETS = 2
"""Of a training step."""
HIDDEN_BIASES = 1280
"""Parameters that ours has beside the reference's: its layer before the classifier has no biases."""
KERNELS = 8
"""That are told of each side."""
RESULTS = Path(__file__).parent / "results"
T = TypeVar("T")


class Clock:
    """Seconds of named parts, added up: CPU time of the process, or on a GPU those of the clock."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: dict[str, float] = defaultdict(float)

    def now(self) -> float:
        """Returns seconds since some moment."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def timed(self, part: str, work: Callable[[], T]) -> T:
        """Returns what the work returns."""
        started = self.now()
        result = work()
        self.seconds[part] += self.now() - started
        return result


class Side(Protocol):
    """One implementation of the same supernet."""

    name: str

    def train(self, subnets: list[Architecture], images: Tensor, labels: Tensor, clock: Clock) -> None:
        """Takes one training step: a forward and a backward pass of each subnet, then the optimizer's."""

    def evaluate(
        self, subnet: Architecture, calibration: Tensor, images: Tensor, labels: Tensor, clock: Clock
    ) -> float:
        """Returns the accuracy of a subnet, its batch norm calibrated."""

    def parameters(self, subnet: Architecture) -> int:
        """Returns how many parameters a subnet has."""


def _add_gradients(
    network: torch.nn.Module,
    activate: Callable[[Architecture], object],
    subnets: list[Architecture],
    images: Tensor,
    labels: Tensor,
    clock: Clock,
) -> None:
    for subnet in subnets:
        activate(subnet)
        loss = clock.timed("forward", lambda: F.cross_entropy(network(images), labels))
        clock.timed("backward", loss.backward)


class Ours:
    """The product's supernet, trained and evaluated by the product's own parts."""

    name = "hwnas"

    def __init__(self, space: SearchSpace, device: torch.device) -> None:
        self._space = space
        self._supernet = Supernet(space).to(device)
        self._supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._optimizer = torch.optim.SGD(self._supernet.parameters(), 1e-3, momentum=0.9, nesterov=True, fused=True)
        # As the product does: momentum of what no subnet has used yet is zero.
        for parameter in self._supernet.parameters():
            self._optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    def train(self, subnets: list[Architecture], images: Tensor, labels: Tensor, clock: Clock) -> None:
        """Takes one training step."""
        self._supernet.train()
        images = images.contiguous(memory_format=torch.channels_last)
        self._optimizer.zero_grad(set_to_none=True)
        _add_gradients(self._supernet, self._supernet.activate, subnets, images, labels, clock)
        clock.timed("optimizer", self._optimizer.step)

    def evaluate(
        self, subnet: Architecture, calibration: Tensor, images: Tensor, labels: Tensor, clock: Clock
    ) -> float:
        """Returns the accuracy of a subnet."""
        network = clock.timed("calibration", lambda: calibrated_subnet(self._supernet, subnet, calibration))
        return clock.timed("validation", lambda: accuracy(network, images, labels))

    def parameters(self, subnet: Architecture) -> int:
        """Returns how many parameters a subnet has."""
        return network_cost(self._space.layers(subnet)).parameters

    def cut(self, subnet: Architecture, clock: Clock) -> None:
        """Times the cutting of a subnet's weights, which is part of its forward pass."""
        self._supernet.activate(subnet)
        clock.timed("of it cutting weights", self._supernet._active_parameters)


class Reference:
    """Once-for-All's elastic network, trained and validated by its own functions."""

    name = "ofa"

    def __init__(self, space: SearchSpace, device: torch.device) -> None:
        # Its loader is the only part that needs torchvision; nothing is loaded with it here.
        sys.modules["ofa.utils.my_dataloader"] = types.ModuleType("ofa.utils.my_dataloader")
        from ofa.imagenet_classification.elastic_nn.networks.ofa_mbv3 import OFAMobileNetV3
        from ofa.imagenet_classification.elastic_nn.utils import set_running_statistics

        self._reset = set_running_statistics
        self._network = OFAMobileNetV3(
            n_classes=space.table.classes,
            dropout_rate=0,
            ks_list=[3, 5, 7],
            expand_ratio_list=[3, 4, 6],
            depth_list=[2, 3, 4],
        ).to(device)
        self._optimizer = torch.optim.SGD(self._network.parameters(), 1e-3, momentum=0.9, nesterov=True)

    def _activate(self, subnet: Architecture) -> None:
        # A block beyond its stage's depth is 0 there; any choice does for it.
        vector = [number or 3 for number in encoding("ofa_mbv3").encode(subnet)]
        self._network.set_active_subnet(ks=vector[:20], e=vector[20:40], d=vector[40:45])

    def train(self, subnets: list[Architecture], images: Tensor, labels: Tensor, clock: Clock) -> None:
        """Takes one training step, as `train_one_epoch` of its progressive_shrinking.py does."""
        self._network.train()
        self._network.zero_grad()
        _add_gradients(self._network, self._activate, subnets, images, labels, clock)
        clock.timed("optimizer", self._optimizer.step)

    def evaluate(
        self, subnet: Architecture, calibration: Tensor, images: Tensor, labels: Tensor, clock: Clock
    ) -> float:
        """Returns the accuracy of a subnet, as `validate` of its progressive_shrinking.py finds it."""
        self._activate(subnet)
        loader = [(batch.contiguous(), None) for batch in torch.split(calibration, CALIBRATION_BATCH)]
        clock.timed("calibration", lambda: self._reset(self._network, loader))
        self._network.eval()
        parts = [batch.contiguous() for batch in batches(images)]

        @torch.no_grad()
        def right() -> float:
            answers = torch.cat([self._network(part).argmax(1) for part in parts])
            return float((answers == labels).double().mean())

        return clock.timed("validation", right)

    def parameters(self, subnet: Architecture) -> int:
        """Returns how many parameters a subnet has."""
        self._activate(subnet)
        return sum(parameter.numel() for parameter in self._network.get_active_subnet().parameters())


def compare(options: argparse.Namespace) -> list[dict[str, object]]:
    """Returns a row for each side, task and part; ours for whole tasks tell how many times as fast we are."""
    device = torch.device(options.device)
    torch.set_num_threads(1)
    table = load_space("mobilenet_v3").table
    space = SearchSpace(table.model_copy(update={"resolution": (RESOLUTION,)}))
    ours = Ours(space, device)
    sides: list[Side] = [ours, Reference(space, device)]
    rng = np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)

    def images(count: int) -> Tensor:
        return torch.randn(count, 3, RESOLUTION, RESOLUTION, generator=generator).to(device)

    batch, labels = images(options.batch), torch.randint(0, 1000, (options.batch,), generator=generator).to(device)
    calibration, validation = images(options.calibration), images(options.validation)
    truth = torch.randint(0, 1000, (options.validation,), generator=generator).to(device)
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    parts: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for round_ in range(options.rounds + 1):
        subnets = [space.sample(rng) for _ in range(RANDOM_SUBNETS)]
        told = [side.parameters(subnets[0]) for side in sides]
        assert told[0] - told[1] == HIDDEN_BIASES, f"not the same space: {told} parameters"
        for side in sides if round_ % 2 else sides[::-1]:
            clock = Clock(device)
            started = clock.now()
            side.train(subnets, batch, labels, clock)
            middle = clock.now()
            side.evaluate(subnets[0], calibration, validation, truth, clock)
            ended = clock.now()
            if side is ours:
                for subnet in subnets:
                    ours.cut(subnet, clock)
            if round_:  # the first one warms up
                times["training", side.name].append(middle - started)
                times["evaluation", side.name].append(ended - middle)
                for part, seconds in clock.seconds.items():
                    task = "evaluation" if part in ("calibration", "validation") else "training"
                    parts[task, side.name, part].append(seconds)
    counts = {"training": options.batch * RANDOM_SUBNETS, "evaluation": options.calibration + options.validation}
    rows: list[dict[str, object]] = []
    for (task, name), whole in times.items():
        own, theirs = times[task, Ours.name], times[task, Reference.name]
        ratio = statistics.median(other / one for one, other in zip(own, theirs, strict=True))
        told_ratio = round(ratio, 3) if name == Ours.name else ""
        rows.append(row(options, task, name, "all", whole, counts[task]) | {"times_as_fast": told_ratio})
        rows += [
            row(options, task, name, p, s, counts[task]) for (t, n, p), s in parts.items() if (t, n) == (task, name)
        ]
    for side in sides:
        rows += kernels(options, side, [space.sample(np.random.default_rng(1))], batch, labels)
    return rows


def row(
    options: argparse.Namespace, task: str, side: str, part: str, seconds: list[float], images: int
) -> dict[str, object]:
    """Returns the row of a part of a task."""
    median = statistics.median(seconds)
    return {
        "device": options.device,
        "task": task,
        "side": side,
        "part": part,
        "ms": round(1000 * median, 2),
        "images_per_s": round(images / median, 1) if part == "all" else "",
        "rounds": len(seconds),
    }


def kernels(
    options: argparse.Namespace, side: Side, subnets: list[Architecture], images: Tensor, labels: Tensor
) -> list[dict[str, object]]:
    """Returns the kernels that take most of a training step of one subnet."""
    cuda = options.device == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities) as profiler:
        side.train(subnets, images, labels, Clock(torch.device(options.device)))

    def ms(event: object) -> float:
        return float(getattr(event, "self_device_time_total" if cuda else "self_cpu_time_total")) / 1000

    found = sorted(profiler.key_averages(), key=ms, reverse=True)[:KERNELS]
    return [
        {
            "device": options.device, "task": "training, one subnet", "side": side.name, "part": event.key,
            "ms": round(ms(event), 2), "images_per_s": "", "rounds": 1,
        }
        for event in found
    ]  # fmt: skip


def peak_memory_gb(steps: int, device: str) -> float:
    """Returns the peak of this process's memory, training the supernet of mobilenet_v3 for some steps."""

    class EnoughError(Exception):
        pass

    def progress(step: int, _: int, __: dict[str, float]) -> None:
        if step >= steps:
            raise EnoughError

    table = load_space("mobilenet_v3").table
    space = SearchSpace(table.model_copy(update={"resolution": (RESOLUTION,)}))
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (32 * 2, 3, RESOLUTION, RESOLUTION), np.uint8), np.arange(64) % 1000)
    data = ImageData(
        "random", tuple(map(str, range(1000))), split, split, None, (0.5,) * 3, (0.25,) * 3, {}, Leakage(), "random",
    )  # fmt: skip
    config = SupernetConfig(epochs=1000, batch_size=32, learning_rate=1e-3, random_subnets=RANDOM_SUBNETS)
    with tempfile.TemporaryDirectory() as folder, suppress(EnoughError):
        train_supernet(space, data, config, Path(folder), seed=0, device=device, progress=progress)
    if device == "cuda":
        return torch.cuda.max_memory_reserved() / 1e9
    # Not getrusage's: that begins with the peak of the process that started this one.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9


def memory_row(options: argparse.Namespace) -> dict[str, object]:
    """Returns the row of the peak of a new process's memory."""
    command = [sys.executable, __file__, "--memory-only", "--memory-steps", str(options.memory_steps)]
    told = subprocess.run([*command, "--device", options.device], check=True, capture_output=True, text=True).stdout
    return {
        "device": options.device, "task": "training, sandwich rule", "side": Ours.name, "part": "peak memory",
        "memory_gb": round(float(told), 3),
    }  # fmt: skip


def main() -> None:
    """Runs the comparison and writes the CSV file and the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--calibration", type=int, default=64, help="images that batch norm is calibrated on")
    parser.add_argument("--validation", type=int, default=256, help="images of an evaluation")
    parser.add_argument("--rounds", type=int, default=10, help="of a repetition, of which the median counts")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory-steps", type=int, default=2, help="of training; 0 leaves the memory out")
    parser.add_argument("--memory-only", action="store_true", help="print the peak in GB and end")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.memory_only:
        print(peak_memory_gb(options.memory_steps, options.device))
        return
    rows: list[dict[str, object]] = []
    for repeat in range(1, options.repeats + 1):
        found = compare(options) + ([memory_row(options)] if options.memory_steps else [])
        rows += [{"repeat": repeat, **one} for one in found]
        write_csv(options.results / f"supernet_speed_{options.device}.csv", rows)

    def values(task: str, column: str) -> list[float]:
        return [float(str(one[column])) for one in rows if one["task"] == task and one.get(column)]

    reach: dict[str, dict[str, object]] = {}
    for task, goal in (("training", GOAL_TRAINING), ("evaluation", GOAL_EVALUATION)):
        least = min(values(task, "times_as_fast"))
        reach[f"images_per_second_{task}"] = {"value": round(least, 2), "goal": goal, "holds": least >= goal}
    if options.memory_steps:
        peak = max(values("training, sandwich rule", "memory_gb"))
        reach["peak_memory_gb"] = {"value": round(peak, 2), "goal": GOAL_MEMORY_GB, "holds": peak <= GOAL_MEMORY_GB}
    if options.json:
        device = torch.cuda.get_device_name() if options.device == "cuda" else platform.machine()
        machine = {
            "cpus": os.cpu_count(),
            "device": device,
            "python": platform.python_version(),
            "torch": torch.__version__,
        }
        options.json.write_text(json.dumps({"figures": {"machine": machine, "rows": rows}, "reach": reach}, indent=2))
    for one in rows:
        print(*(f"{name} {value}" for name, value in one.items() if value != ""), sep="  ")
    for name, result in reach.items():
        print(f"{name}: {result['value']}, goal {result['goal']}: {'holds' if result['holds'] else 'MISSED'}")


if __name__ == "__main__":
    main()

"""Is the search worth it? A run's finished models against MobileNetV2 and MobileNetV3, scaled by hand.

For each run given (one for each seed), ``--models`` networks spread along its front are finished, as `nas finish` does,
and so is a family designed by hand: MobileNetV2, MobileNetV3-Small and MobileNetV3-Large at several widths, depths and
resolutions, strides left out where the images are small, activations that stay whole in INT8; ``--hand`` are taken,
spread over those that take the device no less time than the fastest of ours and no more than the slowest (the nearest,
where these are too few; measured with random weights). The hand-designed networks are trained by themselves with the
run's own training, seed and images, for as many epochs as supernet and distillation had together; then both go through
the same export, INT8 calibration, test split and measuring protocol, on the run's first device. What counts is the test
accuracy and the measured latency of the device's own file.

The hypervolume ratio is that of the two fronts in test error and latency, from a corner a tenth of the range beyond the
worst values among all models. The gain is the best test accuracy within a latency budget, ours less theirs, averaged
over the middle third of the budgets that both families can keep, on a logarithmic scale (where the slowest of one
family is faster than the fastest of the other: at the least budget that both can keep). Killed, the same command goes
on: what is finished is found again. Without runs, those of an experiment with the seeds 0 and 1 are taken from its
folder of runs, and run first where they are not there: of experiments/configs/fashion_mnist.yaml, or of ``--config``.

    python experiments/benchmarks/against_hand_designed.py --json out.json
    python experiments/benchmarks/against_hand_designed.py --config experiments/configs/cifar10.yaml \
        data.path=FOLDER --csv cifar10.csv --json out.json
    python experiments/benchmarks/against_hand_designed.py runs/mine runs/mine_1 --json out.json
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from csv_file import write_csv

from latency_predictors.measurement import DeviceProfile
from latency_predictors.protocol import NOT_RUN
from latency_predictors.session import measure_networks
from latency_predictors.store import MeasurementSet
from nas import api
from nas.cli.output import ProgressLine
from nas.config import AccuracyConfig, StandAloneConfig, SupernetConfig
from nas.data import ImageData, load_data
from nas.finish import Bundle, Finishing, Pick
from nas.finish.weights import TrainedAlone
from nas.pareto import hypervolume
from nas.progress import Progress, ProgressListener, silent
from nas.run import Run
from nas.training.device import training_device
from search_spaces.atomic import write_text
from search_spaces.cost import network_cost
from search_spaces.published import published
from search_spaces.space import SearchSpace
from search_spaces.stage_blocks import make_divisible
from search_spaces.stage_table import StageTable

GOAL_HYPERVOLUME, GOAL_POINTS, GOAL_SEEDS = 1.05, 1.0, 2
BASES = ("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large")
WIDTHS, DEPTHS = (0.1, 0.15, 0.25, 0.35, 0.5, 0.75, 1.0), (0.5, 1.0)
RESOLUTIONS = (0.4, 0.6, 1.0)
"""Multipliers of the images' side, which comes to a multiple of 4; MobileNet's second knob (Howard et al. 2017)."""
LEAST_SIDE = 4
"""Pixels that the last feature map keeps; strides beyond that are left out, the first ones first."""
OURS, THEIRS = "searched", "hand-designed"
RESULTS = Path(__file__).parent / "results" / "against_hand_designed.csv"
EXPERIMENT = Path(__file__).parents[1] / "configs" / "fashion_mnist.yaml"


@dataclass(frozen=True)
class Model:
    """A finished model on the device: latency in ms, test accuracy as a fraction."""

    latency_ms: float
    accuracy: float


def scaled(base: str, width: float, depth: float, side: int) -> StageTable:
    """Returns a published network at another width, depth and image side.

    Args:
        base: its name.
        width: multiplier of all channels, which stay multiples of 4.
        depth: multiplier of the blocks of each stage, at least one.
        side: of the images it sees, in pixels.
    """
    table = published(base).table
    strides = [table.stem.stride, *(stage.stride for stage in table.stages)]
    places = iter(place for place, stride in enumerate(strides) if stride > 1)
    while side / np.prod(strides) < LEAST_SIDE and (place := next(places, None)) is not None:
        strides[place] = 1
    stages = tuple(
        stage.model_copy(
            update={
                "stride": stride,
                "depth": (max(1, round(stage.depth[0] * depth)),),
                # Hard-swish is no integer operation, and no file of it passes as INT8.
                "activation": ("relu",) if stage.activation == ("hard_swish",) else stage.activation,
            }
        )
        for stage, stride in zip(table.stages, strides[1:], strict=True)
    )
    name = f"{base}_w{width:g}_d{depth:g}_r{side}".replace(".", "_")
    return table.model_copy(
        update={
            "name": name,
            "resolution": (side,),
            "width": (width,),
            "channel_divisor": 4,
            "stem": table.stem.model_copy(update={"stride": strides[0], "activation": "relu"}),
            "stages": stages,
            # The papers keep the head of narrow networks wide; for few classes that only costs.
            "head": table.head.model_copy(
                update={
                    "conv": make_divisible(table.head.conv * width, 4),
                    "hidden": make_divisible(table.head.hidden * width, 4) if table.head.hidden else 0,
                    "activation": "relu",
                }
            ),
        }
    )


def family(data: ImageData, macs: tuple[float, float]) -> list[SearchSpace]:
    """Returns hand-designed networks, each a space of one, by their arithmetic.

    Args:
        data: gives side, channels and classes.
        macs: of one image, the least and the most that a network of the family may need.
    """
    sides = sorted({make_divisible(share * max(data.image_size), 4) for share in RESOLUTIONS})
    spaces = [
        SearchSpace(scaled(base, width, depth, side)).with_data(
            image_channels=data.image_channels, classes=data.classes
        )
        for base, width, depth, side in itertools.product(BASES, WIDTHS, DEPTHS, sides)
    ]
    work = {space.name: network_cost(space.layers(space.smallest())).macs for space in spaces}
    return sorted((s for s in spaces if macs[0] <= work[s.name] <= macs[1]), key=lambda s: work[s.name])


def spread(latencies_ms: Mapping[str, float], bounds_ms: tuple[float, float], count: int) -> list[str]:
    """Returns the names of networks spread over a range of latencies, the nearest to it where it has too few."""

    def outside(name: str) -> float:
        return max(0.0, bounds_ms[0] / latencies_ms[name] - 1, latencies_ms[name] / bounds_ms[1] - 1)

    near = sorted(latencies_ms, key=outside)
    within = [name for name in near if outside(name) == 0]
    chosen = sorted(within if len(within) > count else near[:count], key=latencies_ms.__getitem__)
    return [chosen[row] for row in np.unique(np.linspace(0, len(chosen) - 1, count).round().astype(int))]


def of_like_latency(
    run: Run,
    spaces: Sequence[SearchSpace],
    bounds_ms: tuple[float, float],
    count: int,
    folder: Path,
    progress: ProgressListener,
) -> list[SearchSpace]:
    """Returns some of the family by `spread`; latencies are measured once, so that a killed comparison goes on."""
    path = folder / "family.json"
    if not path.exists():
        profile, config = next(iter(run.config.devices.values())), run.config
        rows = measure_networks(
            [(space.smallest(), space.layers(space.smallest())) for space in spaces],
            DeviceProfile(profile.device, profile.precision, profile.threads),
            preset=config.latency.preset,
            seed=config.seed,
            store=MeasurementSet(folder / "family.parquet"),
            progress=lambda done, total, text: progress(Progress("measure", done, total, text)),
        )
        # A disturbed measurement tells enough to choose by.
        known = {space.name: row.latency_ms for space, row in zip(spaces, rows, strict=True) if row.latency_ms}
        if 2 * len(known) < sum(not row.reason.startswith(NOT_RUN) for row in rows):
            raise SystemExit(
                f"{run.path}: {len(known)} of {len(spaces)} networks of the {THEIRS} family could be measured: run the "
                "same command again"
            )
        write_text(path, json.dumps(known, indent=2))
    known = json.loads(path.read_text())
    by_name = {space.name: space for space in spaces}
    return [by_name[name] for name in spread(known, bounds_ms, count)]


def hand_designed(
    run: Run, data: ImageData, bounds_ms: tuple[float, float], count: int, progress: ProgressListener
) -> Iterator[Bundle]:
    """Yields the finished networks of the family, those of an earlier start among them."""
    config, accuracy = run.config, run.config.accuracy
    assert isinstance(accuracy, SupernetConfig), "the run needs a supernet"
    common = {name: getattr(accuracy, name) for name in AccuracyConfig.model_fields}
    training = StandAloneConfig(**{**common, "epochs": accuracy.epochs + config.finish.epochs})
    front = api.front(run.path)
    space = config.space.load().with_data(image_channels=data.image_channels, classes=data.classes)
    work = [network_cost(space.layers(point.architecture)).macs for point in front.best]
    # Scaled networks use their arithmetic less well: up to four times the most of the front, from half of its least.
    folder = run.path / "hand_designed"
    spaces = of_like_latency(run, family(data, (min(work) / 2, 4 * max(work))), bounds_ms, count, folder, progress)
    # None of theirs is refused for what INT8 costs it: it counts with the accuracy that it has.
    finish = config.finish.model_copy(update={"max_int8_accuracy_drop": 0.99})
    for number, one in enumerate(spaces, start=1):
        print(f"{run.path}: {number} of {len(spaces)} by hand: {one.name}", file=sys.stderr, flush=True)
        weights = TrainedAlone(
            folder / "networks",
            one,
            data.without_test(),
            training,
            finish,
            seed=config.seed,
            flip=config.data.flip,
            device=training_device(accuracy.threads),
        )
        finishing = Finishing(
            weights=weights,
            data=data,
            config=finish,
            devices=config.devices,
            constraints=(),
            folder=folder / "finish",
            seed=config.seed,
            preset=config.latency.preset,
            flip=config.data.flip,
            ray=config.ray,
        )
        yield from finishing.finish([Pick(one.smallest(), {})], progress)


def recorded(
    runs: Sequence[Path], experiment: Path, overrides: Sequence[str], progress: ProgressListener = silent
) -> list[Run]:
    """Returns the searched runs; where none are given, those of the experiment with two seeds."""
    if runs:
        return [Run.open(path) for path in runs]
    name = api.load_config(experiment, tuple(overrides)).name
    seeds: tuple[tuple[str, ...], ...] = (("seed=0",), ("seed=1", f"name={name}_1"))
    started = [api.start(experiment, (*overrides, *seed)) for seed in seeds]
    for run in started:
        api.run(run, progress)
    return started


def row(run: Run, family: str, bundle: Bundle, device: str) -> dict[str, object]:
    """Returns what is known of a finished network's file on the device."""
    report = bundle.report
    found = [(file, one) for file in report.files for one in file.latencies if one.device == device]
    file, latency = found[0] if found else (None, None)
    return {
        "run": run.config.name,
        "seed": run.config.seed,
        "family": family,
        "network": report.key,
        "macs": report.network.macs,
        "parameters": report.network.parameters,
        "device": run.config.devices[device].device,
        "precision": run.config.devices[device].precision,
        "latency_ms": latency.measured_ms if latency else None,
        "test_accuracy": file.verification.accuracy if file else None,
        "torch_test_accuracy": report.network.test_accuracy,
        "refused": "; ".join(f"{refused.name}: {refused.reason}" for refused in report.refused),
    }


def models(rows: Sequence[dict[str, object]], family: str) -> list[Model]:
    """Returns the models of a family that have both values."""
    own = [one for one in rows if one["family"] == family and one["latency_ms"] and one["test_accuracy"] is not None]
    return [Model(float(str(one["latency_ms"])), float(str(one["test_accuracy"]))) for one in own]


def hypervolume_ratio(ours: Sequence[Model], theirs: Sequence[Model]) -> float:
    """Returns the hypervolume of ours over theirs, from a tenth of the range beyond the worst of all models."""
    losses = [[[model.latency_ms, 1 - model.accuracy] for model in side] for side in (ours, theirs)]
    everything = np.vstack(losses)
    corner = everything.max(0) + 0.1 * np.ptp(everything, 0)
    own, other = (hypervolume(side, corner) for side in losses)
    return own / other if other else float("inf")


def gain_points(ours: Sequence[Model], theirs: Sequence[Model]) -> float:
    """Returns by how many points of accuracy ours are better within equal budgets of latency, in the middle of them."""
    sides = [np.array([[model.latency_ms, model.accuracy] for model in side]) for side in (ours, theirs)]
    low = max(side[:, 0].min() for side in sides)
    high = max(low, min(side[:, 0].max() for side in sides))
    budgets = low * (high / low) ** np.linspace(1 / 3, 2 / 3, 101)  # never below low, however it is rounded
    own, other = ([side[side[:, 0] <= budget, 1].max() for budget in budgets] for side in sides)
    return 100 * float(np.mean(np.array(own) - np.array(other)))


def main() -> None:
    """Finishes what is missing, compares, and writes the CSV file and the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="searched runs, one for each seed")
    parser.add_argument(
        "--config", nargs="+", default=[str(EXPERIMENT)], metavar=("FILE", "KEY=VALUE"), help="instead of runs"
    )
    parser.add_argument("--models", type=int, default=6, help="of each run's front")
    parser.add_argument("--hand", type=int, default=8, help="hand-designed networks")
    parser.add_argument("--csv", type=Path, default=RESULTS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    progress = ProgressLine()
    rows: list[dict[str, object]] = []
    figures: list[dict[str, object]] = []
    for run in recorded(options.runs, Path(options.config[0]), options.config[1:], progress):
        path, device = run.path, next(iter(run.config.devices))
        keys = [point.key for point in api.pick(path, rule="spread", count=options.models)]
        ours = [row(run, OURS, bundle, device) for bundle in api.finish(path, keys, progress).bundles]
        mine = models(ours, OURS)
        if not mine:
            raise SystemExit(f"{path}: no {OURS} model has a measured file: run the same command again")
        bounds_ms = min(model.latency_ms for model in mine), max(model.latency_ms for model in mine)
        with run.locked():
            data = load_data(run.config.data)
            bundles = hand_designed(run, data, bounds_ms, options.hand, progress)
            theirs = [row(run, THEIRS, bundle, device) for bundle in bundles]
        rows += [*ours, *theirs]
        write_csv(options.csv, rows)
        sides = mine, models(theirs, THEIRS)
        if not sides[1]:
            raise SystemExit(
                f"{path}: no {THEIRS} model has a measured file: run the same command again, or see {options.csv}"
            )
        figures.append(
            {
                "run": run.config.name,
                "seed": run.config.seed,
                "models": [len(side) for side in sides],
                "hypervolume_ratio": round(hypervolume_ratio(*sides), 4),
                "gain_points": round(gain_points(*sides), 3),
            }
        )
        print(figures[-1], flush=True)
    ratio, gain = (
        statistics.fmean(float(str(one[name])) for one in figures) for name in ("hypervolume_ratio", "gain_points")
    )
    seeds = len({one["seed"] for one in figures})
    reach: dict[str, dict[str, object]] = {
        "hypervolume_ratio": {"value": round(ratio, 4), "goal": GOAL_HYPERVOLUME, "holds": ratio > GOAL_HYPERVOLUME},
        "gain_points": {"value": round(gain, 3), "goal": GOAL_POINTS, "holds": gain >= GOAL_POINTS},
        "seeds": {"value": seeds, "goal": GOAL_SEEDS, "holds": seeds >= GOAL_SEEDS},
    }
    if options.json:
        machine = {"cpus": os.cpu_count(), "python": platform.python_version()}
        content = {"figures": {"machine": machine, "runs": figures, "rows": rows}, "reach": reach}
        options.json.write_text(json.dumps(content, indent=2))
    for name, result in reach.items():
        print(f"{name}: {result['value']}, goal {result['goal']}: {'holds' if result['holds'] else 'MISSED'}")


if __name__ == "__main__":
    main()

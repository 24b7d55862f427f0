"""The latency, energy and memory of finished files, measured and held against what the search promised."""

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from latency_predictors.devices.base import DeviceError
from latency_predictors.measurement import DeviceProfile, Measurement
from latency_predictors.session import measure_files
from latency_predictors.store import MeasurementSet
from nas.config import DeviceConfig, RayConfig
from nas.finish.export import FileKind
from nas.finish.report import CostReport, LatencyReport, Outcome
from nas.objectives import LEARNED, Constraint, Objective, Value
from search_spaces.architecture import Architecture

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """Where a file is measured.

    Attributes:
        device: its name in the experiment; None where the experiment names none that runs such files.
        profile: the device.
    """

    device: str | None
    profile: DeviceProfile

    @property
    def objective(self) -> str | None:
        """The name of the latency there, as objectives and constraints write it."""
        return f"latency_ms@{self.device}" if self.device else None


@dataclass(frozen=True)
class FinishedFile:
    """A file that passed its verification.

    Attributes:
        path: of the file.
        kind: which of the four.
        architecture: of the network.
        expected: what the search knew of the architecture, by objective name.
    """

    path: Path
    kind: FileKind
    architecture: Architecture
    expected: Mapping[str, Value]


def targets(kind: FileKind, devices: Mapping[str, DeviceConfig]) -> list[Target]:
    """Returns the experiment's devices that run such a file; where there is none, this machine with one thread."""
    named = [
        Target(name, DeviceProfile(device.device, device.precision, device.threads))
        for name, device in devices.items()
        if (device.suffix, device.precision) == (Path(kind.name).suffix, kind.precision)
    ]
    return named or [Target(None, DeviceProfile(kind.device, kind.precision))]


def measure_latencies(
    files: Sequence[FinishedFile],
    devices: Mapping[str, DeviceConfig],
    constraints: Sequence[Constraint],
    *,
    ray: RayConfig,
    preset: str,
    seed: int,
    store: MeasurementSet,
    progress: Callable[[float, str], None],
) -> dict[Path, list[LatencyReport]]:
    """Measures every file wherever it runs; files for one device share process launches.

    Args:
        files: of all networks.
        devices: the experiment's, by name.
        constraints: the experiment's; those on latency are part of the promise.
        ray: the cluster of devices that have a host.
        preset: how carefully to measure.
        seed: of the order of measuring.
        store: where measurements are kept; what it has of the same file is not measured again.
        progress: called with the share done and the state in words.

    Returns:
        By path, in the order of `targets`.

    Raises:
        DeviceError: a device cannot measure; of one whose predictor the experiment names, the reports say so instead.
    """
    groups: dict[Target, list[FinishedFile]] = defaultdict(list)
    for file in files:
        for target in targets(file.kind, devices):
            groups[target].append(file)
    reports: dict[Path, list[LatencyReport]] = {file.path: [] for file in files}
    for number, (target, group) in enumerate(groups.items()):

        def told(done: int, total: int, text: str, number: int = number, target: Target = target) -> None:
            progress((number + done / max(1, total)) / len(groups), f"{target.profile.id}: {text}")

        host = devices[target.device].host if target.device else None
        measure = measure_files
        if host:
            from nas.search.executors.device_host import measure_files_on  # with Ray

            measure = partial(measure_files_on, host, ray)
        rows: Sequence[Measurement | None]
        unreached = ""
        try:
            rows = measure(
                [file.path for file in group],
                target.profile,
                architectures=[file.architecture for file in group],
                preset=preset,
                seed=seed,
                store=store,
                progress=told,
            )
        except DeviceError as error:
            if not (target.device and devices[target.device].predictor):
                raise
            # Its search did not need the device: the files are handed over, and measured when finishing is repeated.
            logger.warning("%s: nothing is measured, finish again when it can be: %s", target.device, error)
            rows, unreached = [None] * len(group), str(error)
        for file, row in zip(group, rows, strict=True):
            predicted = file.expected.get(target.objective) if target.objective else None
            report = latency_report(target, row, predicted, constraints, unreached)
            others = cost_reports(target, row, file.expected, constraints)
            reports[file.path].append(report.model_copy(update={"other_costs": others}))
    return reports


def latency_report(
    target: Target,
    row: Measurement | None,
    predicted: Value | None,
    constraints: Sequence[Constraint],
    unreached: str = "",
) -> LatencyReport:
    """Returns a measurement beside what was promised.

    Args:
        target: where it was measured.
        row: the measurement; None where the device could not be reached.
        predicted: the latency that the search knew; None where it knew none.
        constraints: the experiment's; those on this latency count.
        unreached: why it could not be reached.
    """
    bounds = [constraint for constraint in constraints if constraint.objective.name == target.objective]
    usable = row if row and row.usable else None
    measured = usable.latency_ms if usable else None
    return LatencyReport(
        device=target.device,
        profile=target.profile.id,
        predicted_ms=predicted.value if predicted else None,
        predicted_lower_ms=predicted.lower if predicted else None,
        predicted_upper_ms=predicted.upper if predicted else None,
        constraints=tuple(bound.text for bound in bounds),
        processor=row.environment.cpu if row else "",
        runtime_version=row.environment.runtime if row else "",
        measured_ms=measured,
        measured_lower_ms=usable.lower_ms if usable else None,
        measured_upper_ms=usable.upper_ms if usable else None,
        verdict=row.verdict if row else "refused",
        reason=row.reason if row else unreached,
        outcome=_outcome(measured, predicted, bounds),
        inside_interval=_inside(measured, predicted),
    )


def cost_reports(
    target: Target, row: Measurement | None, expected: Mapping[str, Value], constraints: Sequence[Constraint]
) -> tuple[CostReport, ...]:
    """Returns the energy and memory that came with a measurement, each beside what was promised of it.

    Args:
        target: where it was measured.
        row: the measurement; None where the device could not be reached.
        expected: what the search knew, by objective name.
        constraints: the experiment's; those on the cost count.
    """
    reports = []
    for objective in (Objective(metric, target.device) for metric in LEARNED if metric != "latency_ms"):
        predicted = expected.get(objective.name)
        if predicted is None:
            continue
        measured = getattr(row, objective.metric) if row and row.usable else None
        bounds = [constraint for constraint in constraints if constraint.objective == objective]
        reports.append(
            CostReport(
                metric=objective.metric,
                predicted=predicted.value,
                predicted_lower=predicted.lower,
                predicted_upper=predicted.upper,
                constraints=tuple(bound.text for bound in bounds),
                measured=measured,
                outcome=_outcome(measured, predicted, bounds),
                inside_interval=_inside(measured, predicted),
            )
        )
    return tuple(reports)


def _outcome(measured: float | None, predicted: Value | None, bounds: Sequence[Constraint]) -> Outcome:
    if measured is None:
        return "not measured"
    if predicted is None:
        return "no prediction"
    # Faster than predicted breaks no promise; `inside_interval` says that the prediction was wrong.
    upper = predicted.value if predicted.upper is None else predicted.upper
    return "kept" if measured <= upper and all(bound.violation(measured) <= 0 for bound in bounds) else "broken"


def _inside(measured: float | None, predicted: Value | None) -> bool | None:
    if measured is None or predicted is None or predicted.lower is None or predicted.upper is None:
        return None
    return predicted.lower <= measured <= predicted.upper

"""Measuring sessions: networks or finished model files in, measurement rows out; interrupted ones go on.

Networks are measured in groups that share process launches. Rows are added to the measurement set after every launch
in which networks get done, so that a killed session loses at most the blocks of the group it was at. What the protocol
refused on a disturbed device is measured again in further sittings, as long as that helps. What is usual stays what the
first sitting knows: else a device that throttles would be taken for a slow one in the second.
"""

import dataclasses
import hashlib
import itertools
import json
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from latency_predictors.devices import Device, get_device
from latency_predictors.devices.quarantine import guarded
from latency_predictors.environment import Environment
from latency_predictors.graphs.model_file import ModelJob, build_models
from latency_predictors.measurement import DeviceProfile, Measurement, now
from latency_predictors.preset import Preset, get_preset
from latency_predictors.protocol import NOT_RUN, PROTOCOL_VERSION, Outcome, UsualState, measure_models
from latency_predictors.store import MeasurementSet
from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.layer import LayerSpec
from search_spaces.weights import random_weights

logger = logging.getLogger(__name__)

MeasuringProgress = Callable[[int, int, str], None]
"""Called with the steps done, the steps in all, and the state in words; a step is a model file or a block."""

FIRST_GROUP, LARGEST_GROUP = 8, 512
"""Networks that share launches, of a session's first group and at most."""
LAUNCH_SECONDS = 20.0
"""That the launches of later groups should take: five of them spread a network's blocks over minutes, as clocks wander,
and a session that is killed loses no more than that."""
SITTINGS = 4
"""Times that a session measures a network, at most, until it is usable; one that adds no usable row is the last,
unless fewer than half are usable: then it is hardly the networks that are at fault."""
CALIBRATION_IMAGES = 16
"""Random images that set the INT8 ranges of networks that are only measured."""


def measure_networks(
    networks: Sequence[tuple[Architecture, Sequence[LayerSpec]]],
    profile: DeviceProfile,
    *,
    preset: str = "quick",
    seed: int = 0,
    store: MeasurementSet | None = None,
    progress: MeasuringProgress = lambda done, total, text: None,
) -> list[Measurement]:
    """Measures networks with random weights and returns one row for each, in order.

    Those that a disturbed device made the protocol refuse are measured again (`SITTINGS`); the store keeps every row.

    Args:
        networks: architectures with their layers; a repeated one is measured once.
        profile: what to measure on.
        preset: how carefully; a name of `latency_predictors.preset.PRESETS`.
        seed: of weights and of the order of measuring.
        store: where rows are added as they are finished. Networks that it has usable rows of, made in the same way on
            the same profile and environment, are not measured again. None keeps nothing.
        progress: called often.

    Raises:
        InputError: an unknown device or preset, or a damaged measurement set.
        DeviceError: the device cannot measure.
        HwnasError: a model file could not be built; rows finished before are in the store.
    """
    session = _Session(profile, get_preset(preset), seed, store, progress)
    subjects = [_Subject(architecture.key, architecture, _layers_hash(layers)) for architecture, layers in networks]
    layers_of = {subject.network_hash: layers for subject, (_, layers) in zip(subjects, networks, strict=True)}

    def build(group: Sequence[_Subject], folder: Path, built: Callable[[int, int], None]) -> list[Path]:
        jobs = [_job(layers_of[s.network_hash], s.network_hash, session, folder) for s in group]
        build_models(jobs, built)
        return [job.path for job in jobs]

    return session.measure(subjects, build)


def measure_files(
    files: Sequence[Path],
    profile: DeviceProfile,
    *,
    architectures: Sequence[Architecture] | None = None,
    preset: str = "quick",
    seed: int = 0,
    store: MeasurementSet | None = None,
    progress: MeasuringProgress = lambda done, total, text: None,
) -> list[Measurement]:
    """Measures finished model files and returns one row for each, in order, as `measure_networks`.

    Args:
        files: of the format that the device runs and of the profile's precision.
        profile: what to measure on.
        architectures: of the files, where they are known.
        preset: as `measure_networks`.
        seed: of the order of measuring.
        store: as `measure_networks`; a file is known again by its content.
        progress: called often.

    Raises:
        InputError: as `measure_networks`; a file that does not exist or that the device cannot run.
        DeviceError: the device cannot measure.
    """
    session = _Session(profile, get_preset(preset), seed, store, progress)
    for file in files:
        if file.suffix != session.device.suffix:
            raise InputError(f"{profile.device} runs {session.device.suffix} files, got {file}")
        if not file.is_file():
            raise InputError(f"no model file at {file}")
    origins: Sequence[Architecture | None] = architectures or [None] * len(files)
    subjects = [
        _Subject(origin.key if origin else file.name, origin, _hash(file.read_bytes()))
        for file, origin in zip(files, origins, strict=True)
    ]
    paths = {subject.network_hash: file for subject, file in zip(subjects, files, strict=True)}
    return session.measure(subjects, lambda group, *_: [paths[subject.network_hash] for subject in group])


@dataclass(frozen=True)
class _Subject:
    """A network to measure."""

    key: str
    architecture: Architecture | None
    network_hash: str


_Build = Callable[[Sequence[_Subject], Path, Callable[[int, int], None]], list[Path]]


@dataclass
class _Session:
    profile: DeviceProfile
    preset: Preset
    seed: int
    store: MeasurementSet | None
    progress: MeasuringProgress
    device: Device = field(init=False)
    _told: int = field(init=False, default=0)  # steps done; refused networks come back, progress does not

    def __post_init__(self) -> None:
        self.device = get_device(self.profile.device)
        if self.profile.precision not in self.device.precisions:
            known = " and ".join(self.device.precisions)
            raise InputError(f"{self.profile.device} runs {known} files, got precision {self.profile.precision}")

    def measure(self, subjects: Sequence[_Subject], build: _Build) -> list[Measurement]:
        """Returns a row for each subject, measured now or found in the store."""
        with guarded(self.device.name):
            return self._measure(subjects, build)

    def _measure(self, subjects: Sequence[_Subject], build: _Build) -> list[Measurement]:
        environment = self.device.environment(threads=self.profile.threads)
        earlier = self._earlier(environment)
        usual = UsualState([row.reference_ms for row in earlier if row.reference_ms is not None])
        wanted = {subject.network_hash: subject for subject in subjects}
        rows = {row.network_hash: row for row in earlier if row.network_hash in wanted and self._same_way(row)}
        left = [subject for subject in wanted.values() if subject.network_hash not in rows]
        if rows:
            logger.info("%s: %d of %d networks are measured already", self.profile.id, len(rows), len(wanted))
        for sitting in range(SITTINGS):
            if sitting:
                logger.warning("%d of %d networks refused; they are measured again", len(left), len(wanted))
            found = self._sitting(left, len(wanted), build, usual, sitting)
            rows |= {row.network_hash: row for row in found}
            left = [wanted[row.network_hash] for row in found if not row.usable and not row.reason.startswith(NOT_RUN)]
            in_vain = sitting > 0 and not any(row.usable for row in found)
            if not left or (in_vain and 2 * sum(row.usable for row in rows.values()) >= len(rows)):
                break
        self.progress(len(wanted) * self._steps, len(wanted) * self._steps, _summary(list(rows.values())))
        refused = [row for row in rows.values() if not row.usable]
        if refused:
            logger.warning("%d of %d networks refused; %s", len(refused), len(rows), _sentence(refused[-1]))
        return [rows[subject.network_hash] for subject in subjects]

    @property
    def _steps(self) -> int:
        """Of one network: its file and its blocks."""
        return 1 + self.preset.min_blocks

    def _sitting(
        self, subjects: Sequence[_Subject], wanted: int, build: _Build, usual: UsualState, sitting: int
    ) -> list[Measurement]:
        """Returns rows of what is left of the wanted networks, measured now."""
        rows: list[Measurement] = []
        left, size = subjects, FIRST_GROUP
        for number in itertools.count():
            group, left = left[:size], left[size:]
            if not group:
                break
            before = (wanted - len(left) - len(group)) * self._steps

            def report(done: int, text: str, before: int = before) -> None:
                self._told = max(self._told, min(before + done, wanted * self._steps - 1))
                self.progress(self._told, wanted * self._steps, f"again: {text}" if sitting else text)

            rng = np.random.default_rng([self.seed, sitting, number])
            found, seconds = self._measure_group(group, build, usual, rng, report)
            rows += found
            size = max(FIRST_GROUP, min(LARGEST_GROUP, int(LAUNCH_SECONDS * len(group) / seconds)))
        return rows

    def _earlier(self, environment: Environment) -> list[Measurement]:
        """Returns the usable rows of the store from this profile and environment."""
        if self.store is None or not self.store.path.exists():
            return []
        rows = self.store.read()
        return [row for row in rows if row.usable and (row.profile, row.environment) == (self.profile, environment)]

    def _same_way(self, row: Measurement) -> bool:
        return (row.preset, row.protocol_version) == (self.preset.name, PROTOCOL_VERSION)

    def _measure_group(
        self,
        group: Sequence[_Subject],
        build: _Build,
        usual: UsualState,
        rng: np.random.Generator,
        report: Callable[[int, str], None],
    ) -> tuple[list[Measurement], float]:
        """Returns the group's rows, and the seconds that its first launch, of all its networks, took."""
        rows: list[Measurement] = []
        first_launch: float | None = None
        with tempfile.TemporaryDirectory(prefix="hwnas-measuring-") as folder:
            report(0, "building model files")
            paths = build(group, Path(folder), lambda made, total: report(made, f"built {made} of {total} model files"))
            subjects = dict(zip(paths, group, strict=True))

            def blocks_done(blocks: int) -> None:
                report(len(group) + blocks, f"{len(rows)} of {len(group)} networks done")

            launches = measure_models(
                self.device, paths, self.profile, self.preset, rng=rng, usual=usual, progress=blocks_done
            )
            begin = time.monotonic()
            for outcomes in launches:
                first_launch = first_launch or time.monotonic() - begin
                new = [self._row(subjects[outcome.model], outcome) for outcome in outcomes]
                for row in new:
                    logger.info("%s", _sentence(row))
                if self.store:
                    self.store.append(new)
                rows += new
        return rows, first_launch or LAUNCH_SECONDS

    def _row(self, subject: _Subject, outcome: Outcome) -> Measurement:
        found, timings = outcome.interval, outcome.timings
        return Measurement(
            key=subject.key,
            architecture=subject.architecture,
            network_hash=subject.network_hash,
            profile=self.profile,
            environment=outcome.environment,
            runtime=self.device.runtime,
            preset=self.preset.name,
            protocol_version=PROTOCOL_VERSION,
            seed=self.seed,
            verdict=outcome.verdict,
            reason=outcome.reason,
            measured_at=now(),
            model_bytes=outcome.model.stat().st_size,
            latency_ms=found.centre if found else None,
            lower_ms=found.lower if found else None,
            upper_ms=found.upper if found else None,
            p50_ms=_median([timing.median_ms for timing in timings]),
            p90_ms=_median([timing.p90_ms for timing in timings]),
            block_medians_ms=tuple(timing.median_ms for timing in timings if timing.median_ms is not None),
            first_inference_ms=_median([timing.first_inference_ms for timing in timings]),
            load_ms=_median([timing.load_ms for timing in timings]),
            peak_memory_mb=_median([timing.peak_memory_mb for timing in timings]),
            energy_mj=_median([timing.energy_mj for timing in timings]),
            energy_source=next((timing.energy_source for timing in timings if timing.energy_mj), None),
            quiet_share=outcome.quiet_share,
            reference_ms=outcome.reference_ms,
        )


def _median(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.median(present)) if present else None


def _sentence(row: Measurement) -> str:
    figure = f"{row.latency_ms:.4g} ms ±{row.half_width:.1%}, " if row.latency_ms else ""
    return f"{row.key} on {row.profile.id}: {figure}{row.verdict}" + (f" ({row.reason})" if row.reason else "")


def _summary(rows: Sequence[Measurement]) -> str:
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in ("accepted", "noisy", "refused")}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)


def _job(layers: Sequence[LayerSpec], network_hash: str, session: _Session, folder: Path) -> ModelJob:
    rng = np.random.default_rng([session.seed, int(network_hash, 16)])
    first = layers[0]
    calibration = None
    if session.profile.precision == "int8":
        shape = (CALIBRATION_IMAGES, first.in_channels, first.in_size, first.in_size)
        calibration = rng.standard_normal(shape).astype(np.float32)
    return ModelJob(
        layers,
        random_weights(layers, rng),
        session.device.runtime,
        session.profile.precision,
        calibration,
        folder / f"{network_hash}{session.device.suffix}",
    )


def _layers_hash(layers: Sequence[LayerSpec]) -> str:
    return _hash(json.dumps([dataclasses.asdict(layer) for layer in layers], sort_keys=True).encode())


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]

"""How a latency is measured: the measuring protocol, version 4.

1. *Blocks.* A block is one launch of a fresh process that is pinned to its cores. Models share launches, so that the
   start is paid once; each launch takes the models in a new random order. Inside a launch a model is loaded, run once,
   warmed up and timed one inference at a time (`devices/runner.py`). Its median in the launch is one number.
2. *Exclusive use is checked, not assumed.* Inferences count only while the core is not shared, which a speed probe
   beside them tells (`devices/runner.py`); a median needs enough such quiet inferences, else the block does not count
   for that model. Nor does it where the probe tells a clock more than 10 % slower than usual: the mean beside the
   reference network in the session, or in its first launch where that was more than 6 % faster, as devices throttle.
   On a phone the core's clock is the probe (`devices/adb.py`); a device that tells neither relies on the reference
   network alone.
3. *Reference.* A frozen network is timed first, after every five models or five minutes, and last. Where it differs
   from its usual latency by 5 % more than its clock explains, the models between it and its neighbour do not count.
   Nothing is ever corrected by it. Usual is the median over the rows that a measurement set already has for the same
   profile and environment, or else what the fastest launches of the session show: disturbances slow a device down, and
   may last longer than quiet does. A device that is slow throughout its first session cannot be told from a slow one.
4. *Interval and stop.* Student's t on the logarithms of the block medians gives the 95 % interval; both ends are moved
   away by what the reference beside the blocks was off its usual latency on average, as a slow drift below 5 % hardly
   shows in the spread of the blocks. A model is done when the interval's half-width is below 2 % after at least the
   preset's least number of blocks, or when the blocks, launches or time of the preset are used up. A clock that wanders
   by a few percent, as a shared server's does, is thus averaged over minutes, and refused where it stays away.
5. *Verdict.* Below 2 % accepted, to 5 % noisy, above refused. With fewer blocks than the preset's least it is at best
   noisy, below three refused, and so is a model that failed to run twice. Refused rows are kept, with the reason; it
   says so where the second half of the blocks is more than 5 % slower than the first: the device throttles.
6. *Sittings*. What a disturbance made refused is measured again when the others are done, knowing what is usual
   (`latency_predictors.session`).

Why launches: the interval of one process covers the truth 19 to 34 % of the time, that of five or more launches 93 to
95 % (measured on two cores). Looking after every block from the fifth on costs coverage on models that stop early: 92
to 95 % in 4,000 simulated sessions at spreads of 0.5 to 5 %; the tests hold it at 90 % and more, and the figures of
`experiments/benchmarks/protocol_self_test.py` on devices that throttle, change their clock, drift and stutter.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import stats

from latency_predictors.devices.base import BlockResult, Device, DeviceError, DeviceHungError, Timing
from latency_predictors.devices.runner import QUIET
from latency_predictors.environment import Environment
from latency_predictors.measurement import DeviceProfile
from latency_predictors.preset import MIN_BLOCKS, Preset
from latency_predictors.statistics import DRIFT, Interval, Verdict, drifted, interval, verdict

PROTOCOL_VERSION = 4
REFERENCE_EVERY = 5
"""Models between two timings of the reference network, at most."""
REFERENCE_SECONDS = 300
"""Between two timings of it, as far as the launch before tells."""
SLOWER_CLOCK = 1.1
"""Times the usual speed probe; beyond, the device throttles. The clock of a shared server moves by 3 to 8 % (seen)."""
FASTER_START = 1.06
"""Times the mean speed probe of the first launch; where the session's mean is beyond, the first launch is usual."""
ReferenceReading = tuple[float, int | None]
"""Latency in milliseconds of the reference network and speed probe in nanoseconds, None where the device has none."""
CHANCE = 0.01
"""Probability of a slower second half on a device that does not throttle, above which nothing is said of it."""
FAILURES = 2
"""Failed blocks after which a model is given up."""
NOT_RUN = "it could not be run"
"""How the reason begins then; every other reason is a disturbance."""


@dataclass
class UsualState:
    """What is known of the device when nothing disturbs it; a session learns it with every launch.

    Attributes:
        earlier_ms: latencies of the reference network in earlier sessions.
        launches: the readings of the reference network in each launch of this session.
        probe_floor_ns: the fastest speed probe of this session; None before the first and where there is none.
        probe_ns: the usual speed probe beside the reference network; None where nothing tells.
        reference_ms: the usual latency of the reference network.
    """

    earlier_ms: list[float] = field(default_factory=list)
    launches: list[list[ReferenceReading]] = field(default_factory=list)
    probe_floor_ns: int | None = None
    probe_ns: float | None = field(init=False, default=None)
    reference_ms: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._update()

    def learn(self, probe_floor_ns: int | None, references: Sequence[Timing | None]) -> None:
        """Takes in a launch: its fastest speed probe and the timings of the reference network."""
        if probe_floor_ns is not None:
            self.probe_floor_ns = min(self.probe_floor_ns or probe_floor_ns, probe_floor_ns)
        timed = [timing for timing in references if timing]
        self.launches.append([(timing.median_ms, timing.probe_ns) for timing in timed if timing.median_ms is not None])
        self._update()

    def shared(self, probe_ns: int | None) -> bool:
        """Returns whether the core was shared during a timing, by its probe."""
        return probe_ns is not None and probe_ns > QUIET * (self.probe_floor_ns or probe_ns)

    def slowed(self, probe_ns: int | None) -> bool:
        """Returns whether the core's clock was slower than usual during a timing, by its probe."""
        return probe_ns is not None and probe_ns > SLOWER_CLOCK * (self.probe_ns or probe_ns)

    def moved(self, reference: ReferenceReading) -> bool:
        """Returns whether the reference network was off its usual latency by more than its clock explains."""
        latency_ms, probe_ns = reference
        return self.reference_ms is None or drifted(latency_ms / self._slowness(probe_ns), self.reference_ms)

    def _slowness(self, probe_ns: int | None) -> float:
        return probe_ns / self.probe_ns if probe_ns and self.probe_ns else 1.0

    def _update(self) -> None:
        probes = [[probe for _, probe in launch if probe is not None] for launch in self.launches]
        if told := [np.log(launch) for launch in probes if launch]:
            # The mean, as intervals are of the mean over blocks.
            began, usual = (float(np.exp(logs.mean())) for logs in (told[0], np.concatenate(told)))
            self.probe_ns = began if usual > FASTER_START * began else usual
        known = self.earlier_ms
        if not known:
            # What disturbs a device slows it down, and may last: the usual state is that of the fastest launch. A clock
            # that is faster for a moment is no disturbance, so that latencies are compared as at the usual clock.
            launches = [
                [ms / self._slowness(probe) for ms, probe in launch if not (self.shared(probe) or self.slowed(probe))]
                for launch in self.launches
            ]
            medians = [float(np.median(launch)) for launch in launches if launch]
            known = [median for median in medians if not drifted(median, min(medians))]
        self.reference_ms = float(np.median(known)) if known else None


@dataclass(frozen=True)
class _Reading:
    """A timing with the readings of the reference network before and after it, where there are any."""

    timing: Timing
    references: tuple[ReferenceReading, ...]

    def problem(self, usual: UsualState) -> str:
        """Returns why it does not count, or nothing."""
        if self.timing.median_ms is None or usual.shared(self.timing.probe_ns):
            return "busy"
        if usual.slowed(self.timing.probe_ns):
            return "clock"
        if usual.reference_ms is None or not self.references:
            return "busy"
        return "drift" if any(map(usual.moved, self.references)) else ""


@dataclass(frozen=True)
class Outcome:
    """What the protocol says about one model.

    Attributes:
        model: the file.
        verdict: whether the latency may be used.
        reason: why it is not accepted; empty where it is.
        environment: of the last launch.
        interval: None where no block counts.
        timings: of the blocks that count.
        quiet_share: share of the time, over all blocks, in which the core ran undisturbed; None without a timing.
        reference_ms: median of the reference network beside the blocks that count; None without any.
    """

    model: Path
    verdict: Verdict
    reason: str
    environment: Environment
    interval: Interval | None
    timings: tuple[Timing, ...]
    quiet_share: float | None
    reference_ms: float | None


@dataclass(eq=False)
class _Model:
    """What has been seen of one model so far."""

    path: Path
    readings: list[_Reading] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def counting(self, usual: UsualState) -> list[_Reading]:
        return [reading for reading in self.readings if not reading.problem(usual)]

    def done(self, preset: Preset, usual: UsualState) -> bool:
        if len(self.failures) >= FAILURES:
            return True
        counting = self.counting(usual)
        if len(counting) < preset.min_blocks:
            return False
        return len(counting) >= preset.max_blocks or verdict(_interval(counting, usual).half_width) == "accepted"

    def outcome(self, preset: Preset, usual: UsualState, environment: Environment) -> Outcome:
        counting = self.counting(usual)
        timings = tuple(reading.timing for reading in counting)
        found = _interval(counting, usual) if counting else None
        references = [latency_ms for reading in counting for latency_ms, _ in reading.references]
        decided, reason = self._judge(found, len(timings), preset, usual)
        return Outcome(
            self.path,
            decided,
            reason,
            environment,
            found if len(timings) > 1 else None,
            timings,
            float(np.mean([reading.timing.quiet_share for reading in self.readings])) if self.readings else None,
            float(np.median(references)) if references else None,
        )

    def _judge(self, found: Interval | None, blocks: int, preset: Preset, usual: UsualState) -> tuple[Verdict, str]:
        if len(self.failures) >= FAILURES:
            return "refused", f"{NOT_RUN}: {self.failures[-1]}"
        enough = blocks >= preset.min_blocks
        decided = verdict(found.half_width) if found and blocks >= MIN_BLOCKS else "refused"
        if decided == "accepted" and enough:
            return "accepted", ""
        reasons = [f"the 95 % interval is ±{found.half_width:.1%}"] if found and blocks >= MIN_BLOCKS else []
        if not enough:
            reasons.append(f"{blocks} of {preset.min_blocks} blocks count{self._cause(usual)}")
        if (slowing := self._slowing(usual)) > 1 + DRIFT:
            reasons.append(f"the second half of its blocks is {slowing - 1:.0%} slower than the first: it throttles")
        return "noisy" if decided == "accepted" else decided, "; ".join(reasons)

    def _slowing(self, usual: UsualState) -> float:
        """Returns by what factor the second half of the blocks that count is slower than the first; 1 for chance."""
        logs = np.log([one.timing.median_ms for one in self.counting(usual) if one.timing.median_ms is not None])
        first, second = np.array_split(logs, 2)
        if len(second) < 2 or stats.ttest_ind(second, first, alternative="greater").pvalue > CHANCE:
            return 1.0
        return float(np.exp(second.mean() - first.mean()))

    def _cause(self, usual: UsualState) -> str:
        problems = [reading.problem(usual) for reading in self.readings]
        causes = self.failures[-1:]
        if "busy" in problems:
            share = np.mean([reading.timing.quiet_share for reading in self.readings])
            causes.append(f"the core ran undisturbed {share:.0%} of the time")
        if "clock" in problems:
            causes.append("the core's clock was slower than usual")
        if "drift" in problems:
            causes.append(
                f"the reference network moved more than {DRIFT:.0%} from its usual {usual.reference_ms:.4g} ms"
            )
        return ", because " + " and ".join(causes) if causes else ""


def _interval(counting: Sequence[_Reading], usual: UsualState) -> Interval:
    """Returns the interval of readings that count, widened by what the reference beside them was off on average."""
    found = interval([reading.timing.median_ms for reading in counting if reading.timing.median_ms is not None])
    if usual.reference_ms is None:
        return found
    offs = [np.mean([np.log(ms / usual.reference_ms) for ms, _ in reading.references]) for reading in counting]
    return found.widened(float(np.exp(abs(np.mean(offs)))))


def measure_models(
    device: Device,
    models: Sequence[Path],
    profile: DeviceProfile,
    preset: Preset,
    *,
    rng: np.random.Generator,
    usual: UsualState,
    progress: Callable[[int], None] = lambda blocks: None,
) -> Iterator[list[Outcome]]:
    """Measures a group of models that share launches; yields after each launch the outcomes of those that are done.

    Every model is yielded once. The iterator may be left at any point; no process survives it.

    Args:
        device: where.
        models: different files, as many as should share a launch.
        profile: the precision chooses the reference network; the threads are the runtime's.
        preset: how carefully.
        rng: of the order in each launch.
        usual: changed by every launch; pass the same one for all groups of a session.
        progress: called after each launch with the blocks that count so far, at most ``preset.min_blocks`` a model.

    Raises:
        DeviceError: the device cannot measure, or not the reference network.
        DeviceHungError: it hangs, be it at the reference network.
    """
    reference = device.reference(profile.precision)
    left = [_Model(path) for path in models]
    launches, seconds, every = 0, 0.0, REFERENCE_EVERY
    while left:
        order = _with_reference([left[index] for index in rng.permutation(len(left))], every)
        block = device.measure_block(
            [model.path if model else reference for model in order],
            threads=profile.threads,
            plan=preset.plan(usual.probe_floor_ns),
        )
        results = list(zip(order, block.results, strict=False))
        usual.learn(block.probe_floor_ns, [result.timing for model, result in results if not model])
        _take(results)
        # A launch that a model cuts short is not the others' fault and does not count; it ends by FAILURES.
        launches += len(results) == len(order)
        seconds += block.seconds
        every = max(1, min(REFERENCE_EVERY, int(REFERENCE_SECONDS * len(results) / max(block.seconds, 1e-9))))
        over = launches == preset.max_launches or (launches >= preset.min_blocks and seconds > preset.budget_seconds)
        done = {model for model in left if over or model.done(preset, usual)}
        yield [model.outcome(preset, usual, block.environment) for model in left if model in done]
        left = [model for model in left if model not in done]
        progress(
            preset.min_blocks * (len(models) - len(left))
            + sum(min(preset.min_blocks, len(model.counting(usual))) for model in left)
        )


def _with_reference(models: Sequence[_Model], every: int) -> list[_Model | None]:
    """Returns the order of a launch; None stands for the reference network, first, after so many models, and last."""
    order: list[_Model | None] = [None]
    for start in range(0, len(models), every):
        order += [*models[start : start + every], None]
    return order


def _take(results: Sequence[tuple[_Model | None, BlockResult]]) -> None:
    """Adds a launch's results to the models; a timing gets the nearest reference latencies on both sides."""
    before: ReferenceReading | None = None
    waiting: list[tuple[_Model, Timing]] = []

    def close(after: ReferenceReading | None) -> None:
        references = tuple(reading for reading in (before, after) if reading is not None)
        for model, timing in waiting:
            model.readings.append(_Reading(timing, references))
        waiting.clear()

    for model, result in results:
        if model and result.timing:
            waiting.append((model, result.timing))
        elif model:
            model.failures.append(result.failure)
        elif result.hung:
            raise DeviceHungError(f"the reference network {result.model.name} hangs: {result.failure}")
        elif not result.timing:
            raise DeviceError(f"the reference network {result.model.name} could not be run: {result.failure}")
        elif result.timing.median_ms is not None:
            after = result.timing.median_ms, result.timing.probe_ns
            close(after)
            before = after
    close(None)

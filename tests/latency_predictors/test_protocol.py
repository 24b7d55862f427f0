import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from latency_predictors.devices.base import DeviceError, Timing
from latency_predictors.measurement import DeviceProfile
from latency_predictors.preset import PRESETS, Preset, get_preset
from latency_predictors.protocol import REFERENCE_EVERY, REFERENCE_SECONDS, Outcome, UsualState, measure_models
from search_spaces.errors import InputError
from tests.latency_predictors.devices.simulated import REFERENCE, SimulatedDevice

PROFILE = DeviceProfile("local/onnxruntime")
QUICK, STANDARD = PRESETS["quick"], PRESETS["standard"]
SESSIONS = 1000


def _paths(count: int) -> list[Path]:
    return [Path(f"{number}.onnx") for number in range(count)]


def _measure(
    device: SimulatedDevice, count: int = 1, preset: Preset = STANDARD, usual: UsualState | None = None, seed: int = 0
) -> dict[Path, Outcome]:
    launches = measure_models(
        device, _paths(count), PROFILE, preset, rng=np.random.default_rng(seed), usual=usual or UsualState()
    )
    outcomes = list(itertools.chain.from_iterable(launches))
    assert len(outcomes) == count
    return {outcome.model: outcome for outcome in outcomes}


def _one(device: SimulatedDevice, preset: Preset = STANDARD, usual: UsualState | None = None) -> Outcome:
    return _measure(device, 1, preset, usual)[Path("0.onnx")]


def _holds(outcome: Outcome, truth: float) -> bool:
    assert outcome.interval is not None
    return outcome.interval.lower <= truth <= outcome.interval.upper


def test_a_steady_device_needs_the_least_number_of_blocks() -> None:
    outcome = _one(SimulatedDevice(spread=0.001))
    assert (outcome.verdict, outcome.reason, len(outcome.timings)) == ("accepted", "", STANDARD.min_blocks)


def test_an_unsteady_device_gets_more_blocks_until_the_interval_is_narrow_enough() -> None:
    outcome = _one(SimulatedDevice(spread=0.03, seed=2))
    assert STANDARD.min_blocks < len(outcome.timings) <= STANDARD.max_blocks
    assert outcome.verdict == "accepted"


@pytest.mark.parametrize(("spread", "verdict"), [(0.06, "noisy"), (0.3, "refused")])
def test_a_wide_interval_after_all_blocks_is_noisy_or_refused_and_says_how_wide(spread: float, verdict: str) -> None:
    outcome = _one(SimulatedDevice(spread=spread))
    assert outcome.verdict == verdict
    assert outcome.interval is not None
    assert outcome.reason == f"the 95 % interval is ±{outcome.interval.half_width:.1%}"
    assert len(outcome.timings) == STANDARD.max_blocks


def test_models_share_launches_in_a_new_order_each_time_with_the_reference_among_them() -> None:
    device = SimulatedDevice(spread=0.001)
    _measure(device, 12)
    orders = []
    for launch in device.launches:
        assert launch[0] == launch[-1] == REFERENCE
        gaps = "".join("r" if path == REFERENCE else "." for path in launch).strip("r").split("r")
        assert max(map(len, gaps)) == REFERENCE_EVERY
        orders.append([path for path in launch if path != REFERENCE])
        assert sorted(orders[-1]) == sorted(_paths(12))
    assert len(orders) == STANDARD.min_blocks
    assert len({tuple(order) for order in orders}) == len(orders)


def test_on_a_slow_device_the_reference_is_timed_at_least_every_five_minutes() -> None:
    device = SimulatedDevice(spread=0.001, seconds_a_model=130)
    _measure(device, 12)
    first, *others = device.launches  # nothing tells before the first how long a network takes
    assert len(first) == 12 + 1 + math.ceil(12 / REFERENCE_EVERY)
    for launch in others:
        gaps = "".join("r" if path == REFERENCE else "." for path in launch).strip("r").split("r")
        assert max(map(len, gaps)) * 130 <= REFERENCE_SECONDS


def test_a_network_whose_second_half_is_slower_says_that_the_device_throttles() -> None:
    device = SimulatedDevice(spread=0.001)
    device.truth_ms = lambda path: 1.0 if len(device.launches) <= 8 else 1.12
    steady = _one(SimulatedDevice(spread=0.06), STANDARD)
    slowing = _one(device, dataclasses.replace(STANDARD, min_blocks=15))
    assert slowing.verdict == "noisy"
    assert "the second half of its blocks is 12% slower than the first: it throttles" in slowing.reason
    assert steady.verdict == "noisy"
    assert "throttles" not in steady.reason


def test_the_same_seed_gives_the_same_orders() -> None:
    one, other, different = (SimulatedDevice() for _ in range(3))
    _measure(one, 8, seed=3)
    _measure(other, 8, seed=3)
    _measure(different, 8, seed=4)
    assert one.launches == other.launches
    assert one.launches != different.launches


def test_a_model_that_is_done_leaves_the_launches() -> None:
    steady, unsteady = _paths(2)
    device = SimulatedDevice(spread=0)
    device.truth_ms = lambda path: 1.0 if path == steady else float(np.exp(device.rng.normal(0, 0.04)))
    outcomes = _measure(device, 2)
    assert len(outcomes[steady].timings) == STANDARD.min_blocks < len(outcomes[unsteady].timings)
    assert steady not in device.launches[-1]


def test_progress_counts_the_blocks_of_every_model() -> None:
    counts: list[int] = []
    launches = measure_models(
        SimulatedDevice(spread=0.001), _paths(3), PROFILE, QUICK,
        rng=np.random.default_rng(0), usual=UsualState(), progress=counts.append,
    )  # fmt: skip
    list(launches)
    assert counts == [3, 6, 9, 12, 15]


def test_intervals_that_stop_early_still_hold_the_truth_in_at_least_90_percent_of_sessions() -> None:
    device = SimulatedDevice(spread=0.02, seed=2)
    outcomes = _measure(device, SESSIONS).values()
    assert sum(_holds(outcome, 1.0) for outcome in outcomes) >= 0.90 * SESSIONS
    assert len({len(outcome.timings) for outcome in outcomes}) > 5  # they did stop at different blocks


def test_outliers_are_seldom_accepted_and_wrong() -> None:
    device = SimulatedDevice(spread=0.01, outliers=0.05, outlier=1.3, seed=3)
    outcomes = _measure(device, SESSIONS).values()
    wrong = [
        outcome for outcome in outcomes
        if outcome.verdict == "accepted" and outcome.interval and abs(math.log(outcome.interval.centre)) > 0.05
    ]  # fmt: skip
    assert len(wrong) <= 0.01 * SESSIONS
    assert sum(outcome.verdict == "accepted" for outcome in outcomes) > 0.7 * SESSIONS


def _differ(one: Outcome, other: Outcome) -> bool:
    assert one.interval
    assert other.interval
    return one.interval.upper < other.interval.lower or other.interval.upper < one.interval.lower


def test_the_same_network_measured_twice_seldom_differs_and_a_five_percent_slower_one_mostly_does() -> None:
    device, slow_device = SimulatedDevice(seed=4), SimulatedDevice(truth_ms=lambda _: 1.05, seed=5)
    first, second, slower = (_measure(d, SESSIONS).values() for d in (device, device, slow_device))
    assert sum(map(_differ, first, second)) <= 0.05 * SESSIONS
    assert sum(map(_differ, first, slower)) >= 0.90 * SESSIONS


def test_blocks_beside_a_slow_reference_do_not_count_and_are_repeated() -> None:
    # Launches 1 and 2 are 30 % slower throughout: a clock that stepped down.
    device = SimulatedDevice(spread=0.002, slowness=lambda launch: 1.3 if launch in {1, 2} else 1.0)
    outcome = _one(device)
    assert outcome.verdict == "accepted"
    assert len(device.launches) == STANDARD.min_blocks + 2
    assert max(timing.median_ms or 0 for timing in outcome.timings) < 1.05
    assert outcome.reference_ms == pytest.approx(0.1, rel=0.02)


def test_a_device_slower_than_in_earlier_sessions_is_refused_and_the_reason_names_the_reference() -> None:
    usual = UsualState(earlier_ms=[0.1] * 40)
    outcome = _one(SimulatedDevice(spread=0.002, slowness=lambda _: 1.2), QUICK, usual)
    assert outcome.verdict == "refused"
    assert (
        outcome.reason == "0 of 5 blocks count, because the reference network moved more than 5% from its usual 0.1 ms"
    )
    assert outcome.interval is None


def test_a_drift_across_a_session_is_never_accepted_and_wrong() -> None:
    # 2 % slower with every launch; the truth is the undisturbed 1.0.
    device = SimulatedDevice(spread=0.002, slowness=lambda launch: 1.02**launch)
    outcome = _one(device)
    assert outcome.verdict != "accepted" or (outcome.interval and abs(outcome.interval.centre - 1) < 0.05)


def test_a_core_that_is_mostly_busy_gives_noisy_rows_from_three_blocks_and_refused_ones_below() -> None:
    three, two = _paths(2)
    device = SimulatedDevice(
        spread=0.001, quiet=lambda launch, path: path == REFERENCE or launch < (3 if path == three else 2)
    )
    outcomes = _measure(device, 2, QUICK)
    assert len(device.launches) == QUICK.max_launches
    assert outcomes[three].verdict == "noisy"
    assert "3 of 5 blocks count, because the core ran undisturbed 17% of the time" in outcomes[three].reason
    assert outcomes[two].verdict == "refused"
    assert outcomes[two].reason.startswith("2 of 5 blocks count")
    assert outcomes[two].quiet_share == pytest.approx((2 * 1.0 + 18 * 0.02) / 20)


def test_without_any_quiet_reference_nothing_counts() -> None:
    outcome = _one(SimulatedDevice(quiet=lambda _, path: path != REFERENCE), QUICK)
    assert (outcome.verdict, outcome.timings) == ("refused", ())


def test_a_launch_on_a_slower_core_does_not_count_once_a_faster_one_was_seen() -> None:
    device = SimulatedDevice(spread=0.001)
    usual = UsualState(probe_floor_ns=3000)  # the simulated probes take 5000
    outcome = _one(device, QUICK, usual)
    assert outcome.verdict == "refused"
    assert "undisturbed" in outcome.reason


def test_no_launch_starts_after_the_time_budget_but_for_the_least_number_of_blocks() -> None:
    device = SimulatedDevice(spread=0.06)
    outcome = _one(device, dataclasses.replace(QUICK, budget_seconds=7.5))  # a simulated launch takes one second
    assert (len(device.launches), len(outcome.timings)) == (8, 8)
    device = SimulatedDevice(spread=0.06)
    outcome = _one(device, dataclasses.replace(QUICK, budget_seconds=1.5))
    assert (len(device.launches), len(outcome.timings)) == (QUICK.min_blocks, QUICK.min_blocks)


def test_a_clock_that_wanders_by_a_few_percent_is_averaged() -> None:
    def slowness(launch: int) -> float:
        return (1.0, 1.07, 0.95, 1.03, 0.96)[launch % 5]

    device = SimulatedDevice(spread=0.002, slowness=slowness, clock_told=True)
    outcome = _one(device)
    assert outcome.verdict in {"accepted", "noisy"}
    assert len(outcome.timings) == len(device.launches) > STANDARD.min_blocks, "every block counts"
    assert _holds(outcome, 1.0)
    blind = SimulatedDevice(spread=0.002, slowness=slowness)
    assert len(_one(blind).timings) < len(blind.launches), "without a clock, the reference is off its usual latency"


def test_a_lowered_clock_does_not_count_and_is_told() -> None:
    def slowness(launch: int) -> float:
        return 1.2 if launch > 1 else 1.0

    outcome = _one(SimulatedDevice(spread=0.002, slowness=slowness, clock_told=True), QUICK)
    assert (outcome.verdict, len(outcome.timings)) == ("refused", 2)
    assert outcome.reason == "2 of 5 blocks count, because the core's clock was slower than usual"


def test_a_reference_that_is_slower_than_its_clock_explains_does_not_count() -> None:
    usual = UsualState(earlier_ms=[0.1] * 20)
    usual.learn(5000, [Timing(2.0, 0.2, 100, 1.0, 0.1, 0.11, 6000, 3.0)] * 3)
    assert not usual.moved((0.104, 6000))
    assert not usual.moved((0.107, 6400)), "the clock explains 6.7 % of 7 %"
    assert usual.moved((0.107, 6000))
    assert usual.shared(6800)  # 1.36 times the fastest probe
    assert usual.slowed(6700)
    assert not usual.slowed(6500)
    assert not usual.shared(None)
    assert not usual.slowed(None)


def test_a_model_that_cannot_run_is_given_up_after_two_blocks_and_spoils_nothing() -> None:
    device = SimulatedDevice(spread=0.001)
    device.failures[Path("1.onnx")] = "no such operator"
    outcomes = _measure(device, 3)
    assert outcomes[Path("1.onnx")].verdict == "refused"
    assert outcomes[Path("1.onnx")].reason == "it could not be run: no such operator"
    assert sum(Path("1.onnx") in launch for launch in device.launches) == 2
    assert outcomes[Path("0.onnx")].verdict == outcomes[Path("2.onnx")].verdict == "accepted"


def test_launches_that_a_hanging_model_cuts_short_are_made_up_for() -> None:
    device = SimulatedDevice(spread=0.001)
    device.hanging = set(_paths(9)[::3])
    outcomes = _measure(device, 9)
    for path, outcome in outcomes.items():
        assert outcome.verdict == ("refused" if path in device.hanging else "accepted"), path
    assert all(sum(path in launch for launch in device.launches) >= 2 for path in device.hanging)


def test_a_reference_that_cannot_run_is_an_error() -> None:
    device = SimulatedDevice()
    device.failures[REFERENCE] = "no such operator"
    with pytest.raises(DeviceError, match=r"the reference network reference\.onnx could not be run: no such operator"):
        _one(device)


def test_presets_are_found_by_name() -> None:
    assert get_preset("standard") is STANDARD
    with pytest.raises(
        InputError, match="preset must be one of quick, standard, energy, got 'standrad'; did you mean 'stand"
    ):
        get_preset("standrad")


@pytest.mark.parametrize(
    "change", [{"min_blocks": 2}, {"max_blocks": 4}, {"max_launches": 7}, {"window_ms": 0.0}, {"energy_seconds": 9.0}]
)
def test_a_preset_that_cannot_work_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        dataclasses.replace(QUICK, **change)  # type: ignore[arg-type]

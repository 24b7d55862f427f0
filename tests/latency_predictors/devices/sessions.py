"""Simulated sessions on devices that something disturbs; the truth is the undisturbed latency, 1 ms.

A session begins undisturbed, or its measurement set knows the reference network from before: the protocol cannot know
more. How strongly the network feels what slows the reference network is drawn at random.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_predictors.measurement import DeviceProfile
from latency_predictors.preset import Preset
from latency_predictors.protocol import Outcome, UsualState, measure_models
from latency_predictors.session import SITTINGS
from tests.latency_predictors.devices.simulated import SimulatedDevice

TRUTH_MS = 1.0
CLOCK_TOLD = ", clock told"
KINDS = (
    "calm", "throttling", "frequency steps", "spikes", "drift", "throttling" + CLOCK_TOLD,
    "frequency steps" + CLOCK_TOLD, "turbo" + CLOCK_TOLD, "wandering" + CLOCK_TOLD,
)  # fmt: skip
_LAUNCHES = 100


def session(kind: str, preset: Preset, seed: int, truth_ms: float = TRUTH_MS) -> Outcome:
    """Returns what the protocol says of one network in a session, in its last sitting.

    Args:
        kind: of `KINDS`.
        preset: how carefully.
        seed: of everything.
        truth_ms: the network's undisturbed latency.
    """
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    known = bool(rng.random() < 0.5)
    disturbance = kind.removesuffix(CLOCK_TOLD)
    course: NDArray[np.floating[Any]] = np.ones(_LAUNCHES)
    if disturbance == "throttling":  # it heats up from a launch on
        begin, amount, heating = rng.integers(1, 6), rng.uniform(0.05, 0.5), rng.uniform(0.5, 5)
        course = 1 + amount * -np.expm1(-np.maximum(0, np.arange(_LAUNCHES) - begin + 1) / heating)
    elif disturbance == "frequency steps":
        switches = np.cumsum(rng.random(_LAUNCHES) < rng.uniform(0.1, 0.6)) + (known and rng.random() < 0.5)
        course = np.where(switches % 2, rng.uniform(1.05, 2), 1.0)
        course[0] = course[0] if known else 1.0
    elif disturbance == "drift":  # away from the undisturbed state, or back to it
        rate, top = rng.uniform(0.001, 0.03), rng.uniform(1.02, 1.3)
        course = (1 + rate) ** np.arange(_LAUNCHES)
        if known and rng.random() < 0.5:
            course = np.maximum(1.0, top * (1 - rate) ** np.arange(_LAUNCHES))
    elif disturbance == "turbo":  # faster for moments
        course = np.where(rng.random(_LAUNCHES) < rng.uniform(0.02, 0.1), rng.uniform(0.85, 0.95), 1.0)
    elif disturbance == "wandering":  # the usual clock is one that is never the same
        course = np.exp(rng.uniform(0.01, 0.05) * rng.standard_normal(_LAUNCHES))
    device = SimulatedDevice(
        truth_ms=lambda _: truth_ms,
        spread=rng.uniform(0.002, 0.02),
        outliers=rng.uniform(0.02, 0.3) if kind == "spikes" else 0,
        outlier=rng.uniform(1.1, 3),
        slowness=lambda launch: float(course[launch]),
        sensitivity=rng.uniform(0.6, 1.4),
        clock_told=kind.endswith(CLOCK_TOLD),
        seed=int(rng.integers(2**31)),
    )
    usual = UsualState(earlier_ms=[0.1] * 20) if known else UsualState()
    for _ in range(SITTINGS):
        launches = measure_models(device, [Path("0.onnx")], DeviceProfile(device.name), preset, rng=rng, usual=usual)
        (outcome,) = [outcome for outcomes in launches for outcome in outcomes]
        if outcome.verdict != "refused":
            break
    return outcome


def wrong(outcome: Outcome) -> bool:
    """Whether a latency is accepted and more than 5 % off."""
    return outcome.verdict == "accepted" and outcome.interval is not None and _off(outcome) > math.log(1.05)


def covers(outcome: Outcome, truth_ms: float = TRUTH_MS) -> bool:
    """Whether the interval holds the truth."""
    return outcome.interval is not None and outcome.interval.lower <= truth_ms <= outcome.interval.upper


def differ(one: Outcome, other: Outcome) -> bool:
    """Whether two intervals are apart."""
    first, second = one.interval, other.interval
    return first is not None and second is not None and (first.upper < second.lower or second.upper < first.lower)


def _off(outcome: Outcome) -> float:
    assert outcome.interval
    return abs(math.log(outcome.interval.centre / TRUTH_MS))

"""The protocol on simulated devices of known truth; experiments/benchmarks/protocol_self_test.py has more sessions."""

import pytest

from latency_predictors.preset import PRESETS
from tests.latency_predictors.devices.sessions import KINDS, covers, differ, session, wrong

SESSIONS = 250


@pytest.mark.parametrize("preset", ["quick", "standard"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_disturbs_a_device_seldom_leads_to_an_accepted_wrong_latency(kind: str, preset: str) -> None:
    outcomes = [session(kind, PRESETS[preset], seed) for seed in range(SESSIONS)]
    assert sum(map(wrong, outcomes)) <= 0.01 * SESSIONS
    # It does not refuse everything. A told clock that falls by 5 to 10 % counts, and widens the interval beyond use.
    least = 0.35 if kind == "throttling, clock told" else 0.4
    assert sum(outcome.verdict != "refused" for outcome in outcomes) > least * SESSIONS


@pytest.mark.parametrize("preset", ["quick", "standard"])
def test_intervals_hold_the_same_is_the_same_and_slower_is_slower(preset: str) -> None:
    first, second, slower = (
        [session("calm", PRESETS[preset], seed + start, truth) for seed in range(SESSIONS)]
        for start, truth in ((0, 1.0), (10_000, 1.0), (20_000, 1.05))
    )
    assert sum(map(covers, first)) >= 0.9 * SESSIONS
    assert sum(map(differ, first, second)) <= 0.05 * SESSIONS
    assert sum(map(differ, first, slower)) >= 0.9 * SESSIONS


def test_intervals_hold_over_all_kinds_of_devices() -> None:
    usable = [
        outcome
        for kind in KINDS
        for outcome in (session(kind, PRESETS["quick"], seed) for seed in range(200))
        if outcome.verdict != "refused"
    ]
    assert sum(map(covers, usable)) >= 0.9 * len(usable)

import math

import numpy as np
import pytest
from scipy import stats

from latency_predictors.statistics import drifted, interval, verdict

SESSIONS = 1000


def test_the_interval_is_students_on_the_logarithms() -> None:
    medians = [1.0, 1.1, 0.95, 1.02, 1.05]
    found = interval(medians)
    # scipy's own interval of the mean, on the logarithms.
    low, high = stats.ttest_1samp(np.log(medians), 0).confidence_interval(0.95)
    assert found.lower == pytest.approx(math.exp(low))
    assert found.upper == pytest.approx(math.exp(high))
    assert found.centre == pytest.approx(stats.gmean(medians))
    assert found.half_width == pytest.approx(found.centre / found.lower - 1)


def test_a_single_block_says_nothing_about_the_spread() -> None:
    assert interval([2.0]).half_width == math.inf
    assert interval([2.0]).lower == 0


@pytest.mark.parametrize("medians", [[], [1.0, 0.0], [1.0, math.nan], [1.0, -1.0], [math.inf]])
def test_what_is_not_a_latency_is_refused(medians: list[float]) -> None:
    with pytest.raises(ValueError, match="above zero"):
        interval(medians)


@pytest.mark.parametrize("blocks", [3, 5, 15])
@pytest.mark.parametrize("spread", [0.002, 0.05])
def test_95_percent_of_the_intervals_hold_the_truth(blocks: int, spread: float) -> None:
    rng = np.random.default_rng(blocks)
    held = 0
    for medians in np.exp(rng.normal(math.log(0.3), spread, (SESSIONS, blocks))):
        found = interval(medians.tolist())
        held += found.lower <= 0.3 <= found.upper
    # Three standard deviations of a binomial count.
    assert abs(held / SESSIONS - 0.95) < 3 * math.sqrt(0.95 * 0.05 / SESSIONS)


def test_verdicts_change_at_two_and_five_percent() -> None:
    assert [verdict(value) for value in (0.0, 0.0199, 0.02, 0.05, 0.0501, math.inf)] == [
        "accepted", "accepted", "noisy", "noisy", "refused", "refused",
    ]  # fmt: skip


def test_drift_counts_both_ways_beyond_five_percent() -> None:
    assert [drifted(value, 1.0) for value in (0.94, 0.96, 1.0, 1.049, 1.051)] == [True, False, False, False, True]

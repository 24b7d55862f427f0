import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from nas.errors import InputError, RunError
from nas.plots.front_html import front_html
from nas.plots.front_png import draw_front
from nas.plots.trust_png import draw_trust
from nas.trust import RankingTrust, TrainedNetwork, spread_over_front
from tests.nas.front_example import front_of, network

# Accuracy, latency: three that are nearly equal, two that are, and one far below.
ROWS = [(0.980, 9.0), (0.976, 7.0), (0.972, 5.0), (0.940, 3.0), (0.935, 2.0), (0.800, 1.0)]


def trust_of(noise: float, slope: float = 1.0, networks: int = 24, seeds: tuple[int, ...] = (0, 1)) -> RankingTrust:
    """Trainings that follow the supernet with a slope and normal noise."""
    rng = np.random.default_rng(0)
    estimated = np.linspace(0.8, 0.98, networks)
    trained = slope * estimated[:, None] + rng.normal(0, noise, (networks, len(seeds)))
    rows = zip(estimated, trained, strict=True)
    return RankingTrust(
        "example",
        {"supernet": "abc"},
        seeds,
        tuple(
            TrainedNetwork(network(n), n % 2 == 0, float(one), dict(zip(seeds, map(float, row), strict=True)))
            for n, (one, row) in enumerate(rows)
        ),
    )


def test_correlations_are_those_of_scipy_and_lie_in_their_intervals() -> None:
    trust = trust_of(0.03, networks=15)
    estimated = [one.estimated for one in trust.networks]
    mean = [np.mean(list(one.trained.values())) for one in trust.networks]
    whole, top, *_, seeds = trust.agreements
    assert whole.kendall.value == pytest.approx(stats.kendalltau(estimated, mean).statistic)
    assert whole.spearman.value == pytest.approx(stats.spearmanr(estimated, mean).statistic)
    assert top.kendall.value == pytest.approx(stats.kendalltau(estimated[-5:], mean[-5:]).statistic)
    columns = [[one.trained[seed] for one in trust.networks] for seed in (0, 1)]
    assert (seeds.of, seeds.kendall.value) == ("seeds 0 and 1", pytest.approx(stats.kendalltau(*columns).statistic))
    for one in trust.agreements:
        assert one.kendall.lower <= one.kendall.value <= one.kendall.upper
    assert top.kendall.upper - top.kendall.lower > whole.kendall.upper - whole.kendall.lower


def test_the_interval_of_kendalls_tau_covers_the_truth_about_as_often_as_it_says() -> None:
    # Of normal variables with correlation r, tau is 2/pi arcsin(r) (Kendall and Gibbons, 1990, section 10.9).
    truth, held, rng = 2 / math.pi * math.asin(0.8), 0, np.random.default_rng(1)
    for _ in range(50):
        pairs = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], 24)
        networks = tuple(TrainedNetwork(network(n), True, x, {0: y}) for n, (x, y) in enumerate(pairs.tolist()))
        kendall = RankingTrust("example", {}, (0,), networks).agreements[0].kendall
        held += kendall.lower <= truth <= kendall.upper
    assert 42 <= held <= 50


def test_networks_are_tied_where_trainings_may_reverse_their_order() -> None:
    trust = trust_of(0.004)
    within = trust.tied_within
    assert within is not None
    # Noise of the mean of two trainings, of the difference of two networks.
    assert within == pytest.approx(2.07 * math.sqrt(2) * 0.004 / math.sqrt(2), rel=0.4)
    assert [len(group) for group in trust.tied(front_of(ROWS))] == [3, 2, 1]
    assert trust_of(0.004, slope=0.5).tied_within == pytest.approx(2 * within, rel=0.05)
    assert [len(group) for group in trust_of(0.0001).tied(front_of(ROWS))] == [1] * 6


def test_a_supernet_that_ranks_backwards_tells_nothing_apart() -> None:
    trust = trust_of(0.001, slope=-1)
    assert trust.tied_within is None
    assert [len(group) for group in trust.tied(front_of(ROWS))] == [6]
    assert "no order is certain" in trust.tie_text


def test_the_plots_group_what_is_tied_and_say_so_in_the_legend() -> None:
    trust, front = trust_of(0.004), front_of(ROWS)
    legend = draw_front(front, trust=trust).axes[0].get_legend()
    assert legend
    assert trust.tie_text in [text.get_text() for text in legend.get_texts()]
    assert "24 networks trained alone, 2 seeds" in trust.tie_text
    page = front_html(front, "runs/example", trust)
    assert trust.tie_text in page
    assert json.dumps([[network(0).key, network(1).key, network(2).key]])[1:-1] in page
    assert "statistically tied" not in front_html(front, "runs/example")
    assert "Kendall tau 0.9" in draw_trust(trust).axes[0].get_title(loc="left")


def test_the_file_gives_the_same_trust_and_a_damaged_one_is_told(tmp_path: Path) -> None:
    path, trust = tmp_path / "trust.json", trust_of(0.01)
    assert RankingTrust.load(path) is None
    trust.save(path)
    assert RankingTrust.load(path) == trust
    path.write_bytes(path.read_bytes().replace(b'"estimated": 0.8', b'"estimated": 0.9', 1))
    with pytest.raises(RunError, match=r"trust\.json cannot be read \(its content does not have the SHA-256"):
        RankingTrust.load(path)


def test_trainings_of_another_supernet_are_not_mixed() -> None:
    with pytest.raises(InputError, match=r"made with another supernet \(it has abc, now def\): remove trust\.json"):
        trust_of(0.01).continues({"supernet": "def"})


def test_networks_are_spread_over_the_front() -> None:
    assert [point.values["accuracy"].value for point in spread_over_front(front_of(ROWS), 3)] == [0.8, 0.94, 0.98]
    assert len(spread_over_front(front_of(ROWS), 99)) == 6

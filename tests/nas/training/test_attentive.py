import numpy as np
import pytest

from nas.training.attentive import Attention, AttentiveSampler
from search_spaces.architecture import Architecture
from search_spaces.cost import network_cost
from search_spaces.space import load_space

SPACE = load_space("tiny")


def macs(architecture: Architecture) -> int:
    return network_cost(SPACE.layers(architecture)).macs


def sampler(attention: Attention = "best", candidates: int = 4) -> AttentiveSampler:
    return AttentiveSampler(SPACE, attention, candidates, np.random.default_rng(0))


def test_candidates_differ_and_have_like_arithmetic_over_the_whole_range() -> None:
    rng, attentive = np.random.default_rng(1), sampler()
    groups = [attentive.candidates(rng) for _ in range(200)]
    assert all(len({one.key for one in group}) == 4 for group in groups)
    spread = [max(map(macs, group)) / min(map(macs, group)) for group in groups]
    assert np.median(spread) < 1.1
    uniform = np.quantile([macs(SPACE.sample(rng)) for _ in range(500)], [0.1, 0.5, 0.9])
    drawn = np.quantile([macs(group[0]) for group in groups], [0.1, 0.5, 0.9])
    np.testing.assert_allclose(drawn, uniform, rtol=0.15)


@pytest.mark.parametrize(("attention", "extreme"), [("best", min), ("worst", max)])
def test_of_the_candidates_the_best_or_the_worst_is_drawn(attention: Attention, extreme) -> None:
    asked: list[tuple[float, Architecture]] = []

    def loss_of(architecture: Architecture) -> float:
        asked.append((float(macs(architecture)), architecture))
        return asked[-1][0]

    attentive = sampler(attention)
    for seed in range(10):
        asked.clear()
        drawn = attentive.sample(np.random.default_rng(seed), loss_of)
        assert len(asked) == 4
        assert macs(drawn) == extreme(loss for loss, _ in asked)

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution

from nas.pareto import ranks
from nas.search.samplers.evolution import children, crowding, fitness_order, mutated
from nas.search.samplers.parameters import ParameterSpace

SPACE = ParameterSpace(
    {
        **{f"kernel{place}": CategoricalDistribution((3, 5, 7)) for place in range(5)},
        "activation": CategoricalDistribution(("relu", "silu", "gelu", "none")),
        "share": FloatDistribution(0, 1),
    }
)


def test_the_order_follows_the_fronts_of_two_and_of_three_losses() -> None:
    rng = np.random.default_rng(0)
    for objectives in (2, 3):
        losses = rng.integers(0, 6, size=(60, objectives)).astype(float)
        layers = ranks(losses)[fitness_order(losses)]
        assert (np.diff(layers) >= 0).all()


def test_only_as_many_rows_as_asked_for_come_back_and_they_are_the_first() -> None:
    losses = np.random.default_rng(1).random((40, 2))
    np.testing.assert_array_equal(fitness_order(losses, 7), fitness_order(losses)[:7])


def test_crowding_is_infinite_at_the_ends_and_larger_where_there_is_room() -> None:
    distance = crowding(np.array([[0.0, 4.0], [1.0, 3.0], [1.2, 2.8], [4.0, 0.0]]))
    assert np.isinf(distance[[0, 3]]).all()
    assert distance[2] > distance[1]


def test_children_are_inside_the_space_and_inherit_from_good_parents() -> None:
    rng = np.random.default_rng(2)
    parents = SPACE.sample(30, rng)
    parents[:15, 0], parents[15:, 0] = 2, 0  # the better half has the largest first kernel
    born = children(SPACE, parents, 400, rng)
    assert born.shape == (400, 7)
    for genome in born[:50]:
        SPACE.genome(SPACE.params(genome))
    assert ((born[:, -1] >= 0) & (born[:, -1] <= 1)).all()
    assert (born[:, 0] == 2).mean() > 0.6


def test_a_mutation_draws_absent_genes_and_leaves_most_others() -> None:
    rng = np.random.default_rng(3)
    genomes = SPACE.sample(300, rng)
    genomes[:, 1] = np.nan
    changed = mutated(SPACE, genomes, rng)
    assert not np.isnan(changed).any()
    others = [0, 2, 3, 4, 5, 6]
    assert 0.05 < (changed[:, others] != genomes[:, others]).mean() < 0.4

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from nas.search.samplers.parameters import INACTIVE, ParameterSpace

SPACE = ParameterSpace(
    {
        "kernel": CategoricalDistribution((7, 3, 5)),
        "squeeze": CategoricalDistribution((False, True)),
        "activation": CategoricalDistribution(("relu", "silu", "gelu")),
        "units": IntDistribution(8, 64, step=8),
        "many": IntDistribution(1, 10**6, log=True),
        "rate": FloatDistribution(1e-4, 1.0, log=True),
        "only": CategoricalDistribution((3,)),
    }
)


@given(st.integers(0, 2**32 - 1))
def test_params_and_genome_are_inverse(seed: int) -> None:
    genome = SPACE.sample(1, np.random.default_rng(seed))[0]
    params = SPACE.params(genome)
    again = SPACE.params(SPACE.genome(params))
    assert {name: params[name] for name in params if name != "rate"} == {n: again[n] for n in again if n != "rate"}
    assert np.isclose(again["rate"], params["rate"])


def test_parameters_with_one_value_have_no_gene() -> None:
    assert "only" not in {gene.name for gene in SPACE.genes}


def test_numbers_are_encoded_by_place_in_ascending_order_and_text_one_hot() -> None:
    kernels = SPACE.encode(np.array([SPACE.genome({"kernel": kernel}) for kernel in (3, 5, 7)]))[:, 0]
    np.testing.assert_allclose(kernels, [0, 0.5, 1])
    texts = SPACE.encode(np.array([SPACE.genome({"activation": text}) for text in ("relu", "silu", "gelu")]))[:, 2:5]
    np.testing.assert_allclose(texts @ texts.T, np.eye(3) / 2)


def test_absent_parameters_lie_below_the_smallest_choice() -> None:
    encoded = SPACE.encode(SPACE.genome({})[None])[0]
    assert encoded[0] == INACTIVE
    assert (encoded[2:5] == 0).all()


def test_flags_and_numbers_of_equal_value_are_told_apart() -> None:
    space = ParameterSpace({"mixed": CategoricalDistribution((True, 1, 2))})
    values = [space.params(np.array([float(level)]))["mixed"] for level in range(3)]
    assert sorted(map(str, values)) == ["1", "2", "True"]
    assert [space.genome({"mixed": value})[0] for value in values] == [0, 1, 2]

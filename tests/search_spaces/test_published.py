import pytest

from search_spaces.cost import network_cost
from search_spaces.encodings import encoding
from search_spaces.errors import InputError
from search_spaces.published import list_published, published
from search_spaces.space import load_space


@pytest.mark.parametrize("name", list_published())
def test_parameters_are_exact_and_macs_within_one_percent_of_the_published_counts(name: str) -> None:
    network = published(name)
    cost = network_cost(network.layers)
    assert cost.parameters == network.parameters
    assert cost.macs == pytest.approx(network.macs, rel=0.01)


def test_efficientnet_b0_is_a_point_of_the_efficientnet_space() -> None:
    space = load_space("efficientnet")
    vector = [1, 6, 6, 6, 6, 6, 6] + [3, 3, 5, 3, 5, 5, 3] + [1, 2, 2, 3, 3, 4, 1] + [1] * 7
    point = space.layers(encoding("mnasnet_anb").decode(vector))
    assert point == published("efficientnet_b0").layers


def test_fbnet_c_is_a_point_of_the_fbnet_space_with_the_parameters_of_the_released_network() -> None:
    # Figure 4 of arXiv:1812.03443; timm's table gives fbnetc_100 5.57 million parameters.
    vector = [0, 3, 8, 0, 0, 7, 6, 7, 3, 7, 6, 7, 7, 7, 7, 7, 6, 7, 7, 7, 7, 3]
    cost = network_cost(load_space("fbnet").layers(encoding("fbnet").decode(vector)))
    assert cost.parameters == pytest.approx(5.57e6, abs=0.005e6)
    # The paper's 375 M MACs are for 1504 last channels; the released network has 1984.
    fewer = (1984 - 1504) * (352 * 7 * 7 + 1000)
    assert cost.macs - fewer == pytest.approx(375e6, rel=0.01)


def test_an_unknown_network_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"published network must be one of efficientnet_b0, .*got 'resnet50'"):
        published("resnet50")

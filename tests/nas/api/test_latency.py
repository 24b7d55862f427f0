from nas.api.latency import distinct_networks
from search_spaces.space import load_space


def test_more_networks_of_a_seed_are_the_same_and_others() -> None:
    space = load_space("tiny")
    few, many, other = ([a for a, _ in distinct_networks(space, n, seed)] for n, seed in ((30, 0), (40, 0), (30, 1)))
    assert many[:30] == few
    assert few[:2] == [space.smallest(), space.largest()]
    assert len(set(many)) == 40
    assert len({*few, *other}) > 50

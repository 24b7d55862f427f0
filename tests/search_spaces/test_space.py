from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace, list_spaces, load_space
from search_spaces.stage_table import StageTable
from tests.search_spaces.strategies import spaces, spaces_and_architectures

TINY = load_space("tiny")


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(spaces())
def test_size_is_the_number_of_architectures_that_can_be_listed(space: SearchSpace) -> None:
    assume(space.size <= 2000)
    assume(np.prod([len(dimension.choices) for dimension in space.dimensions], dtype=float) <= 20_000)
    keys = [architecture.key for architecture in space.all()]
    assert len(keys) == len(set(keys)) == space.size


def test_the_tiny_space_has_the_size_that_a_count_by_hand_gives() -> None:
    block = 2 * 2  # kernel, expansion
    deep = 2 * (block + block**2)  # channels, depth
    assert TINY.size == 3 * 3 * (2 * block) * deep * deep == 115_200


def test_the_mobilenet_v3_space_has_the_published_size() -> None:
    # Once-for-All, arXiv:1908.09791, section 3.2: ((3x3)^2 + (3x3)^3 + (3x3)^4)^5 subnets, 25 resolutions.
    assert load_space("mobilenet_v3").size == (9**2 + 9**3 + 9**4) ** 5 * 25


def test_the_wide_mobilenet_v3_space_has_the_channels_of_once_for_all_at_width_1_2() -> None:
    # Each of 16, 16, 24, 40, 80, 112, 160, 960, 1280 times 1.2, to a multiple of 8 and not below 90 % of it.
    space = load_space("mobilenet_v3_w1_2")
    assert space.size == load_space("mobilenet_v3").size
    layers = {layer.name: layer.out_channels for layer in space.layers(space.smallest())}
    wide = ["stem", *(f"stage{stage}_block1_project" for stage in range(1, 7)), "head_conv", "head_hidden"]
    assert [layers[name] for name in wide] == [24, 24, 32, 48, 96, 136, 192, 1152, 1536]


@given(spaces_and_architectures(), st.integers(0, 2**32), st.floats(0, 1))
def test_samples_mutants_and_neighbours_stay_in_the_space(
    pair: tuple[SearchSpace, Architecture], seed: int, rate: float
) -> None:
    space, architecture = pair
    mutant = space.mutate(architecture, np.random.default_rng(seed), rate)
    for member in (architecture, mutant, space.smallest(), space.largest(), *space.neighbours(architecture)[:20]):
        assert space.contains(member)
        assert space.architecture(dict(member.values)) == member


@given(spaces_and_architectures())
def test_neighbours_are_other_architectures_and_each_comes_once(pair: tuple[SearchSpace, Architecture]) -> None:
    space, architecture = pair
    keys = [neighbour.key for neighbour in space.neighbours(architecture)]
    assert architecture.key not in keys
    assert len(set(keys)) == len(keys)


def test_neighbours_of_the_smallest_tiny_network_differ_in_one_choice_that_both_have() -> None:
    smallest = TINY.smallest()
    for neighbour in TINY.neighbours(smallest):
        assert sum(neighbour.get(name, value) != value for name, value in smallest.values) == 1


@given(spaces_and_architectures(), st.integers(0, 2**32))
def test_two_spellings_of_one_network_have_one_key(pair: tuple[SearchSpace, Architecture], seed: int) -> None:
    space, architecture = pair
    rng = np.random.default_rng(seed)
    # Whatever is said about blocks that are switched off, and in whatever order.
    spelled = {d.name: d.choices[rng.integers(len(d.choices))] for d in space.dimensions} | dict(architecture.values)
    names = rng.permutation(list(spelled))
    assert space.architecture({str(name): spelled[str(name)] for name in names}).key == architecture.key


def test_an_equal_number_of_another_type_is_the_same_choice_but_not_canonical() -> None:
    values = dict(TINY.smallest().values)
    assert TINY.architecture(values | {"stage1.block1.expansion": 1.0}).key == TINY.smallest().key
    spelled = Architecture("tiny", tuple(sorted((values | {"stage1.block1.expansion": 1.0}).items())))
    assert not TINY.contains(spelled)


@given(spaces_and_architectures())
def test_an_encoding_has_one_one_for_each_active_dimension_and_tells_neighbours_apart(
    pair: tuple[SearchSpace, Architecture],
) -> None:
    space, architecture = pair
    encoded = space.encode(architecture)
    assert encoded.shape == (sum(len(dimension.choices) for dimension in space.dimensions),)
    assert encoded.sum() == len(architecture.values)
    assert all((space.encode(other) != encoded).any() for other in space.neighbours(architecture)[:10])


@given(spaces_and_architectures())
def test_the_shared_layers_hold_every_layer_of_every_subnet(pair: tuple[SearchSpace, Architecture]) -> None:
    space, architecture = pair
    for layer in space.layers(architecture):
        if layer.op in {"conv", "squeeze_excite", "linear"}:
            shared = space.shared_layers[layer.name]
            for field in ("in_channels", "out_channels", "kernel", "squeeze_channels"):
                assert getattr(layer, field) <= getattr(shared, field)


def test_mutation_of_rate_0_changes_nothing_and_of_rate_1_reaches_every_choice() -> None:
    rng = np.random.default_rng(0)
    start = TINY.smallest()
    assert TINY.mutate(start, rng, 0) == start
    mutants = [TINY.mutate(start, rng, 1) for _ in range(200)]
    for dimension in TINY.dimensions:
        if not dimension.needs:
            assert {mutant[dimension.name] for mutant in mutants} == set(dimension.choices)


def test_the_data_set_changes_neither_keys_nor_any_layer_but_the_first_and_the_last() -> None:
    other = TINY.with_data(image_channels=3, classes=7)
    assert other.largest().key == TINY.largest().key
    ours, theirs = TINY.layers(TINY.largest()), other.layers(other.largest())
    assert [a.name for a, b in zip(ours, theirs, strict=True) if a != b] == ["stem", "classifier"]
    assert (theirs[0].in_channels, theirs[-1].out_channels) == (3, 7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 9}, r"resolution must be one of \(8, 12, 16\), got 9"),
        ({"stage1.chanels": 12}, r"no dimension 'stage1.chanels'; did you mean 'stage1.channels'\?"),
        ({"resolution": True}, "resolution must be one of"),
    ],
)
def test_a_wrong_choice_is_named(change: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TINY.architecture(dict(TINY.smallest().values) | change)


def test_a_missing_choice_is_named() -> None:
    values = dict(TINY.smallest().values)
    del values["stage2.depth"]
    with pytest.raises(InputError, match=r"needs a value for 'stage2.depth': one of \(1, 2\)"):
        TINY.architecture(values)


@given(spaces_and_architectures())
def test_a_table_survives_json(pair: tuple[SearchSpace, Architecture]) -> None:
    # A supernet's file carries its space this way.
    table = pair[0].table
    assert StageTable.model_validate_json(table.model_dump_json()) == table


@pytest.mark.parametrize("name", list_spaces())
def test_every_shipped_space_loads_and_is_named_after_its_file(name: str) -> None:
    space = load_space(name)
    assert space.name == name
    assert space.layers(space.largest())[-1].out_channels == space.table.classes


def test_a_file_of_the_user_is_read_as_a_shipped_one_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(Path("search_spaces/spaces/tiny.yaml").read_text())
    assert load_space(str(path)) == TINY


def test_an_unknown_space_gets_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"space must be one of .*tiny.*, got 'tinny'; did you mean 'tiny'\?"):
        load_space("tinny")


def test_every_error_of_a_file_is_reported_at_once_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("""
name: Bad
resolution: [8, 8]
colour: blue
width: 0
stem: {channels: 0, kernel: 4}
stages:
  - {channels: 8, kernel: [3, 4], expansion: 0.5, depths: 2}
  - {depth: [1, 0], channels: 8.5, activation: tanh, squeeze_excite: 1}
  - {op: conv, channels: 8, expansion: 4}
  - {op: conv, channels: [], squeeze_excite: true}
head: {conv: -1}
""")
    with pytest.raises(InputError) as caught:
        load_space(str(path))
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    places = {line.removeprefix(f"{path}: ").split(": ")[0] for line in lines}
    assert places == {
        "name", "resolution", "colour", "width.0", "stem.channels.0", "stem.kernel", "stages.0.kernel.1",
        "stages.0.expansion.0", "stages.0.depths", "stages.1.depth.1", "stages.1.channels.0",
        "stages.1.activation.0", "stages.1.squeeze_excite.0", "stages.2.expansion", "stages.3.channels",
        "stages.3.squeeze_excite",
        "head.conv",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "is not valid YAML"),
        ("- 1", "must hold a mapping of keys at the top, got list"),
        ("name: a\nname: b", r"line 2.*key 'name' stands here twice"),
        ("name: !!python/object/apply:os.system [ls]", "is not valid YAML"),
        ("\x00", "is not valid YAML"),
    ],
)
def test_a_file_that_is_no_plain_yaml_is_refused_in_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_space(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InputError, match=r"cannot read nowhere.yaml: No such file"):
        load_space("nowhere.yaml")

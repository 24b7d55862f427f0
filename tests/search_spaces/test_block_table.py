"""Sums over blocks that are each made once, against the layers of whole networks."""

import dataclasses

import pytest
from hypothesis import given

from search_spaces.architecture import Architecture
from search_spaces.block_table import BlockTable, BlockValues
from search_spaces.choice_codes import ChoiceCodes
from search_spaces.cost import ADDITIVE, METRICS
from search_spaces.errors import InputError
from search_spaces.layer import LayerSpec
from search_spaces.lowering import Block
from search_spaces.space import SearchSpace
from search_spaces.stage_table import StageTable
from tests.search_spaces.strategies import spaces_and_architectures


def without_inputs(layer: LayerSpec) -> LayerSpec:
    """A layer whatever the name of the one before it, which the depth of another stage decides."""
    return dataclasses.replace(layer, inputs=())


@given(spaces_and_architectures())
def test_the_blocks_of_networks_and_their_sums_are_those_of_the_layers(pair: tuple[SearchSpace, Architecture]) -> None:
    space, architecture = pair
    networks = [space.smallest(), architecture, *space.neighbours(architecture)[:30], space.largest()]
    values = BlockValues(space.blocks, lambda block, _: [METRICS[name](block, "fp32") for name in ADDITIVE])
    first = values.sums(space.codes.of(networks[:2]))  # the others' blocks come later
    sums = values.sums(space.codes.of(networks))
    assert first.tolist() == sums[:2].tolist()
    for network, row, own in zip(networks, space.blocks.rows(space.codes.of(networks)), sums, strict=True):
        layers = space.layers(network)
        assert own.tolist() == [METRICS[name](layers, "fp32") for name in ADDITIVE]
        blocks = [space.blocks.blocks[place] for place in row if place >= 0]
        assert {size for _, size in blocks} == {layers[0].in_size}
        assert [without_inputs(one) for block, _ in blocks for one in block] == list(map(without_inputs, layers))


def test_a_block_is_worked_out_once_for_all_networks() -> None:
    stage = {"channels": 8, "depth": [1, 2], "stride": 1, "kernel": [3, 5], "expansion": 2, "activation": "relu"}
    table = {"name": "small", "resolution": [8, 16], "image_channels": 3, "classes": 4, "channel_divisor": 2,
             "stem": {"channels": 4}, "stages": [stage], "head": {}}  # fmt: skip
    space = SearchSpace(StageTable.model_validate(table))
    asked = []

    def function(block: Block, size: int) -> list[int]:
        asked.append(size)
        return [len(block)]

    values = BlockValues(space.blocks, function)
    for network in space.all():
        values.sums(space.codes.of([network]))
    # At each resolution stem, head, and either kernel at either of two places.
    assert sorted(asked) == [8] * 6 + [16] * 6


def test_a_block_of_too_many_choices_is_refused_in_one_sentence() -> None:
    codes = ChoiceCodes({dimension: range(1 << 14) for dimension in "abcd"})
    with pytest.raises(InputError, match="allow a block in more than 2"):
        BlockTable(codes, [["abcd"]], lambda values: [])

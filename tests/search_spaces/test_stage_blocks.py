from importlib.metadata import EntryPoint

import numpy as np
import pytest

from search_spaces import stage_blocks
from search_spaces.architecture import Architecture
from search_spaces.cost import network_cost
from search_spaces.errors import InputError
from search_spaces.layer import LayerSpec
from search_spaces.layer_chain import LayerChain
from search_spaces.published import published_in
from search_spaces.space import SearchSpace, load_space
from search_spaces.stage_blocks import BlockChoices, StageBlock, get_block, list_blocks, register_block
from search_spaces.stage_table import StageTable
from search_spaces.typed_yaml import parse


def space_of(*stages: dict[str, object], **table: object) -> SearchSpace:
    data = {"name": "one", "resolution": 16, "stem": {"channels": 16, "stride": 1}, "stages": list(stages), **table}
    return SearchSpace(parse(StageTable, data, "space.yaml"))


def universal(kind: str, *, stride: int = 1) -> dict[str, LayerSpec]:
    stage = {"op": "universal_bottleneck", "type": kind, "expansion": 2, "channels": 16, "stride": stride}
    space = space_of(stage)
    layers = space.layers(space.smallest())
    return {layer.name.removeprefix("stage1_block1_"): layer for layer in layers if layer.name.startswith("stage")}


@pytest.mark.parametrize(
    ("kind", "names", "strided"),
    [
        ("s3_m5", ["start", "expand", "depthwise", "project", "add"], "depthwise"),
        ("s0_m3", ["expand", "depthwise", "project", "add"], "depthwise"),
        ("s5_m0", ["start", "expand", "project", "add"], "start"),
        ("s0_m0", ["expand", "project", "add"], "expand"),
    ],
)
def test_a_universal_bottleneck_has_the_layers_of_its_type(kind: str, names: list[str], strided: str) -> None:
    layers = universal(kind)
    assert list(layers) == names
    assert layers["expand"].out_channels == 32
    if "start" in layers:
        assert (layers["start"].kernel, layers["start"].groups, layers["start"].activation) == (
            int(kind[1]),
            16,
            "none",
        )
    down = universal(kind, stride=2)
    assert [name for name, layer in down.items() if layer.stride == 2] == [strided]
    assert down["project"].out_size == 8


def test_mobilenet_v4_conv_small_has_the_published_counts() -> None:
    def conv(channels: int, kernel: int, stride: int) -> dict[str, object]:
        return {"op": "conv", "channels": channels, "kernel": kernel, "stride": stride, "residual": False}

    def bottleneck(kind: str, expansion: int, channels: int, depth: int = 1, stride: int = 1) -> dict[str, object]:
        shape = {"channels": channels, "depth": depth, "stride": stride}
        return {"op": "universal_bottleneck", "type": kind, "expansion": expansion, **shape}

    # Table 11 of arXiv:2404.10518.
    space = space_of(
        conv(32, 3, 2), conv(32, 1, 1), conv(96, 3, 2), conv(64, 1, 1),
        bottleneck("s5_m5", 3, 96, stride=2), bottleneck("s0_m3", 2, 96, depth=4), bottleneck("s3_m0", 4, 96),
        bottleneck("s3_m3", 6, 128, stride=2), bottleneck("s5_m5", 4, 128), bottleneck("s0_m5", 4, 128),
        bottleneck("s0_m5", 3, 128), bottleneck("s0_m3", 4, 128, depth=2),
        resolution=224, stem={"channels": 32}, head={"conv": 960, "hidden": 1280},
    )  # fmt: skip
    cost = network_cost(space.layers(space.smallest()))
    # timm's table: 3.77 M parameters, 0.19 G MACs.
    assert cost.parameters == pytest.approx(3.77e6, abs=0.005e6)
    assert cost.macs == pytest.approx(0.19e9, abs=0.005e9)


def test_a_choice_of_op_takes_with_it_the_choices_that_only_the_other_op_reads() -> None:
    space = load_space("efficientnet_mixed")
    for architecture in (space.sample(np.random.default_rng(seed)) for seed in range(20)):
        for stage in (4, 5, 6, 7):
            kernel = architecture.get(f"stage{stage}.kernel", 0)
            kind = architecture.get(f"stage{stage}.type", "")
            universal = architecture[f"stage{stage}.op"] == "universal_bottleneck"
            assert (bool(kind), bool(kernel)) == (universal, not universal)
        assert Architecture.from_text(architecture.text) == architecture


def test_efficientnet_lite0_is_found_in_a_space_whose_layers_are_named_after_their_op() -> None:
    space = load_space("efficientnet_mixed")
    assert len(published_in(space)) == 1
    assert f"{space.size:.1e}" == "4.7e+15"


def test_ops_whose_types_differ_cannot_share_a_stage() -> None:
    with pytest.raises(InputError, match=r"stages.0.type: a type of 'typed_bottleneck' must be 'skip'"):
        space_of({"op": ["typed_bottleneck", "universal_bottleneck"], "type": ["skip", "s0_m3"], "channels": 16})


def test_an_unknown_op_gets_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"op must be one of conv, .*; did you mean 'fused_bottleneck'\?"):
        space_of({"op": "fused_botleneck", "channels": 16})


def test_a_type_that_is_left_out_must_suit_the_op() -> None:
    with pytest.raises(InputError, match=r"stages.0: a type of 'universal_bottleneck' must be .*got 'k3_e6'"):
        space_of({"op": "universal_bottleneck", "channels": 16})
    assert space_of({"op": "typed_bottleneck", "channels": 16}).size == 1


def test_a_block_whose_package_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    left = EntryPoint("gone", "hwnas_gone.blocks:Gone", stage_blocks.ENTRY_POINTS)
    monkeypatch.setattr(stage_blocks, "entry_points", lambda **_: (left,))
    with pytest.raises(InputError, match=r"'gone' .* cannot be imported \(No module .*reinstall"):
        space_of({"op": "gone", "channels": 16})


class Broken(StageBlock):
    op = "broken"
    reads = ("kernel",)

    def add_layers(self, chain: LayerChain, chosen: BlockChoices) -> None:
        chain.conv("conv", chosen.channels + 1)


class Regrouped(StageBlock):
    op = "regrouped"
    reads = ("kernel",)

    def add_layers(self, chain: LayerChain, chosen: BlockChoices) -> None:
        chain.conv("conv", chosen.channels, groups=1 if chosen.kernel == 1 else 2, stride=chosen.stride)


class Refusing(StageBlock):
    op = "refusing"
    reads = ("kernel",)

    def add_layers(self, chain: LayerChain, chosen: BlockChoices) -> None:
        raise ValueError(f"kernel {chosen.kernel} is too small")


@pytest.fixture
def own_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_blocks, "_BLOCKS", {**stage_blocks._BLOCKS})
    for block in (Broken, Regrouped, Refusing):
        register_block(block)


@pytest.mark.usefixtures("own_blocks")
def test_a_block_that_makes_another_shape_than_it_must_is_named() -> None:
    space = space_of({"op": "broken", "channels": 16})
    with pytest.raises(InputError, match=r"must make \(16, 16\) .*makes \(17, 16\): mend add_layers of Broken"):
        space.layers(space.smallest())


@pytest.mark.usefixtures("own_blocks")
def test_a_block_that_cannot_be_made_is_named() -> None:
    space = space_of({"op": "refusing", "channels": 16})
    with pytest.raises(InputError, match=r"stage1_block1, a block of op 'refusing': kernel 3 is too small"):
        space.layers(space.smallest())


@pytest.mark.usefixtures("own_blocks")
def test_layers_that_cannot_share_weights_need_names_of_their_own() -> None:
    space = space_of({"op": "regrouped", "channels": 16, "kernel": [1, 3]})
    with pytest.raises(InputError, match=r"'stage1_block1_conv' cannot share weights .*give it another name"):
        space.shared_layers  # noqa: B018


def test_a_name_is_registered_once() -> None:
    class Other(Broken):
        op = "conv"

    with pytest.raises(ValueError, match="'conv' is registered already, by PlainConvolution"):
        register_block(Other)
    assert get_block("conv").__name__ == "PlainConvolution"
    assert "universal_bottleneck" in list_blocks()

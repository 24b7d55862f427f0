import numpy as np
import pytest
import yaml

from search_spaces.architecture import Architecture
from search_spaces.cost import layer_parameters
from search_spaces.errors import InputError
from search_spaces.layer import LayerSpec
from search_spaces.space import SearchSpace, load_space
from search_spaces.stage_blocks import TypedBottleneck
from search_spaces.stage_table import StageTable


def layers_of(kind: str, *, stride: int = 1, channels: int = 16) -> dict[str, LayerSpec]:
    table = StageTable.model_validate(
        {
            "name": "one",
            "resolution": 16,
            "stem": {"channels": 16},
            "stages": [{"op": "typed_bottleneck", "type": kind, "channels": channels, "stride": stride}],
        }
    )
    space = SearchSpace(table)
    return {layer.name: layer for layer in space.layers(space.smallest()) if layer.name.startswith("stage")}


def test_a_grouped_type_halves_the_weights_of_both_pointwise_convolutions() -> None:
    plain, grouped = layers_of("k3_e1"), layers_of("k3_e1_g2")
    assert list(grouped) == [
        "stage1_block1_expand_g2", "stage1_block1_depthwise", "stage1_block1_project_g2", "stage1_block1_add",
    ]  # fmt: skip
    batch_norm = 2 * 16
    for part in ("expand", "project"):
        whole = layer_parameters(plain[f"stage1_block1_{part}"]) - batch_norm
        assert 2 * (layer_parameters(grouped[f"stage1_block1_{part}_g2"]) - batch_norm) == whole


def test_a_skip_is_nothing_where_the_shape_stays_and_one_convolution_where_it_changes() -> None:
    assert layers_of("skip") == {}
    for change in ({"stride": 2}, {"channels": 24}):
        assert [(layer.op, layer.kernel) for layer in layers_of("skip", **change).values()] == [("conv", 1)]


def test_the_type_of_a_block_survives_text_and_json() -> None:
    space = load_space("fbnet")
    architecture = space.sample(np.random.default_rng(0))
    assert Architecture.from_text(architecture.text) == architecture
    assert Architecture.from_json(architecture.to_json()) == architecture
    assert space.contains(architecture)


def test_fbnet_has_nine_types_at_22_positions() -> None:
    assert load_space("fbnet").size == 9**22


def test_the_shared_layers_of_fbnet_hold_every_layer_of_random_networks() -> None:
    space = load_space("fbnet")
    rng = np.random.default_rng(1)
    for _ in range(20):
        for layer in space.layers(space.sample(rng)):
            if layer.op in {"conv", "linear"}:
                shared = space.shared_layers[layer.name]
                assert shared.out_channels >= layer.out_channels
                assert shared.kernel >= layer.kernel


def test_a_block_type_says_kernel_expansion_and_groups() -> None:
    assert TypedBottleneck.parse("k5_e6") == (5, 6, 1)
    assert TypedBottleneck.parse("k3_e1_g2") == (3, 1, 2)
    assert TypedBottleneck.parse("skip") is None


@pytest.mark.parametrize("kind", ["k3", "k4_e1", "K3_e1", "k3_e1_g0", "nothing"])
def test_an_unknown_block_type_in_a_space_file_is_refused(kind: str, tmp_path) -> None:
    path = tmp_path / "space.yaml"
    stages = [{"op": "typed_bottleneck", "type": ["skip", kind], "channels": 16}]
    path.write_text(yaml.safe_dump({"name": "one", "resolution": 16, "stem": {"channels": 16}, "stages": stages}))
    with pytest.raises(InputError, match=r"stages.*type"):
        load_space(str(path))

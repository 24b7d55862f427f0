"""Random small spaces and architectures for the property tests."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from search_spaces.architecture import Architecture
from search_spaces.space import SearchSpace, list_spaces, load_space
from search_spaces.stage_blocks import get_block
from search_spaces.stage_table import StageTable

SHIPPED = [load_space(name) for name in list_spaces()]


def some(values: list[Any], most: int = 2) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


@st.composite
def stages(draw: st.DrawFn) -> dict[str, object]:
    kinds = ["inverted_bottleneck", "fused_bottleneck", "conv", "typed_bottleneck", "universal_bottleneck"]
    ops = draw(some(kinds).filter(lambda ops: not {"typed_bottleneck", "universal_bottleneck"} <= {*ops}))
    stage: dict[str, object] = {
        "op": ops,
        "depth": draw(some([1, 2, 3])),
        "channels": draw(some([4, 6, 8])),
        "stride": draw(st.sampled_from([1, 2])),
        "activation": draw(some(["relu", "hard_swish", "silu", "relu6"])),
        "share": draw(st.sampled_from(["block", "stage"])),
        "residual": draw(st.booleans()),
    }
    read = {word for op in ops for word in get_block(op).reads}
    if "typed_bottleneck" in ops:
        stage["type"] = draw(some(["skip", "k3_e1", "k3_e1_g2", "k5_e3"], most=3))
    elif "type" in read:
        stage["type"] = draw(some(["s0_m0", "s3_m0", "s0_m5", "s3_m3"], most=3))
    if "kernel" in read:
        stage["kernel"] = draw(some([1, 3, 5]))
    if "expansion" in read:
        stage["expansion"] = draw(some([1, 1.5, 2]))
    if "squeeze_excite" in read:
        stage["squeeze_excite"] = draw(some([False, True]))
        stage["squeeze_of"] = draw(st.sampled_from(["hidden", "input"]))
    return stage


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """Every feature of a stage table, at sizes that a test can build."""
    return SearchSpace(
        StageTable.model_validate(
            {
                "name": "drawn",
                "resolution": draw(some([4, 6, 9])),
                "image_channels": draw(st.sampled_from([1, 3])),
                "classes": 3,
                "width": draw(some([0.5, 1.0, 1.5])),
                "channel_divisor": 2,
                "stem": {"channels": draw(some([4, 6]))},
                "stages": draw(st.lists(stages(), min_size=1, max_size=2)),
                "head": {"conv": draw(st.sampled_from([0, 8])), "hidden": draw(st.sampled_from([0, 6]))},
            }
        )
    )


@st.composite
def spaces_and_architectures(draw: st.DrawFn, *, shipped: bool = True) -> tuple[SearchSpace, Architecture]:
    space = draw(st.one_of(spaces(), st.sampled_from(SHIPPED)) if shipped else spaces())
    return space, space.sample(np.random.default_rng(draw(st.integers(0, 2**32))))

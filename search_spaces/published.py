"""Published networks as stage tables with a single choice, with the counts that their authors report.

They check our lowering and cost formulas against the world, and are the hand-designed baselines of experiments.
"""

import dataclasses
from dataclasses import dataclass
from functools import cache

from search_spaces.architecture import Architecture
from search_spaces.errors import InputError
from search_spaces.layer import IMAGE, Activation, LayerSpec
from search_spaces.space import SearchSpace, list_spaces, load_space
from search_spaces.stage_table import Head, Stage, StageTable, Stem


@dataclass(frozen=True)
class PublishedNetwork:
    """A network from the literature.

    Attributes:
        table: its stage table; every field has one choice.
        parameters: the published count, exact.
        macs: the published multiply-accumulates of one image, rounded as the source rounds.
        source: where the counts are from.
    """

    table: StageTable
    parameters: int
    macs: float
    source: str

    @property
    def name(self) -> str:
        """The network's name."""
        return self.table.name

    @property
    def layers(self) -> tuple[LayerSpec, ...]:
        """The network's layers, for its own image size and 1000 classes."""
        return SearchSpace(self.table).layers(SearchSpace(self.table).smallest())


def _row(
    kernel: int,
    expansion: float,
    channels: int,
    depth: int,
    stride: int,
    activation: Activation,
    *,
    squeeze: bool = False,
) -> Stage:
    return Stage(
        kernel=(kernel,), expansion=(expansion,), channels=(channels,), depth=(depth,), stride=stride,
        activation=(activation,), squeeze_excite=(squeeze,),
    )  # fmt: skip


def _table(name: str, stem: int, stages: list[Stage], head: int, activation: Activation, hidden: int = 0) -> StageTable:
    return StageTable(
        name=name,
        resolution=(224,),
        stem=Stem(channels=(stem,), activation=activation),
        stages=tuple(stages),
        head=Head(conv=head, hidden=hidden, activation=activation),
    )


def _mobilenet_v2() -> StageTable:
    """Table 2 of arXiv:1801.04381."""
    rows = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    return _table("mobilenet_v2", 32, [_row(3, e, c, n, s, "relu6") for e, c, n, s in rows], 1280, "relu6")


def _mnasnet(name: str, width: float) -> StageTable:
    """MnasNet-B1 of arXiv:1807.11626, without squeeze-excite, as torchvision builds it."""
    rows = [
        (3, 1, 16, 1, 1),
        (3, 3, 24, 3, 2),
        (5, 3, 40, 3, 2),
        (5, 6, 80, 3, 2),
        (3, 6, 96, 2, 1),
        (5, 6, 192, 4, 2),
        (3, 6, 320, 1, 1),
    ]
    table = _table(name, 32, [_row(*row, "relu") for row in rows], 1280, "relu")
    return table.model_copy(update={"width": (width,)})


def _mobilenet_v3_large() -> StageTable:
    """Table 1 of arXiv:1905.02244."""
    stages = [
        _row(3, 1, 16, 1, 1, "relu"),
        _row(3, 4, 24, 1, 2, "relu"),
        _row(3, 3, 24, 1, 1, "relu"),
        _row(5, 3, 40, 3, 2, "relu", squeeze=True),
        _row(3, 6, 80, 1, 2, "hard_swish"),
        _row(3, 2.5, 80, 1, 1, "hard_swish"),
        _row(3, 2.3, 80, 2, 1, "hard_swish"),
        _row(3, 6, 112, 2, 1, "hard_swish", squeeze=True),
        _row(5, 6, 160, 3, 2, "hard_swish", squeeze=True),
    ]
    return _table("mobilenet_v3_large", 16, stages, 960, "hard_swish", hidden=1280)


def _mobilenet_v3_small() -> StageTable:
    """Table 2 of arXiv:1905.02244."""
    stages = [
        _row(3, 1, 16, 1, 2, "relu", squeeze=True),
        _row(3, 4.5, 24, 1, 2, "relu"),
        _row(3, 88 / 24, 24, 1, 1, "relu"),
        _row(5, 4, 40, 1, 2, "hard_swish", squeeze=True),
        _row(5, 6, 40, 2, 1, "hard_swish", squeeze=True),
        _row(5, 3, 48, 2, 1, "hard_swish", squeeze=True),
        _row(5, 6, 96, 3, 2, "hard_swish", squeeze=True),
    ]
    return _table("mobilenet_v3_small", 16, stages, 576, "hard_swish", hidden=1024)


def _efficientnet(name: str, activation: Activation, *, squeeze: bool) -> StageTable:
    """Table 1 of arXiv:1905.11946; squeezed channels are a quarter of the block's input."""
    rows = [
        (3, 1, 16, 1, 1),
        (3, 6, 24, 2, 2),
        (5, 6, 40, 2, 2),
        (3, 6, 80, 3, 2),
        (5, 6, 112, 3, 1),
        (5, 6, 192, 4, 2),
        (3, 6, 320, 1, 1),
    ]
    update = {"squeeze_of": "input", "squeeze_divisor": 1, "gate": "sigmoid"}
    stages = [_row(*row, activation, squeeze=squeeze).model_copy(update=update) for row in rows]
    return _table(name, 32, stages, 1280, activation)


def _efficientnet_v2_s() -> StageTable:
    """Table 4 of arXiv:2104.00298, at the resolution of its evaluation."""
    fused = [(1, 24, 2, 1), (4, 48, 4, 2), (4, 64, 4, 2)]
    rows = [(4, 128, 6, 2), (6, 160, 9, 1), (6, 256, 15, 2)]
    early = [_row(3, *row, "silu").model_copy(update={"op": ("fused_bottleneck",)}) for row in fused]
    update = {"squeeze_of": "input", "squeeze_divisor": 1, "gate": "sigmoid"}
    late = [_row(3, *row, "silu", squeeze=True).model_copy(update=update) for row in rows]
    table = _table("efficientnet_v2_s", 24, early + late, 1280, "silu")
    return table.model_copy(update={"resolution": (384,)})


_OF_THE_DATA = ("image_channels", "classes", "head")
_TORCHVISION = "torchvision, metadata of the model's weights (num_params, _ops)"


@cache
def _networks() -> dict[str, PublishedNetwork]:
    networks = (
        PublishedNetwork(_mobilenet_v2(), 3_504_872, 301e6, _TORCHVISION),
        PublishedNetwork(_mobilenet_v3_large(), 5_483_032, 217e6, _TORCHVISION),
        PublishedNetwork(_mobilenet_v3_small(), 2_542_856, 57e6, _TORCHVISION),
        PublishedNetwork(_mnasnet("mnasnet_0_5", 0.5), 2_218_512, 104e6, _TORCHVISION),
        PublishedNetwork(_mnasnet("mnasnet_0_75", 0.75), 3_170_208, 215e6, _TORCHVISION),
        PublishedNetwork(_mnasnet("mnasnet_1_0", 1.0), 4_383_312, 314e6, _TORCHVISION),
        PublishedNetwork(_efficientnet_v2_s(), 21_458_488, 8366e6, _TORCHVISION),
        PublishedNetwork(_efficientnet("efficientnet_b0", "silu", squeeze=True), 5_288_548, 386e6, _TORCHVISION),
        PublishedNetwork(
            _efficientnet("efficientnet_lite0", "relu6", squeeze=False),
            4_652_008,
            385.4e6,
            "parameters: Keras preset efficientnet_lite0_ra_imagenet; MACs: EfficientNet-B0's in torchvision less its "
            "squeeze-excite products (the 407 M of the authors' table are 5.7 % more, with work that is no product of "
            "a convolution)",
        ),
    )
    return {network.name: network for network in networks}


def list_published() -> list[str]:
    """Returns the names of the published networks."""
    return sorted(_networks())


def published_in(space: SearchSpace) -> list[Architecture]:
    """Returns the published networks that are points of a space, layer by layer, by name.

    Head, classes and image are the space's own. Where the space lacks a network's resolution, the largest one below it
    counts, or else the smallest of all.
    """
    found = {}
    for name in list_published():
        table = published(name).table
        below = [side for side in space.table.resolution if side <= table.resolution[0]]
        resolution = max(below) if below else min(space.table.resolution)
        shared = {"resolution": (resolution,), **{key: getattr(space.table, key) for key in _OF_THE_DATA}}
        network = SearchSpace(table.model_copy(update=shared))
        values = {d.name: d.choices[0] for d in network.all_dimensions()}
        own = {}
        for dimension in space.dimensions:
            # A space may give all blocks of a stage one choice, where the network's table has one for each.
            stage, _, word = dimension.name.rpartition(".")
            own[dimension.name] = values.get(dimension.name, values.get(f"{stage}.block1.{word}", dimension.choices[0]))
        try:
            architecture = space.architecture(own)
        except InputError:
            continue
        if _unnamed(space.layers(architecture)) == _unnamed(network.layers(network.smallest())):
            found[architecture.key] = architecture
    return list(found.values())


@cache
def published_as_shipped(name: str) -> Architecture | None:
    """Returns the point of a shipped space that is a published network: every layer, head, classes and image the same.

    None where no shipped space has it.

    Raises:
        InputError: the name is unknown.
    """
    layers = _unnamed(published(name).layers)
    spaces = map(load_space, list_spaces())
    found = ((space, point) for space in spaces for point in published_in(space))
    return next((point for space, point in found if _unnamed(space.layers(point)) == layers), None)


def _unnamed(layers: tuple[LayerSpec, ...]) -> list[LayerSpec]:
    """Returns the layers named by their place: where a stage has several ops, names say which."""
    places = {layer.name: f"layer{place}" for place, layer in enumerate(layers)} | {IMAGE: IMAGE}
    return [
        dataclasses.replace(layer, name=places[layer.name], inputs=tuple(places[name] for name in layer.inputs))
        for layer in layers
    ]


def published(name: str) -> PublishedNetwork:
    """Returns a published network by name.

    Raises:
        InputError: the name is unknown.

    Example:
        >>> published("mobilenet_v2").parameters
        3504872
    """
    if name not in _networks():
        raise InputError(f"published network must be one of {', '.join(list_published())}, got {name!r}")
    return _networks()[name]

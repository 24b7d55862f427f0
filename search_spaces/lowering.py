"""From an architecture to its layers."""

from collections.abc import Hashable

from search_spaces.architecture import Architecture
from search_spaces.layer import IMAGE, Activation, LayerSpec, check_chain, conv_output_size
from search_spaces.stage_table import Stage, StageTable, block_type, make_divisible

Blocks = dict[tuple[Hashable, ...], tuple[LayerSpec, ...]]
"""Layers of blocks by all that decides them; networks of a space share most of their blocks."""


class _Builder:
    """Appends layers, each reading the one before it."""

    def __init__(self, channels: int, size: int) -> None:
        self.layers: list[LayerSpec] = []
        self.last, self.channels, self.size = IMAGE, channels, size

    def append(self, layer: LayerSpec) -> None:
        self.layers.append(layer)
        self.last, self.channels, self.size = layer.name, layer.out_channels, layer.out_size

    def conv(self, name: str, channels: int, kernel: int, stride: int, activation: Activation, groups: int = 1) -> None:
        out_size = conv_output_size(self.size, kernel, stride)
        self.append(
            LayerSpec(
                name, "conv", (self.last,), self.channels, channels, self.size, out_size,
                kernel=kernel, stride=stride, groups=groups, activation=activation, batch_norm=True,
            )
        )  # fmt: skip

    def squeeze_excite(self, name: str, squeeze_channels: int, gate: Activation) -> None:
        self.append(
            LayerSpec(
                name, "squeeze_excite", (self.last,), self.channels, self.channels, self.size, self.size,
                activation=gate, squeeze_channels=squeeze_channels,
            )
        )  # fmt: skip

    def add(self, name: str, other: str) -> None:
        self.append(LayerSpec(name, "add", (self.last, other), self.channels, self.channels, self.size, self.size))

    def global_pool(self, name: str) -> None:
        self.append(LayerSpec(name, "global_pool", (self.last,), self.channels, self.channels, self.size, 1))

    def linear(self, name: str, features: int, activation: Activation) -> None:
        self.append(LayerSpec(name, "linear", (self.last,), self.channels, features, 1, 1, activation=activation))


def build_layers(table: StageTable, architecture: Architecture, blocks: Blocks) -> tuple[LayerSpec, ...]:
    """Returns the layers of an architecture in execution order.

    Args:
        table: the space's stage table.
        architecture: a canonical architecture of that space.
        blocks: built before from this table; new ones are put in.
    """
    get = architecture.get
    width = float(get("width", table.width[0]))
    build = _Builder(table.image_channels, int(get("resolution", table.resolution[0])))
    stem = table.stem
    stem_channels = table.scaled(int(get("stem.channels", stem.channels[0])), width)
    build.conv("stem", stem_channels, stem.kernel, stem.stride, stem.activation)
    for number, stage in enumerate(table.stages, start=1):
        channels = table.scaled(int(get(f"stage{number}.channels", stage.channels[0])), width)
        for block in range(1, int(get(f"stage{number}.depth", stage.depth[0])) + 1):
            _block(build, table, stage, architecture, number, block, channels, blocks)
    head = table.head
    if head.conv:
        # As MobileNetV2 does, a width below 1 does not narrow the last convolution.
        build.conv("head_conv", table.scaled(head.conv, max(1.0, width)), 1, 1, head.activation)
    build.global_pool("pool")
    if head.hidden:
        build.linear("head_hidden", head.hidden, head.activation)
    build.linear("classifier", table.classes, "none")
    check_chain(build.layers)
    return tuple(build.layers)


def _block(
    build: _Builder,
    table: StageTable,
    stage: Stage,
    architecture: Architecture,
    number: int,
    block: int,
    channels: int,
    blocks: Blocks,
) -> None:
    get = architecture.get
    shared, own = f"stage{number}", f"stage{number}.block{block}" if stage.share == "block" else f"stage{number}"
    kernel = int(get(f"{own}.kernel", stage.kernel[0]))
    expansion = float(get(f"{own}.expansion", stage.expansion[0]))
    squeeze = bool(get(f"{shared}.squeeze_excite", stage.squeeze_excite[0]))
    activation: Activation = str(get(f"{shared}.activation", stage.activation[0]))  # type: ignore[assignment]
    type_name = str(get(f"{own}.type", stage.type[0])) if stage.op == "typed_bottleneck" else ""
    chosen = (kernel, expansion, squeeze, activation, type_name)
    key = (number, block, channels, *chosen, build.last, build.channels, build.size)
    if key in blocks:
        for layer in blocks[key]:
            build.append(layer)
        return
    before = len(build.layers)
    stride = stage.stride if block == 1 else 1
    name = f"stage{number}_block{block}"
    source, source_channels, source_size = build.last, build.channels, build.size
    hidden = make_divisible(source_channels * expansion, table.channel_divisor) if expansion != 1 else source_channels

    if stage.op == "typed_bottleneck":
        _typed_bottleneck(build, name, type_name, channels, stride, activation)
    elif stage.op == "conv":
        build.conv(f"{name}_conv", channels, kernel, stride, activation)
    elif stage.op == "fused_bottleneck":
        if expansion == 1:
            build.conv(f"{name}_fused", channels, kernel, stride, activation)
        else:
            build.conv(f"{name}_fused", hidden, kernel, stride, activation)
            build.conv(f"{name}_project", channels, 1, 1, "none")
    else:
        if expansion != 1:
            build.conv(f"{name}_expand", hidden, 1, 1, activation)
        build.conv(f"{name}_depthwise", hidden, kernel, stride, activation, groups=hidden)
        if squeeze:
            squeezed_from = hidden if stage.squeeze_of == "hidden" else source_channels
            divisor = stage.squeeze_divisor or table.channel_divisor
            squeezed = make_divisible(squeezed_from * stage.squeeze_ratio, divisor)
            build.squeeze_excite(f"{name}_squeeze_excite", squeezed, stage.gate)
        build.conv(f"{name}_project", channels, 1, 1, "none")
    unchanged = (source_channels, source_size) == (build.channels, build.size)
    if stage.residual and unchanged and build.last != source:
        build.add(f"{name}_add", source)
    blocks[key] = tuple(build.layers[before:])


def _typed_bottleneck(
    build: _Builder, name: str, type_name: str, channels: int, stride: int, activation: Activation
) -> None:
    chosen = block_type(type_name)
    if chosen is None:
        if channels != build.channels or stride != 1:
            build.conv(f"{name}_skip", channels, 1, stride, activation)
        return
    # Grouped layers have their own names, so that in a supernet they have their own weights.
    suffix = f"_g{chosen.groups}" if chosen.groups > 1 else ""
    hidden = build.channels * chosen.expansion
    build.conv(f"{name}_expand{suffix}", hidden, 1, 1, activation, chosen.groups)
    build.conv(f"{name}_depthwise", hidden, chosen.kernel, stride, activation, groups=hidden)
    build.conv(f"{name}_project{suffix}", channels, 1, 1, "none", chosen.groups)

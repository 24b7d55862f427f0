"""What a stage is made of: the registered kinds of blocks, each of which says its layers.

A block is a class; `lowering` calls it with what was chosen and adds the residual connection. Costs, torch modules,
ONNX and TFLite graphs and the supernet follow from the layers, so a new kind of block needs nothing else. One that
lives in another package is registered there and named in that package's entry points, so that every process finds it:

    [project.entry-points."hwnas.blocks"]
    my_block = "my_package.my_module:MyBlock"
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import ClassVar, Literal, NamedTuple, TypeVar

from search_spaces.layer import Activation
from search_spaces.layer_chain import LayerChain

Word = Literal["kernel", "expansion", "squeeze_excite", "type", "activation"]
"""What can be chosen for a block."""
ENTRY_POINTS = "hwnas.blocks"


def make_divisible(value: float, divisor: int) -> int:
    """Returns value rounded to a multiple of divisor, at least divisor and at least 90 % of value.

    The channel rounding of MobileNetV2 (Sandler et al., arXiv:1801.04381, reference implementation).
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


@dataclass(frozen=True)
class BlockChoices:
    """What was chosen for one block, and what its stage fixes; a block reads what it needs.

    Attributes:
        channels: that the block must end with.
        stride: that the block must have; 1 for all but the first of a stage.
        kernel: window side.
        expansion: hidden over input channels.
        squeeze_excite: whether channels are gated.
        type: a name that the kind of block understands.
        activation: of the stage.
        channel_divisor: hidden channels are rounded to a multiple of this.
        squeeze_ratio: squeezed channels over those that ``squeeze_of`` names.
        squeeze_of: which channels decide the squeezed ones.
        squeeze_divisor: squeezed channels are rounded to a multiple of this.
        gate: of squeeze-excite.
    """

    channels: int
    stride: int
    kernel: int
    expansion: float
    squeeze_excite: bool
    type: str
    activation: Activation
    channel_divisor: int
    squeeze_ratio: float
    squeeze_of: Literal["hidden", "input"]
    squeeze_divisor: int
    gate: Activation

    def hidden(self, in_channels: int) -> int:
        """Returns the hidden channels of a block that reads ``in_channels``."""
        return (
            make_divisible(in_channels * self.expansion, self.channel_divisor) if self.expansion != 1 else in_channels
        )

    def add_squeeze_excite(self, chain: LayerChain, in_channels: int) -> None:
        """Appends the gates of the hidden channels where they were chosen.

        Args:
            chain: at the hidden channels.
            in_channels: that the block reads.
        """
        if self.squeeze_excite:
            squeezed_from = chain.channels if self.squeeze_of == "hidden" else in_channels
            squeezed = make_divisible(squeezed_from * self.squeeze_ratio, self.squeeze_divisor)
            chain.squeeze_excite("squeeze_excite", squeezed, self.gate)


class StageBlock(ABC):
    """A kind of block.

    In a supernet the layers that a block names equally under different choices share their weights: the leading
    channels, the central part of the kernel. A layer whose ``groups`` a choice changes needs a name for each (but a
    depthwise one).

    Attributes:
        op: its name in a stage table.
        reads: the words that change its layers; a stage of it takes choices for these and refuses the others.
    """

    op: ClassVar[str]
    reads: ClassVar[tuple[Word, ...]]

    @classmethod
    def check_type(cls, name: str) -> None:
        """Checks a name that the stage table gives as ``type``.

        Raises:
            ValueError: the block does not understand it; the text says which names it does.
        """
        raise ValueError(f"blocks of op {cls.op!r} have no types, got {name!r}")

    @abstractmethod
    def add_layers(self, chain: LayerChain, chosen: BlockChoices) -> None:
        """Appends the block's layers, without the residual connection.

        Args:
            chain: at the block's input; it prefixes names. Must end at ``chosen.channels`` and at the input's size over
                ``chosen.stride``, rounded up.
            chosen: for this block.
        """


_BLOCKS: dict[str, type[StageBlock]] = {}
Kind = TypeVar("Kind", bound=type[StageBlock])


def register_block(block: Kind) -> Kind:
    """Makes a kind of block known by its ``op``; a class decorator.

    Raises:
        ValueError: the name is no lower-case identifier, or another class has it.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", block.op):
        raise ValueError(f"a block's op must be lower-case letters, digits and underscores, got {block.op!r}")
    known = _BLOCKS.setdefault(block.op, block)
    if (known.__module__, known.__qualname__) != (block.__module__, block.__qualname__):
        raise ValueError(f"block {block.op!r} is registered already, by {known.__qualname__}")
    return block


def list_blocks() -> list[str]:
    """Returns the names of all kinds of blocks, those of other packages included."""
    return sorted({*_BLOCKS, *(entry.name for entry in entry_points(group=ENTRY_POINTS))})


def get_block(op: str) -> type[StageBlock]:
    """Returns a kind of block by name.

    Raises:
        ValueError: nobody registered it, or its module cannot be imported.
    """
    if op not in _BLOCKS:
        for entry in entry_points(group=ENTRY_POINTS, name=op):
            try:
                block = entry.load()
            except Exception as error:  # whatever a foreign module raises
                raise ValueError(
                    f"block {op!r} ({entry.value}) cannot be imported ({error}); reinstall its package"
                ) from error
            register_block(block)
    if op not in _BLOCKS:
        close = get_close_matches(op, list_blocks(), 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"op must be one of {', '.join(list_blocks())}, got {op!r}{hint}")
    return _BLOCKS[op]


@register_block
class InvertedBottleneck(StageBlock):
    """1x1 expand, depthwise, 1x1 project: MBConv (MobileNetV2, arXiv:1801.04381)."""

    op = "inverted_bottleneck"
    reads = ("kernel", "expansion", "squeeze_excite", "activation")

    def add_layers(self, chain: LayerChain, chosen: BlockChoices) -> None:
        """Appends the layers; without expansion there is no expanding convolution."""
        in_channels = chain.channels
        if chosen.expansion != 1:
            chain.conv("expand", chosen.hidden(in_channels), activation=chosen.activation)
        chain.depthwise("depthwise", kernel=chosen.kernel, stride=chosen.stride, activation=chosen.activation)
        chosen.add_squeeze_excite(chain, in_channels)
        chain.conv("project", chosen.channels)


@register_block
class FusedBottleneck(StageBlock):
    """Full convolution, 1x1 project: Fused-MBConv (EfficientNetV2, arXiv:2104.00298)."""

    op = "fused_bottleneck"
    reads = ("kernel", "expansion", "squeeze_excite", "activation")

    def add_layers(self, chain: LayerChain, chosen: BlockChoices) -> None:
        """Appends the layers; without expansion the full convolution makes the output."""
        in_channels = chain.channels
        wide = chosen.channels if chosen.expansion == 1 else chosen.hidden(in_channels)
        chain.conv("fused", wide, kernel=chosen.kernel, stride=chosen.stride, activation=chosen.activation)
        chosen.add_squeeze_excite(chain, in_channels)
        if chosen.expansion != 1:
            chain.conv("project", chosen.channels)


@register_block
class PlainConvolution(StageBlock):
    """One full convolution."""

    op = "conv"
    reads = ("kernel", "activation")

    def add_layers(self, chain: LayerChain, chosen: BlockChoices) -> None:
        """Appends the convolution."""
        chain.conv("conv", chosen.channels, kernel=chosen.kernel, stride=chosen.stride, activation=chosen.activation)


class BottleneckType(NamedTuple):
    """A named inverted bottleneck.

    Attributes:
        kernel: window side of the depthwise convolution.
        expansion: hidden over input channels.
        groups: of both 1x1 convolutions.
    """

    kernel: int
    expansion: int
    groups: int


_BOTTLENECK_TYPE = re.compile(r"k(?P<kernel>\d?[13579])_e(?P<expansion>[1-9]\d?)(_g(?P<groups>[1-9]\d?))?")


@register_block
class TypedBottleneck(StageBlock):
    """What ``type`` says, chosen for each block (FBNet, arXiv:1812.03443).

    Types are ``k3_e6``, ``k5_e1_g2`` (kernel, expansion, groups of the 1x1 convolutions; the expanding one is there
    even at expansion 1) or ``skip`` (nothing; where the shape changes, one 1x1 convolution).
    """

    op = "typed_bottleneck"
    reads = ("type", "activation")

    @staticmethod
    def parse(name: str) -> BottleneckType | None:
        """Returns what a type stands for; None for ``skip``.

        Raises:
            ValueError: it is no type.
        """
        if name == "skip":
            return None
        match = _BOTTLENECK_TYPE.fullmatch(name)
        if not match:
            raise ValueError(
                "a type of 'typed_bottleneck' must be 'skip' or odd kernel, expansion and groups as in 'k5_e6', "
                f"'k3_e1_g2'; got {name!r}"
            )
        return BottleneckType(int(match["kernel"]), int(match["expansion"]), int(match["groups"] or 1))

    @classmethod
    def check_type(cls, name: str) -> None:
        """Checks that the name is ``skip`` or kernel, expansion and groups."""
        cls.parse(name)

    def add_layers(self, chain: LayerChain, chosen: BlockChoices) -> None:
        """Appends the layers of the type."""
        kind = self.parse(chosen.type)
        if kind is None:
            if chosen.channels != chain.channels or chosen.stride != 1:
                chain.conv("skip", chosen.channels, stride=chosen.stride, activation=chosen.activation)
            return
        suffix = f"_g{kind.groups}" if kind.groups > 1 else ""
        hidden = chain.channels * kind.expansion
        chain.conv(f"expand{suffix}", hidden, activation=chosen.activation, groups=kind.groups)
        chain.depthwise("depthwise", kernel=kind.kernel, stride=chosen.stride, activation=chosen.activation)
        chain.conv(f"project{suffix}", chosen.channels, groups=kind.groups)


_UNIVERSAL_TYPE = re.compile(r"s(?P<start>0|\d?[13579])_m(?P<middle>0|\d?[13579])")


@register_block
class UniversalBottleneck(StageBlock):
    """Inverted bottleneck with two optional depthwise convolutions (MobileNetV4, arXiv:2404.10518, section 3).

    Types are ``s3_m5``: window sides of the depthwise convolution before the expansion (start) and of the one after it
    (middle), 0 for none. ``s0_m3`` is the inverted bottleneck, ``s3_m0`` like ConvNext, ``s3_m3`` has the extra
    depthwise convolution, ``s0_m0`` is a feed-forward network, whose expanding convolution takes the stride.
    """

    op = "universal_bottleneck"
    reads = ("type", "expansion", "squeeze_excite", "activation")

    @staticmethod
    def parse(name: str) -> tuple[int, int]:
        """Returns the window sides (start, middle); 0 for none.

        Raises:
            ValueError: it is no type.
        """
        match = _UNIVERSAL_TYPE.fullmatch(name)
        if not match:
            raise ValueError(
                "a type of 'universal_bottleneck' must be start and middle kernel as in 's0_m3', 's5_m0', each odd "
                f"or 0 for none; got {name!r}"
            )
        return int(match["start"]), int(match["middle"])

    @classmethod
    def check_type(cls, name: str) -> None:
        """Checks that the name is start and middle kernel."""
        cls.parse(name)

    def add_layers(self, chain: LayerChain, chosen: BlockChoices) -> None:
        """Appends the layers of the type; the last depthwise convolution takes the stride."""
        start, middle = self.parse(chosen.type)
        in_channels, stride = chain.channels, chosen.stride
        if start:
            chain.depthwise("start", kernel=start, stride=1 if middle else stride)
        chain.conv(
            "expand", chosen.hidden(in_channels), stride=1 if start or middle else stride, activation=chosen.activation
        )
        if middle:
            chain.depthwise("depthwise", kernel=middle, stride=stride, activation=chosen.activation)
        chosen.add_squeeze_excite(chain, in_channels)
        chain.conv("project", chosen.channels)

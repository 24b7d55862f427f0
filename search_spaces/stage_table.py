"""The YAML stage table of a search space, as typed values.

Every field that reads ``Choices`` takes one value or a list: a list of more than one makes a dimension of the search.
"""

import re
from typing import Annotated, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from search_spaces.layer import Activation
from search_spaces.typed_yaml import FileModel

Value = TypeVar("Value")


def _as_choices(value: object) -> object:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _not_empty(values: tuple[Value, ...]) -> tuple[Value, ...]:
    # Not `Field(min_length=1)`, which also complains where every value is wrong.
    if not values:
        raise ValueError("there must be at least one value")
    return values


def _distinct(values: tuple[Value, ...]) -> tuple[Value, ...]:
    if len(set(values)) != len(values):
        raise ValueError("choices must differ from each other")
    return values


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError("a kernel size must be odd")
    return kernel


class BlockType(NamedTuple):
    """A named inverted bottleneck.

    Attributes:
        kernel: window side of the depthwise convolution.
        expansion: hidden over input channels.
        groups: of both 1x1 convolutions.
    """

    kernel: int
    expansion: int
    groups: int


_BLOCK_TYPE = re.compile(r"k(?P<kernel>[1-9]\d?)_e(?P<expansion>[1-9]\d?)(_g(?P<groups>[1-9]\d?))?")


def block_type(name: str) -> BlockType | None:
    """Returns the block that a name such as ``k5_e6`` or ``k3_e1_g2`` stands for; None for ``skip``, no block at all.

    Raises:
        ValueError: the name is neither.
    """
    if name == "skip":
        return None
    match = _BLOCK_TYPE.fullmatch(name)
    if not match:
        raise ValueError(
            f"a block type must be 'skip' or kernel, expansion and groups as in 'k5_e6', 'k3_e1_g2'; {name=}"
        )
    return BlockType(_odd(int(match["kernel"])), int(match["expansion"]), int(match["groups"] or 1))


def _known_type(name: str) -> str:
    block_type(name)
    return name


Positive = Annotated[int, Field(ge=1, strict=True)]
Channels = Annotated[int, Field(ge=1, le=8192, strict=True)]
Kernel = Annotated[int, Field(ge=1, le=11, strict=True), AfterValidator(_odd)]
Expansion = Annotated[int | float, Field(ge=1, le=16)]
Depth = Annotated[int, Field(ge=1, le=16, strict=True)]
Resolution = Annotated[int, Field(ge=4, le=1024, strict=True)]
Width = Annotated[float, Field(gt=0, le=8)]
Flag = Annotated[bool, Field(strict=True)]
TypeName = Annotated[str, AfterValidator(_known_type)]

Choices = Annotated[
    tuple[Value, ...], BeforeValidator(_as_choices), AfterValidator(_not_empty), AfterValidator(_distinct)
]  # fmt: skip


def make_divisible(value: float, divisor: int) -> int:
    """Returns value rounded to a multiple of divisor, at least divisor and at least 90 % of value.

    The channel rounding of MobileNetV2 (Sandler et al., arXiv:1801.04381, reference implementation).
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


class Stem(FileModel):
    """The first convolution.

    Attributes:
        channels: output channels.
        kernel: window side.
        stride: step.
        activation: after batch normalisation.
    """

    channels: Choices[Channels]
    kernel: Kernel = 3
    stride: Positive = 2
    activation: Activation = "relu"


_SQUEEZE = ("squeeze_excite", "squeeze_ratio", "squeeze_of", "squeeze_divisor", "gate")
_UNUSED: dict[object, tuple[str, ...]] = {
    "inverted_bottleneck": ("type",),
    "fused_bottleneck": ("type", *_SQUEEZE),
    "conv": ("type", "expansion", *_SQUEEZE),
    "typed_bottleneck": ("kernel", "expansion", *_SQUEEZE),
}
"""Keys of a stage that an op does not read: set, they would promise what does not happen."""


class Stage(FileModel):
    """A row of the table: blocks that share their output channels; the first block carries the stride.

    Attributes:
        op: ``inverted_bottleneck`` (1x1 expand, depthwise, 1x1 project; MobileNetV2, arXiv:1801.04381),
            ``fused_bottleneck`` (full convolution, 1x1 project; EfficientNetV2, arXiv:2104.00298), ``conv``
            (one full convolution) or ``typed_bottleneck`` (what ``type`` says, chosen for each block; FBNet,
            arXiv:1812.03443).
        type: for ``typed_bottleneck`` only, in the place of kernel and expansion: names such as ``k3_e6``,
            ``k5_e1_g2`` (kernel, expansion, groups of the 1x1 convolutions; the expanding one is there even at
            expansion 1) or ``skip`` (nothing; where the shape changes, one 1x1 convolution). Smallest first.
        depth: number of blocks.
        channels: output channels of every block.
        stride: step of the first block.
        kernel: window side, chosen for each block (``share: block``) or once (``share: stage``).
        expansion: hidden over input channels, chosen like ``kernel``; unused by ``conv``.
        squeeze_excite: chosen once a stage; ``inverted_bottleneck`` only.
        squeeze_ratio: squeezed channels over those that ``squeeze_of`` names.
        squeeze_of: ``hidden`` channels (MobileNetV3) or the block's ``input`` channels (EfficientNet, MnasNet).
        squeeze_divisor: squeezed channels are rounded to a multiple of this; by default the table's divisor.
        gate: the squeeze-excite gate.
        activation: chosen once a stage.
        share: whether kernel and expansion are chosen for each block or once for the stage.
        residual: whether blocks of equal input and output shape add their input.
    """

    op: Literal["inverted_bottleneck", "fused_bottleneck", "conv", "typed_bottleneck"] = "inverted_bottleneck"
    type: Choices[TypeName] = ("k3_e6",)
    depth: Choices[Depth] = (1,)
    channels: Choices[Channels]
    stride: Positive = 1
    kernel: Choices[Kernel] = (3,)
    expansion: Choices[Expansion] = (1,)
    squeeze_excite: Choices[Flag] = (False,)
    squeeze_ratio: Annotated[float, Field(gt=0, le=1)] = 0.25
    squeeze_of: Literal["hidden", "input"] = "hidden"
    squeeze_divisor: Positive | None = None
    gate: Literal["sigmoid", "hard_sigmoid"] = "hard_sigmoid"
    activation: Choices[Activation] = ("relu",)
    share: Literal["block", "stage"] = "block"
    residual: bool = True

    @field_validator(*{name for names in _UNUSED.values() for name in names})
    @classmethod
    def _used_by_op(cls, value: Value, info: ValidationInfo) -> Value:
        op = info.data.get("op")  # absent where it is itself wrong
        name = str(info.field_name)
        if name in _UNUSED.get(op, ()) and value != cls.model_fields[name].default:
            raise ValueError(f"a stage of op {op!r} does not use this key; remove it")
        return value


class Head(FileModel):
    """What follows the stages: 1x1 convolution, global pool, hidden linear layer, classifier.

    Attributes:
        conv: channels of the 1x1 convolution; 0 for none.
        hidden: features of the hidden linear layer; 0 for none.
        activation: of both.
    """

    conv: Annotated[int, Field(ge=0, le=8192)] = 0
    hidden: Annotated[int, Field(ge=0, le=8192)] = 0
    activation: Activation = "relu"


class StageTable(FileModel):
    """A whole search space file.

    Attributes:
        format: version of this file format.
        name: of the space; the first part of every architecture's key.
        description: one sentence for people.
        resolution: side of the input image in pixels.
        image_channels: 1 for grey, 3 for colour; an experiment's data set overrides it.
        classes: outputs of the classifier; an experiment's data set overrides it.
        width: multiplier of every channel count (but the classifier's).
        channel_divisor: scaled channel counts are rounded to a multiple of this.
        stem: first convolution.
        stages: rows of the table.
        head: what follows them.
    """

    format: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    description: str = ""
    resolution: Choices[Resolution]
    image_channels: Literal[1, 3] = 3
    classes: Annotated[int, Field(ge=2)] = 1000
    width: Choices[Width] = (1.0,)
    channel_divisor: Positive = 8
    stem: Stem
    stages: Annotated[tuple[Stage, ...], AfterValidator(_not_empty)]
    head: Head = Head()

    def scaled(self, channels: int, width: float) -> int:
        """Returns channels times width, rounded by `make_divisible`; unchanged where width is 1."""
        return channels if width == 1.0 else make_divisible(channels * width, self.channel_divisor)

"""The YAML stage table of a search space, as typed values.

Every field that reads ``Choices`` takes one value or a list: a list of more than one makes a dimension of the search.
"""

from typing import Annotated, Literal, TypeVar, get_args

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_serializer, field_validator

from search_spaces.layer import Activation
from search_spaces.stage_blocks import Word, get_block, make_divisible
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


def _known_op(name: str) -> str:
    get_block(name)
    return name


Positive = Annotated[int, Field(ge=1, strict=True)]
Channels = Annotated[int, Field(ge=1, le=8192, strict=True)]
Kernel = Annotated[int, Field(ge=1, le=11, strict=True), AfterValidator(_odd)]
Expansion = Annotated[int | float, Field(ge=1, le=16)]
Depth = Annotated[int, Field(ge=1, le=16, strict=True)]
Resolution = Annotated[int, Field(ge=4, le=1024, strict=True)]
Width = Annotated[float, Field(gt=0, le=8)]
Flag = Annotated[bool, Field(strict=True)]
Op = Annotated[str, AfterValidator(_known_op)]

Choices = Annotated[
    tuple[Value, ...], BeforeValidator(_as_choices), AfterValidator(_not_empty), AfterValidator(_distinct)
]  # fmt: skip


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


_WORDS: tuple[str, ...] = get_args(Word)
_SQUEEZE = ("squeeze_ratio", "squeeze_of", "squeeze_divisor", "gate")


class Stage(FileModel):
    """A row of the table: blocks that share their output channels; the first block carries the stride.

    Attributes:
        op: the kind of its blocks (`search_spaces.stage_blocks`), chosen once a stage; smallest first.
            ``inverted_bottleneck`` (MBConv), ``fused_bottleneck`` (Fused-MBConv), ``universal_bottleneck``
            (MobileNetV4), ``typed_bottleneck`` (FBNet), ``conv``, or one of your own.
        type: variant of the block by a name that the op understands, chosen like ``kernel``; smallest first.
        depth: number of blocks.
        channels: output channels of every block.
        stride: step of the first block.
        kernel: window side, chosen for each block (``share: block``) or once (``share: stage``).
        expansion: hidden over input channels, chosen like ``kernel``.
        squeeze_excite: chosen once a stage.
        squeeze_ratio: squeezed channels over those that ``squeeze_of`` names.
        squeeze_of: ``hidden`` channels (MobileNetV3) or the block's ``input`` channels (EfficientNet, MnasNet).
        squeeze_divisor: squeezed channels are rounded to a multiple of this; by default the table's divisor.
        gate: the squeeze-excite gate.
        activation: chosen once a stage.
        share: whether kernel, expansion and type are chosen for each block or once for the stage.
        residual: whether blocks of equal input and output shape add their input.
    """

    op: Choices[Op] = ("inverted_bottleneck",)
    type: Choices[str] = Field(default=("k3_e6",), validate_default=True)
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

    @field_validator(*_WORDS, *_SQUEEZE)
    @classmethod
    def _used_by_op(cls, value: Value, info: ValidationInfo) -> Value:
        ops: tuple[str, ...] = info.data.get("op", ())  # absent where it is itself wrong
        name = str(info.field_name)
        word = "squeeze_excite" if name in _SQUEEZE else name
        readers = [get_block(op) for op in ops if word in get_block(op).reads]
        if ops and not readers and value != cls.model_fields[name].default:
            raise ValueError(f"a stage of op {' or '.join(map(repr, ops))} does not use this key; remove it")
        if word == "type" and isinstance(value, tuple):
            for block in readers:
                for type_name in value:
                    block.check_type(type_name)
        return value

    @field_serializer("op")
    def _one_op_is_a_word(self, op: tuple[str, ...]) -> str | tuple[str, ...]:
        return op[0] if len(op) == 1 else op  # as it was when a stage had only one


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
        keyed_resolution: whether architectures name their resolution even where there is only one, so that those of
            several such tables have keys of their own.
        image_channels: 1 for grey, 3 for colour; an experiment's data set overrides it.
        classes: outputs of the classifier; an experiment's data set overrides it.
        width: multiplier of the channels of stem and stages, and above 1 of the last convolution; the rest of the head
            keeps its size.
        channel_divisor: scaled channel counts are rounded to a multiple of this.
        stem: first convolution.
        stages: rows of the table.
        head: what follows them.
    """

    format: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    description: str = ""
    resolution: Choices[Resolution]
    # Left out of files where it is not set: what they are compared by stays what it was.
    keyed_resolution: Flag = Field(default=False, exclude_if=lambda keyed: not keyed)
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

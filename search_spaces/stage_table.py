"""The YAML stage table of a search space, as typed values.

Every field that reads ``Choices`` takes one value or a list: a list of more than one makes a dimension of the search.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from search_spaces.layer import Activation
from search_spaces.typed_yaml import FileModel


def _as_choices(value: object) -> object:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _distinct(values: tuple[object, ...]) -> tuple[object, ...]:
    if len(set(values)) != len(values):
        raise ValueError("choices must differ from each other")
    return values


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError("a kernel size must be odd")
    return kernel


Positive = Annotated[int, Field(ge=1, strict=True)]
Channels = Annotated[int, Field(ge=1, le=8192, strict=True)]
Kernel = Annotated[int, Field(ge=1, le=11, strict=True)]
Expansion = Annotated[int | float, Field(ge=1, le=16)]
Choices = BeforeValidator(_as_choices)
NonEmpty = Field(min_length=1)

ChannelChoices = Annotated[tuple[Channels, ...], Choices, NonEmpty]
Flags = Annotated[tuple[Annotated[bool, Field(strict=True)], ...], Choices, NonEmpty]
Activations = Annotated[tuple[Activation, ...], Choices, NonEmpty]


def make_divisible(value: float, divisor: int) -> int:
    """Returns value rounded to a multiple of divisor, at least divisor and at least 90 % of value.

    The channel rounding of MobileNetV2 (Sandler et al., arXiv:1801.04381, reference implementation).
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


class _Table(FileModel):
    @model_validator(mode="after")
    def _check_choices(self) -> "_Table":
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, tuple):
                _distinct(value)
            if name == "kernel":
                for kernel in value if isinstance(value, tuple) else (value,):
                    _odd(kernel)
        return self


class Stem(_Table):
    """The first convolution.

    Attributes:
        channels: output channels.
        kernel: window side.
        stride: step.
        activation: after batch normalisation.
    """

    channels: ChannelChoices
    kernel: Kernel = 3
    stride: Positive = 2
    activation: Activation = "relu"


class Stage(_Table):
    """A row of the table: blocks that share their output channels; the first block carries the stride.

    Attributes:
        op: ``inverted_bottleneck`` (1x1 expand, depthwise, 1x1 project; MobileNetV2, arXiv:1801.04381),
            ``fused_bottleneck`` (full convolution, 1x1 project; EfficientNetV2, arXiv:2104.00298) or ``conv``
            (one full convolution).
        depth: number of blocks.
        channels: output channels of every block.
        stride: step of the first block.
        kernel: window side, chosen for each block (``share: block``) or once (``share: stage``).
        expansion: hidden over input channels, chosen like ``kernel``; unused by ``conv``.
        squeeze_excite: chosen once a stage.
        squeeze_ratio: squeezed over hidden channels.
        gate: the squeeze-excite gate.
        activation: chosen once a stage.
        share: whether kernel and expansion are chosen for each block or once for the stage.
        residual: whether blocks of equal input and output shape add their input.
    """

    op: Literal["inverted_bottleneck", "fused_bottleneck", "conv"] = "inverted_bottleneck"
    depth: Annotated[tuple[Annotated[int, Field(ge=1, le=16, strict=True)], ...], Choices, NonEmpty] = (1,)
    channels: ChannelChoices
    stride: Positive = 1
    kernel: Annotated[tuple[Kernel, ...], Choices, NonEmpty] = (3,)
    expansion: Annotated[tuple[Expansion, ...], Choices, NonEmpty] = (1,)
    squeeze_excite: Flags = (False,)
    squeeze_ratio: Annotated[float, Field(gt=0, le=1)] = 0.25
    gate: Literal["sigmoid", "hard_sigmoid"] = "hard_sigmoid"
    activation: Activations = ("relu",)
    share: Literal["block", "stage"] = "block"
    residual: bool = True


class Head(_Table):
    """What follows the stages: 1x1 convolution, global pool, hidden linear layer, classifier.

    Attributes:
        conv: channels of the 1x1 convolution; 0 for none.
        hidden: features of the hidden linear layer; 0 for none.
        activation: of both.
    """

    conv: Annotated[int, Field(ge=0, le=8192)] = 0
    hidden: Annotated[int, Field(ge=0, le=8192)] = 0
    activation: Activation = "relu"


class StageTable(_Table):
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
    resolution: Annotated[tuple[Annotated[int, Field(ge=4, le=1024, strict=True)], ...], Choices, NonEmpty]
    image_channels: Literal[1, 3] = 3
    classes: Annotated[int, Field(ge=2)] = 1000
    width: Annotated[tuple[Annotated[float, Field(gt=0, le=8)], ...], Choices, NonEmpty] = (1.0,)
    channel_divisor: Positive = 8
    stem: Stem
    stages: Annotated[tuple[Stage, ...], NonEmpty]
    head: Head = Head()

    def scaled(self, channels: int, width: float) -> int:
        """Returns channels times width, rounded by `make_divisible`; unchanged where width is 1."""
        return channels if width == 1.0 else make_divisible(channels * width, self.channel_divisor)

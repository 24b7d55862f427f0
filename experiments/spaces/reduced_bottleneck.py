"""A kind of block of one's own: the bottleneck of ResNet (He et al., arXiv:1512.03385, figure 5)."""

import re
from typing import ClassVar

from search_spaces.layer_chain import LayerChain
from search_spaces.stage_blocks import BlockChoices, StageBlock, Word, make_divisible, register_block


@register_block
class ReducedBottleneck(StageBlock):
    """1x1 reduce, full convolution, 1x1 restore; types ``r2``, ``r4``: output over hidden channels."""

    op = "reduced_bottleneck"
    reads: ClassVar[tuple[Word, ...]] = ("kernel", "type", "activation")

    @classmethod
    def check_type(cls, name: str) -> None:
        """Checks a name that a space file gives as ``type``."""
        if not re.fullmatch("r[1-9]", name):
            raise ValueError(f"a type of 'reduced_bottleneck' must be r1 to r9, the reduction; got {name!r}")

    def add_layers(self, chain: LayerChain, chosen: BlockChoices) -> None:
        """Appends the layers; the residual connection is the stage's affair."""
        hidden = make_divisible(chosen.channels / int(chosen.type[1:]), chosen.channel_divisor)
        chain.conv("reduce", hidden, activation=chosen.activation)
        chain.conv("window", hidden, kernel=chosen.kernel, stride=chosen.stride, activation=chosen.activation)
        chain.conv("restore", chosen.channels)

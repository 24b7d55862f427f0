"""From an architecture to its layers."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, product
from typing import Any

from search_spaces.architecture import Architecture, Choice
from search_spaces.errors import InputError
from search_spaces.layer import IMAGE, LayerSpec, check_chain, conv_output_size
from search_spaces.layer_chain import LayerChain
from search_spaces.stage_blocks import BlockChoices, get_block
from search_spaces.stage_table import Stage, StageTable
from search_spaces.weights import weight_shapes

Block = tuple[LayerSpec, ...]
_End = tuple[str, int, int]
"""What the next layer reads: the name, the channels and the side in pixels of a feature map."""
_Get = Callable[[str, Choice | None], Any]  # a dictionary's get

_OF_A_BLOCK = ("kernel", "expansion", "type")
_OF_A_STAGE = ("squeeze_excite", "activation")
_WORDS = ("op", *_OF_A_BLOCK, *_OF_A_STAGE)
_MOST_STAGES = 1 << 16
"""Kept: of a stage that shares nothing there are thousands in each resolution."""


class Lowering:
    """Makes the layers of architectures of a space; what they share, most of their stages and blocks, is made once.

    Args:
        table: the space's stage table.
    """

    def __init__(self, table: StageTable) -> None:
        self._table = table
        self._stages: dict[tuple[object, ...], tuple[tuple[Block, ...], _End]] = {}  # by all that decides a stage
        self._blocks: dict[tuple[object, ...], tuple[Block, _End]] = {}  # by all that decides a block
        # Of each block of each stage: the dimensions that decide it, with the choice where there is no dimension.
        self._words: list[list[list[tuple[str, Choice]]]] = [
            [
                [(f"{_owner(stage, number, block, word)}.{word}", getattr(stage, word)[0]) for word in _WORDS]
                for block in range(1, max(stage.depth) + 1)
            ]
            for number, stage in enumerate(table.stages, start=1)
        ]
        # Of stem, stages and head: all dimensions of their blocks, and how many blocks there are.
        self._names = [
            tuple(dict.fromkeys((f"stage{number}.depth", *chain.from_iterable(blocks))))
            for number, blocks in enumerate(block_dimensions(table))
        ]

    def stages(self, architecture: Architecture) -> tuple[tuple[Block, ...], ...]:
        """Returns the layers in execution order, by stage and block; the stem is the first stage, the head the last.

        Equal stages and equal blocks are one object, for as long as this one keeps them.

        Args:
            architecture: a canonical architecture of the space.

        Raises:
            InputError: a block's class makes another shape than it must.
        """
        get, table, known = dict(architecture.values).get, self._table, len(self._blocks)
        width = float(get("width", table.width[0]))
        end: _End = IMAGE, table.image_channels, int(get("resolution", table.resolution[0]))
        found: list[tuple[Block, ...]] = []
        for number, names in enumerate(self._names):
            key = (number, end, *map(get, names))
            if key not in self._stages:
                if len(self._stages) >= _MOST_STAGES:
                    self._stages.clear()
                blocks = self._stage(number, width, get, end)
                self._stages[key] = blocks, _after(end, blocks)
            blocks, end = self._stages[key]
            found.append(blocks)
        if len(self._blocks) > known:
            check_chain(list(chain.from_iterable(chain.from_iterable(found))))
        return tuple(found)

    def _stage(self, number: int, width: float, get: _Get, end: _End) -> tuple[Block, ...]:
        """Returns the blocks of a stage: 0 is the stem, and one more than there are stages the head."""
        table = self._table
        if number == 0:
            channels = int(get("stem.channels", table.stem.channels[0]))
            return (_layers(end, lambda own: _stem(own, table, channels, width)),)
        if number > len(table.stages):
            return (_layers(end, lambda own: _head(own, table, width)),)
        stage = table.stages[number - 1]
        channels = table.scaled(int(get(f"stage{number}.channels", stage.channels[0])), width)
        depth = int(get(f"stage{number}.depth", stage.depth[0]))
        found: list[Block] = []
        for block, names in enumerate(self._words[number - 1][:depth], start=1):
            values = tuple([get(name, default) for name, default in names])
            key = (number, block, channels, values, end)
            if key not in self._blocks:
                made = self._block(number, block, channels, values, end)
                self._blocks[key] = made, _after(end, (made,))
            made, end = self._blocks[key]
            found.append(made)
        return tuple(found)

    def _block(self, number: int, block: int, channels: int, values: tuple[Choice, ...], end: _End) -> Block:
        stage = self._table.stages[number - 1]
        words = dict(zip((*_OF_A_BLOCK, *_OF_A_STAGE), values[1:], strict=True))
        chosen = _choices(self._table, stage, block, channels, words)
        return _block(stage, str(values[0]), chosen, number, block, LayerChain(end[1], end[2], last=end[0]))


def block_dimensions(table: StageTable) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """Returns the names of the dimensions that decide each block's layers, by stage and block; stem first, head last.

    Dimensions of a single choice are among them.
    """
    everywhere = ("resolution", "width")
    before = "stem.channels"
    found: list[tuple[tuple[str, ...], ...]] = [((*everywhere, before),)]
    for number, stage in enumerate(table.stages, start=1):
        channels = f"stage{number}.channels"
        entering = [(before,), *[()] * (max(stage.depth) - 1)]
        found.append(
            tuple(
                (*everywhere, *reads, channels, *(f"{_owner(stage, number, block, word)}.{word}" for word in _WORDS))
                for block, reads in enumerate(entering, start=1)
            )
        )
        before = channels
    return (*found, ((*everywhere, before),))


def _after(end: _End, blocks: Sequence[Block]) -> _End:
    """Returns what is read after further blocks; one may have no layer at all."""
    for layer in chain.from_iterable(blocks):
        end = layer.name, layer.out_channels, layer.out_size
    return end


def _owner(stage: Stage, number: int, block: int, word: str) -> str:
    """Returns whose dimension decides a word of a block."""
    return f"stage{number}.block{block}" if stage.share == "block" and word in _OF_A_BLOCK else f"stage{number}"


def _layers(end: _End, add: Callable[[LayerChain], None]) -> Block:
    own = LayerChain(end[1], end[2], last=end[0])
    add(own)
    return tuple(own.layers)


def _stem(chain: LayerChain, table: StageTable, channels: int, width: float) -> None:
    stem = table.stem
    chain.conv(
        "stem", table.scaled(channels, width), kernel=stem.kernel, stride=stem.stride, activation=stem.activation
    )


def _head(chain: LayerChain, table: StageTable, width: float) -> None:
    head = table.head
    if head.conv:
        # As MobileNetV2 does, a width below 1 does not narrow the last convolution.
        chain.conv("head_conv", table.scaled(head.conv, max(1.0, width)), activation=head.activation)
    chain.global_pool("pool")
    if head.hidden:
        chain.linear("head_hidden", head.hidden, head.activation)
    chain.linear("classifier", table.classes)


def _choices(table: StageTable, stage: Stage, block: int, channels: int, words: dict[str, Choice]) -> BlockChoices:
    return BlockChoices(
        channels=channels,
        stride=stage.stride if block == 1 else 1,
        kernel=int(words["kernel"]),
        expansion=float(words["expansion"]),
        squeeze_excite=bool(words["squeeze_excite"]),
        type=str(words["type"]),
        activation=str(words["activation"]),  # type: ignore[arg-type]  # the stage table has checked it
        channel_divisor=table.channel_divisor,
        squeeze_ratio=stage.squeeze_ratio,
        squeeze_of=stage.squeeze_of,
        squeeze_divisor=stage.squeeze_divisor or table.channel_divisor,
        gate=stage.gate,
    )


def _block(
    stage: Stage, op: str, chosen: BlockChoices, number: int, block: int, before: LayerChain
) -> tuple[LayerSpec, ...]:
    name = f"stage{number}_block{block}"
    if len(stage.op) > 1:
        name += f"_{op}"  # in a supernet, kinds of blocks do not share weights
    chain = LayerChain(before.channels, before.size, last=before.last, prefix=f"{name}_")
    try:
        get_block(op)().add_layers(chain, chosen)
    except ValueError as error:
        raise InputError(f"{name}, a block of op {op!r}: {error}") from error
    expected = chosen.channels, conv_output_size(before.size, 1, chosen.stride)
    if (chain.channels, chain.size) != expected:
        raise InputError(
            f"a block of op {op!r} must make {expected} (channels, pixels) here, it makes "
            f"{(chain.channels, chain.size)}: mend add_layers of {get_block(op).__qualname__}"
        )
    if stage.residual and chain.layers and (before.channels, before.size) == expected:
        chain.add("add", before.last)
    return tuple(chain.layers)


def shared_layers(table: StageTable, largest: tuple[LayerSpec, ...]) -> dict[str, LayerSpec]:
    """Returns the layers with weights of a whole space: for each name, the greatest shape that any subnet has.

    Args:
        table: the space's stage table.
        largest: layers of the space's largest architecture; its order is that of the result.

    Raises:
        InputError: two layers of one name cannot share weights.
    """
    shared: dict[str, LayerSpec] = {}
    for layer in (*largest, *_all_layers(table)):
        if layer.op in {"conv", "squeeze_excite", "linear"}:
            known = shared.get(layer.name, layer)
            shared[layer.name] = union = _union(known, layer)
            (_, room), *_ = weight_shapes([union]).items()
            for one in (known, layer):
                (_, shape), *_ = weight_shapes([one]).items()
                if one.op != union.op or any(side > most for side, most in zip(shape, room, strict=True)):
                    raise InputError(
                        f"layer {layer.name!r} cannot share weights of shape {shape} under its other choices, which "
                        f"want {room}: its block must give it another name there"
                    )
    return shared


def _all_layers(table: StageTable) -> Iterator[LayerSpec]:
    """Yields every layer of every architecture, at the greatest resolution; each block for itself."""
    for width in table.width:
        starts = LayerChain(table.image_channels, max(table.resolution))
        sources = []
        for channels in table.stem.channels:
            chain = LayerChain(starts.channels, starts.size)
            _stem(chain, table, channels, width)
            sources.append(chain)
            yield from chain.layers
        for number, stage in enumerate(table.stages, start=1):
            inputs, sources = sources, []
            for channels in dict.fromkeys(table.scaled(channels, width) for channels in stage.channels):
                size = conv_output_size(inputs[0].size, 1, stage.stride)
                sources.append(LayerChain(channels, size, last=f"stage{number}"))
            for block in range(1, max(stage.depth) + 1):
                for op, words in _combinations(stage):
                    for output in sources:
                        chosen = _choices(table, stage, block, output.channels, words)
                        for source in inputs if block == 1 else [output]:
                            yield from _block(stage, op, chosen, number, block, source)
        for source in sources:
            chain = LayerChain(source.channels, source.size, last=source.last)
            _head(chain, table, width)
            yield from chain.layers


def _combinations(stage: Stage) -> Iterator[tuple[str, dict[str, Choice]]]:
    """Yields kinds of blocks with choices of what they read, and first choices of the rest."""
    words = ("kernel", "expansion", "squeeze_excite", "type", "activation")
    for op in stage.op:
        # An activation has no weights.
        read = {*get_block(op).reads} - {"activation"}
        for values in product(*(getattr(stage, word) if word in read else getattr(stage, word)[:1] for word in words)):
            yield op, dict(zip(words, values, strict=True))


def _union(one: LayerSpec, other: LayerSpec) -> LayerSpec:
    bigger = {
        field: max(getattr(one, field), getattr(other, field))
        for field in ("in_channels", "out_channels", "kernel", "groups", "squeeze_channels")
    }
    return dataclasses.replace(one, **bigger)

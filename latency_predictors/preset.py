"""Presets: how carefully to measure."""

from dataclasses import dataclass
from difflib import get_close_matches

from latency_predictors.devices.base import BlockPlan
from latency_predictors.devices.energy import LEAST_SECONDS
from search_spaces.errors import InputError

MIN_BLOCKS = 3
"""Blocks that must count for a model not to be refused; two give an interval 13 standard deviations wide."""


@dataclass(frozen=True)
class Preset:
    """How carefully to measure.

    Attributes:
        name: as users write it.
        min_blocks: that count, before a model may be accepted.
        max_blocks: that count, after which a model is done.
        max_launches: of processes for one group of models.
        budget_seconds: for one group of models; no launch starts later, except the first ``min_blocks``.
        window_ms: quiet time in a block, per model.
        min_inferences: quiet inferences in a block, per model.
        patience: a block gives a model up after this many times its quiet window.
        warmup_ms: at most, in a block, per model.
        timeout_seconds: for one model in a block; then its process is killed.
        energy_seconds: length of a block's window of energy, per model; 0 for no energy.
    """

    name: str
    min_blocks: int
    max_blocks: int
    max_launches: int
    budget_seconds: float
    window_ms: float
    min_inferences: int
    patience: float
    warmup_ms: float
    timeout_seconds: float
    energy_seconds: float = 0

    def __post_init__(self) -> None:
        if not MIN_BLOCKS <= self.min_blocks <= self.max_blocks <= self.max_launches:
            raise ValueError(f"blocks must be {MIN_BLOCKS} <= min <= max <= launches, got {self}")
        if 0 < self.energy_seconds < LEAST_SECONDS or self.energy_seconds < 0:
            raise ValueError(f"windows of energy must be at least {LEAST_SECONDS:g} s, or 0 for none, got {self}")
        self.plan(None)  # checks itself

    def plan(self, probe_floor_ns: int | None) -> BlockPlan:
        """Returns the plan of a block."""
        return BlockPlan(
            self.window_ms,
            self.min_inferences,
            self.patience,
            self.warmup_ms,
            self.timeout_seconds,
            probe_floor_ns,
            self.energy_seconds,
        )


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "quick", min_blocks=5, max_blocks=15, max_launches=20, budget_seconds=300,
            window_ms=8, min_inferences=15, patience=25, warmup_ms=50, timeout_seconds=60,
        ),
        Preset(
            "standard", min_blocks=5, max_blocks=15, max_launches=20, budget_seconds=3000,
            window_ms=100, min_inferences=40, patience=12, warmup_ms=500, timeout_seconds=180,
        ),
        Preset(
            "energy", min_blocks=5, max_blocks=8, max_launches=10, budget_seconds=10_000,
            window_ms=8, min_inferences=15, patience=25, warmup_ms=50, timeout_seconds=60, energy_seconds=10,
        ),
    )
}  # fmt: skip
"""``quick`` for learning a predictor from many networks, ``standard`` for figures that are published, ``energy`` for
the latency of ``quick`` and energy, which needs 10 seconds a network in every block."""


def get_preset(name: str) -> Preset:
    """Returns the preset of a name.

    Raises:
        InputError: no such preset.
    """
    if name not in PRESETS:
        close = get_close_matches(name, PRESETS, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InputError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}{hint}")
    return PRESETS[name]

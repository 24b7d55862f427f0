"""What is wrong with rows of a measurement table: the rule that they break, what follows from it, and what to do."""

from dataclasses import dataclass
from typing import Literal, get_args

Rule = Literal[
    "not_measured",
    "additive",
    "whole_milliseconds",
    "thousandth",
    "degenerate",
    "impossible",
    "disagreeing_duplicates",
    "mixed_conditions",
    "session_drift",
    "unknown_network",
    "long_tail",
    "scattered",
]
_ADVICE: dict[Rule, tuple[str, str]] = {
    "not_measured": ("a predictor of them proves nothing about the device", "keep them apart"),
    "additive": (
        "they were added up, not measured, and any predictor additive over blocks will seem perfect on them",
        "measure whole networks",
    ),
    "whole_milliseconds": ("predictions cannot be better than the rounding", "measure with a finer clock"),
    "thousandth": ("they are seconds among milliseconds and pull every prediction down", "convert or drop them"),
    "degenerate": (
        "their output does not depend on the input, or the runs failed, and they rule every percentage error",
        "drop them",
    ),
    "impossible": ("the unit or the batch size is wrong, or nothing was run", "correct or drop them"),
    "disagreeing_duplicates": (
        "conditions are mixed or the device was disturbed",
        "measure these networks again",
    ),
    "mixed_conditions": ("rows of different conditions cannot be told apart", "complete or drop them"),
    "session_drift": (
        "the device was not in its usual state, and these rows are off by an unknown amount",
        "measure them again or drop them",
    ),
    "unknown_network": ("they cannot be learned from", "give arch as integers, or leave them out"),
    "long_tail": ("means follow the tail and not the network", "learn the median"),
    "scattered": ("the device was disturbed", "measure them again or give them less weight"),
}
"""What follows from a broken rule, and what to do."""


@dataclass(frozen=True)
class Finding:
    """Something wrong with some rows.

    Attributes:
        rule: that they break.
        device: whose rows.
        rows: their numbers in the table.
        what: was found.
    """

    rule: Rule
    device: str
    rows: tuple[int, ...]
    what: str

    @property
    def consequence(self) -> str:
        """What follows for a predictor that learns from the rows."""
        return _ADVICE[self.rule][0]

    @property
    def mend(self) -> str:
        """What to do."""
        return _ADVICE[self.rule][1]

    @property
    def message(self) -> str:
        """All of it as one sentence."""
        return f"{self.device}: {self.what}; {self.consequence}; {self.mend}"

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule) or not self.rows:
            raise ValueError(f"a finding needs a known rule and rows, got {self.rule=} and {len(self.rows)} rows")

"""What a search found, with where each value comes from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from nas.evaluators.base import EPOCHS, FULL_EPOCHS, fully_trained
from nas.objectives import Value
from nas.search.ledger import Ledger
from search_spaces.architecture import Architecture

Z_95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution: two-sided 95 % intervals."""


@dataclass(frozen=True)
class EvaluatedArchitecture:
    """An architecture with a value for every objective and constraint.

    Attributes:
        number: in order of proposal.
        architecture: canonical.
        values: by objective name.
    """

    number: int
    architecture: Architecture
    values: Mapping[str, Value]


def evaluated(ledger: Ledger) -> list[EvaluatedArchitecture]:
    """Returns every evaluated architecture of a ledger, in order of proposal; works beside a running search.

    Those whose training was stopped early are left out: what they would have reached is not known.

    Accuracy carries the 95 % Wilson interval of its validation images where their number is known: by how much
    another sample of images of that size would have told it differently.

    Raises:
        RunError: there is no ledger, or it cannot be read.
    """
    images = ledger.validation_images()
    return [
        EvaluatedArchitecture(
            number=candidate.number,
            architecture=candidate.architecture,
            values=dict(candidate.costs)
            | {
                name: _measured(name, value, images)
                for name, value in candidate.metrics.items()
                if name not in (EPOCHS, FULL_EPOCHS)
            },
        )
        for candidate in ledger.candidates()
        if candidate.state == "done" and fully_trained(candidate.metrics)
    ]


def _measured(name: str, value: float, images: int | None) -> Value:
    if name != "accuracy" or images is None:
        return Value(value, "measured")
    lower, upper = wilson_interval(value, images)
    return Value(value, "measured", min(lower, value), max(upper, value))  # rounding at 0 and 1


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Returns the 95 % score interval of a proportion (Wilson, JASA 22(158), 1927).

    Args:
        share: of successes, 0 to 1.
        count: of trials, at least 1.

    Example:
        >>> [round(end, 4) for end in wilson_interval(0.9, 100)]
        [0.8256, 0.9448]
    """
    square = Z_95**2
    centre = (share + square / (2 * count)) / (1 + square / count)
    half = Z_95 / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    return centre - half, centre + half

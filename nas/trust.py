"""How far the ranking by a supernet can be trusted: its accuracies against those of networks trained by themselves."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit
from scipy.stats import rankdata

from nas.errors import InputError, RunError
from nas.front import Front, FrontPoint
from search_spaces.architecture import Architecture
from search_spaces.checksum import read_json, write_json

FORMAT = 1
"""Version of trust.json; another one is refused by name."""

LEAST_NETWORKS = 12
"""Of fewer, a rank correlation tells next to nothing: its 95 % interval is wider than 0.8."""

_RESAMPLES = 2000
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TrainedNetwork:
    """A network that is trained by itself.

    Attributes:
        architecture: canonical.
        on_front: whether it was taken from the front, else from the whole space.
        estimated: its accuracy with the supernet's weights.
        trained: its accuracy after a training of its own, by seed; those that are done.
    """

    architecture: Architecture
    on_front: bool
    estimated: float
    trained: Mapping[int, float]


@dataclass(frozen=True)
class Correlation:
    """A rank correlation with the ends of its 95 % interval."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Agreement:
    """How alike two orders of the same networks are.

    Attributes:
        of: what is compared, in words.
        networks: how many.
        kendall: tau-b; 0 where all values of a side are equal.
        spearman: likewise.
    """

    of: str
    networks: int
    kendall: Correlation
    spearman: Correlation


@dataclass(frozen=True)
class RankingTrust:
    """What trainings of some networks say about the accuracies that a supernet tells.

    Attributes:
        run: its name.
        depends_on: what the figures depend on, as name and text: hashes of the supernet and of the data, the training.
        seeds: of the trainings.
        networks: spread over the front and the space.
    """

    run: str
    depends_on: Mapping[str, str]
    seeds: tuple[int, ...]
    networks: tuple[TrainedNetwork, ...]

    @property
    def complete(self) -> bool:
        """Whether every network is trained with every seed."""
        return all(set(self.seeds) <= set(network.trained) for network in self.networks)

    @cached_property
    def agreements(self) -> tuple[Agreement, ...]:
        """Of a complete trust: the supernet with the mean over the seeds and with each; the seeds with one another.

        The top third is that of the supernet's order, as it is what a search goes by. No supernet can be expected to
        agree more with a training than the seeds do.
        """
        estimated, trained = self._estimated, self._trained
        mean = trained.mean(1)
        third = np.argsort(-estimated, kind="stable")[: max(3, len(estimated) // 3)]
        found = [
            _agreement("supernet, all", estimated, mean),
            _agreement("supernet, top third", estimated[third], mean[third]),
        ]
        if len(self.seeds) > 1:
            columns = zip(self.seeds, trained.T, strict=True)
            found += [_agreement(f"supernet, seed {seed}", estimated, column) for seed, column in columns]
            found += [
                _agreement(f"seeds {self.seeds[0]} and {seed}", trained[:, 0], column)
                for seed, column in zip(self.seeds[1:], trained.T[1:], strict=True)
            ]
        return tuple(found)

    @cached_property
    def tied_within(self) -> float | None:
        """Difference of two supernet accuracies below which a training may as well reverse it; None where all may.

        From the line of least squares of the trained accuracy over the supernet's: a difference d of two estimates
        predicts the trained one as slope * d, with 95 % interval t * sqrt(2) * s around it, s the standard deviation
        of the residuals and t Student's quantile at n - 2 degrees of freedom. The uncertainty of the slope is left out.
        """
        estimated, mean = self._estimated, self._trained.mean(1)
        if np.ptp(estimated) == 0:
            return None
        slope, offset = np.polyfit(estimated, mean, 1)
        freedom = len(mean) - 2
        deviation = math.sqrt(float(((mean - slope * estimated - offset) ** 2).sum()) / freedom)
        return float(stdtrit(freedom, 0.975)) * math.sqrt(2) * deviation / float(slope) if slope > 0 else None

    def tied(self, front: Front) -> tuple[tuple[FrontPoint, ...], ...]:
        """Returns the networks of a front in groups whose members the supernet does not tell apart, best group first.

        A group is the most accurate network that is left with all that are tied with it.
        """
        left = sorted(front.best, key=lambda point: (-point.values["accuracy"].value, point.key))
        within = math.inf if self.tied_within is None else self.tied_within
        groups = []
        while left:
            floor = left[0].values["accuracy"].value - within
            groups.append(tuple(point for point in left if point.values["accuracy"].value >= floor))
            left = left[len(groups[-1]) :]
        return tuple(groups)

    @property
    def tie_text(self) -> str:
        """What being tied means, for a legend."""
        trained = f"{len(self.networks)} networks trained alone, {len(self.seeds)} seeds"
        if self.tied_within is None:
            return f"statistically tied (no order is certain: {trained})"
        return f"statistically tied (within {self.tied_within:.3g}: {trained})"

    @property
    def _estimated(self) -> _Floats:
        return np.array([network.estimated for network in self.networks])

    @property
    def _trained(self) -> _Floats:
        """``(networks, seeds)``."""
        return np.array([[network.trained[seed] for seed in self.seeds] for network in self.networks])

    def to_dict(self) -> dict[str, object]:
        """Returns the content of trust.json; figures only where it is complete."""
        told: dict[str, object] = {}
        if self.complete:
            told = {
                "agreements": [
                    {
                        "of": one.of,
                        "networks": one.networks,
                        **{
                            name: {"value": found.value, "lower": found.lower, "upper": found.upper}
                            for name, found in (("kendall", one.kendall), ("spearman", one.spearman))
                        },
                    }
                    for one in self.agreements
                ],
                "tied_within": self.tied_within,
            }
        return {
            "format": FORMAT,
            "run": self.run,
            "depends_on": dict(self.depends_on),
            "seeds": list(self.seeds),
            "complete": self.complete,
            **told,
            "networks": [
                {
                    "key": network.architecture.key,
                    "on_front": network.on_front,
                    "estimated": network.estimated,
                    "trained": {str(seed): value for seed, value in network.trained.items()},
                    "architecture": json.loads(network.architecture.to_json()),
                }
                for network in self.networks
            ],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:  # Any: JSON as read.
        """Returns the trust of `to_dict`; its figures are computed again.

        Raises:
            KeyError, TypeError, ValueError: the data are not of that form.
        """
        networks = tuple(
            TrainedNetwork(
                Architecture.from_json(json.dumps(one["architecture"])),
                bool(one["on_front"]),
                float(one["estimated"]),
                {int(seed): float(value) for seed, value in one["trained"].items()},
            )
            for one in data["networks"]
        )
        return cls(str(data["run"]), dict(data["depends_on"]), tuple(map(int, data["seeds"])), networks)

    def save(self, path: Path) -> None:
        """Writes trust.json."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Returns the trust of a trust.json; None where there is none.

        Raises:
            RunError: the file is damaged or of another format version.
        """
        try:
            data = read_json(path)
            if data["format"] != FORMAT:
                raise ValueError(f"it has format {data['format']!r}, this version of hwnas reads {FORMAT}")
            return cls.from_dict(data)
        except FileNotFoundError:
            return None
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{path} cannot be read ({error}): `nas doctor {path.parent} --repair` sets it aside; what was trained "
                "is not trained again"
            ) from None

    def continues(self, depends_on: Mapping[str, str]) -> None:
        """Checks that trainings from now on can be compared with those of this trust.

        Raises:
            InputError: they depend on something else.
        """
        for name, text in depends_on.items():
            if self.depends_on.get(name) != text:
                raise InputError(
                    f"trust.json of run {self.run} was made with another {name} (it has {self.depends_on.get(name)}, "
                    f"now {text}): remove trust.json and the folder trust to begin anew"
                )


def spread_over_front(front: Front, count: int) -> tuple[FrontPoint, ...]:
    """Returns up to so many networks of a front, from the least to the most accurate, evenly spread by their rank."""
    ordered = sorted(front.best, key=lambda point: (point.values["accuracy"].value, point.key))
    rows = np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)
    return tuple(ordered[row] for row in rows)


def _agreement(of: str, one: _Floats, other: _Floats) -> Agreement:
    # The networks are drawn anew, each time as many (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
    # section 13.3: percentile interval).
    drawn = np.random.default_rng(0).integers(0, len(one), (_RESAMPLES, len(one)))
    rows = np.vstack([np.arange(len(one)), drawn])
    correlations = []
    for statistic in (_kendall, _spearman):
        first, *again = statistic(one[rows], other[rows])
        lower, upper = np.quantile(again, [0.025, 0.975])
        # A sample of distinct networks can lie outside the interval of samples that repeat some.
        correlations.append(Correlation(float(first), min(float(lower), float(first)), max(float(upper), float(first))))
    return Agreement(of, len(one), *correlations)


def _kendall(one: _Floats, other: _Floats) -> _Floats:
    """Returns tau-b (Kendall, Biometrika 33(3), 1945) of each row of ``(r, n)`` arrays."""
    signs = [
        np.sign(side[:, :, None] - side[:, None, :]).astype(np.int8).reshape(len(side), -1) for side in (one, other)
    ]
    return _normalised(*signs)


def _spearman(one: _Floats, other: _Floats) -> _Floats:
    """Returns Spearman's coefficient of each row: Pearson's, of ranks."""
    ranks = [rankdata(side, axis=1) for side in (one, other)]
    centred = [rank - rank.mean(1, keepdims=True) for rank in ranks]
    return _normalised(*centred)


def _normalised(one: NDArray[Any], other: NDArray[Any]) -> _Floats:
    """Returns the cosine of each pair of rows; 0 where a row is constant."""
    product, *squares = ((a * b).sum(1, dtype=np.float64) for a, b in ((one, other), (one, one), (other, other)))
    scale = np.sqrt(squares[0] * squares[1])
    found: _Floats = np.divide(product, scale, out=np.zeros_like(product), where=scale > 0)
    return found


def network_rows(networks: Sequence[TrainedNetwork]) -> list[dict[str, object]]:
    """Returns a table row for each network, by the supernet's order."""
    return [
        {
            "key": network.architecture.key,
            "from": "front" if network.on_front else "space",
            "supernet": network.estimated,
            **{f"seed {seed}": value for seed, value in sorted(network.trained.items())},
        }
        for network in sorted(networks, key=lambda one: -one.estimated)
    ]

"""The cheap terms of a search: exact counts from the layers; latency, energy and memory from learned predictors."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from latency_predictors.architecture_features import architecture_features
from latency_predictors.base import LatencyPredictor
from nas.errors import InputError
from nas.objectives import Constraint, Objective, Value
from search_spaces.architecture import Architecture
from search_spaces.block_table import BlockValues
from search_spaces.cost import ADDITIVE, METRICS, Precision
from search_spaces.layer import LayerSpec
from search_spaces.space import SearchSpace


class CostModel(Protocol):
    """Tells the costs of architectures without running them."""

    def costs_of(self, architectures: Sequence[Architecture]) -> list[dict[str, Value]]:
        """Returns the costs of each by objective name, such as ``latency_ms@cpu``; the same names for all."""
        ...


class AnalyticAndPredictedCosts:
    """Exact counts where there is a formula, predictions where there is not.

    Args:
        space: whose architectures are asked about.
        objectives: the costs to tell; accuracy among them is left out.
        precisions: of each device's files, by the device's name; decides bytes.
        predictors: by name (`Objective.predictor`).

    Raises:
        InputError: an objective names a device without precision or without predictor, or a predictor tells another
            metric than its name says.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        precisions: Mapping[str, Precision],
        predictors: Mapping[str, LatencyPredictor],
    ) -> None:
        self._space = space
        self._objectives = tuple(dict.fromkeys(o for o in objectives if o.metric != "accuracy"))
        self._precisions = dict(precisions)
        self._predictors = dict(predictors)
        self._summed = tuple(o for o in self._objectives if o.metric in ADDITIVE)
        self._of_blocks = BlockValues(space.blocks, lambda block, _: [self._count(o, block) for o in self._summed])
        for objective in self._objectives:
            name = objective.predictor
            known = self._predictors if name else self._precisions
            if objective.device is not None and (name or objective.device) not in known:
                raise InputError(
                    f"{objective.name}: nothing is known about device {objective.device!r}, only about {list(known)}: "
                    "measure it and fit its predictor first"
                )
            if name and self._predictors[name].metric != objective.metric:
                raise InputError(
                    f"{objective.name}: predictor {name!r} tells {self._predictors[name].metric}: fit one of "
                    f"{objective.metric} under that name"
                )

    def costs_of(self, architectures: Sequence[Architecture]) -> list[dict[str, Value]]:
        """Returns the costs of each architecture by objective name; predictors tell many faster than one by one."""
        if not architectures:
            return []
        spaces = {self._space.name: self._space}
        counts: dict[Objective, list[int]] = {}
        if self._summed:
            sums = self._of_blocks.sums(self._space.codes.of(architectures))
            counts = dict(zip(self._summed, sums.T.tolist(), strict=True))
        costs: list[dict[str, Value]] = [{} for _ in architectures]
        for objective in self._objectives:
            if objective.predictor:
                predicted = self._predictors[objective.predictor].predict_architectures(architectures, spaces)
                columns = zip(predicted.mean.tolist(), predicted.lower.tolist(), predicted.upper.tolist(), strict=True)
                values = [Value(mean, "predicted", lower, upper) for mean, lower, upper in columns]
            else:
                if objective not in counts:
                    counts[objective] = [self._count(objective, self._space.layers(one)) for one in architectures]
                values = [Value(count, "analytic") for count in counts[objective]]
            for row, value in zip(costs, values, strict=True):
                row[objective.name] = value
        return costs

    def probabilities_of(
        self, architectures: Sequence[Architecture], constraints: Sequence[Constraint]
    ) -> list[dict[str, float]]:
        """Returns, for each architecture, how likely it keeps each bound on a predicted cost, by the bound's text.

        Source: the predictor's conformal distribution (`LatencyPredictor.probability_within`).
        """
        found: list[dict[str, float]] = [{} for _ in architectures]
        for bound in constraints:
            if not (bound.objective.predictor and architectures):
                continue
            predictor = self._predictors[bound.objective.predictor]
            features = architecture_features(architectures, predictor.columns, {self._space.name: self._space})
            within = predictor.probability_within(features, bound.bound)
            for row, probability in zip(found, within if bound.at_most else 1 - within, strict=True):
                row[bound.text] = float(probability)
        return found

    def _count(self, objective: Objective, layers: Sequence[LayerSpec]) -> int:
        return METRICS[objective.metric](layers, self._precisions[objective.device] if objective.device else "fp32")

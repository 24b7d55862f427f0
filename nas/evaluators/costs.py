"""The cheap terms of a search: exact counts from the layers; latency, energy and memory from learned predictors."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Protocol

from latency_predictors.base import LatencyPredictor
from nas.errors import InputError
from nas.objectives import Objective, Value
from search_spaces.architecture import Architecture
from search_spaces.cost import ADDITIVE, METRICS, Precision
from search_spaces.layer import LayerSpec
from search_spaces.lowering import PerBlock
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
        self._of_blocks = {o: PerBlock(partial(self._count, o)) for o in self._objectives if o.metric in ADDITIVE}
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
        spaces = {self._space.name: self._space}
        costs: list[dict[str, Value]] = [{} for _ in architectures]
        for objective in self._objectives:
            if objective.predictor:
                predicted = self._predictors[objective.predictor].predict_architectures(architectures, spaces)
                columns = (predicted.mean, predicted.lower, predicted.upper)
                for row, mean, lower, upper in zip(costs, *(column.tolist() for column in columns), strict=True):
                    row[objective.name] = Value(mean, "predicted", lower, upper)
                continue
            for row, architecture in zip(costs, architectures, strict=True):
                row[objective.name] = Value(self._counted(objective, architecture), "analytic")
        return costs

    def _counted(self, objective: Objective, architecture: Architecture) -> int:
        if objective in self._of_blocks:
            return sum(map(self._of_blocks[objective], chain.from_iterable(self._space.stages(architecture))))
        return self._count(objective, self._space.layers(architecture))

    def _count(self, objective: Objective, layers: Sequence[LayerSpec]) -> int:
        return METRICS[objective.metric](layers, self._precisions[objective.device] if objective.device else "fp32")

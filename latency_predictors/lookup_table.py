"""LookupTablePredictor: a table with an entry for every choice, and a latency is the sum of its entries.

The oldest predictor of the field (ProxylessNAS, arXiv:1812.00332, section 3.3; FBNet, arXiv:1812.03443, section 3.2),
there as a baseline: what it cannot explain is not additive over blocks. Their entries are blocks measured alone; these
are learned from whole networks, at least 0, robustly and on the log scale, as `latency_predictors.linear` learns costs.
A choice that was not among the networks learned from costs nothing. Where the columns have no choices, the entries are
the costs of the physical features, and the table is the linear predictor.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from latency_predictors.base import Floats, LatencyPredictor, Model
from latency_predictors.linear import fit_costs, log_costs


class LookupTablePredictor(LatencyPredictor):
    """A sum of entries, one for each choice; see the module."""

    kind: ClassVar[str] = "lookup_table"

    def entries(self) -> dict[str, float]:
        """Returns the entry of each choice in the metric's unit; ``constant`` is what every network pays."""
        names = [name for name, entry in zip(self.columns, self._entries, strict=True) if entry]
        return dict(zip((*names, "constant"), self._models[0]["costs"].tolist(), strict=True))

    @property
    def _entries(self) -> NDArray[np.bool_]:
        return self._choices if self._choices.any() else self._summable

    def _fit(self, features: Floats, logs: Floats, weights: Floats) -> list[Model]:
        return fit_costs(features[:, self._entries], logs, weights, corrected=False)

    def _predict(self, models: Sequence[Model], features: Floats) -> Floats:
        return log_costs(models, features[:, self._entries])

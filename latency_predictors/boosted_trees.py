"""BoostedTreesPredictor: costs of layers, then boosted trees for what they leave unexplained.

Trees cannot say that twice the arithmetic takes twice the time, costs per layer can: so trees are given the log
residuals of `latency_predictors.linear`, as a Gaussian process is in `latency_predictors.gaussian_process`. They are
gradient boosted for the absolute error (Friedman, "Greedy function approximation: a gradient boosting machine", Annals
of Statistics 29, 2001, section 4.3: trees follow the signs of the residuals, leaves take their medians), and oblivious:
all nodes of a level ask the same question (Prokhorenkova et al., "CatBoost: unbiased boosting with categorical
features", arXiv:1706.09516, section 4), which little data can answer, and a leaf is a number made of the answers. Each
tree may choose among a random part of the questions.

The models behind an interval grow together, one matrix product for all, and how many trees there are is what predicts
the rows that each left out best; where no trees do, there are none and the predictor is the linear one.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from latency_predictors.base import LatencyPredictor, Model
from latency_predictors.gaussian_process import LEAST_GAIN, log_residuals
from latency_predictors.linear import fit_costs, log_costs

Floats = NDArray[np.float64]

DEPTH = 3
"""Questions of a tree."""
TREES = 60
"""Most trees."""
RATE = 0.2
"""Share of a leaf's median that is added."""
THRESHOLDS = 15
"""Most questions about one column, at its quantiles."""
SHARE = 0.3
"""Of the questions that a tree may choose among."""
SHRINKAGE = 1.0
"""Rows that a leaf is short of: with few of its own its value is nearer to 0."""
MOST_ROWS = 1000
"""Rows that trees grow on, evenly spaced among all. The costs are fitted on all rows."""
_CHUNK = 1 << 13  # networks looked at together, so that their columns stay in the cache


class BoostedTreesPredictor(LatencyPredictor):
    """Costs of layers corrected by boosted trees of their log residuals; see the module."""

    kind: ClassVar[str] = "boosted_trees"

    def _fit(self, features: Floats, logs: Floats, weights: Floats) -> list[Model]:
        summable = self._summable
        models = fit_costs(features[:, summable], logs, weights)
        kept = np.unique(np.linspace(0, len(features) - 1, min(len(features), MOST_ROWS)).astype(int))
        features, logs, weights = features[kept], logs[kept], weights[kept]
        residuals = log_residuals(models, features[:, summable], logs, weights)
        targets = np.stack([residual.targets for residual in residuals], axis=1)
        columns, thresholds = _questions(features)
        asked, leaves = _grow(features[:, columns] > thresholds, targets, weights, np.random.default_rng(self.seed))
        return [
            model
            | {
                "offset": np.array([residual.offset]),
                "columns": columns[own].astype(np.float64),
                "thresholds": thresholds[own],
                "leaves": values,
            }
            for model, residual, own, values in zip(models, residuals, asked, leaves, strict=True)
        ]

    def _predict(self, models: Sequence[Model], features: Floats) -> Floats:
        logs = log_costs(models, features[:, self._summable]) + np.stack([model["offset"] for model in models])
        columns, thresholds = (np.concatenate([m[name] for m in models]) for name in ("columns", "thresholds"))
        if not len(columns):
            return logs
        # Trees share questions: each is asked once, and a tree looks up its answers.
        questions, places = np.unique(
            np.stack([columns, thresholds], axis=2).reshape(-1, 2), axis=0, return_inverse=True
        )
        asked, answers_to = questions[:, 0].astype(np.int64), questions[:, 1:]
        leaves_of = np.concatenate([model["leaves"] for model in models])
        owner = np.repeat(np.arange(len(models)), [len(model["leaves"]) for model in models]).tolist()
        trees = list(zip(places.reshape(-1, DEPTH).tolist(), leaves_of, owner, strict=True))
        for start in range(0, len(features), _CHUNK):
            part = slice(start, start + _CHUNK)
            answers = (features[part].T[asked] > answers_to).astype(np.intp)
            for (first, second, third), leaves, number in trees:
                logs[number, part] += leaves.take(4 * answers[first] + 2 * answers[second] + answers[third])
        return logs


def _questions(features: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Returns the column and the threshold of every question, both ``(q,)``; thresholds lie between values."""
    columns, thresholds = [], []
    for number, column in enumerate(features.T):
        values = np.unique(column)
        between = (values[1:] + values[:-1]) / 2
        if len(between) > THRESHOLDS:
            between = np.unique(np.quantile(between, np.linspace(0, 1, THRESHOLDS + 2)[1:-1], method="nearest"))
        columns += [number] * len(between)
        thresholds += between.tolist()
    return np.array(columns, dtype=np.int64), np.array(thresholds)


def _grow(
    answers: NDArray[np.bool_], targets: Floats, weights: Floats, rng: np.random.Generator
) -> tuple[NDArray[np.int64], Floats]:
    """Grows the trees of k models together.

    Args:
        answers: ``(n, q)``, of every row to every question.
        targets: ``(n, k)``, for each model.
        weights: ``(n, k)``, likewise; 0 for a row that a model must not see.
        rng: chooses the questions of each tree.

    Returns:
        The questions ``(k, trees, DEPTH)`` and the values of the leaves ``(k, trees, 2 ** DEPTH)``.
    """
    models = targets.shape[1]
    unseen = weights[:, 1:] == 0
    unseen_weight = weights[:, :1] * unseen
    residuals = targets.copy()
    asked, leaves = [], []
    errors = [(1 - LEAST_GAIN) * float(np.abs(residuals[:, 1:] * unseen_weight).sum())]
    count = max(1, round(SHARE * answers.shape[1]))
    for _ in range(TREES if answers.shape[1] else 0):
        among = rng.choice(answers.shape[1], count, replace=False)
        asks, leaf = _questions_of_tree(answers[:, among], np.sign(residuals) * weights, weights)
        values = RATE * _medians(residuals, weights, leaf)
        residuals = residuals - values[np.arange(models), leaf]
        asked.append(among[asks])
        leaves.append(values)
        errors.append(float(np.abs(residuals[:, 1:] * unseen_weight).sum()))
    best = int(np.argmin(errors))
    return (
        np.array(asked[:best], dtype=np.int64).reshape(best, models, DEPTH).transpose(1, 0, 2),
        np.array(leaves[:best]).reshape(best, models, 2**DEPTH).transpose(1, 0, 2),
    )


def _questions_of_tree(
    answers: NDArray[np.bool_], gradients: Floats, weights: Floats
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the questions ``(k, DEPTH)`` that explain the gradients best, and the leaf ``(n, k)`` of every row."""
    rows, models = gradients.shape
    yes = answers.T.astype(np.float32)
    leaf = np.zeros((rows, models), dtype=np.int64)
    asked = np.empty((models, DEPTH), dtype=np.int64)
    for level in range(DEPTH):
        nodes = leaf[:, :, None] == np.arange(2**level)  # (n, k, nodes)
        both = np.concatenate([gradients[:, :, None] * nodes, weights[:, :, None] * nodes], axis=2)
        totals = both.sum(axis=0)
        right = (yes @ both.reshape(rows, -1).astype(np.float32)).reshape(len(yes), models, 2, -1).astype(np.float64)
        left = totals.reshape(models, 2, -1) - right
        gains = sum((side[:, :, 0] ** 2 / (side[:, :, 1] + SHRINKAGE)).sum(axis=2) for side in (left, right))
        asked[:, level] = np.argmax(gains, axis=0)
        leaf = 2 * leaf + answers[:, asked[:, level]]
    return asked, leaf


def _medians(residuals: Floats, weights: Floats, leaf: NDArray[np.int64]) -> Floats:
    """Returns the weighted median of the residuals in every leaf, shrunk towards 0, ``(k, 2 ** DEPTH)``."""
    order = np.argsort(residuals, axis=0, kind="stable")
    residuals, weights = (np.take_along_axis(array, order, axis=0) for array in (residuals, weights))
    leaf = np.take_along_axis(leaf, order, axis=0)
    medians = np.empty((residuals.shape[1], 2**DEPTH))
    for number in range(2**DEPTH):
        sums = np.cumsum(weights * (leaf == number), axis=0)
        middle = np.argmax(sums >= sums[-1] / 2, axis=0)
        found = np.take_along_axis(residuals, middle[None], axis=0)[0]
        medians[:, number] = found * sums[-1] / (sums[-1] + SHRINKAGE)
    return medians

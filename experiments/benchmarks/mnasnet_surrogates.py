"""Surrogates of the MnasNet space of Accel-NASBench (arXiv:2404.08005), fitted to about 4,100 measured networks."""

import itertools
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kendalltau
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.svm import SVR

from latency_predictors.architecture_features import architecture_features
from latency_predictors.features import FEATURE_NAMES
from nas.search.samplers.architecture_knowledge import features_of_sums, layer_sums
from search_spaces.encodings import encoding
from search_spaces.space import load_space

Floats = NDArray[np.float64]

SURROGATE_DEVICES = ("nvidia_a100", "nvidia_rtx_3090", "google_tpu_v2", "xilinx_zcu102")
_STAGES = 7


@cache
def _stage_sums() -> tuple[dict[tuple[int, ...], tuple[float, ...]], Floats]:
    """Returns `layer_sums` of every variant of a MnasNet stage, and of the rest."""
    space, vectors = load_space("efficientnet"), encoding("mnasnet_anb")
    variants: dict[tuple[int, ...], tuple[float, ...]] = {}
    rest = np.zeros(0)
    for stage in range(_STAGES):
        depths = range(1, 5 if stage == 5 else 4)
        for own in itertools.product((1, 4, 6), (3, 5), depths, (0, 1)):
            vector = np.array([[4], [3], [1], [0]]) * np.ones((4, _STAGES), dtype=int)
            vector[:, stage] = own
            layers = space.layers(vectors.decode(vector.ravel().tolist()))
            sums = [layer_sums(layer, _STAGES) for layer in layers if layer.name.startswith(f"stage{stage + 1}_")]
            variants[(stage, *own)] = tuple(np.sum(sums, axis=0))
            rest = np.sum([layer_sums(x, _STAGES) for x in layers if not x.name.startswith("stage")], axis=0)
    return variants, rest


def mnasnet_features(vectors: NDArray[np.int64]) -> Floats:
    """Returns the features that a search of the product has (`architecture_features`), without making the layers."""
    variants, rest = _stage_sums()
    stages = vectors.reshape(-1, 4, _STAGES).transpose(0, 2, 1).tolist()
    sums = np.array([[variants[(stage, *own)] for stage, own in enumerate(network)] for network in stages])
    return features_of_sums(sums.sum(1) + rest)


@cache
def mnasnet_cost_columns() -> tuple[str, ...]:
    """Returns the names of the columns that the product's predictors learn from."""
    dimensions = load_space("efficientnet").dimensions
    return (*FEATURE_NAMES, *(f"{dimension.name}={choice}" for dimension in dimensions for choice in dimension.choices))


def mnasnet_cost_features(vectors: NDArray[np.int64]) -> Floats:
    """Returns those columns."""
    space, public = load_space("efficientnet"), encoding("mnasnet_anb")
    architectures = [public.decode(vector) for vector in vectors.tolist()]
    return architecture_features(architectures, mnasnet_cost_columns(), {space.name: space})


def _inputs(vectors: NDArray[np.int64]) -> Floats:
    return np.hstack([vectors, vectors[:, :_STAGES] == 1, mnasnet_features(vectors)[:, :3]]).astype(np.float64)


def _error_model() -> TransformedTargetRegressor:
    """Returns a support vector machine of the log distance of the error from 25 %.

    Of what was tried it has the best cross-validated Kendall tau: .927; a quadratic ridge regression has .920 (.925 on
    the log), boosted trees .903, the mean of both .922, a support vector machine of the error itself .925.
    """
    machine = make_pipeline(StandardScaler(), SVR(C=10.0, gamma=0.002, epsilon=0.01))
    return TransformedTargetRegressor(
        machine, func=lambda y: np.log(y - 25.0), inverse_func=lambda z: 25.0 + np.exp(z), check_inverse=False
    )


def _log_cost_model() -> Pipeline:
    return make_pipeline(StandardScaler(), PolynomialFeatures(2), StandardScaler(), Ridge(30.0))


def _quadratic_form(model: Pipeline) -> Callable[[Floats], Floats]:
    """Returns the predictions of a fitted `_log_cost_model`, much faster: samplers ask all the time."""
    first, powers, second, ridge = (step for _, step in model.steps)
    size = first.n_features_in_
    weights = ridge.coef_ / second.scale_
    constant = ridge.intercept_ - weights @ second.mean_
    linear, square = np.zeros(size), np.zeros((size, size))
    for power, weight in zip(powers.powers_, weights, strict=True):
        places = np.repeat(np.arange(size), power)
        if len(places) == 2:
            square[tuple(places)] = weight
        elif len(places) == 1:
            linear[places[0]] = weight
        else:
            constant += weight

    def predict(inputs: Floats) -> Floats:
        z = (inputs - first.mean_) / first.scale_
        predicted: Floats = constant + z @ linear + ((z @ square) * z).sum(1)
        return predicted

    return predict


class MeasuredSurrogate:
    """A regression of measured values.

    Attributes:
        kendall_tau: of its cross-validated predictions.
    """

    def __init__(
        self, vectors: NDArray[np.int64], targets: Floats, model: Pipeline | TransformedTargetRegressor
    ) -> None:
        inputs = _inputs(vectors)
        predicted = cross_val_predict(model, inputs, targets, cv=KFold(5, shuffle=True, random_state=0))
        self.kendall_tau = float(kendalltau(predicted, targets)[0])
        fitted = model.fit(inputs, targets)
        self._predict = _quadratic_form(fitted) if isinstance(model, Pipeline) else fitted.predict

    def __call__(self, vectors: NDArray[np.int64]) -> Floats:
        """Returns ``(n,)`` values of ``(n, d)`` vectors."""
        predicted: Floats = self._predict(_inputs(vectors))
        return predicted


@cache
def mnasnet_surrogates(data: Path) -> dict[str, MeasuredSurrogate]:
    """Returns surrogates of ``error`` (percent) and of the log latency (ms for one image) of each device."""
    rows = pd.read_parquet(data / "mnasnet_anb_accuracy.parquet")
    tables = {"error": (rows.arch, 100 - rows.top1)}
    costs = pd.read_parquet(data / "mnasnet_anb.parquet")
    for device in SURROGATE_DEVICES:
        own = costs[costs.device == device]
        # Throughput was measured everywhere, latency only on the FPGA.
        latency = own.latency_ms if own.latency_ms.notna().all() else 1000 / own.throughput_ips
        tables[device] = (own.arch, np.log(latency))
    fitted = {}
    for name, (archs, targets) in tables.items():
        mean = pd.DataFrame({"arch": archs, "value": targets}).groupby("arch").value.mean()
        vectors = np.array([json.loads(arch) for arch in mean.index])
        model = _error_model() if name == "error" else _log_cost_model()
        fitted[name] = MeasuredSurrogate(vectors, mean.to_numpy(dtype=np.float64), model)
    return fitted

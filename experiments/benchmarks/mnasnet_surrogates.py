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

from latency_predictors.features import FEATURE_NAMES, layer_features
from nas.search.samplers.architecture_knowledge import features_of_sums, layer_sums
from search_spaces.architecture import Choice
from search_spaces.encodings import encoding
from search_spaces.layer import LayerSpec
from search_spaces.space import load_space

Floats = NDArray[np.float64]

SURROGATE_DEVICES = ("nvidia_a100", "nvidia_rtx_3090", "google_tpu_v2", "xilinx_zcu102")
_STAGES = 7


Sums = tuple[dict[tuple[int, ...], Floats], Floats]
"""What is summed over the layers of each variant of a stage, and over those of stem and head."""


def _stage_sums(of_layer: Callable[[LayerSpec, int], Floats]) -> Sums:
    """Returns sums over layers; a layer is told with the side of the image."""
    space, encoded = load_space("efficientnet"), encoding("mnasnet_anb")
    variants: dict[tuple[int, ...], Floats] = {}
    for stage in range(_STAGES):
        depths = range(1, 5 if stage == 5 else 4)
        for own in itertools.product((1, 4, 6), (3, 5), depths, (0, 1)):
            vector = np.array([[4], [3], [1], [0]]) * np.ones((4, _STAGES), dtype=int)
            vector[:, stage] = own
            layers = space.layers(encoded.decode(vector.ravel().tolist()))
            told = {layer.name: of_layer(layer, layers[0].in_size) for layer in layers}
            inside = [value for name, value in told.items() if name.startswith(f"stage{stage + 1}_")]
            variants[(stage, *own)] = np.sum(inside, axis=0)
    # Stem and head are the same in all of them.
    rest = np.sum([value for name, value in told.items() if not name.startswith("stage")], axis=0)
    return variants, rest


def _summed(vectors: NDArray[np.int64], sums: Sums) -> Floats:
    """Returns the sums ``(n, f)`` of networks, without making their layers."""
    variants, rest = sums
    stages = vectors.reshape(-1, 4, _STAGES).transpose(0, 2, 1).tolist()
    of_stages = np.array([[variants[(stage, *own)] for stage, own in enumerate(network)] for network in stages])
    return np.asarray(of_stages.sum(1) + rest)


@cache
def _search_sums() -> Sums:
    return _stage_sums(lambda layer, _: np.asarray(layer_sums(layer, _STAGES)))


@cache
def _predictor_sums() -> Sums:
    return _stage_sums(layer_features)


def mnasnet_features(vectors: NDArray[np.int64]) -> Floats:
    """Returns the features that a search of the product has (`architecture_features`)."""
    return features_of_sums(_summed(vectors, _search_sums()))


@cache
def mnasnet_choices() -> dict[str, tuple[Choice, ...]]:
    """Returns the choices of each place of a vector."""
    choices = {dimension.name: dimension.choices for dimension in load_space("efficientnet").dimensions}
    return {name: choices[name] for name in encoding("mnasnet_anb").dimensions}


@cache
def mnasnet_cost_columns() -> tuple[str, ...]:
    """Returns the names of the columns that the product's predictors learn from."""
    return (*FEATURE_NAMES, *(f"{name}={choice}" for name, choices in mnasnet_choices().items() for choice in choices))


def mnasnet_cost_features(vectors: NDArray[np.int64]) -> Floats:
    """Returns those columns."""
    chosen = zip(vectors.T, mnasnet_choices().values(), strict=True)
    indicators = np.hstack([column[:, None] == np.array([int(choice) for choice in own]) for column, own in chosen])
    return np.hstack([_summed(vectors, _predictor_sums()), indicators])


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

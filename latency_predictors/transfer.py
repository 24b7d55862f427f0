"""TransferPredictor: the latency of a new device from a handful of its measurements and a bank of other devices.

The new device's log latency is a Gaussian process whose prior is the source bank's
(`latency_predictors.source_bank`): mean device + bank part + local part + constant + noise. How far the new device
strays from the bank in each part, and how noisy it is, is not known from 10 to 20 rows, so nothing is chosen: every
setting of a grid is fitted and predictions are averaged with their marginal likelihood as weight (Bayesian model
averaging; Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, section 5.2, with the constant
integrated out as in section 2.7). Measurements of phones have outliers of 30 % and more, so noise follows Student's t,
fitted under each setting by itself by its variational bound (Tipping and Lawrence, "Variational inference for Student-t
models", Neurocomputing 69, 2005): a few outliers must not speak for a setting that explains them by features.

A device may be unlike all of the bank (the first FPGA among GPUs). Then the non-negative costs that its own rows tell
(`latency_predictors.linear`) are the better guess, and the geometric mean of both often better still. Their share is
averaged too, by how well each would have predicted the rows that its fold left out, with errors of the same Student's t
of unknown scale: two outliers among twenty rows must not decide alone. Models of different folds share most of their
rows and so their mistakes, for which the likelihood counts as that of fewer rows (`INDEPENDENT`). Ten rows can by
chance add up to costs that miss all other networks, so that the own costs have any share counts, beforehand, as the
less likely the more of the device's variation the bank explains (`DOUBT`).

Networks chosen to be measured (`latency_predictors.selection`) lie far apart, so each is harder to predict from the
others than a typical network is from all. The process tells by how much: residuals behind the intervals are scaled by
its standard deviation for typical networks over that for the row left out (Lei, G'Sell, Rinaldo, Tibshirani and
Wasserman, "Distribution-Free Predictive Inference for Regression", JASA 113, 2018, section 5.2).

The process is linear in the features and in the logarithms of what the source devices' costs add up to, so what is
learned are weights: with them and these costs the predictor stands alone, without the bank.
"""

from collections.abc import Sequence
from itertools import product
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from latency_predictors.base import LatencyPredictor, Model
from latency_predictors.features import FEATURE_NAMES
from latency_predictors.linear import fit_costs, log_costs
from latency_predictors.source_bank import SourceBank, added_up, signed_log

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

BANK = (0.5, 1.0, 2.0, 4.0)
"""Variance along the differences of source devices, over what the bank shows."""
LOCAL = (0.01, 0.03, 0.1, 0.3, 1.0, 10.0, 100.0)
"""Variance of single features, over what families of the bank show; large for a device that resembles none."""
RANGE = (0.02, 0.1, 0.5)
"""Variance of the share of the mean source device."""
NOISE = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16)
"""Relative spread of measurements."""
DEGREES = 2.0
"""Of freedom of the noise: heavy tails."""
ROUNDS = 4
"""Of weighing the rows anew."""
SHARES: Floats = np.linspace(0, 1, 11)
"""Of the costs that the device's own rows tell, in the prediction."""
DOUBT = 0.5
"""Probability, before any row is left out, that the own costs have a share, where the bank explains nothing."""
INDEPENDENT = 1 / 3
"""Rows that the error of a left-out row counts for: with 1, shares of .8 spoil GPUs."""
_COSTS = ("costs", "corrections", "reach", "floor")
_SCALES: Floats = np.geomspace(1e-6, 1, 61)  # of log errors; below they are rounding
_SETTINGS: Floats = np.array(list(product(BANK, LOCAL, RANGE, NOISE)))


class TransferPredictor(LatencyPredictor):
    """Learns a new device from few networks, given a bank of other devices; see the module.

    Args:
        metric: what is predicted, with its unit in the name.
        device: id of the new device's profile.
        bank: source devices, fitted on features of the same columns; None only for a predictor that is restored.
        seed: of the folds behind the intervals.
    """

    kind: ClassVar[str] = "transfer"

    def __init__(
        self,
        metric: str,
        device: str,
        *,
        seed: int = 0,
        columns: Sequence[str] = FEATURE_NAMES,
        bank: SourceBank | None = None,
    ) -> None:
        super().__init__(metric, device, seed=seed, columns=columns)
        self._bank = bank

    @property
    def bank_share(self) -> float:
        """Share of the new device's variation that the source devices explain, 0 to 1; below a half, trust it less.

        The rest is explained by single features, or by nothing (which an earlier version left out).
        """
        return float(self._models[0]["bank_share"][0])

    @property
    def own_share(self) -> float:
        """Share of the costs that the device's own rows tell, 0 to 1."""
        return _share_of(self._models)

    @property
    def noise(self) -> float:
        """Relative spread of the new device's measurements, as far as the rows tell."""
        return float(self._models[0]["noise"][0])

    def _fit(self, features: Floats, logs: Floats, weights: Floats) -> list[Model]:
        if self._bank is None:
            raise RuntimeError("a transfer predictor needs a source bank to learn from")
        inputs = self._bank.inputs(features)
        seen = weights.T > 0
        models = [
            _learn(self._bank, inputs[rows], logs[rows], own[rows]) for own, rows in zip(weights.T, seen, strict=True)
        ]
        costs = fit_costs(features[:, self._summable], logs, weights)
        # Each row as those models see it that have not learned from it.
        unseen = ~seen[1:]
        by_bank = (self._from_bank(models[1:], features) - logs)[unseen]
        by_costs = (log_costs(costs[1:], features[:, self._summable]) - logs)[unseen]
        doubt = DOUBT * (1 - float(models[0]["bank_share"][0]))
        share = {"share": np.array([_own_share(by_bank, by_costs, doubt)])}
        return [model | own | share for model, own in zip(models, costs, strict=True)]

    def _predict(self, models: Sequence[Model], features: Floats) -> Floats:
        logs, share = self._from_bank(models, features), _share_of(models)
        return (1 - share) * logs + share * log_costs(models, features[:, self._summable]) if share else logs

    def _ease_of(self, models: Sequence[Model], features: Floats, fold: Integers) -> Floats:
        if self._bank is None:
            raise RuntimeError("a transfer predictor needs a source bank to learn from")
        *shares, noise = models[0]["variances"]
        inputs, typical = self._bank.inputs(features), self._bank.typical
        rows, others = (self._bank.prior.coordinates(of, *shares) for of in (inputs, typical))
        ease = np.empty(len(fold))
        for number in range(fold.max() + 1):
            out = fold == number
            own, usual = (_deviations(rows[~out], new, noise) for new in (rows[out], others))
            ease[out] = usual.mean() / own
        return ease

    def _from_bank(self, models: Sequence[Model], features: Floats) -> Floats:
        # One product with the features as they are, and one with the few logarithms that count: no copy of the table.
        shared = models[0]  # of the bank, and so the same in all
        kept = shared["inverse_scale"] > 0
        slopes = np.zeros((len(models), len(kept)))
        slopes[:, kept] = np.stack([model["weights"] * shared["inverse_scale"][kept] for model in models])
        plain, logged = np.split(slopes, 2, axis=1)
        used = np.split(kept, 2)[1]
        logs = plain @ features.T + logged[:, used] @ signed_log(features[:, used]).T
        constants = np.stack([model["constant"] for model in models]) - (slopes @ shared["centre"])[:, None]
        if "source_weights" in shared:  # not in models of an earlier version
            by_costs = log_costs(_source_costs(shared), features[:, added_up(self.columns)])
            shares = np.stack([model["source_weights"] for model in models])
            logs += shares @ by_costs
            constants -= (shares @ shared["source_centre"])[:, None]
        return np.asarray(logs + constants)


def _share_of(models: Sequence[Model]) -> float:
    return float(models[0]["share"][0]) if "share" in models[0] else 0.0  # none in models of an earlier version


def _own_share(by_bank: Floats, by_costs: Floats, doubt: float) -> float:
    """Returns the expected share of the own costs; see the module.

    Args:
        by_bank: ``(n,)``, log errors of what the bank says, of rows held out.
        by_costs: ``(n,)``, log errors of the own costs, of the same rows.
        doubt: probability, before these errors are known, that it is not 0.
    """
    errors = np.outer(1 - SHARES, by_bank) + np.outer(SHARES, by_costs)
    tails = np.log1p(np.square(errors[:, None, :] / _SCALES[:, None]) / DEGREES).sum(axis=2)
    log_likelihood = -(DEGREES + 1) / 2 * tails - len(by_bank) * np.log(_SCALES)
    likely = np.exp(INDEPENDENT * (log_likelihood - log_likelihood.max())).mean(axis=1)
    likely *= np.where(SHARES == 0, 1 - doubt, doubt / (len(SHARES) - 1))
    return float(SHARES @ likely / likely.sum())


def _learn(bank: SourceBank, inputs: Floats, logs: Floats, weights: Floats) -> Model:
    prior = bank.prior
    mean, along, local = inputs @ prior.mean, inputs @ prior.directions, inputs * prior.scales
    parts = np.stack([along @ along.T, local @ local.T, np.outer(mean, mean)])
    share, alphas, constants = _average(parts, logs - mean, weights)
    wide, near, whole = (np.einsum("s,si->i", share * _SETTINGS[:, part], alphas) for part in range(3))
    learned = (
        prior.mean * (1 + mean @ whole)
        + prior.directions @ (along.T @ wide)
        + prior.scales * (local.T @ near)
    )  # fmt: skip
    from_bank = inputs @ (learned - prior.scales * (local.T @ near))
    from_rows = local @ (local.T @ near)
    # What neither explains counts as well, robustly: outliers say nothing of how alike devices are.
    left = logs - inputs @ learned - share @ constants
    unexplained = (1.4826 * float(np.median(np.abs(left - np.median(left))))) ** 2
    variances = float(from_bank.var()), float(from_rows.var()), unexplained
    weights, source_weights = np.split(learned, [len(bank.weights)])
    return {
        "centre": bank.centre,
        "inverse_scale": bank.inverse_scale,
        "weights": weights,
        "source_weights": source_weights,
        "source_centre": bank.cost_centre,
        **{f"source_{name}": np.stack([costs[name] for costs in bank.costs]) for name in _COSTS},
        "constant": np.array([share @ constants]),
        "bank_share": np.array([variances[0] / max(sum(variances), 1e-300)]),
        "noise": np.array([share @ _SETTINGS[:, 3]]),
        "variances": share @ np.column_stack([_SETTINGS[:, :3], np.square(_SETTINGS[:, 3])]),
    }


def _source_costs(model: Model) -> list[Model]:
    """Returns the costs of the source devices, as `log_costs` takes them."""
    stacked = {name: model[f"source_{name}"] for name in _COSTS}
    return [{name: own[place] for name, own in stacked.items()} for place in range(len(model["source_centre"]))]


def _deviations(rows: Floats, new: Floats, noise: float) -> Floats:
    """Returns the process's standard deviation ``(m,)`` for what would be measured of new networks, given rows.

    Args:
        rows: ``(n, c)``, coordinates of the networks measured (`Prior.coordinates`).
        new: ``(m, c)``.
        noise: variance of a measurement.
    """
    towards = new @ rows.T
    known = np.linalg.solve(rows @ rows.T + noise * np.eye(len(rows)), towards.T)
    deviations: Floats = np.sqrt(np.square(new).sum(axis=1) - np.einsum("mn,nm->m", towards, known) + noise)
    return deviations


def _average(parts: Floats, targets: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Fits every setting, its rows weighed by how far off they are under that setting.

    Args:
        parts: ``(3, n, n)``, the kernels of bank, single features and mean device.
        targets: ``(n,)``.
        weights: ``(n,)``, precision of each row relative to the noise, as far as it is known beforehand.

    Returns:
        The probability ``(s,)`` of each setting, its dual weights ``(s, n)`` and its constant ``(s,)``.
    """
    signal = np.einsum("sp,pij->sij", _SETTINGS[:, :3], parts)
    noise = np.square(_SETTINGS[:, 3])[:, None] / weights
    shape = (DEGREES + 1) / 2  # of the Gamma posterior of a row's precision, beside its rate
    rates = np.full(noise.shape, shape)
    diagonal = np.arange(len(targets))
    for _ in range(ROUNDS):
        kernels = signal.copy()
        own = noise * rates / shape  # the variance of each row's noise
        kernels[:, diagonal, diagonal] += own
        inverses = np.linalg.inv(kernels)
        ones = inverses.sum(axis=2)
        total = ones.sum(axis=1)
        constants = ones @ targets / total
        alphas = np.einsum("sij,sj->si", inverses, targets - constants[:, None])
        left = (
            np.square(own * alphas)
            + own
            - np.square(own) * (inverses[:, diagonal, diagonal] - np.square(ones) / total[:, None])
        )  # the expected square of what a row is off
        used, rates = rates, (DEGREES + left / noise) / 2
    _, log_determinants = np.linalg.slogdet(kernels)
    evidence = -0.5 * (
        np.einsum("si,si->s", alphas, targets - constants[:, None]) + log_determinants + np.log(total)
    ) - DEGREES / 2 * (np.log(used) + shape / used).sum(axis=1)  # fmt: skip
    share = np.exp(evidence - evidence.max())
    return share / share.sum(), alphas, constants

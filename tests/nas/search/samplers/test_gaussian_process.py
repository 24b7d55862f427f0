import numpy as np
from scipy.optimize import check_grad

from nas.search.samplers.gaussian_process import Columns, GaussianProcess, Kernel


def columns(count: int, seed: int = 0) -> Columns:
    rng = np.random.default_rng(seed)
    return Columns(rng.random((count, 3)), rng.normal(size=(count, 2)))


def values(of: Columns) -> np.ndarray:
    return np.sin(3 * of.encoding[:, 0]) + 2 * of.features[:, 0]


def fitted(known: Columns, noise_std: float = 0.0) -> GaussianProcess:
    return fitted_to(known, values(known), np.full(len(known), noise_std))


def fitted_to(known: Columns, targets: np.ndarray, noise_std: np.ndarray) -> GaussianProcess:
    center, scale = targets.mean(), targets.std()
    kernel = Kernel.fit(known, (targets - center) / scale, (noise_std / scale) ** 2)
    return GaussianProcess(kernel, known, targets, noise_std=noise_std, center=center, scale=scale)


def test_the_gradient_of_the_evidence_is_that_of_finite_differences() -> None:
    known = columns(15)
    targets = values(known) - values(known).mean()
    theta = np.array([-0.3, 0.1, 0.4, -0.2, -0.5, 0.6, 0.3, -1.0, -2.0])  # 1 + 3 lengths, 1 + 2 lengths, linear, nugget

    def value(t: np.ndarray) -> float:
        return Kernel(t, 3, 2)._evidence(known, targets, np.linspace(0.0, 0.02, 15))[0]

    def gradient(t: np.ndarray) -> np.ndarray:
        return Kernel(t, 3, 2)._evidence(known, targets, np.linspace(0.0, 0.02, 15))[1]

    assert check_grad(value, gradient, theta) < 1e-4


def test_it_predicts_new_networks_within_its_own_uncertainty() -> None:
    process, new = fitted(columns(60)), columns(200, seed=1)
    mean, std = process.posterior(new)
    assert np.corrcoef(mean, values(new))[0, 1] > 0.98
    assert 0.8 < np.mean(np.abs(values(new) - mean) < 2 * std) <= 1.0


def test_without_noise_the_observed_values_are_the_true_ones() -> None:
    known = columns(30)
    np.testing.assert_allclose(fitted(known).true_values(), values(known))


def test_with_noise_the_true_values_are_nearer_to_the_truth_than_the_observed_ones() -> None:
    known, rng = columns(80), np.random.default_rng(2)
    noisy = values(known) + rng.normal(0, 0.8, 80)
    process = fitted_to(known, noisy, np.full(80, 0.8))
    assert np.std(process.true_values() - values(known)) < 0.6 * np.std(noisy - values(known))


def test_a_noisier_observation_counts_less() -> None:
    known, rng = columns(60), np.random.default_rng(2)
    noise_std = np.where(np.arange(60) % 2, 1.5, 0.05)
    noisy = values(known) + noise_std * rng.normal(size=60)
    away = np.abs(fitted_to(known, noisy, noise_std).true_values() - noisy)
    assert np.median(away[1::2]) > 10 * np.median(away[::2])


def test_believing_keeps_the_means_and_shrinks_the_uncertainty_around_pending_networks() -> None:
    process, pending = fitted(columns(30)), columns(5, seed=3)
    new = columns(40, seed=4)
    before, after = process.posterior(new), process.believing(pending).posterior(new)
    np.testing.assert_allclose(after[0], before[0], atol=1e-6)
    assert (after[1] <= before[1] + 1e-9).all()
    assert process.believing(pending).posterior(pending)[1].max() < process.posterior(pending)[1].max()


def test_it_works_without_features() -> None:
    known = Columns(columns(40).encoding, np.empty((40, 0)))
    targets = np.sin(3 * known.encoding[:, 0])
    process = fitted_to(known, targets, np.zeros(40))
    assert np.abs(process.posterior(known)[0] - targets).max() < 0.1

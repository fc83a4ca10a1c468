"""The paper's identities, each with a tolerance or a Monte-Carlo error bar.

Densities, posterior moments, risks and divergences are computed here, from their formulas.
"""

import math

import numpy as np
import pytest
import pywt
import scipy.stats
import torch

import gahb
from gahb import metrics, optimal, oracle, stats

D, SIGMA = 4, 0.3
SHAPE = (1, 2, 2)


def spd(seed, scale=0.1, d=D):
    root = np.random.default_rng(seed).standard_normal((d, d))
    return scale * (root @ root.T / d + 0.1 * np.eye(d))


MEANS = np.random.default_rng(0).random((3, D))
COVS = np.stack([spd(1), spd(2), spd(3)])
WEIGHTS = np.array([0.2, 0.5, 0.3])


def mixture_denoiser(sigma=SIGMA):
    return optimal.mixture(
        torch.from_numpy(MEANS).view(3, *SHAPE), torch.from_numpy(COVS), torch.from_numpy(WEIGHTS), sigma
    )


def log_density(y):
    """log p_sigma(y) of the mixture for one flat y, by torch's own distributions."""
    parts = torch.distributions.MultivariateNormal(
        torch.from_numpy(MEANS), torch.from_numpy(COVS) + SIGMA**2 * torch.eye(D, dtype=torch.float64)
    )
    return torch.logsumexp(torch.from_numpy(WEIGHTS).log() + parts.log_prob(y), dim=0)


def mixture_draws(n, seed):
    rng = np.random.default_rng(seed)
    component = rng.choice(3, n, p=WEIGHTS)
    roots = np.linalg.cholesky(COVS)
    x = MEANS[component] + np.einsum("nij,nj->ni", roots[component], rng.standard_normal((n, D)))
    return torch.from_numpy(x).view(n, *SHAPE)


@pytest.mark.parametrize("seed", range(5))
def test_miyasawa_first_and_second_order(seed):
    """Eq. 8 and 9: E[x|y] = y + sigma^2 grad log p, and its Jacobian Id + sigma^2 Hess log p; to 1e-12."""
    y = torch.from_numpy(np.random.default_rng(seed).normal(0.5, 0.5, D))
    score = torch.autograd.functional.jacobian(log_density, y)
    hessian = torch.autograd.functional.hessian(log_density, y)
    f = mixture_denoiser()
    torch.testing.assert_close(f(y.view(1, *SHAPE)).flatten(), y + SIGMA**2 * score, rtol=0, atol=1e-12)
    truth = torch.eye(D, dtype=torch.float64) + SIGMA**2 * hessian
    torch.testing.assert_close(gahb.jacobian(f, y.view(SHAPE)), truth, rtol=0, atol=1e-12)


def test_sure_equals_the_error():
    """Eq. 7 over 10,000 draws, for an optimal denoiser and one that is not: within 4 standard errors."""
    x = mixture_draws(10_000, 2)
    for f in (mixture_denoiser(), mixture_denoiser(0.6), lambda y: y.clamp(0.3, 0.7)):
        risk = metrics.stein_risk(f, x, SIGMA, probes=4, seed=3)
        gap = (risk["sure"] - risk["mse"]).numpy()
        error = gap.std() / len(gap) ** 0.5
        assert error < 0.02 * float(risk["mse"].mean())
        assert abs(gap.mean()) < 4 * error


def test_optimal_error_is_the_trace_of_the_jacobian():
    """Eq. 10 for the optimal denoiser; a denoiser for another noise level breaks it."""
    x = mixture_draws(10_000, 4)
    gaps = []
    for sigma in (SIGMA, 0.6):
        risk = metrics.stein_risk(mixture_denoiser(sigma), x, SIGMA, seed=5)
        gap = (risk["trace"] - risk["mse"]).numpy()
        error = gap.std() / len(gap) ** 0.5
        assert error < 0.02 * float(risk["mse"].mean())
        gaps.append(abs(gap.mean()) / error)
    assert gaps[0] < 4
    assert gaps[1] > 10


def test_oracle_error_is_the_minimum_over_shrinkage():
    """Eq. 11 is least at lambda = c^2 / (c^2 + sigma^2), where it is Eq. 12; to 1e-12."""
    c, sigma = np.random.default_rng(0).standard_normal(50) * np.geomspace(1, 1e-3, 50), 0.1

    def error(shrinkage):
        return ((1 - shrinkage) ** 2 * c**2 + shrinkage**2 * sigma**2).sum(-1)

    best = c**2 / (c**2 + sigma**2)
    assert oracle.oracle_error(c, sigma) == pytest.approx(error(best), rel=1e-12)
    others = np.clip(best + np.random.default_rng(1).normal(0, 0.05, (1000, 50)), 0, 1)
    assert np.all(error(others) > error(best))
    step = 1e-6 * np.eye(50)
    np.testing.assert_allclose((error(best + step) - error(best - step)) / 2e-6, 0, atol=1e-9)


@pytest.mark.parametrize("sigma", [1e-3, 0.03, 0.5, 10.0])
def test_oracle_error_is_between_half_and_all_of_the_thresholded_one(sigma):
    """Eq. 12: sum min(c^2, sigma^2) = M sigma^2 + norm(x - x_M)^2 up to a factor in [1/2, 1]."""
    c = np.random.default_rng(2).standard_normal(1000) * np.geomspace(1, 1e-4, 1000)
    above = np.abs(c) > sigma
    truth = above.sum() * sigma**2 + (c[~above] ** 2).sum()
    assert truth == pytest.approx(np.minimum(c**2, sigma**2).sum(), rel=1e-12)
    assert 0.5 <= oracle.oracle_error(c, sigma) / truth <= 1
    # The ends of the range are reached: 1/2 for coefficients at the noise level, 1 far from it.
    assert oracle.oracle_error(np.full(3, sigma), sigma) == pytest.approx(3 * sigma**2 / 2)
    assert oracle.oracle_error([1e4 * sigma, 1e-4 * sigma], sigma) == pytest.approx(sigma**2, rel=1e-6)


@pytest.mark.parametrize("alpha", [0.75, 1.0, 2.0])
def test_oracle_error_falls_with_the_exponent_of_equation_13(alpha):
    """c_k^2 = k^-(alpha+1): slope alpha / (alpha+1) within 0.01, and the constant of the integral within 2 %."""
    c = np.arange(1, 2_000_001.0) ** (-(alpha + 1) / 2)
    sigmas = np.geomspace(1000, 30, 6) ** (-(alpha + 1) / 2)  # 30 to 1000 coefficients are above the noise
    errors = np.array([oracle.oracle_error(c, sigma) for sigma in sigmas])
    slope = np.polyfit(-20 * np.log10(sigmas), -10 * np.log10(errors), 1)[0]
    assert slope == pytest.approx(alpha / (alpha + 1), abs=0.01)
    power = 1 / (alpha + 1)
    constant = math.pi * power / math.sin(math.pi * power)  # integral of 1 / (1 + k^(alpha+1))
    assert errors[0] / (constant * sigmas[0] ** (2 * alpha * power)) == pytest.approx(1, abs=0.02)


def soft_threshold_risk(c, t):
    """Risk of soft thresholding at t of c + a standard normal (Donoho & Johnstone, 1994)."""
    cdf, pdf = scipy.stats.norm.cdf, scipy.stats.norm.pdf
    kept = cdf(t - c) - cdf(-t - c)
    return 1 + t**2 + (c**2 - t**2 - 1) * kept - (t - c) * pdf(t + c) - (t + c) * pdf(t - c)


@pytest.mark.parametrize("decay", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("sigma", [0.003, 0.03, 0.3])
def test_soft_thresholding_is_within_a_log_factor_of_the_oracle(decay, sigma):
    """Error below (2 ln d + 1)(sigma^2 + 2 oracle error); its mean is the closed-form risk within 4 errors."""
    d, n = 64, 2000
    c, t = np.arange(1.0, d + 1) ** (-decay), sigma * math.sqrt(2 * math.log(d))
    y = c + sigma * np.random.default_rng(3).standard_normal((n, d))
    errors = ((pywt.threshold(y, t, "soft") - c) ** 2).sum(1)
    standard_error = errors.std() / n**0.5
    truth = sigma**2 * soft_threshold_risk(c / sigma, t / sigma).sum()
    assert standard_error < 0.02 * truth
    assert abs(errors.mean() - truth) < 4 * standard_error
    bound = (2 * math.log(d) + 1) * (sigma**2 + np.minimum(c**2, sigma**2).sum())
    assert errors.mean() < bound <= (2 * math.log(d) + 1) * (sigma**2 + 2 * oracle.oracle_error(c, sigma)) * (1 + 1e-12)
    assert errors.mean() > oracle.oracle_error(c, sigma)


M_P, M_Q = np.array([0.3, 0.5, 0.6, 0.4]), np.array([0.5, 0.4, 0.5, 0.2])
C_P, C_Q = spd(7), spd(8, 0.2)


def kl(sigma):
    """KL divergence of the two Gaussians, both blurred by noise of level sigma."""
    p, q = (c + sigma**2 * np.eye(D) for c in (C_P, C_Q))
    ratio, shift = np.linalg.solve(q, p), M_Q - M_P
    return (np.trace(ratio) - D - np.linalg.slogdet(ratio)[1] + shift @ np.linalg.solve(q, shift)) / 2


def error_gap(sigma):
    """E norm(f_q - f_p)^2 under p: the two Wiener filters of gahb, read off as matrix and offset."""
    maps, zero = [], torch.zeros(SHAPE, dtype=torch.float64)
    for mean, cov in ((M_P, C_P), (M_Q, C_Q)):
        f = optimal.gaussian(torch.from_numpy(mean).view(SHAPE), torch.from_numpy(cov), sigma)
        maps.append((gahb.jacobian(f, zero).numpy(), f(zero[None]).flatten().numpy()))
    matrix, offset = maps[1][0] - maps[0][0], maps[1][1] - maps[0][1]
    return np.trace(matrix @ (C_P + sigma**2 * np.eye(D)) @ matrix.T) + ((matrix @ M_P + offset) ** 2).sum()


def error_gap_closed_form(sigma):
    """The same from the scores: sigma^4 E norm(score_p - score_q)^2."""
    p, q = (np.linalg.inv(c + sigma**2 * np.eye(D)) for c in (C_P, C_Q))
    shift = q @ (M_Q - M_P)
    return sigma**4 * (np.trace((q - p) @ np.linalg.inv(p) @ (q - p)) + shift @ shift)


def test_equation_5_is_an_equality_for_two_gaussians():
    """KL(p || q) from the error gap of gahb's Wiener filters, relative error below 1e-3."""
    sigmas = np.geomspace(1e-4, 1e3, 121)
    gap = np.array([error_gap(sigma) for sigma in sigmas])
    np.testing.assert_allclose(gap, [error_gap_closed_form(sigma) for sigma in sigmas], rtol=1e-6, atol=1e-13)
    assert kl(0) > 0.1
    assert stats.kl_integral(sigmas, gap) == pytest.approx(kl(0), rel=1e-3)


def test_error_gap_measured_on_images_is_the_closed_form():
    """The gap as the claims take it, from errors on shared noisy images: within 4 standard errors."""
    n, sigma = 5000, 0.3
    x = torch.from_numpy(np.random.default_rng(9).multivariate_normal(M_P, C_P, n)).view(n, *SHAPE)
    errors = [
        D
        * metrics.squared_errors(
            optimal.gaussian(torch.from_numpy(m).view(SHAPE), torch.from_numpy(c), sigma), x, sigma
        )
        for m, c in ((M_P, C_P), (M_Q, C_Q))
    ]
    gap = (errors[1] - errors[0])[0].numpy()
    standard_error = gap.std() / n**0.5
    assert standard_error < 0.1 * error_gap_closed_form(sigma)
    assert abs(gap.mean() - error_gap_closed_form(sigma)) < 4 * standard_error


def test_integration_error_falls_as_the_grid_is_refined():
    """Over a finite range the integral is KL(sigma_low) - KL(sigma_high) exactly; Simpson's error goes as step^4."""
    low, high = 0.01, 10.0
    truth = kl(low) - kl(high)
    errors = []
    for n in (9, 17, 33, 65):
        sigmas = np.geomspace(low, high, n)
        errors.append(abs(stats.kl_integral(sigmas, [error_gap_closed_form(s) for s in sigmas]) / truth - 1))
    assert errors[0] > errors[1] > errors[2] > errors[3]
    assert errors[2] > 10 * errors[3]
    assert errors[3] < 1e-5

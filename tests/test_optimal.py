"""Optimal denoisers against numpy, scipy and quadrature."""

import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

import gahb
from gahb import optimal

SHAPE = (1, 3, 3)
D = 9


def images(n, seed, shape=SHAPE, dtype=torch.float64):
    return torch.from_numpy(np.random.default_rng(seed).random((n, *shape))).to(dtype)


def covariance(seed, d=D, rank=None):
    root = np.random.default_rng(seed).standard_normal((d, rank or d)) / d**0.5
    return root @ root.T


def noisy(n, seed, sigma, shape=SHAPE):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.random((n, *shape)) + sigma * rng.standard_normal((n, *shape)))


def every_denoiser(sigma=0.3):
    """Name, denoiser of 3x3 images."""
    means, covs = images(2, 1), torch.from_numpy(np.stack([covariance(2), covariance(3, rank=2)]))
    return {
        "empirical": optimal.empirical(images(20, 0), sigma),
        "gaussian": optimal.gaussian(means[0], covs[0], sigma),
        "mixture": optimal.mixture(means, covs, torch.tensor([1.0, 3.0]), sigma),
        "subspace": optimal.subspace(images(3, 4)),
        "ray": optimal.ray(images(1, 5)[0], sigma),
    }


@pytest.fixture(params=["empirical", "gaussian", "mixture", "subspace", "ray"])
def denoiser(request):
    return every_denoiser()[request.param]


def plain_empirical(y, train, sigma):
    """Posterior mean with numpy's longest floats, one image at a time."""
    x, result = train.flatten(1).numpy().astype(np.longdouble), []
    for point in y.flatten(1).numpy().astype(np.longdouble):
        logits = -((point - x) ** 2).sum(1) / (2 * np.longdouble(sigma) ** 2)
        weights = np.exp(logits - logits.max())
        result.append((weights / weights.sum()) @ x)
    return np.array(result, dtype=float).reshape(y.shape)


@pytest.mark.parametrize("rank", [D, 2])
def test_gaussian_is_the_wiener_filter(rank):
    mean, cov, sigma, y = images(1, 0)[0], covariance(1, rank=rank), 0.2, noisy(5, 2, 0.2)
    centered = (y - mean).flatten(1).numpy()
    truth = mean.flatten().numpy() + centered @ np.linalg.solve(cov + sigma**2 * np.eye(D), cov)
    found = optimal.gaussian(mean, torch.from_numpy(cov), sigma)(y)
    np.testing.assert_allclose(found.flatten(1), truth, rtol=0, atol=1e-13)


@pytest.mark.parametrize("n", [40, 5])
@pytest.mark.parametrize("sigma", [0.02, 0.3])
def test_wiener_filter_of_a_training_set_is_numpys(n, sigma):
    """Also of fewer images than pixels; the same as ``gaussian`` of the set's moments; one object for all levels."""
    train, y = images(n, 0), noisy(5, 1, sigma)
    flat = train.flatten(1).numpy()
    mean, cov = flat.mean(0), np.cov(flat.T, ddof=0)
    found_mean, found_cov = optimal.moments(train.float())
    assert found_mean.dtype == found_cov.dtype == torch.float64
    np.testing.assert_allclose(found_mean.flatten(), mean, rtol=0, atol=1e-7)  # of rounded images
    np.testing.assert_allclose(found_cov, cov, rtol=0, atol=1e-7)
    at = optimal.wiener(train)
    at(10.0)  # another level in between changes nothing
    truth = mean + (y.flatten(1).numpy() - mean) @ np.linalg.solve(cov + sigma**2 * np.eye(D), cov)
    np.testing.assert_allclose(at(sigma)(y).flatten(1), truth, rtol=0, atol=1e-12)
    torch.testing.assert_close(at(sigma)(y), optimal.gaussian(*optimal.moments(train), sigma)(y), rtol=0, atol=1e-12)


def test_wiener_filter_has_the_least_error_of_all_affine_maps():
    """On its training set, over all noise: any change of gain or offset costs; the error is that of the spectrum."""
    train, sigma = images(40, 0), 0.3
    y = torch.zeros(1, *SHAPE, dtype=torch.float64)
    f = optimal.wiener(train)(sigma)
    gain, offset = gahb.jacobian(f, y).numpy(), f(y).flatten().numpy()
    x = train.flatten(1).numpy()

    def error(gain, offset):
        return ((x @ gain.T + offset - x) ** 2).sum(1).mean() + sigma**2 * (gain**2).sum()

    v = np.linalg.eigvalsh(np.cov(x.T, ddof=0))
    assert error(gain, offset) == pytest.approx((sigma**2 * v / (v + sigma**2)).sum(), rel=1e-10)
    rng = np.random.default_rng(1)
    for step in 1e-3 * rng.standard_normal((50, D, D + 1)):
        assert error(gain + step[:, :D], offset + step[:, D]) > error(gain, offset)


def test_gaussian_samples_have_the_moments_and_are_linear_in_the_noise():
    train, n = images(30, 0), 50_000
    z = torch.from_numpy(np.random.default_rng(1).standard_normal((n, *SHAPE)))
    x = train.flatten(1).numpy()
    mean, cov = x.mean(0), np.cov(x.T, ddof=0)
    samples = optimal.gaussian_samples(train, z).flatten(1).numpy()
    np.testing.assert_array_less(np.abs(samples.mean(0) - mean), 4 * np.sqrt(np.diag(cov) / n))
    error = np.sqrt((cov**2 + np.outer(np.diag(cov), np.diag(cov))) / n)  # of a Wishart matrix
    np.testing.assert_array_less(np.abs(np.cov(samples.T) - cov), 4 * error)
    zero = optimal.gaussian_samples(train, 0 * z[:1])
    np.testing.assert_allclose(zero.flatten(), mean, rtol=0, atol=1e-14)
    mixed = optimal.gaussian_samples(train, 2 * z[:3] - z[3:6]) - zero
    parts = [optimal.gaussian_samples(train, part) - zero for part in (z[:3], z[3:6])]
    torch.testing.assert_close(mixed, 2 * parts[0] - parts[1], rtol=0, atol=1e-13)
    assert optimal.gaussian_samples(train, z[:3].float()).dtype == torch.float32
    few = optimal.gaussian_samples(train[:4], z[:100]).flatten(1).numpy() - x[:4].mean(0)
    assert np.linalg.matrix_rank(few, tol=1e-6) == 3  # in the span of the set


@pytest.mark.parametrize("block", [1, 7, 49, 50, 4096])
@pytest.mark.parametrize("sigma", [0.02, 0.3, 3.0])
def test_empirical_is_the_softmax(sigma, block):
    train, y = images(50, 0), noisy(6, 1, sigma)
    found = optimal.empirical(train, sigma, block)(y)
    np.testing.assert_allclose(found, plain_empirical(y, train, sigma), rtol=0, atol=1e-12)


@pytest.mark.parametrize("sigma", [1e-2, 1e-4])
def test_empirical_of_ten_thousand_images_at_small_noise(sigma):
    shape = (1, 5, 5)
    train = images(10_000, 0, shape, torch.float32)
    y = torch.cat([train[:3] + sigma, images(3, 1, shape, torch.float32) + 5, -images(2, 2, shape, torch.float32)])
    found = optimal.empirical(train, sigma)(y)
    assert bool(torch.isfinite(found).all())
    np.testing.assert_allclose(found, plain_empirical(y, train, sigma), rtol=0, atol=2e-7)  # float32 output
    torch.testing.assert_close(found[:3], train[:3], rtol=0, atol=2e-7)


def test_empirical_limits_of_the_noise():
    train, y = images(50, 0), noisy(6, 1, 0.3)
    distance = np.linalg.norm(y.flatten(1).numpy()[:, None] - train.flatten(1).numpy()[None], axis=2)
    torch.testing.assert_close(optimal.empirical(train, 1e-4)(y), train[distance.argmin(1)], rtol=0, atol=1e-12)
    mean = np.broadcast_to(train.numpy().mean(0), y.shape)
    np.testing.assert_allclose(optimal.empirical(train, 1e5)(y), mean, rtol=0, atol=1e-9)


def test_empirical_is_equivariant_to_permutations():
    """Claim 6.4: shuffling the pixels of set, clean and noisy images changes no error."""
    train, clean, sigma = images(100, 0, dtype=torch.float32), images(40, 1, dtype=torch.float32), 0.2
    y = clean + sigma * gahb.gaussian_noise(40, SHAPE, 2)
    order = np.random.default_rng(3).permutation(D)

    def moved(x):
        return x.flatten(1)[:, order].view(x.shape)

    plain, shuffled = optimal.empirical(train, sigma)(y), optimal.empirical(moved(train), sigma)(moved(y))
    torch.testing.assert_close(moved(plain), shuffled, rtol=0, atol=1e-6)
    mse = (plain - clean).square().mean(), (shuffled - moved(clean)).square().mean()
    assert mse[0] > 1e-3  # not a comparison of zeros
    assert abs(mse[1] / mse[0] - 1) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_subspace_of_dependent_vectors(dtype):
    basis, rng = images(2, 0), np.random.default_rng(1)
    mixed = (torch.from_numpy(rng.random((6, 2))) @ basis.flatten(1)).view(6, *SHAPE).to(dtype)
    y = noisy(4, 2, 0.5)
    q, _ = np.linalg.qr(basis.flatten(1).numpy().T)
    found = optimal.subspace(mixed)(y).flatten(1).numpy()
    np.testing.assert_allclose(
        found, y.flatten(1).numpy() @ q @ q.T, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12
    )


def ray_truth(mean, sd, low=0.0, high=1.0):
    """Mean and variance / sd^2 of the truncated normal with 60 digits, in its nearer tail's form."""
    with mpmath.workdps(60):
        mean, sd, low, high = (mpmath.mpf(v) for v in (mean, sd, low, high))
        flip = 1 if mean <= (low + high) / 2 else -1
        a, b = ((low - mean) / sd, (high - mean) / sd) if flip > 0 else ((mean - high) / sd, (mean - low) / sd)
        mass = (mpmath.erfc(a / mpmath.sqrt(2)) - mpmath.erfc(b / mpmath.sqrt(2))) / 2
        tilt = (mpmath.npdf(a) - mpmath.npdf(b)) / mass
        variance = 1 + (a * mpmath.npdf(a) - b * mpmath.npdf(b)) / mass - tilt**2
        return float(mean + flip * sd * tilt), float(variance)


@pytest.mark.parametrize(
    ("s", "sigma"),
    [(0.3, 0.1), (0.0, 0.5), (1.2, 0.2), (-1.0, 0.1), (2.0, 0.01), (-1.0, 1e-4), (2.0, 1e-6), (0.2, 20.0), (0.5, 1e-9)],
)
def test_ray_is_a_truncated_normal(s, sigma):
    """In the bulk, and up to 10^6 standard deviations out on either side."""
    image = images(1, 0)[0]
    norm = float(image.norm())
    y = (s * image)[None].requires_grad_()
    found = optimal.ray(image, sigma * norm)(y)
    mean, variance = ray_truth(s, sigma)
    np.testing.assert_allclose(found.detach()[0], mean * image, rtol=0, atol=1e-12)
    # The Jacobian along the ray is the posterior variance over the noise variance.
    (gradient,) = torch.autograd.grad((found * image).sum() / norm**2, y)
    assert float((gradient[0] * image).sum()) == pytest.approx(variance, abs=1e-4)
    if abs(s - 0.5) / sigma < 10:
        truncated = scipy.stats.truncnorm.mean(-s / sigma, (1 - s) / sigma, loc=s, scale=sigma)
        assert mean == pytest.approx(truncated, abs=1e-9)


def test_ray_against_quadrature_over_the_whole_posterior():
    """Also with a range of its own, and with noise off the ray, which does not matter."""
    image, sigma, low, high = images(1, 0)[0], 0.4, 0.5, 3.0
    y = noisy(4, 1, 0.4) * 2
    s, step = np.linspace(low, high, 20_001, retstep=True)
    clean = s[:, None] * image.flatten().numpy()
    for one, found in zip(y, optimal.ray(image, sigma, low, high)(y), strict=True):
        logits = -((one.flatten().numpy() - clean) ** 2).sum(1) / (2 * sigma**2)
        weights = np.exp(logits - logits.max())
        mass, first = (scipy.integrate.simpson(w, dx=step) for w in (weights, weights * s))
        np.testing.assert_allclose(found, first / mass * image, rtol=0, atol=1e-10)


def test_mixture_against_quadrature():
    """Two pixels, two components: integrals over a fine square grid of clean images."""
    means, sigma = np.array([[0.2, 0.8], [0.9, 0.4]]), 0.25
    covs = np.array([[[0.05, 0.03], [0.03, 0.04]], [[0.03, -0.02], [-0.02, 0.08]]])
    weights = np.array([0.3, 0.7])
    grid = np.linspace(-1.5, 2.5, 401)
    x = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1)
    prior = sum(w * scipy.stats.multivariate_normal.pdf(x, m, c) for w, m, c in zip(weights, means, covs, strict=True))
    y = np.array([[0.1, 0.9], [0.55, 0.6], [1.3, 0.2]])
    f = optimal.mixture(
        torch.from_numpy(means).view(2, 1, 1, 2), torch.from_numpy(covs), torch.from_numpy(5 * weights), sigma
    )
    for one, found in zip(y, f(torch.from_numpy(y).view(3, 1, 1, 2)), strict=True):
        posterior = prior * np.exp(-((one - x) ** 2).sum(-1) / (2 * sigma**2))
        truth = (posterior[..., None] * x).sum((0, 1)) / posterior.sum()
        np.testing.assert_allclose(found.flatten(), truth, rtol=0, atol=1e-9)


def test_mixture_of_one_or_of_equals_is_the_gaussian():
    mean, cov, y = images(1, 0), torch.from_numpy(covariance(1))[None], noisy(5, 2, 0.3)
    gaussian = optimal.gaussian(mean[0], cov[0], 0.3)(y)
    for copies in (1, 3):
        f = optimal.mixture(mean.repeat(copies, 1, 1, 1), cov.repeat(copies, 1, 1), torch.ones(copies), 0.3)
        torch.testing.assert_close(f(y), gaussian, rtol=0, atol=1e-13)


def test_mixture_of_points_is_the_empirical_denoiser():
    points, y = images(4, 0), noisy(5, 1, 0.3)
    f = optimal.mixture(points, torch.zeros(4, D, D), torch.ones(4), 0.3)
    np.testing.assert_allclose(f(y), plain_empirical(y, points, 0.3), rtol=0, atol=1e-12)


def test_each_is_sampled_to_a_fixed_point(denoiser):
    """Algorithm 1 ascends one smoothed density: it ends where f(x) = x."""
    samples = gahb.sample(denoiser, noisy(3, 8, 1.0), step_size=0.2, sigma_end=1e-4)
    residual = (denoiser(samples.images) - samples.images).flatten(1).norm(dim=1) / D**0.5
    assert float(residual.max()) < 1e-4
    assert bool((samples.steps > 5).all())


def test_each_treats_the_images_of_a_batch_alone(denoiser):
    y = noisy(7, 10, 0.3)
    alone = torch.cat([denoiser(one[None]) for one in y])
    torch.testing.assert_close(denoiser(y), alone, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_each_keeps_the_dtype(denoiser, dtype):
    y = noisy(2, 11, 0.3)
    found = denoiser(y.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), denoiser(y), rtol=0, atol=10 * torch.finfo(dtype).eps)

"""Errors and similarities against numpy and plain loops."""

import numpy as np
import pytest
import torch

import gahb
from gahb import metrics

SHAPE = (1, 4, 4)
SIGMAS = [0.5, 0.1, 0.02]


def images(n, seed, shape=SHAPE, dtype=torch.float32):
    return torch.from_numpy(np.random.default_rng(seed).random((n, *shape))).to(dtype)


def shrink(y):
    return 0.8 * y + 0.1


def plain_psnr(a, b):
    return -10 * np.log10(((a.double().numpy() - b.double().numpy()) ** 2).mean((1, 2, 3)))


def test_psnr():
    a, b = images(5, 0), images(5, 1)
    np.testing.assert_allclose(gahb.psnr(a, b), plain_psnr(a, b), rtol=0, atol=1e-5)
    assert float(gahb.psnr(a[:1], a[:1] + 0.1)) == pytest.approx(20, abs=1e-4)
    assert torch.isinf(gahb.psnr(a, a)).all()


@pytest.mark.parametrize("batch_pixels", [1, 16, 16 * 7, 10**6])
def test_squared_errors_are_a_plain_loop(monkeypatch, batch_pixels):
    """Whatever the chunks: below one image, one image, a number that divides nothing, all at once."""
    monkeypatch.setattr(metrics, "BATCH_PIXELS", batch_pixels)
    x = images(10, 0)
    noise = np.random.default_rng(5).standard_normal((10, *SHAPE), dtype=np.float32)
    sizes = []

    def denoiser(y):
        sizes.append(len(y))
        return shrink(y)

    errors = metrics.squared_errors(denoiser, x, SIGMAS, seed=5)
    assert errors.shape == (3, 10)
    for s, sigma in enumerate(SIGMAS):
        for i in range(10):
            y = x[i].numpy() + sigma * noise[i]
            assert float(errors[s, i]) == pytest.approx(((0.8 * y + 0.1 - x[i].numpy()) ** 2).mean(), rel=1e-5)
    assert max(sizes) <= max(1, batch_pixels // 16)
    assert sum(sizes) == 30


def test_psnr_curve_is_of_the_mean_error():
    x = images(6, 0)
    noise = np.random.default_rng(0).standard_normal((6, *SHAPE), dtype=np.float32)
    rows = [plain_psnr(x, shrink(x + sigma * torch.from_numpy(noise))) for sigma in SIGMAS]
    curve = -10 * np.log10((10 ** (-np.array(rows) / 10)).mean(1))
    np.testing.assert_allclose(gahb.psnr_curve(shrink, x, SIGMAS), curve, rtol=0, atol=1e-4)
    np.testing.assert_allclose(gahb.psnr_curve(shrink, x, SIGMAS[1]), curve[1:2], rtol=0, atol=1e-4)


@pytest.mark.parametrize("batch_pixels", [1, 16 * 7, 10**6])
def test_denoised_in_chunks_is_the_denoiser(monkeypatch, batch_pixels):
    monkeypatch.setattr(metrics, "BATCH_PIXELS", batch_pixels)
    net, y = gahb.BFCNN(depth=3, channels=4, seed=0), images(10, 0)
    found = metrics.denoised(net.train(), y)
    assert net.training and not found.requires_grad
    torch.testing.assert_close(found, net.eval()(y).detach(), rtol=0, atol=1e-6)


def test_inferred_noise_levels_of_known_denoisers():
    """The identity infers 0, zero the root mean square of the noisy image, the clean image the norm of the noise."""
    x = images(6, 0, dtype=torch.float64)
    noise = np.random.default_rng(5).standard_normal((6, *SHAPE), dtype=np.float32).astype(float)
    assert not metrics.inferred_sigmas(lambda y: y, x, SIGMAS, seed=5).any()
    rows = [np.sqrt(((x.numpy() + sigma * noise) ** 2).mean((1, 2, 3))) for sigma in SIGMAS]
    np.testing.assert_allclose(metrics.inferred_sigmas(lambda y: 0 * y, x, SIGMAS, seed=5), rows, rtol=1e-12)
    rows = [sigma * np.sqrt((noise**2).mean((1, 2, 3))) for sigma in SIGMAS]
    np.testing.assert_allclose(metrics.inferred_sigmas(lambda y: x, x, 0.1, seed=5)[0], rows[1], rtol=1e-12)


def test_difference_of_two_wiener_filters_is_its_closed_form():
    """E norm((A - B) y + b)^2 / d over y ~ N(0, C + sigma^2 Id), within 4 standard errors; exact for each image."""
    rng, n, d = np.random.default_rng(0), 4000, 16
    roots, means = rng.standard_normal((2, d, d)) / d**0.5 / 3, rng.random((2, d))
    covs = roots @ roots.transpose(0, 2, 1)
    x = rng.multivariate_normal(means[0], covs[0], n)
    clean = torch.from_numpy(x).view(n, *SHAPE)
    noise = np.random.default_rng(7).standard_normal((n, *SHAPE), dtype=np.float32).reshape(n, d).astype(float)
    for sigma in (0.5, 0.1):
        first, second = (
            gahb.optimal.gaussian(torch.from_numpy(m).view(SHAPE), torch.from_numpy(c), sigma)
            for m, c in zip(means, covs, strict=True)
        )
        found = metrics.squared_differences(first, second, clean, sigma, seed=7)[0].numpy()
        gains = [np.linalg.solve(c + sigma**2 * np.eye(d), c).T for c in covs]
        matrix = gains[0] - gains[1]
        offset = means[0] - gains[0] @ means[0] - means[1] + gains[1] @ means[1]
        by_image = (((x + sigma * noise) @ matrix.T + offset) ** 2).mean(1)
        np.testing.assert_allclose(found, by_image, rtol=1e-9)
        shift = matrix @ means[0] + offset
        expected = (np.trace(matrix @ (covs[0] + sigma**2 * np.eye(d)) @ matrix.T) + shift @ shift) / d
        error = found.std() / n**0.5
        assert error < 0.05 * expected
        assert abs(found.mean() - expected) < 4 * error
    assert not metrics.squared_differences(first, first, clean[:5], SIGMAS).any()


def test_kurtosis_of_white_noise_is_that_of_a_sphere():
    """Without its mean and of norm 1 an image of d pixels is uniform on a sphere: -6 / (d + 1) for each component."""
    n, d = 100_000, 16
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((n, *SHAPE)))
    train = torch.from_numpy(np.random.default_rng(1).standard_normal((200, *SHAPE)))
    found = metrics.component_kurtosis(noise, train, 2, 7)
    assert found.shape == (n, 5)
    error = found.std(0) / n**0.5
    assert float(error.max()) < 0.1 * 6 / (d + 1)
    assert bool((found.mean(0) + 6 / (d + 1)).abs().lt(4 * error).all())
    assert metrics.component_kurtosis(noise[:9], train[:5], 2, 300).shape == (9, 2)  # 5 images: 4 components
    assert metrics.component_kurtosis(noise[:9], train, 2, 300).shape == (9, 13)  # 15 dimensions without the mean


@pytest.mark.parametrize(("distribution", "kurtosis"), [("normal", 0), ("laplace", 3), ("uniform", -1.2)])
def test_kurtosis_of_one_component_of_known_distribution(distribution, kurtosis):
    """A strong pattern, which fixes the contrast, and a weak one whose coefficient has a known excess kurtosis."""
    n, rng = 200_000, np.random.default_rng(2)
    patterns = np.linalg.qr(np.c_[np.ones(16), rng.standard_normal((16, 2))])[0].T[1:]
    values = rng.uniform(-1, 1, n) if distribution == "uniform" else getattr(rng, distribution)(size=n)
    x = patterns[0] + 1e-4 * values[:, None] * patterns[1]
    train = patterns[0] + 1e-4 * rng.standard_normal((50, 1)) * patterns[1]
    found = metrics.component_kurtosis(*(torch.from_numpy(v).view(-1, *SHAPE) for v in (x, train)), 0, 1)
    z = (values - values.mean()) / values.std()
    np.testing.assert_allclose(found[:, 0], z**4 - 3, rtol=1e-4, atol=1e-4)
    # The delta method: what the standardization takes off the spread of z^4.
    error = np.std(z**4 - 2 * (z**4).mean() * z**2) / n**0.5
    assert error < 0.1
    assert float(found.mean()) == pytest.approx(kurtosis, abs=4 * error)


@pytest.mark.parametrize("centered", [False, True])
def test_cosine_similarity(centered):
    a, b = images(5, 0).double(), images(5, 1).double()
    x, y = a.flatten(1).numpy(), b.flatten(1).numpy()
    if centered:
        x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    truth = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    np.testing.assert_allclose(gahb.cosine_similarity(a, b, centered), truth, rtol=0, atol=1e-14)
    brighter = gahb.cosine_similarity(a, 2 * a + 0.5, centered)
    assert bool((brighter > 1 - 1e-12).all()) == centered


def plain_nearest(a, train, centered):
    """Similarities (B, N), and sorted distances (B, N) between the images of norm 1, by numpy in long doubles."""
    x, t = a.flatten(1).numpy().astype(np.longdouble), train.flatten(1).numpy().astype(np.longdouble)
    if centered:
        x, t = x - x.mean(1, keepdims=True), t - t.mean(1, keepdims=True)
    x, t = x / np.linalg.norm(x, axis=1, keepdims=True), t / np.linalg.norm(t, axis=1, keepdims=True)
    distances = np.sort(np.linalg.norm(x[:, None] - t[None], axis=2), axis=1)
    return (x @ t.T).astype(float), distances.astype(float)


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("block", [1, 7, 8192])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nearest_is_a_brute_force_search(centered, block, dtype):
    a, train = images(30, 0, dtype=dtype), images(40, 1, dtype=dtype)
    similarity, distances = plain_nearest(a, train, centered)
    found = gahb.nearest(a, train, centered, block)
    np.testing.assert_array_equal(found.index, similarity.argmax(1))
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    np.testing.assert_allclose(found.similarity, similarity.max(1), rtol=0, atol=tolerance)
    np.testing.assert_allclose(found.distance_ratio, distances[:, 0] / distances[:, 1], rtol=0, atol=tolerance)


@pytest.mark.parametrize("centered", [False, True])
def test_nearest_has_one_neighbour_whatever_the_contrast(centered):
    """A dim copy is the most similar and, at equal norm, the nearest, though others are closer in Euclidean distance.

    With the means removed, so is one of another brightness, which the plain comparison does not recognize.
    """
    train = images(20, 0, dtype=torch.float64)
    a = 0.1 * train + (0.3 if centered else 0)
    assert bool((torch.cdist(a.flatten(1), train.flatten(1)).argmin(1) != torch.arange(20)).any())
    found = gahb.nearest(a, train, centered)
    np.testing.assert_array_equal(found.index, np.arange(20))
    np.testing.assert_allclose(found.similarity, 1, rtol=0, atol=1e-14)
    np.testing.assert_allclose(found.distance_ratio, 0, rtol=0, atol=1e-13)
    if centered:
        assert float(gahb.nearest(a, train).distance_ratio.min()) > 0.1


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_nearest_among_many_that_float32_products_do_not_resolve(precision):
    """Forty images that are closer to each other than the rounding of products in float32, also at lower precision."""
    base = images(1, 1, (1, 20, 20)) / 100 + 0.9
    train = torch.cat([base + 1e-5 * (k + 1) * images(1, k + 2, (1, 20, 20)) for k in range(40)]).flip(0)
    torch.set_float32_matmul_precision(precision)
    try:
        found = gahb.nearest(base, train)
    finally:
        torch.set_float32_matmul_precision("highest")
    similarity, distances = plain_nearest(base, train, False)
    assert int(found.index) == similarity.argmax()
    np.testing.assert_allclose(found.distance_ratio, distances[:, 0] / distances[:, 1], rtol=1e-6)
    np.testing.assert_array_equal(gahb.nearest(train, train).distance_ratio, 0)


@pytest.mark.parametrize("block", [1, 2, 8192])
def test_nearest_with_ties_and_sets_of_one(block):
    train, a = images(3, 1), images(5, 0)
    alone = gahb.nearest(a, train[:1], block=block)
    assert torch.isnan(alone.distance_ratio).all()
    assert not alone.index.any()
    doubled = torch.cat([train, train])
    tied = gahb.nearest(a, doubled, block=block)
    similarity, _ = plain_nearest(a, train, False)
    np.testing.assert_array_equal(tied.index % 3, similarity.argmax(1))
    np.testing.assert_allclose(tied.distance_ratio, 1, rtol=0, atol=1e-6)
    copies = gahb.nearest(train, doubled, block=block)
    np.testing.assert_allclose(copies.similarity, 1, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(copies.distance_ratio, 1)


def test_stein_risk_of_a_linear_denoiser():
    """f(y) = A y + b: error, estimate and trace of each image from its own noise, with A's trace exact."""
    rng, n, sigma = np.random.default_rng(0), 3, 0.2
    matrix, shift = np.diag(rng.random(16)), rng.standard_normal(16)
    x = images(n, 1, dtype=torch.float64)

    def denoiser(y):
        return (y.flatten(1) @ torch.from_numpy(matrix.T) + torch.from_numpy(shift)).view(y.shape)

    found = metrics.stein_risk(denoiser, x, sigma, probes=1, seed=4)
    noise = np.random.default_rng(4).standard_normal((n, *SHAPE), dtype=np.float32).reshape(n, 16).astype(float)
    clean = x.flatten(1).numpy()
    y = clean + sigma * noise
    output = y @ matrix.T + shift
    # Random signs find the trace of a diagonal matrix exactly.
    trace = sigma**2 * np.trace(matrix)
    np.testing.assert_allclose(found["trace"], np.full(n, trace / 16), rtol=1e-12)
    np.testing.assert_allclose(found["mse"], ((output - clean) ** 2).mean(1), rtol=1e-12)
    np.testing.assert_allclose(found["sure"], (((y - output) ** 2).sum(1) + 2 * trace) / 16 - sigma**2, rtol=1e-12)


def test_stein_risk_has_independent_traces():
    """Images share no signs: over 640 images the mean trace errs as 1 / sqrt(640), not as 1 / sqrt(64)."""
    matrix, x = torch.from_numpy(np.random.default_rng(0).standard_normal((16, 16))), images(640, 1).double()

    def mean_trace(seed):
        risk = metrics.stein_risk(lambda y: (y.flatten(1) @ matrix.T).view(y.shape), x, 1.0, probes=1, seed=seed)
        return 16 * float(risk["trace"].mean())

    means = [mean_trace(100 * seed) for seed in range(40)]
    off = ((matrix + matrix.T) / 2 * (1 - torch.eye(16))).numpy()
    spread = np.sqrt(2 * (off**2).sum() / 640)  # of Hutchinson's mean
    # The ratio of a sample's spread to the true one is within 4 / sqrt(2 * 39) of 1.
    assert np.std(means, ddof=1) / spread == pytest.approx(1, abs=4 / np.sqrt(78))
    assert np.mean(means) == pytest.approx(float(matrix.trace()), abs=4 * spread / 40**0.5)

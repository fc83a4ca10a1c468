"""Bandlets against PyWavelets, brute force over all bases, and what theory says of edges and of risks."""

import itertools

import numpy as np
import pytest
import pywt
import torch

import gahb
from gahb import _alpert, bandlets
from gahb.bandlets import Dictionary
from gahb.datasets import c_alpha


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def lagrangian(coefficients, threshold):
    return float(coefficients.square().clamp(max=threshold**2).sum())


def wavelet_coefficients(image, wavelet, level):
    approximation, details = np.asarray(image), []
    for _ in range(level):  # level by level: wavedec2 warns of filters longer than the image
        approximation, detail = pywt.dwt2(approximation, wavelet, "periodization")
        details.insert(0, detail)
    return pywt.coeffs_to_array([approximation, *details])[0]


def coordinates(side, degrees):
    """Along a direction and across it, for the points of a square in rows."""
    rows, columns = np.mgrid[:side, :side].reshape(2, -1) - (side - 1) / 2
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return columns * cos - rows * sin, columns * sin + rows * cos


@pytest.mark.parametrize("side", [4, 8, 16])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_alpert_vectors_are_orthonormal_and_polynomials_along_the_direction_vanish(side, order):
    matrices = _alpert.matrices(side, order)
    assert matrices.shape == (1 + 2 * side, side**2, side**2)
    np.testing.assert_allclose(
        matrices @ matrices.swapaxes(1, 2), np.eye(side**2) + np.zeros_like(matrices), atol=1e-12
    )
    for k, vectors in enumerate(matrices[1:]):
        along, _ = coordinates(side, 90 * k / side)
        products = vectors @ (along[:, None] / side) ** np.arange(order)
        assert np.abs(products[order:]).max() < 1e-12
        assert np.abs(products[:order]).max() > 0.3


@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_profile_across_the_direction_has_few_coefficients(order):
    """g(row) times a polynomial of the column, along rows: `order` times 8 of the 64 coefficients at most."""
    along, across = coordinates(8, 0)
    profile = np.random.default_rng(0).normal(size=(order, 8))
    pattern = sum(profile[i][np.round(across + 3.5).astype(int)] * along**i for i in range(order))
    count = (np.abs(_alpert.matrices(8, order)[1] @ pattern) > 1e-10).sum()
    assert count == 8 * order
    turned = np.rot90(pattern.reshape(8, 8)).ravel()  # what ran along rows runs along columns
    assert (np.abs(_alpert.matrices(8, order)[9] @ turned) > 1e-10).sum() == 8 * order


def test_alpert_of_order_1_along_rows_is_haar_of_the_rows_one_after_the_other():
    square = np.random.default_rng(0).normal(size=64)
    haar = np.concatenate(pywt.wavedec(square, "haar"))
    np.testing.assert_allclose(np.sort(np.abs(_alpert.matrices(8, 1)[1] @ square)), np.sort(np.abs(haar)), atol=1e-12)


@pytest.mark.parametrize("wavelet", ["haar", "db2", "db4", "sym8"])
@pytest.mark.parametrize(("shape", "levels"), [((40, 40), 3), ((64, 32), 3), ((6, 10), 1), ((256, 256), 6)])
def test_without_directions_the_coefficients_are_those_of_pywavelets(wavelet, shape, levels):
    image = noise(1, *shape)
    basis = bandlets.best_basis(image, 0.0, dictionary=Dictionary(wavelet))
    np.testing.assert_allclose(basis.coefficients, wavelet_coefficients(image[0], wavelet, levels), atol=1e-9)
    assert int(basis.geometry.side.max()) == int(basis.geometry.direction.max()) == 0
    assert bool(basis.geometry.angle.isnan().all())


@pytest.mark.parametrize(("shape", "order"), [((24, 24), 2), ((32, 16), 4), ((24, 20), 1)])
def test_the_basis_is_orthonormal_and_restores_the_image(shape, order):
    image = noise(1, *shape)
    basis = bandlets.best_basis(image, 1.5, penalty=0.1, dictionary=Dictionary("sym4", order=order))
    assert bool((basis.geometry.direction > 0).any())
    size = image.numel()
    vectors = basis.vectors(size).flatten(1)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(size, dtype=torch.float64), rtol=0, atol=1e-10)
    found = vectors @ image.flatten()
    largest = basis.coefficients.flatten().abs().sort(descending=True).values
    torch.testing.assert_close(found.abs(), largest, rtol=0, atol=1e-10)
    torch.testing.assert_close(found @ vectors, image.flatten(), rtol=0, atol=1e-10)
    assert float(basis.coefficients.norm()) == pytest.approx(float(image.norm()), rel=1e-10)
    torch.testing.assert_close(basis.vectors(3).flatten(1), vectors[:3], rtol=0, atol=1e-12)
    torch.testing.assert_close(basis.transform(image), basis.coefficients, rtol=0, atol=1e-10)
    other = noise(1, *shape, seed=1)
    found = basis.transform(other).flatten()[basis.coefficients.flatten().abs().sort(descending=True).indices]
    torch.testing.assert_close(found, vectors @ other.flatten(), rtol=0, atol=1e-10)


def prices(squares, side, threshold, penalty):
    """Cost of each square (n, side^2) in each direction, none first."""
    products = np.einsum("dqp,np->ndq", _alpert.matrices(side, 2), squares)
    return np.minimum(products**2, threshold**2).sum(-1) + penalty * threshold**2 * (np.arange(1 + 2 * side) > 0)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_the_best_basis_is_the_least_of_all(penalty):
    """Subbands of 4x4: 9 bases. Of 8x8: 17 of one square, and 9^4 of four."""
    threshold = 0.8
    for seed, (size, sides) in itertools.product(range(3), [(8, (4,)), (16, (4, 8))]):
        rows, columns = np.mgrid[:size, :size]
        image = noise(1, size, size, seed=seed) / 2 + 2 * torch.from_numpy(columns + rows / 2 > size * 0.7)
        dictionary = Dictionary(levels=1, sides=sides)
        basis = bandlets.best_basis(image, threshold, penalty, dictionary)
        half = size // 2
        wavelets = wavelet_coefficients(image[0], "db2", 1)
        least = np.minimum(wavelets[:half, :half] ** 2, threshold**2).sum()
        for band in (wavelets[:half, half:], wavelets[half:, :half], wavelets[half:, half:]):
            quarters = band.reshape(half // 4, 4, half // 4, 4).swapaxes(1, 2).reshape(-1, 16)
            all_costs = [sum(c) for c in itertools.product(*prices(quarters, 4, threshold, penalty))]
            if half == 8:
                all_costs += prices(band.reshape(1, 64), 8, threshold, penalty)[0].tolist()
            least += min(all_costs)
        area = basis.geometry.side[basis.geometry.side > 0]
        squares = float((1 / area.double() ** 2).sum())
        found = lagrangian(basis.coefficients, threshold) + penalty * threshold**2 * squares
        assert found == pytest.approx(least, rel=1e-12)
        assert squares > 0 or penalty


@pytest.mark.parametrize("degrees", [0, 22.5, 34.75, 45, 55.25, 68.5, 90, 111.5, 124.75, 135, 147.25, 158.5])
def test_a_straight_edge_is_caught_by_the_nearest_direction(degrees):
    """In the squares of 16 of the finest level, 5.625 degrees apart; the edge fades before it meets the border."""
    size, half = 256, 128
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    across = coordinates(size, degrees)[1].reshape(size, size).clip(-50, 50)
    image = np.exp(-(rows**2 + columns**2) / (2 * 36**2)) / (1 + np.exp(-2 * across))
    geometry = bandlets.best_basis(torch.from_numpy(image)[None], 0.05).geometry
    finest = geometry.side == 16
    finest[:half, :half] = False
    assert int(finest.sum()) >= 5 * 16**2
    away = ((geometry.angle[finest] - degrees + 90) % 180 - 90).abs()
    assert float((away <= 5.625 / 2).double().mean()) > 0.85


def test_the_error_of_the_largest_coefficients_falls_faster_than_with_wavelets():
    """Squared error against the number M of coefficients, from 100 to 600, on C^2 images of 256x256.

    Theory has M^-2 and M^-1 while the finest wavelets are below the threshold; later both fall faster. Measured here:
    exponents 1.64 and 1.29, and an error 1.9 dB lower at M = 100, 4.6 dB at M = 600.
    """
    images = c_alpha(4, 256, 2.0, beta=8, seed=3).double()
    number = np.log([100, 200, 300, 400, 600])

    def errors(penalty):
        curve = np.zeros((2, 8))
        for i, image in itertools.product(range(8), images):
            threshold = 2.0 ** (-i / 2)
            basis = bandlets.best_basis(image, threshold, penalty, Dictionary("db4"))
            kept = basis.coefficients.abs() > threshold
            curve[:, i] += float(kept.sum()), float(basis.coefficients[~kept].square().sum())
        m, error = np.log(curve / len(images))
        return np.interp(number, m, error)

    bandlet, wavelet = errors(1.0), errors(1e9)  # at that price no direction is chosen
    exponents = [-np.polyfit(number, error, 1)[0] for error in (bandlet, wavelet)]
    assert 1.5 < exponents[0] < 2 and 1 < exponents[1] < 1.4
    assert (np.diff(wavelet - bandlet) > 0).all()
    assert np.exp(wavelet - bandlet)[-1] > 2


def oracle(image, threshold):
    """The least Lagrangian of the clean image over all bases, with no price on directions."""
    return lagrangian(bandlets.best_basis(image, threshold, 0.0).coefficients, threshold)


@pytest.mark.parametrize(("alpha", "sigma"), [(1, 0.1), (2, 0.03), (4, 0.1)])
def test_the_risk_is_near_the_oracles(alpha, sigma):
    """Selection in a dictionary of K vectors at T^2 = lambda^2 log K sigma^2 has a risk within a constant factor of the
    least squared error plus T^2 per coefficient (Dossal, Le Pennec & Mallat, 2011). Tested here, and no theorem's
    constants: a factor of 4 at T^2 = (32 log K + 8) sigma^2 and at T = 3 sigma; and at T = 3 sigma a factor of log K
    beside sum_k min(c_k^2, sigma^2), the risk of the oracle that knows the best basis and what to keep.
    """
    size = 32
    clean = c_alpha(1, size, alpha, seed=5)[0].double()
    vectors = size**2 + 2 * sum(3 * side * n**2 for n in (4, 8, 16) for side in (4, 8, 16) if side <= n)
    noisy = clean + sigma * noise(16, 1, size, size)
    for threshold, penalty in ((np.sqrt(32 * np.log(vectors) + 8), 0.0), (3.0, 1.0)):
        risk = float(
            (bandlets.denoise(noisy, sigma, threshold, penalty=penalty) - clean).square().sum((1, 2, 3)).mean()
        )
        assert risk < 4 * oracle(clean, threshold * sigma)
    least = oracle(clean, sigma)
    assert least < lagrangian(torch.from_numpy(wavelet_coefficients(clean[0], "db2", 3)), sigma)
    assert risk < np.log(vectors) * least


@pytest.mark.parametrize("soft", [False, True])
def test_denoised_are_the_thresholded_coefficients_of_each_channel(soft):
    sigma, threshold = 0.3, 2.5
    noisy = noise(2, 3, 40, 24) * sigma + (torch.arange(24) > 10)
    denoised = bandlets.denoise(noisy, sigma, threshold, soft)
    for image, result in zip(noisy.flatten(0, 1), denoised.flatten(0, 1), strict=True):
        basis = bandlets.best_basis(image[None], threshold * sigma)
        kept = pywt.threshold(basis.coefficients.numpy(), threshold * sigma, "soft" if soft else "hard")
        kept[:10, :6] = basis.coefficients[:10, :6]  # two levels: the approximation is kept
        order = basis.coefficients.flatten().abs().sort(descending=True, stable=True).indices
        expected = torch.from_numpy(kept).flatten()[order] @ basis.vectors(960).flatten(1)
        torch.testing.assert_close(result.flatten(), expected, rtol=0, atol=1e-10)


def test_spins_average_over_shifts(monkeypatch):
    noisy = noise(3, 1, 16, 16)
    torch.testing.assert_close(bandlets.denoise(noisy, 1.0, threshold=0, spins=2), noisy)
    shifts = [(0, 0), (2, 1), (1, 2), (3, 3)]  # 0 and 1 of rows and columns modulo 2
    shifted = [bandlets.denoise(noisy.roll((i, j), (2, 3)), 1.0).roll((-i, -j), (2, 3)) for i, j in shifts]
    torch.testing.assert_close(bandlets.denoise(noisy, 1.0, spins=2), sum(shifted) / 4)
    monkeypatch.setattr(bandlets, "BLOCK", 300)  # one image at once
    torch.testing.assert_close(bandlets.denoise(noisy, 1.0, spins=2), sum(shifted) / 4)


def test_a_margin_is_a_larger_image_by_reflection():
    noisy = noise(2, 1, 16, 24)
    wide = torch.from_numpy(np.pad(noisy.numpy(), [(0, 0), (0, 0), (8, 8), (8, 8)], mode="symmetric"))
    found = bandlets.denoise(noisy, 0.5, margin=8, spins=2)
    torch.testing.assert_close(found, bandlets.denoise(wide, 0.5, spins=2)[..., 8:-8, 8:-8], rtol=0, atol=1e-12)


def test_the_jacobian_is_the_projection_on_the_vectors_kept():
    sigma = 0.2
    noisy = noise(1, 1, 16, 16) * sigma + (torch.arange(16)[:, None] + torch.arange(16) > 14)
    basis = bandlets.best_basis(noisy, 3 * sigma)
    kept = basis.coefficients.abs() > 3 * sigma
    kept[:4, :4] = True
    found = gahb.adaptive_basis(lambda y: bandlets.denoise(y, sigma), noisy)
    number = int(kept.sum())
    torch.testing.assert_close(found.shrinkage, (torch.arange(256) < number).to(found.shrinkage), rtol=0, atol=1e-6)
    span = found.vectors.flatten(1)[:number]
    largest = basis.vectors(int((basis.coefficients.abs() > 3 * sigma).sum())).flatten(1).to(span)
    torch.testing.assert_close(largest @ span.T @ span, largest, rtol=0, atol=1e-6)


def test_half_precision_is_computed_in_single():
    noisy = noise(2, 1, 32, 32).half()
    denoised = bandlets.denoise(noisy, 0.5)
    assert denoised.dtype == torch.float16
    torch.testing.assert_close(denoised, bandlets.denoise(noisy.float(), 0.5).half(), rtol=0, atol=0)
    assert bandlets.best_basis(noisy[0], 0.5).vectors(2).dtype == torch.float16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_what_the_cpu_gives():
    noisy = (noise(4, 1, 40, 40) * 0.1 + (torch.arange(40) > 17)).float()
    torch.testing.assert_close(
        bandlets.denoise(noisy.cuda(), 0.1, spins=2).cpu(), bandlets.denoise(noisy, 0.1, spins=2), rtol=0, atol=1e-5
    )


ONE = torch.zeros(1, 1, 16, 16)
BAD = [
    (
        lambda: bandlets.denoise(torch.zeros(1, 1, 33, 33), 0.1),
        "2^levels = 2 must divide height and width, got 33 x 33",
    ),
    (lambda: bandlets.best_basis(torch.zeros(1, 40, 40), 1, dictionary=Dictionary(levels=4)), "2^levels = 16 must"),
    (lambda: bandlets.denoise(ONE, 0.0), "sigma must be a positive"),
    (lambda: bandlets.denoise(ONE, -1.0), "sigma must be a positive"),
    (lambda: bandlets.denoise(ONE, 0.1, -3), "threshold must be at least 0, got -3"),
    (lambda: bandlets.denoise(ONE, 0.1, spins=0), "spins must be at least 1"),
    (lambda: bandlets.denoise(ONE, 0.1, margin=-1), "margin must be at least 0"),
    (lambda: bandlets.denoise(ONE, 0.1, penalty=-1), "penalty must be at least 0"),
    (lambda: bandlets.denoise(ONE * torch.nan, 0.1), "noisy must be finite"),
    (lambda: bandlets.denoise(ONE[:0], 0.1), "noisy must not be empty"),
    (lambda: bandlets.best_basis(torch.zeros(3, 16, 16), 0.1), "image must have one channel, got 3"),
    (lambda: bandlets.best_basis(ONE, -0.1), "threshold must be at least 0, got -0.1"),
    (lambda: bandlets.best_basis(ONE, float("nan")), "threshold must be a finite number"),
    (lambda: bandlets.best_basis(ONE, 0.1).vectors(257), "k must be at most the number of pixels, 256, got 257"),
    (lambda: bandlets.best_basis(ONE, 0.1).transform(ONE[..., :8]), "size of the basis, (16, 16), got (16, 8)"),
    (lambda: bandlets.best_basis(ONE, 0.1).transform(ONE * torch.nan), "image must be finite"),
    (lambda: Dictionary("bior4.4"), "wavelet must be orthogonal, got 'bior4.4'"),
    (lambda: Dictionary("dmey"), "wavelet must be orthogonal"),
    (lambda: Dictionary(sides=(4, 16)), "sides must be one of"),
    (lambda: Dictionary(order=5), "order must be one of 1, 2, 3, 4, got 5"),
    (lambda: Dictionary(levels=0), "levels must be at least 1"),
]


@pytest.mark.parametrize(("call", "sentence"), BAD)
def test_bad_input_is_refused_with_a_sentence(call, sentence):
    with pytest.raises(ValueError) as error:
        call()
    assert sentence in str(error.value)

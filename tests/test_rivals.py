"""Denoising in a fixed basis, against scipy, PyWavelets, numerical minimization and Haar by hand."""

import itertools

import numpy as np
import pytest
import pywt
import scipy.fft
import scipy.optimize
import torch

from gahb import rivals


def test_dct_basis_is_scipys_and_orthonormal():
    size = 6
    basis = rivals.dct_basis(size, size**2)
    frequencies = []
    for vector in basis:
        spectrum = scipy.fft.dctn(vector, norm="ortho")
        u, v = np.unravel_index(np.abs(spectrum).argmax(), spectrum.shape)
        unit = np.zeros((size, size))
        unit[u, v] = 1
        np.testing.assert_allclose(vector, scipy.fft.idctn(unit, norm="ortho"), atol=1e-14)
        frequencies.append(np.hypot(u, v))
    flat = basis.reshape(size**2, -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(size**2), atol=1e-13)
    assert frequencies == sorted(frequencies)
    np.testing.assert_array_equal(rivals.dct_basis(size, 7), basis[:7])


@pytest.mark.parametrize("wavelet", ["db4", "haar", "sym8"])
@pytest.mark.parametrize("shape", [(2, 1, 32, 32), (1, 3, 33, 41)])
def test_wavelet_denoise_without_threshold_is_the_identity(wavelet, shape):
    noisy = torch.from_numpy(np.random.default_rng(0).random(shape))
    restored = rivals.wavelet_denoise(noisy, 0.1, wavelet, threshold=0.0)
    assert restored.shape == noisy.shape
    torch.testing.assert_close(restored, noisy, rtol=0, atol=1e-9)  # the tabulated filters have 10 to 12 digits
    assert rivals.wavelet_denoise(noisy.float(), 0.1, wavelet).dtype == torch.float32
    for threshold in (0.0, 2.0):  # coefficients that are exactly 0
        assert not rivals.wavelet_denoise(0 * noisy, 0.1, wavelet, threshold).any()


@pytest.mark.parametrize("mode", ["hard", "soft"])
def test_wavelet_denoise_of_columns_by_hand(mode):
    """Haar, one level, columns c_j: the mean over two blocks of half their sum and half their shrunk difference."""
    c = np.random.default_rng(0).random(10)
    left, right = np.pad(c, 1, mode="edge")[:-2], np.pad(c, 1, mode="edge")[2:]  # reflected at the border
    steps = thresholded(c - left, 0.6, mode), thresholded(c - right, 0.6, mode)
    expected = ((left + c + steps[0]) / 2 + (c + right + steps[1]) / 2) / 2
    image = torch.from_numpy(np.tile(c, (10, 1)))[None, None]
    found = rivals.wavelet_denoise(image, 0.3, "haar", 2.0, mode, levels=1)[0, 0]
    np.testing.assert_allclose(found, np.tile(expected, (10, 1)), rtol=0, atol=1e-12)
    assert 0 < np.count_nonzero(steps[0]) < 9


@pytest.mark.parametrize("mode", ["hard", "soft"])
@pytest.mark.parametrize(("wavelet", "levels"), [("haar", 3), ("db2", 2), ("sym4", 2)])
def test_wavelet_denoise_is_the_mean_over_shifts_of_orthogonal_transforms(wavelet, levels, mode):
    """Cycle spinning, by PyWavelets' decimated periodic transform; the patch is far from the border."""
    noisy = np.zeros((64, 64))
    noisy[26:38, 24:36] = np.random.default_rng(0).standard_normal((12, 12))
    total, shifts = np.zeros_like(noisy), [(i, j) for i in range(2**levels) for j in range(2**levels)]
    for shift in shifts:
        coarse, *details = pywt.wavedec2(np.roll(noisy, shift, (0, 1)), wavelet, "periodization", levels)
        details = [tuple(thresholded(part, 0.5, mode) for part in scale) for scale in details]
        restored = pywt.waverec2([coarse, *details], wavelet, "periodization")
        total += np.roll(restored, (-shift[0], -shift[1]), (0, 1))
    found = rivals.wavelet_denoise(torch.from_numpy(noisy)[None, None], 0.25, wavelet, 2.0, mode, levels)[0, 0]
    np.testing.assert_allclose(found, total / len(shifts), rtol=0, atol=1e-9)


def thresholded(values, threshold, mode):
    shrunk = values if mode == "hard" else np.sign(values) * (np.abs(values) - threshold)
    return np.where(np.abs(values) > threshold, shrunk, 0)


def test_wavelet_denoise_extends_the_border_by_reflection():
    """Of an image beside its mirror images, the middle is the image denoised alone, if filters reach no farther."""
    noisy = np.random.default_rng(0).random((16, 16))
    wide = np.pad(noisy, 16, mode="symmetric")
    alone, among = (
        rivals.wavelet_denoise(torch.from_numpy(v)[None, None], 0.1, "haar", levels=2)[0, 0] for v in (noisy, wide)
    )
    np.testing.assert_allclose(alone, among[16:-16, 16:-16], rtol=0, atol=1e-12)


def test_best_wavelet_is_the_argument_of_least_error():
    rows, columns = np.mgrid[:16, :16]
    train = torch.from_numpy((rows * columns % 5 < 2) * 0.8).double()[None, None].repeat(2, 1, 1, 1)
    best = rivals.best_wavelet(train, 0.2, seed=3)
    noise = np.random.default_rng(3).standard_normal((2, 1, 16, 16), dtype=np.float32)
    noisy = train + 0.2 * torch.from_numpy(noise).double()

    def error(**option):
        return float((rivals.wavelet_denoise(noisy, 0.2, **option) - train).square().mean())

    options = itertools.product(rivals.WAVELETS, rivals.THRESHOLDS, ("hard", "soft"))
    errors = [error(wavelet=wavelet, threshold=threshold, mode=mode) for wavelet, threshold, mode in options]
    assert error(**best) == min(errors) < np.median(errors)


def test_pca_basis_is_numpys_svd():
    train = torch.from_numpy(np.random.default_rng(0).random((60, 1, 5, 5)) * np.linspace(1, 3, 5))
    flat = train.flatten(1).numpy()
    truth = np.linalg.svd(flat - flat.mean(0), full_matrices=False)[2]
    basis = rivals.pca_basis(train, 25).reshape(25, 25)
    np.testing.assert_allclose(np.abs((basis * truth).sum(1)), 1, rtol=0, atol=1e-9)
    np.testing.assert_allclose(basis @ basis.T, np.eye(25), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(rivals.pca_basis(train, 3), rivals.pca_basis(train, 25)[:3])
    few = rivals.pca_basis(train[:6].float(), 25).reshape(25, 25)  # five components, then whatever is orthogonal
    np.testing.assert_allclose(few @ few.T, np.eye(25), rtol=0, atol=1e-12)
    five = flat[:6] - flat[:6].mean(0)
    np.testing.assert_allclose(five @ few[:5].T @ few[:5], five, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Level value of .* is too high")
@pytest.mark.parametrize("wavelet", rivals.WAVELETS)
@pytest.mark.parametrize(("size", "levels"), [(4, 2), (5, 0), (16, 4), (20, 2)])
def test_wavelet_basis_gives_pywavelets_coefficients_and_is_orthonormal(wavelet, size, levels):
    image = np.random.default_rng(0).random((size, size))
    basis = rivals.wavelet_basis(size, wavelet).reshape(size**2, -1)
    coarse, *details = pywt.wavedec2(image, wavelet, "periodization", levels)
    expected = np.concatenate([coarse.ravel(), *(part.ravel() for scale in details for part in scale[::-1])])
    np.testing.assert_allclose(basis @ image.ravel(), expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(basis @ basis.T, np.eye(size**2), rtol=0, atol=1e-10)  # tabulated filters


def test_oracle_errors_are_direct_sums_and_the_adaptive_basis_is_of_another_noise():
    """J = A + <b, y> b b^T, whose eigenvectors depend on the noise of seed + i; the other bases do not."""
    size, d, sigma, rng = 4, 16, 0.3, np.random.default_rng(0)
    x, train = rng.random((5, 1, size, size)), rng.random((40, 1, size, size))
    b, root = rng.standard_normal(d), rng.standard_normal((d, d)) / 4
    matrix = root @ root.T

    def denoiser(y):
        flat = y.flatten(1)
        along = flat @ torch.from_numpy(b)
        return (flat @ torch.from_numpy(matrix) + along[:, None] ** 2 / 2 * torch.from_numpy(b)).view(y.shape)

    def oracle(coefficients):
        return (sigma**2 * coefficients**2 / (coefficients**2 + sigma**2)).mean(-1)

    rows = rivals.oracle_errors(denoiser, torch.from_numpy(x), sigma, torch.from_numpy(train), seed=7)
    assert list(rows) == ["adaptive", "DCT", "PCA", "wavelets"]
    clean = x.reshape(5, d)
    for i, one in enumerate(clean):
        noise = np.random.default_rng(7 + i).standard_normal((1, 1, size, size), dtype=np.float32).ravel()
        vectors = np.linalg.eigh(matrix + b @ (one + sigma * noise) * np.outer(b, b))[1]
        assert rows["adaptive"][i] == pytest.approx(oracle(one @ vectors), rel=1e-6)  # the noise is float32
    np.testing.assert_allclose(rows["DCT"], oracle(scipy.fft.dctn(x[:, 0], norm="ortho", axes=(1, 2)).reshape(5, d)))
    flat = train.reshape(40, d)
    components = np.linalg.svd(flat - flat.mean(0))[2]
    np.testing.assert_allclose(rows["PCA"], oracle(clean @ components.T))
    found = [pywt.coeffs_to_array(pywt.wavedec2(one[0], "haar", "periodization", 2))[0].ravel() for one in x]
    assert rows["wavelets"].mean() <= oracle(np.array(found)).mean()
    other = rivals.oracle_errors(denoiser, torch.from_numpy(x), sigma, torch.from_numpy(train), seed=70)
    assert np.abs(other["adaptive"] / rows["adaptive"] - 1).max() > 1e-3
    for name in ("DCT", "PCA", "wavelets"):
        np.testing.assert_array_equal(other[name], rows[name])


def test_adaptive_gain_is_over_the_best_fixed_basis():
    errors = np.random.default_rng(0).gamma(2, 1 / 2, 200)
    rows = {"adaptive": errors / 100, "DCT": errors / 50, "PCA": errors / 20, "wavelets": errors / 10}
    gain, interval = rivals.adaptive_gain(rows)
    np.testing.assert_allclose([gain, *interval], 10 * np.log10(2), rtol=1e-12)


def test_fraction_above_by_hand():
    """Haar on [[a, b], [c, d]]: half the sum, and three half differences."""
    a, b, c, d = 0.9, 0.5, 0.3, 0.2
    sizes = [abs(a + b + c + d) / 2, abs(a + b - c - d) / 2, abs(a - b + c - d) / 2, abs(a - b - c + d) / 2]
    assert sorted(np.round(sizes, 3)) == [0.15, 0.25, 0.45, 0.95]
    images = torch.tensor([[[[a, b], [c, d]]], [[[0.0, 0.0], [0.0, 0.0]]]])
    for sigma, count in ((0.1, 4), (0.2, 3), (0.3, 2), (0.5, 1), (1.0, 0)):
        assert rivals.fraction_above(images, sigma, "haar") == count / 8


@pytest.mark.parametrize("size", [32, 40, 30])
def test_fraction_above_of_noise_is_that_of_a_normal_distribution(size):
    """An orthogonal basis leaves white noise white: of unit normals 31.73 % exceed 1 in size."""
    noise = torch.randn(64, 1, size, size, generator=torch.Generator().manual_seed(0))
    assert rivals.fraction_above(noise, 1.0) == pytest.approx(0.3173, abs=0.01)

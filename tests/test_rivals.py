"""Denoising in a fixed basis, against scipy, PyWavelets, numerical minimization and Haar by hand."""

import numpy as np
import pytest
import pywt
import scipy.fft
import torch

from gahb import bandlets, metrics, rivals


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
    restored = rivals.wavelet_denoise(noisy, 0.1, 0.0, wavelet=wavelet)
    assert restored.shape == noisy.shape
    torch.testing.assert_close(restored, noisy, rtol=0, atol=1e-9)  # the tabulated filters have 10 to 12 digits
    assert rivals.wavelet_denoise(noisy.float(), 0.1, wavelet=wavelet).dtype == torch.float32
    for threshold in (0.0, 2.0):  # coefficients that are exactly 0
        assert not rivals.wavelet_denoise(0 * noisy, 0.1, threshold, wavelet=wavelet).any()


@pytest.mark.parametrize("soft", [False, True])
def test_wavelet_denoise_of_columns_by_hand(soft):
    """Haar, one level, columns c_j: the mean over two blocks of half their sum and half their shrunk difference."""
    c = np.random.default_rng(0).random(10)
    left, right = np.pad(c, 1, mode="edge")[:-2], np.pad(c, 1, mode="edge")[2:]  # reflected at the border
    steps = thresholded(c - left, 0.6, soft), thresholded(c - right, 0.6, soft)
    expected = ((left + c + steps[0]) / 2 + (c + right + steps[1]) / 2) / 2
    image = torch.from_numpy(np.tile(c, (10, 1)))[None, None]
    found = rivals.wavelet_denoise(image, 0.3, 2.0, soft, "haar", levels=1)[0, 0]
    np.testing.assert_allclose(found, np.tile(expected, (10, 1)), rtol=0, atol=1e-12)
    assert 0 < np.count_nonzero(steps[0]) < 9


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("wavelet", "levels"), [("haar", 3), ("db2", 2), ("sym4", 2)])
def test_wavelet_denoise_is_the_mean_over_shifts_of_orthogonal_transforms(wavelet, levels, soft):
    """Cycle spinning, by PyWavelets' decimated periodic transform; the patch is far from the border."""
    noisy = np.zeros((64, 64))
    noisy[26:38, 24:36] = np.random.default_rng(0).standard_normal((12, 12))
    total, shifts = np.zeros_like(noisy), [(i, j) for i in range(2**levels) for j in range(2**levels)]
    for shift in shifts:
        coarse, *details = pywt.wavedec2(np.roll(noisy, shift, (0, 1)), wavelet, "periodization", levels)
        details = [tuple(thresholded(part, 0.5, soft) for part in scale) for scale in details]
        restored = pywt.waverec2([coarse, *details], wavelet, "periodization")
        total += np.roll(restored, (-shift[0], -shift[1]), (0, 1))
    found = rivals.wavelet_denoise(torch.from_numpy(noisy)[None, None], 0.25, 2.0, soft, wavelet, levels)[0, 0]
    np.testing.assert_allclose(found, total / len(shifts), rtol=0, atol=1e-9)


def thresholded(values, threshold, soft):
    shrunk = values if not soft else np.sign(values) * (np.abs(values) - threshold)
    return np.where(np.abs(values) > threshold, shrunk, 0)


def test_wavelet_denoise_extends_the_border_by_reflection():
    """Of an image beside its mirror images, the middle is the image denoised alone, if filters reach no farther."""
    noisy = np.random.default_rng(0).random((16, 16))
    wide = np.pad(noisy, 16, mode="symmetric")
    alone, among = (
        rivals.wavelet_denoise(torch.from_numpy(v)[None, None], 0.1, wavelet="haar", levels=2)[0, 0]
        for v in (noisy, wide)
    )
    np.testing.assert_allclose(alone, among[16:-16, 16:-16], rtol=0, atol=1e-12)


@pytest.mark.parametrize("soft", [False, True])
def test_basis_denoise_thresholds_the_cosines_of_scipy(soft):
    noisy = np.random.default_rng(0).random((2, 3, 8, 8))
    coefficients = scipy.fft.dctn(noisy, norm="ortho", axes=(2, 3))
    kept = thresholded(coefficients, 0.4, soft)
    kept[..., 0, 0] = coefficients[..., 0, 0]  # the mean
    found = rivals.basis_denoise(torch.from_numpy(noisy), 0.2, rivals.dct_basis(8, 64), 2.0, soft)
    np.testing.assert_allclose(found, scipy.fft.idctn(kept, norm="ortho", axes=(2, 3)), rtol=0, atol=1e-12)
    leading = rivals.basis_denoise(torch.from_numpy(noisy), 0.2, rivals.dct_basis(8, 1), 2.0, soft)
    np.testing.assert_allclose(leading, np.broadcast_to(noisy.mean((2, 3), keepdims=True), noisy.shape), atol=1e-12)


@pytest.mark.parametrize(
    ("denoise", "options"),
    [(rivals.wavelet_denoise, rivals.WAVELET_OPTIONS), (bandlets.denoise, rivals.BANDLET_OPTIONS)],
)
def test_the_best_option_is_of_least_error_on_the_training_images(denoise, options):
    rows, columns = np.mgrid[:16, :16]
    train = torch.from_numpy((rows * columns % 5 < 2) * 0.8).double()[None, None].repeat(2, 1, 1, 1)
    best = rivals.best_option(denoise, options, train, 0.2, seed=3)
    noise = np.random.default_rng(3).standard_normal((2, 1, 16, 16), dtype=np.float32)
    noisy = train + 0.2 * torch.from_numpy(noise).double()
    errors = [float((denoise(noisy, 0.2, **option) - train).square().mean()) for option in options]
    assert best == options[int(np.argmin(errors))] and min(errors) < np.median(errors)


def test_chosen_errors_are_of_the_best_option_at_each_noise_level():
    """Multiplying by a: at noise sigma the best a is E / (E + sigma^2), with E the energy per pixel of the class."""
    train, test = 0.5 * torch.ones(1, 1, 16, 16), torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    options = [{"a": 0.9}, {"a": 0.5}, {"a": 0.2}]
    found = rivals.chosen_errors(lambda y, sigma, a: a * y, options, train, test, [0.1, 0.5, 1.0], seed=4)
    expected = [
        metrics.squared_errors(lambda y, a=a: a * y, test, s, 4)[0] for a, s in ((0.9, 0.1), (0.5, 0.5), (0.2, 1))
    ]
    np.testing.assert_array_equal(found, np.stack(expected))


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

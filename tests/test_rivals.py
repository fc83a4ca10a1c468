"""Denoising in a fixed basis, against scipy, numerical minimization and Haar by hand."""

import numpy as np
import pytest
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


def test_oracle_error_is_the_least_of_all_shrinkages():
    """min over lambda of (1 - lambda)^2 c^2 + lambda^2 sigma^2, found numerically for each coefficient."""
    coefficients, sigma = np.array([0.0, 1e-3, 0.2, -1.0, 30.0]), 0.4
    least = sum(
        scipy.optimize.minimize_scalar(lambda m, c=c: (1 - m) ** 2 * c**2 + m**2 * sigma**2).fun for c in coefficients
    )
    assert rivals.oracle_error(coefficients, sigma) == pytest.approx(least, rel=1e-9)
    assert rivals.oracle_error([1.0], 1.0) == 0.5
    total = np.minimum(coefficients**2, sigma**2).sum()  # Eq. 13, constant between 1/2 and 1
    assert total / 2 <= rivals.oracle_error(torch.from_numpy(coefficients), sigma) <= total


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


def test_wavelet_denoise_of_four_pixels_by_hand():
    """Haar on [[a, b], [c, d]]: half the sum is kept; three half differences are shrunk by threshold * sigma."""
    pixels = np.array([[5.0, 1.0], [2.0, 4.0]])
    signs = np.array([[[1, 1], [1, 1]], [[1, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, -1], [-1, 1]]]) / 2
    coefficients = (signs * pixels).sum((1, 2))  # 6, 0, 1, 3
    shrunk = np.array([6.0, 0.0, 0.4, 2.4])
    np.testing.assert_allclose(coefficients, [6, 0, 1, 3])
    expected = np.einsum("k,kij->ij", shrunk, signs)
    found = rivals.wavelet_denoise(torch.from_numpy(pixels)[None, None], 0.3, "haar", threshold=2.0)[0, 0]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_wavelet_denoise_reduces_noise():
    """A smooth image at sigma = 0.2: the error falls to less than a tenth of sigma^2 (measured 0.03)."""
    rows, columns = np.mgrid[:64, :64]
    clean = torch.from_numpy(np.exp(-((rows - 30) ** 2 + (columns - 25) ** 2) / 400))[None, None]
    noisy = clean + 0.2 * torch.from_numpy(np.random.default_rng(1).normal(size=clean.shape))
    error = (rivals.wavelet_denoise(noisy, 0.2) - clean).square().mean()
    assert 0 < float(error) < 0.1 * 0.2**2


def test_wavelet_denoise_refuses_images_smaller_than_its_filters():
    with pytest.raises(ValueError, match=r"noisy is too small for the filters of db4, got shape \(1, 1, 8, 8\)"):
        rivals.wavelet_denoise(torch.zeros(1, 1, 8, 8), 0.1)


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

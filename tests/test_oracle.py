"""The oracle of Eq. 12 in adaptive and fixed bases, against direct sums, NumPy, SciPy and PyWavelets."""

import numpy as np
import pytest
import pywt
import scipy.fft
import scipy.stats
import torch

from gahb import bandlets, datasets, oracle, rivals


@pytest.mark.filterwarnings("ignore:Level value of .* is too high")
@pytest.mark.parametrize(("size", "levels"), [(4, 2), (5, 0), (16, 4), (20, 2)])
def test_fixed_transforms_are_those_of_scipy_numpy_and_pywavelets(size, levels):
    rng, d = np.random.default_rng(0), size**2
    train = torch.from_numpy(rng.random((d + 8, 1, size, size)))
    images = rng.random((3, size, size))
    found = {name: transform(images) for name, transform in oracle.fixed_transforms(train).items()}
    assert list(found) == ["DCT", "PCA", *rivals.WAVELETS]
    flat = train.flatten(1).numpy()
    components = np.linalg.svd(flat - flat.mean(0))[2]
    np.testing.assert_allclose(found["DCT"], scipy.fft.dctn(images, norm="ortho", axes=(1, 2)).reshape(3, d))
    np.testing.assert_allclose(np.abs(found["PCA"]), np.abs(images.reshape(3, d) @ components.T), rtol=0, atol=1e-8)
    for name in rivals.WAVELETS:
        coarse, *details = pywt.wavedec2(images, name, "periodization", levels)
        expected = [coarse, *(part for scale in details for part in scale[::-1])]
        expected = np.concatenate([part.reshape(3, -1) for part in expected], axis=1)
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-10)
        units = np.eye(d).reshape(d, size, size)
        matrix = oracle.fixed_transforms(train)[name](units)
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(d), rtol=0, atol=1e-10)  # tabulated filters


def changing(size):
    """J = A + <b, y> b b^T, whose eigenvectors depend on the noise; A, b and the denoiser."""
    rng, d = np.random.default_rng(1), size**2
    b, root = rng.standard_normal(d), rng.standard_normal((d, d)) / 4
    matrix = root @ root.T

    def denoiser(y):
        flat = y.flatten(1)
        along = flat @ torch.from_numpy(b)
        return (flat @ torch.from_numpy(matrix) + along[:, None] ** 2 / 2 * torch.from_numpy(b)).view(y.shape)

    return matrix, b, denoiser


def shrunk(coefficients, sigma):
    return (sigma**2 * coefficients**2 / (coefficients**2 + sigma**2)).mean(-1)


def test_oracle_errors_are_direct_sums_and_the_adaptive_basis_is_of_another_noise():
    """The noise of the i-th image is that of seed + i; the fixed bases do not depend on it."""
    size, d, sigma, rng = 4, 16, 0.3, np.random.default_rng(0)
    x, train = rng.random((5, 1, size, size)), rng.random((40, 1, size, size))
    matrix, b, denoiser = changing(size)
    fixed = oracle.fixed_transforms(torch.from_numpy(train))
    rows = oracle.oracle_errors(denoiser, torch.from_numpy(x), sigma, fixed, seed=7)
    assert list(rows) == ["adaptive", "DCT", "PCA", "wavelets"]
    clean = x.reshape(5, d)
    for i, one in enumerate(clean):
        noise = np.random.default_rng(7 + i).standard_normal((1, 1, size, size), dtype=np.float32).ravel()
        vectors = np.linalg.eigh(matrix + b @ (one + sigma * noise) * np.outer(b, b))[1]
        assert rows["adaptive"][i] == pytest.approx(shrunk(one @ vectors, sigma), rel=1e-6)  # the noise is float32
    np.testing.assert_allclose(rows["DCT"], shrunk(fixed["DCT"](x[:, 0]), sigma))
    np.testing.assert_allclose(rows["PCA"], shrunk(fixed["PCA"](x[:, 0]), sigma))
    assert rows["wavelets"].mean() == min(shrunk(fixed[name](x[:, 0]), sigma).mean() for name in rivals.WAVELETS)
    other = oracle.oracle_errors(denoiser, torch.from_numpy(x), sigma, fixed, seed=70)
    assert np.abs(other["adaptive"] / rows["adaptive"] - 1).max() > 1e-3
    for name in oracle.FIXED:
        np.testing.assert_array_equal(other[name], rows[name])


def test_a_completed_basis_is_orthonormal_and_begins_with_the_given_vectors():
    d, k = 30, 7
    vectors = scipy.stats.ortho_group.rvs(d, random_state=0)[:k]
    basis = np.stack([oracle._completed(vectors, unit) for unit in np.eye(d)], axis=1)
    np.testing.assert_allclose(basis @ basis.T, np.eye(d), rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.abs((basis[:k] * vectors).sum(1)), 1, rtol=0, atol=1e-12)


def test_vectors_of_the_fixed_basis_complete_to_that_basis():
    image = np.random.default_rng(0).random(30)
    found = oracle._completed(np.eye(30)[[20, 3, 11]], image)
    np.testing.assert_allclose(np.sort(np.abs(found)), np.sort(image), rtol=0, atol=1e-12)


def test_leading_vectors_replace_vectors_of_the_best_fixed_basis():
    """The image itself as the one vector is its one coefficient. As many vectors as pixels are the whole basis."""
    size, sigma = 6, 0.2
    x = datasets.c_alpha(1, size, 2.0).double()
    fixed = oracle.fixed_transforms(datasets.c_alpha(100, size, 2.0, seed=1))
    one = x / x.norm()
    found = oracle.oracle_errors(lambda y: (y * one).sum((1, 2, 3), True) * one, x, sigma, fixed, k=1)
    energy = float(x.square().sum())
    assert found["adaptive"][0] * size**2 == pytest.approx(sigma**2 * energy / (energy + sigma**2), rel=1e-9)
    denoiser = changing(size)[2]
    whole, as_many = (oracle.oracle_errors(denoiser, x, sigma, fixed, k=k) for k in (None, size**2))
    np.testing.assert_allclose(as_many["adaptive"], whole["adaptive"], rtol=1e-9)
    assert list(whole) == list(found)


def test_bandlet_oracle_errors_are_sums_over_the_vectors_of_another_noise():
    images, sigma = datasets.c_alpha(2, 16, 2.0).double(), 0.1
    found = oracle.bandlet_oracle_errors(images, sigma, seed=3)
    for i, x in enumerate(images):
        noise = np.random.default_rng(3 + i).standard_normal((1, 1, 16, 16), dtype=np.float32)
        basis = bandlets.best_basis(x + sigma * torch.from_numpy(noise)[0].double(), 3 * sigma)
        assert bool((basis.geometry.direction > 0).any())
        coefficients = basis.vectors(256).flatten(1) @ x.flatten()
        assert found[i] == pytest.approx(shrunk(coefficients.numpy(), sigma), rel=1e-9)


def test_adaptive_gain_is_over_the_best_fixed_basis():
    errors = np.random.default_rng(0).gamma(2, 1 / 2, 200)
    rows = {"adaptive": errors / 100, "DCT": errors / 50, "PCA": errors / 20, "wavelets": errors / 10}
    gain, interval = oracle.adaptive_gain(rows | {"bandlets": errors / 1000})
    np.testing.assert_allclose([gain, *interval], 10 * np.log10(2), rtol=1e-12)

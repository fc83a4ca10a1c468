"""Leading eigenpairs by block Lanczos, against numpy on the whole matrix."""

import numpy as np
import pytest

from gahb._lanczos import leading_eigenpairs

D = 60


def rotated(values):
    """A symmetric matrix with these eigenvalues, in a random basis."""
    basis = np.linalg.qr(np.random.default_rng(1).standard_normal((D, D)))[0]
    return (basis * values) @ basis.T


SPECTRA = {
    "falling": 0.8 ** np.arange(D),
    "even": np.linspace(-1, 1, D),
    "large": 1e6 * 0.8 ** np.arange(D),
    "projection": (np.arange(D) < 5).astype(float),
    "identity": np.ones(D),
    "nothing": np.zeros(D),
    "negative": -np.arange(D, dtype=float),
    "pairs": np.repeat(0.7 ** np.arange(D // 2), 2),
    "eightfold": np.r_[np.full(8, 0.9), np.zeros(D - 8)],
}


def found(matrix, k, block, rounding=0.0):
    noise = np.random.default_rng(2)

    def product(v):
        return matrix @ v + rounding * noise.standard_normal(v.shape)

    return leading_eigenpairs(product, D, k, block, np.random.default_rng(0))


@pytest.mark.parametrize("block", [1, 2, 4, 7])
@pytest.mark.parametrize("k", [1, 4, 8, 20, D])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_pairs_are_numpys(spectrum, k, block):
    matrix, scale = rotated(SPECTRA[spectrum]), max(1.0, np.abs(SPECTRA[spectrum]).max())
    values, vectors = found(matrix, k, block)
    np.testing.assert_allclose(values, np.sort(SPECTRA[spectrum])[-k:], atol=1e-9 * scale)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(k), atol=1e-10)
    assert np.linalg.norm(matrix @ vectors - vectors * values, axis=0).max() < 2e-5 * scale


@pytest.mark.parametrize("spectrum", ["falling", "projection", "eightfold", "pairs"])
def test_products_in_single_precision_cost_single_precision(spectrum):
    values, _ = found(rotated(SPECTRA[spectrum]), 8, 4, rounding=1e-7)
    np.testing.assert_allclose(values, np.sort(SPECTRA[spectrum])[-8:], atol=3e-6)


def test_few_products_where_eigenvalues_fall():
    """The space stays far smaller than the matrix."""
    matrix, calls = rotated(0.5 ** np.arange(D)), []

    def product(v):
        calls.append(v.shape[1])
        return matrix @ v

    leading_eigenpairs(product, D, 3, 2, np.random.default_rng(0))
    assert sum(calls) <= 36

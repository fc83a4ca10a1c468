"""Leading eigenpairs of a symmetric operator from products with blocks of vectors alone."""

import numpy as np

TOLERANCE = 1e-5  # of the residuals, relative to the largest eigenvalue; float32 products reach 1e-6
CHECKED = 16  # vectors between two looks at the eigenpairs


def leading_eigenpairs(product, d, k, block, rng):
    """The ``k`` largest eigenvalues and their eigenvectors, by block Lanczos with full orthogonalization.

    The space grows by ``block`` vectors a product and is kept whole: that takes fewer products than restarts do,
    and blocks of small images fill the cores better than one at a time (Golub and Van Loan, Matrix Computations,
    10.3.6). Eigenvalues are those of the operator in the space, from all its products (Rayleigh-Ritz), so that they
    hold whatever the rounding of the recurrence.

    Parameters
    ----------
    product : callable
        V (d, b) -> A V, float64, for a symmetric A.
    d, k, block : int
        Size of A, number of pairs, number of vectors in a product.
    rng : numpy.random.Generator
        Of the first block, and of those that take the place of vectors that lie in the space already.

    Returns
    -------
    values : ndarray (k,)
        Rising.
    vectors : ndarray (d, k)
    """
    import scipy.linalg  # here, because training needs this package without SciPy

    space, images = np.empty((d, 0)), np.empty((d, 0))
    new, former, checked = rng.standard_normal((d, block)), np.full(k, np.inf), 0
    while True:
        new = _orthonormal(new[:, : d - space.shape[1]], space, rng)
        space, images = np.hstack([space, new]), np.hstack([images, product(new)])
        size, new = space.shape[1], images[:, -block:]
        if size == d or size >= max(k + block, checked + CHECKED):
            checked = size
            small = space.T @ images
            values, mix = scipy.linalg.eigh((small + small.T) / 2, subset_by_index=[size - k, size - 1])
            residuals = np.linalg.norm(images @ mix - (space @ mix) * values, axis=0)
            limit = TOLERANCE * max(1.0, np.abs(values).max())
            # An invariant space can lack a copy of an equal eigenvalue: the values must also have come to rest.
            if size == d or max(residuals.max(), np.abs(values - former).max()) <= limit:
                return values, space @ mix
            former = values


def _orthonormal(new, space, rng):
    """Columns orthonormal to a space and to each other; random ones in place of those that lie in it."""
    size = max(1.0, np.linalg.norm(new, axis=0).max())
    new, triangle = np.linalg.qr(new - space @ (space.T @ new))
    lost = np.abs(np.diag(triangle)) <= TOLERANCE * size
    new[:, lost] = rng.standard_normal((len(new), lost.sum()))
    for _ in range(2):  # once more, against rounding
        new = np.linalg.qr(new - space @ (space.T @ new))[0]
    return new

"""The Jacobian of a denoiser and the basis in which it shrinks (Section 3.1).

:func:`jacobian` computes the whole matrix. :func:`adaptive_basis` decomposes it, or with ``k``
finds the leading eigenvectors from products with the matrix and its transpose alone. The denoiser
must act on each image of a batch separately, by operations that autograd can differentiate; its
mode and parameters are left as they were.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gahb._products import Map, by_windows, columns, differentiable, forward_product, plain_attention, products
from gahb._util import checks
from gahb.denoisers import BFCNN, Denoiser, evaluating

GRAPH_PIXELS = 8 * 40 * 40  # images whose products are computed at once for leading vectors, in pixels


@dataclass(frozen=True)
class Basis:
    """What :func:`adaptive_basis` returns.

    Attributes
    ----------
    shrinkage : Tensor (K,)
        Eigenvalues lambda_k of the symmetric part (J + J^T) / 2, or singular values s_k, in decreasing order.
    vectors : Tensor (K, H, W)
        Orthonormal eigenvectors e_k, or right singular vectors v_k; (K, C, H, W) for images of several channels.
    asymmetry : float
        norm(J - J^T) / norm(J), Frobenius; 0 for an optimal denoiser. With ``k`` it is
        estimated from random products.
    left : Tensor (K, H, W) or None
        Left singular vectors u_k; None for eigenvectors, which are left and right in one.
    """

    shrinkage: Tensor
    vectors: Tensor
    asymmetry: float
    left: Tensor | None = None

    @property
    def alignment(self) -> Tensor:
        """<u_k, v_k> of left and right vectors, shape (K,): 1 for eigenvectors."""
        left = self.vectors if self.left is None else self.left
        return (left.flatten(1) * self.vectors.flatten(1)).sum(1)

    def partial_sums(self, y: Tensor) -> Tensor:
        """The expansion of f(y) after 1, 2, ... K terms: sums of shrinkage_k <y, v_k> u_k.

        Parameters
        ----------
        y : Tensor (1, C, H, W)
            The noisy image at which the basis was computed.

        Returns
        -------
        Tensor (K, d)
            All terms of the singular vectors are f(y); those of the eigenvectors leave out what the antisymmetric
            part of the Jacobian makes of y.
        """
        if checks.one_image(y, "y").numel() != self.vectors[0].numel():
            raise ValueError(f"y must have {self.vectors[0].numel()} pixels, as the basis, got shape {tuple(y.shape)}")
        left = self.vectors if self.left is None else self.left
        coefficients = self.shrinkage * (self.vectors.flatten(1) @ y.flatten())
        return (coefficients[:, None] * left.flatten(1)).cumsum(0)


def jacobian(denoiser: Denoiser, y: Tensor) -> Tensor:
    """The Jacobian J[i, j] = d f_i(y) / d y_j (Eq. 6).

    A network of gahb is linear once its ReLU gates are frozen at ``y``: forward passes of the
    unit vectors, in chunks, give the columns of its Jacobian. In a BFCNN each layer is computed
    only inside the chunk's receptive field. Any other denoiser is differentiated row by row in
    reverse mode, in chunks.

    Parameters
    ----------
    denoiser : callable
        f(y), acting on each image of a batch separately.
    y : Tensor (C, H, W) or (1, C, H, W)
        One noisy image, intensities in [0, 1] plus noise, floating point.

    Returns
    -------
    Tensor (d, d)
        d = C H W; the dtype and device of ``y``.
    """
    y = checks.one_image(y, "y").detach()
    if type(denoiser) is BFCNN:
        with evaluating(denoiser, y.dtype) as net:
            return by_windows(net, y)
    with products(denoiser, y) as (forward, backward):
        if forward is not None:
            return columns(forward, y).T.contiguous()
        return columns(backward, y)


def adaptive_basis(
    denoiser: Denoiser, y: Tensor, k: int | None = None, probes: int = 8, kind: str = "symmetric"
) -> Basis:
    """The basis in which a denoiser shrinks its input (Section 3.1).

    ``"symmetric"``, the paper's: eigenvectors e_k of (J + J^T) / 2, in which f(y) is about sum_k lambda_k <y, e_k> e_k,
    as far as J is symmetric. ``"singular"``: f(y) = sum_k s_k <y, v_k> u_k exactly, with the singular vectors of J.

    Two runs give the same pictures: eigenvectors whose eigenvalues are equal to 1e-5 of the largest are rotated to a
    canonical position, and the largest entry of each vector is made positive.

    Parameters
    ----------
    denoiser : callable
        f(y), acting on each image of a batch separately.
    y : Tensor (C, H, W) or (1, C, H, W)
        One noisy image, floating point.
    k : int, optional
        Number of leading vectors, from matrix-vector products alone (implicitly restarted
        Lanczos, :mod:`scipy.sparse.linalg`). By default all of them, from the full matrix.
    probes : int
        With ``k``: number of random products that estimate the residual, and the asymmetry.
    kind : str
        ``"symmetric"`` or ``"singular"``.

    Returns
    -------
    Basis

    Raises
    ------
    RuntimeError
        With ``k``, if the pairs did not converge: the root of the summed squares of the residuals
        (J + J^T) e_k / 2 - lambda_k e_k, or J^T u_k - s_k v_k, is above 1e-3 max(1, abs(lambda_1)).
    """
    from threadpoolctl import threadpool_limits  # here, because training and sampling work without it and SciPy

    y = checks.one_image(y, "y").detach()
    d, probes = y.numel(), checks.count(probes, "probes")
    symmetric = checks.choice(kind, "kind", ("symmetric", "singular")) == "symmetric"
    if k is not None and checks.count(k, "k") > d:
        raise ValueError(f"k must be at most the number of pixels d = {d}, got {k}")
    if k is None or k > d // 3:  # Lanczos needs a space of several times k
        values, vectors, left, asymmetry = _all_pairs(denoiser, y, symmetric)
    else:
        # The threads of NumPy's BLAS would spin while they wait, on cores that torch needs.
        with threadpool_limits(1, user_api="blas"):
            values, vectors, left, asymmetry = _leading_pairs(denoiser, y, k, probes, symmetric)
    values, vectors, left = values[:k], vectors[:, :k], None if left is None else left[:, :k]
    if symmetric:
        vectors = _canonical(values, vectors)
    signs = _signs(vectors)
    return Basis(
        torch.from_numpy(values.copy()).to(y),
        _as_vectors(vectors * signs, y),
        float(asymmetry),
        None if left is None else _as_vectors(left * signs, y),
    )


def _as_vectors(columns: np.ndarray, y: Tensor) -> Tensor:
    vectors = torch.from_numpy(columns.T.copy()).to(y).reshape(-1, *y.shape[1:])
    return vectors[:, 0] if y.shape[1] == 1 else vectors


def divergence(denoiser: Denoiser, y: Tensor, probes: int = 4, seed: int = 0) -> Tensor:
    """Trace of the Jacobian of each image of a batch, estimated by random signs (Hutchinson, 1990).

    Parameters
    ----------
    denoiser : callable
        f(y), acting on each image of a batch separately.
    y : Tensor (B, C, H, W)
        Noisy images, floating point.
    probes : int
        Number of random sign images v; the estimate is the mean of <v, J v>, unbiased.
    seed : int
        Seed of the signs; those of the i-th image do not depend on B.

    Returns
    -------
    Tensor (B,)
    """
    y = checks.images(y, "y").detach()
    shape = (len(y), checks.count(probes, "probes"), *y.shape[1:])
    signs = torch.from_numpy(checks.generator(seed).integers(0, 2, shape, dtype=np.int8))
    total = torch.zeros(len(y), dtype=y.dtype, device=y.device)
    with evaluating(denoiser, y.dtype) as f, plain_attention(), torch.enable_grad():
        y = y.requires_grad_()
        output = differentiable(f(y))
        for v in (signs.to(y) * 2 - 1).unbind(1):
            (row,) = torch.autograd.grad(output, y, v, retain_graph=True)
            total += (row * v).flatten(1).sum(1)
    return total / probes


Pairs = tuple[np.ndarray, np.ndarray, np.ndarray | None, float]  # falling values, (right) vectors, left, asymmetry


def _all_pairs(denoiser: Denoiser, y: Tensor, symmetric: bool) -> Pairs:
    import scipy.linalg

    matrix = _finite(jacobian(denoiser, y).cpu().double().numpy())
    asymmetry = float(np.linalg.norm(matrix - matrix.T)) / max(float(np.linalg.norm(matrix)), 1e-300)
    if symmetric:
        values, vectors = scipy.linalg.eigh((matrix + matrix.T) / 2, driver="evd")  # the fastest for all pairs
        return values[::-1], vectors[:, ::-1], None, asymmetry
    left, values, right = scipy.linalg.svd(matrix)
    return values, right.T, left, asymmetry


def _leading_pairs(denoiser: Denoiser, y: Tensor, k: int, probes: int, symmetric: bool) -> Pairs:
    d, rng = y.numel(), np.random.default_rng(0)
    with products(denoiser, y) as (forward, backward):
        forward = forward or forward_product(backward)

        def applied(linear: Map, v: np.ndarray) -> np.ndarray:
            images = torch.from_numpy(np.ascontiguousarray(v.reshape(d, -1).T)).to(y).view(-1, *y.shape[1:])
            parts = [linear(part).flatten(1) for part in images.split(max(1, GRAPH_PIXELS // d))]
            return _finite(torch.cat(parts).T.cpu().double().numpy()).reshape(v.shape)

        def j(v: np.ndarray) -> np.ndarray:
            return applied(forward, v)

        def jt(v: np.ndarray) -> np.ndarray:
            return applied(backward, v)

        find = _leading_eigenpairs if symmetric else _leading_triples
        values, vectors, left = find(j, jt, d, k, rng)
        # The mean square of random combinations of the k residuals is the sum of the squares of all.
        mix = rng.standard_normal((k, probes))
        image = (j(vectors @ mix) + jt(vectors @ mix)) / 2 if left is None else jt(left @ mix)
        residual = np.linalg.norm(image - (vectors * values) @ mix) / math.sqrt(probes)
        if residual > 1e-3 * max(1.0, np.abs(values).max()):
            raise RuntimeError(f"the top {k} pairs did not converge: residual {residual:.2g}; take k=None")
        v = rng.standard_normal((d, probes))
        jv = j(v)
        asymmetry = float(np.linalg.norm(jv - jt(v))) / max(float(np.linalg.norm(jv)), 1e-30)
    return values[::-1], vectors[:, ::-1], None if left is None else left[:, ::-1], asymmetry


Product = Callable[[np.ndarray], np.ndarray]


def _leading_eigenpairs(
    j: Product, jt: Product, d: int, k: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, None]:
    """The k largest eigenvalues of the symmetric part, rising, and their vectors as columns."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    # The identity is added, because Lanczos cannot start from an image that the operator sends to zero.
    operator = LinearOperator((d, d), matvec=lambda v: (j(v) + jt(v)) / 2 + v, dtype=np.float64)
    # Among equal eigenvalues Lanczos restarts from random vectors, which are drawn from rng too.
    space = min(d, max(20, 9 * k // 5))  # vectors kept: about 5 % fewer products than with twice k
    values, vectors = eigsh(operator, k=k, which="LA", v0=rng.standard_normal(d), ncv=space, tol=1e-5, rng=rng)
    return values - 1, vectors, None


def _leading_triples(
    j: Product, jt: Product, d: int, k: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k largest singular values, rising, and their right and left vectors as columns.

    The right vectors span those of J^T J, and are turned there until J v = s u.
    """
    import scipy.linalg
    from scipy.sparse.linalg import LinearOperator, eigsh

    # The identity is added, because Lanczos cannot start from an image that the operator sends to zero.
    operator = LinearOperator((d, d), matvec=lambda v: jt(j(v)) + v, dtype=np.float64)
    space = min(d, max(20, 2 * k))
    # Values are squared in J^T J, and so is the tolerance.
    _, span = eigsh(operator, k=k, which="LA", v0=rng.standard_normal(d), ncv=space, tol=1e-10, rng=rng)
    left, values, right = scipy.linalg.svd(j(span), full_matrices=False)
    return values[::-1], (span @ right.T)[:, ::-1], left[:, ::-1]


def _finite(products: np.ndarray) -> np.ndarray:
    """Return products with the Jacobian if they are finite."""
    if not np.isfinite(products).all():
        raise ValueError("the Jacobian of denoiser holds NaN or infinity at this y")
    return products


def _canonical(values: np.ndarray, vectors: np.ndarray, tolerance: float = 1e-5) -> np.ndarray:
    """Fix the rotations that an eigendecomposition leaves free among equal eigenvalues.

    Falling eigenvalues count as equal if they are within the tolerance, relative to the largest
    size, of the first of their group: a long chain of close ones is not rotated as one.
    """
    import scipy.linalg

    ramp = np.random.RandomState(0).random_sample(len(vectors))[:, None]
    vectors = np.array(vectors, dtype=np.float64)
    width, starts = tolerance * np.abs(values).max(initial=1e-300), [0]
    for i, value in enumerate(values):
        if values[starts[-1]] - value > width:
            starts.append(i)
    for group in np.split(np.arange(len(values)), starts[1:]):
        if len(group) > 1:
            block = vectors[:, group]
            _, rotation = scipy.linalg.eigh(block.T @ (ramp * block))
            vectors[:, group] = block @ rotation
    return vectors


def _signs(vectors: np.ndarray) -> np.ndarray:
    """Signs that make the largest entry of each column positive (the first of nearly equal ones)."""
    sizes = np.abs(vectors)
    largest = (sizes >= 0.999 * sizes.max(axis=0)).argmax(axis=0)
    return np.sign(vectors[largest, np.arange(vectors.shape[1])])

"""The Jacobian of a denoiser and the basis in which it shrinks (Section 3.1).

:func:`jacobian` computes the whole matrix. :func:`adaptive_basis` decomposes it, or with ``k``
finds the leading eigenvectors from products with the matrix and its transpose alone. The denoiser
must act on each image of a batch separately, by operations that autograd can differentiate; its
mode and parameters are left as they were.
"""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gahb._util import checks
from gahb.denoisers import BFCNN, NETWORKS, BiasFreeBatchNorm, Denoiser, evaluating

CHUNK_PIXELS = 32 * 40 * 40  # images that go through a network at once, in pixels
BLOCK = 4  # side of the blocks of pixels whose unit vectors share a window
Map = Callable[[Tensor], Tensor]  # linear, on batches (B, C, H, W)


@dataclass(frozen=True)
class Basis:
    """What :func:`adaptive_basis` returns.

    Attributes
    ----------
    shrinkage : Tensor (K,)
        Eigenvalues lambda_k of the symmetric part (J + J^T) / 2, in decreasing order.
    vectors : Tensor (K, H, W)
        Orthonormal eigenvectors e_k; (K, C, H, W) for images of several channels.
    asymmetry : float
        norm(J - J^T) / norm(J), Frobenius; 0 for an optimal denoiser. With ``k`` it is
        estimated from random products.
    """

    shrinkage: Tensor
    vectors: Tensor
    asymmetry: float


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
            return _by_windows(net, y)
    with _products(denoiser, y) as (forward, backward):
        if forward is not None:
            return _columns(forward, y).T.contiguous()
        return _columns(backward, y)


def adaptive_basis(denoiser: Denoiser, y: Tensor, k: int | None = None, probes: int = 8) -> Basis:
    """Eigenvalues and eigenvectors of the symmetric part of the Jacobian (Section 3.1).

    f(y) = sum_k lambda_k <y, e_k> e_k, with lambda_k and e_k those of (J + J^T) / 2. Two runs give
    the same pictures: vectors whose eigenvalues are equal to 1e-5 of the largest are rotated to a
    canonical position, and the largest entry of each vector is made positive.

    Parameters
    ----------
    denoiser : callable
        f(y), acting on each image of a batch separately.
    y : Tensor (C, H, W) or (1, C, H, W)
        One noisy image, floating point.
    k : int, optional
        Number of leading pairs, from matrix-vector products alone (implicitly restarted
        Lanczos, ``scipy.sparse.linalg.eigsh``). By default all of them, from the full matrix.
    probes : int
        With ``k``: number of random products that estimate the residual, and the asymmetry.

    Returns
    -------
    Basis

    Raises
    ------
    RuntimeError
        With ``k``, if the pairs did not converge: the root of the summed squares of the residuals
        (J + J^T) e_k / 2 - lambda_k e_k is above 1e-3 max(1, abs(lambda_1)).
    """
    import scipy.linalg  # here, because training and sampling work without SciPy
    from threadpoolctl import threadpool_limits

    y = checks.one_image(y, "y").detach()
    d, probes = y.numel(), checks.count(probes, "probes")
    if k is not None and checks.count(k, "k") > d:
        raise ValueError(f"k must be at most the number of pixels d = {d}, got {k}")
    if k is None or k > d // 3:  # Lanczos needs a space of several times k
        matrix = _finite(jacobian(denoiser, y).cpu().double().numpy())
        asymmetry = np.linalg.norm(matrix - matrix.T) / max(np.linalg.norm(matrix), 1e-300)
        values, vectors = scipy.linalg.eigh((matrix + matrix.T) / 2, driver="evd")  # the fastest for all pairs
    else:
        # The threads of NumPy's BLAS would spin while they wait, on cores that torch needs.
        with threadpool_limits(1, user_api="blas"):
            values, vectors, asymmetry = _leading_pairs(denoiser, y, k, probes)
    values, vectors = _canonical(values[::-1][:k], vectors[:, ::-1][:, :k])
    vectors = torch.from_numpy(vectors.T.copy()).to(y).reshape(-1, *y.shape[1:])
    if y.shape[1] == 1:
        vectors = vectors[:, 0]
    return Basis(torch.from_numpy(values.copy()).to(y), vectors, float(asymmetry))


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
    with evaluating(denoiser, y.dtype) as f, torch.enable_grad():
        y = y.requires_grad_()
        output = _differentiable(f(y))
        for v in (signs.to(y) * 2 - 1).unbind(1):
            (row,) = torch.autograd.grad(output, y, v, retain_graph=True)
            total += (row * v).flatten(1).sum(1)
    return total / probes


def _columns(product: Map, y: Tensor) -> Tensor:
    """Apply a linear map to every unit vector of the space of ``y``; row i is the image of vector i."""
    d = y.numel()
    chunk = max(1, CHUNK_PIXELS // d)
    rows = torch.empty(d, d, dtype=y.dtype, device=y.device)
    units = torch.zeros(min(chunk, d), d, dtype=y.dtype, device=y.device)
    for start in range(0, d, chunk):
        stop = min(start + chunk, d)
        units.zero_()[torch.arange(stop - start), torch.arange(start, stop)] = 1
        rows[start:stop] = product(units[: stop - start].view(-1, *y.shape[1:])).flatten(1)
    return rows


def _by_windows(net: BFCNN, y: Tensor) -> Tensor:
    """The Jacobian of a BFCNN, block by block of pixels.

    A 3x3 convolution carries the unit vectors of a block one pixel farther, so that each layer is
    needed only in a window that grows by a pixel on each side; a 1x1 convolution leaves it as it is.
    """
    layers, (channels, height, width) = _frozen_layers(net, y), y.shape[1:]
    matrix = y.new_zeros(channels, height, width, channels, height, width)
    for top in range(0, height, BLOCK):
        for left in range(0, width, BLOCK):
            block = slice(top, min(top + BLOCK, height)), slice(left, min(left + BLOCK, width))
            shape = channels, block[0].stop - top, block[1].stop - left
            v, window = torch.eye(math.prod(shape)).to(y).view(-1, *shape), block
            for weight, gate in layers:
                v, window = _through(v, window, weight, gate, height, width)
            matrix[:, window[0], window[1], :, block[0], block[1]] = v.view(*shape, *v.shape[1:]).permute(
                3, 4, 5, 0, 1, 2
            )
    matrix = matrix.view(y.numel(), -1).neg_()
    matrix.diagonal().add_(1)  # the denoised image is y minus the network's output
    return matrix


def _frozen_layers(net: BFCNN, y: Tensor) -> list[tuple[Tensor, Tensor | None]]:
    """Weight and 0/1 gate (or None) of each convolution of a BFCNN at ``y``, normalization in the weight."""
    layers = []
    for layer in _linear(net, y).noise:
        if isinstance(layer, nn.Conv2d):
            layers.append((layer.weight, None))
        elif isinstance(layer, _Gate):
            layers[-1] = layers[-1][0], layer.gate
    return layers


def _through(
    v: Tensor, window: tuple[slice, slice], weight: Tensor, gate: Tensor | None, height: int, width: int
) -> tuple[Tensor, list[slice]]:
    """A convolution and its gate, from images that are zero outside a window to a window wider by its reach."""
    r, sides = weight.shape[-1] // 2, (height, width)
    wider = [slice(max(w.start - r, 0), min(w.stop + r, n)) for w, n in zip(window, sides, strict=True)]
    padding = [r if new == old else 2 * r for new, old in zip(wider, window, strict=True)]
    v = F.conv2d(v, weight, padding=padding)
    starts = [new.start - old.start + p - r for new, old, p in zip(wider, window, padding, strict=True)]
    rows, columns = (slice(a, a + new.stop - new.start) for a, new in zip(starts, wider, strict=True))
    v = v[:, :, rows, columns]
    return v if gate is None else v * gate[:, :, wider[0], wider[1]], wider


@contextmanager
def _products(denoiser: Denoiser, y: Tensor) -> Iterator[tuple[Map | None, Map]]:
    """Yield v -> J v and u -> J^T u, with J the Jacobian at ``y``; no v -> J v for a denoiser that is not of gahb."""
    with evaluating(denoiser, y.dtype) as f:
        if type(f) in NETWORKS.values():
            linear = _linear(f, y)
            yield linear, _transpose_product(linear, y)
        else:
            yield None, _transpose_product(f, y)


class _Gate(nn.Module):
    """A ReLU that is frozen at its first input: a 0/1 gate."""

    gate: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is None:
            self.gate = (x > 0).to(x.dtype)
        return x * self.gate


def _linear(net: nn.Module, y: Tensor) -> nn.Module:
    """v -> J v: a copy of a network with its ReLUs frozen at ``y`` and its normalizations in the weights."""
    linear = copy.deepcopy(net)
    for parent in list(linear.modules()):
        before = None
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU):
                setattr(parent, name, _Gate())
            elif isinstance(child, BiasFreeBatchNorm):  # it follows an nn.Conv2d
                before.weight *= (child.gain / child.running_sd)[:, None, None, None]
                setattr(parent, name, nn.Identity())
            before = child
    with torch.no_grad():
        linear(y)  # sets the gates; raises if y has another number of channels
    return linear


def _transpose_product(f: Denoiser, y: Tensor) -> Map:
    """u -> J^T u in reverse mode, through one graph that serves all batches of one size."""
    graph: dict[int, tuple[Tensor, Tensor]] = {}

    def backward(u: Tensor) -> Tensor:
        if len(u) not in graph:
            graph.clear()
            with torch.enable_grad():
                x = y.expand(len(u), *y.shape[1:]).clone().requires_grad_()
                graph[len(u)] = x, _differentiable(f(x))
        x, output = graph[len(u)]
        return torch.autograd.grad(output, x, u, retain_graph=True, create_graph=u.requires_grad)[0]

    return backward


def _differentiable(output: Tensor) -> Tensor:
    """Return ``output`` if autograd can differentiate it by ``y``."""
    if not output.requires_grad:
        raise ValueError(
            "denoiser must be differentiable, but autograd sees no dependence of its output on y: "
            "compute it from y by operations of torch, without torch.no_grad and detach"
        )
    return output


def _finite(products: np.ndarray) -> np.ndarray:
    """Return products with the Jacobian if they are finite."""
    if not np.isfinite(products).all():
        raise ValueError("the Jacobian of denoiser holds NaN or infinity at this y")
    return products


def _leading_pairs(denoiser: Denoiser, y: Tensor, k: int, probes: int) -> tuple[np.ndarray, np.ndarray, float]:
    """The k largest eigenvalues, rising, their vectors as columns, and the asymmetry."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    d, rng = y.numel(), np.random.default_rng(0)
    with _products(denoiser, y) as (forward, backward):
        forward = forward or _forward_product(backward)

        def as_images(v: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(v.T)).to(y).view(-1, *y.shape[1:])

        def both(v: np.ndarray) -> tuple[Tensor, Tensor]:
            v = as_images(v.reshape(d, -1))
            return forward(v).flatten(1), backward(v).flatten(1)

        def symmetric(v: np.ndarray) -> np.ndarray:
            jv, jtv = both(v)
            return _finite(((jv + jtv) / 2).T.cpu().double().numpy()).reshape(v.shape)

        # The identity is added, because Lanczos cannot start from an image that the operator sends to zero.
        operator = LinearOperator((d, d), matvec=lambda v: symmetric(v) + v, dtype=np.float64)
        # Among equal eigenvalues Lanczos restarts from random vectors, which are drawn from rng too.
        space = min(d, max(20, 9 * k // 5))  # vectors kept: about 5 % fewer products than with twice k
        values, vectors = eigsh(operator, k=k, which="LA", v0=rng.standard_normal(d), ncv=space, tol=1e-5, rng=rng)
        values = values - 1
        # The mean square of random combinations of the k residuals is the sum of the squares of all.
        mix = rng.standard_normal((k, probes))
        residual = np.linalg.norm(symmetric(vectors @ mix) - (vectors * values) @ mix) / math.sqrt(probes)
        if residual > 1e-3 * max(1.0, np.abs(values).max()):
            raise RuntimeError(f"the top {k} eigenpairs did not converge: residual {residual:.2g}; take k=None")
        jv, jtv = both(rng.standard_normal((d, probes)))
        asymmetry = float((jv - jtv).norm() / jv.norm().clamp_min(1e-30))
    return values, vectors, asymmetry


def _forward_product(backward: Map) -> Map:
    """v -> J v for denoisers whose gates cannot be frozen: u -> J^T u is linear, and its transpose is J."""

    def forward(v: Tensor) -> Tensor:
        u = torch.zeros_like(v, requires_grad=True)
        return torch.autograd.grad(backward(u), u, v)[0]

    return forward


def _canonical(values: np.ndarray, vectors: np.ndarray, tolerance: float = 1e-5) -> tuple[np.ndarray, np.ndarray]:
    """Fix what an eigendecomposition leaves free: rotations among equal eigenvalues, and signs.

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
    sizes = np.abs(vectors)
    largest = (sizes >= 0.999 * sizes.max(axis=0)).argmax(axis=0)
    return values, vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])])

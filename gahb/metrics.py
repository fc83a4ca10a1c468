"""Errors, similarities and risk of denoisers."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor

from gahb._util import checks
from gahb.denoisers import Denoiser, evaluating
from gahb.jacobians import divergence
from gahb.sampling import gaussian_noise

BATCH_PIXELS = 128 * 40 * 40  # images evaluated at once, in pixels


def psnr(clean: Tensor, denoised: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image, -10 log10(mean squared error), peak 1.

    Parameters
    ----------
    clean, denoised : Tensor (B, C, H, W)
        Intensities in [0, 1].

    Returns
    -------
    Tensor (B,)
        In dB; infinite where the two are equal.
    """
    checks.clean_images(clean, "clean")
    checks.same_shape(clean, checks.images(denoised, "denoised"), "clean and denoised")
    return -10 * (clean - denoised).square().flatten(1).mean(1).log10()


def squared_errors(denoiser: Denoiser, images: Tensor, sigmas: float | Sequence[float], seed: int = 0) -> Tensor:
    """Mean squared error per pixel, of each image at each noise level.

    The noise of the i-th image is the same for every denoiser, every sigma (up to scale) and
    every number of images, so that denoisers are compared on the same noisy images.

    Parameters
    ----------
    denoiser : callable
        f(y), (B, C, H, W) -> (B, C, H, W).
    images : Tensor (B, C, H, W)
        Clean images, intensities in [0, 1].
    sigmas : float or sequence of float
        Noise levels, intensities.
    seed : int
        Seed of the noise; the global random state is neither read nor changed.

    Returns
    -------
    Tensor (S, B)
        Squared intensities, on the CPU.
    """
    return _mean_squares([denoiser], images, sigmas, seed, lambda output, x, y: output - x)


def squared_differences(
    first: Denoiser, second: Denoiser, images: Tensor, sigmas: float | Sequence[float], seed: int = 0
) -> Tensor:
    """Mean squared difference per pixel of two denoisers, of each image at each noise level.

    Relative to the error this is the model variance of two networks trained on disjoint sets (Section 2.2).

    Parameters
    ----------
    first, second : callable
        f(y), (B, C, H, W) -> (B, C, H, W).
    images, sigmas, seed
        As for :func:`squared_errors`, whose noisy images these are.

    Returns
    -------
    Tensor (S, B)
        Squared intensities, on the CPU.
    """
    return _mean_squares([first, second], images, sigmas, seed, lambda a, b, x, y: a - b)


def inferred_sigmas(denoiser: Denoiser, images: Tensor, sigmas: float | Sequence[float], seed: int = 0) -> Tensor:
    """Noise level that a blind denoiser infers, norm(f(y) - y) / sqrt(d), as Algorithm 1 does.

    Parameters
    ----------
    denoiser, images, sigmas, seed
        As for :func:`squared_errors`, whose noisy images these are.

    Returns
    -------
    Tensor (S, B)
        Intensities, on the CPU.
    """
    return _mean_squares([denoiser], images, sigmas, seed, lambda output, x, y: output - y).sqrt()


@torch.no_grad()
def _mean_squares(
    denoisers: Sequence[Denoiser],
    images: Tensor,
    sigmas: float | Sequence[float],
    seed: int,
    residual: Callable[..., Tensor],
) -> Tensor:
    """Mean square per pixel of a residual of outputs, clean and noisy images, shape (S, B), on the CPU."""
    checks.clean_images(images, "images")
    sigmas = checks.sigmas(sigmas)
    noise = gaussian_noise(len(images), images.shape[1:], seed).to(images)
    squares = torch.empty(len(sigmas), len(images), dtype=images.dtype)
    chunk = max(1, BATCH_PIXELS // images[0].numel())
    jobs = torch.cartesian_prod(torch.arange(len(sigmas)), torch.arange(len(images))).split(chunk)
    levels = torch.tensor(sigmas, dtype=images.dtype, device=images.device)
    with ExitStack() as stack:
        functions = [stack.enter_context(evaluating(denoiser, images.dtype)) for denoiser in denoisers]
        for job in jobs:
            s, i = job.to(images.device).unbind(1)
            y = images[i] + levels[s, None, None, None] * noise[i]
            found = residual(*(f(y) for f in functions), images[i], y).square().flatten(1).mean(1)
            squares[job[:, 0], job[:, 1]] = found.cpu()
    return squares


@torch.no_grad()
def denoised(denoiser: Denoiser, y: Tensor) -> Tensor:
    """f(y) in evaluation mode, without TF32, in chunks.

    Parameters
    ----------
    denoiser : callable
        f(y).
    y : Tensor (B, C, H, W)
        Noisy images, floating point.

    Returns
    -------
    Tensor (B, C, H, W)
    """
    checks.images(y, "y")
    with evaluating(denoiser, y.dtype) as f:
        return torch.cat([f(part) for part in y.split(max(1, BATCH_PIXELS // y[0].numel()))])


def psnr_curve(denoiser: Denoiser, images: Tensor, sigmas: float | Sequence[float], seed: int = 0) -> Tensor:
    """PSNR of the squared error averaged over images, at each noise level (the curves of Figure 1).

    Parameters
    ----------
    denoiser, images, sigmas, seed
        As for :func:`squared_errors`: f(y), clean images (B, C, H, W), S noise levels, seed of the noise.

    Returns
    -------
    Tensor (S,)
        dB, peak 1; on the CPU.
    """
    return -10 * squared_errors(denoiser, images, sigmas, seed).mean(1).log10()


def component_kurtosis(images: Tensor, train: Tensor, first: int, last: int) -> Tensor:
    """Fourth powers, minus 3, of standardized principal components of contrast-normalized images.

    Images and training images are normalized to mean 0 and norm 1. The images are projected on principal components
    ``first`` to ``last`` (from 0) of the training images, and each component is standardized over the images. The mean
    over images is the excess kurtosis of each component. That of Gaussian images is close to 0: for white noise of d
    pixels it is -6 / (d + 1), because of the contrast, and about -6 / (B + 1) is added for B images.

    Parameters
    ----------
    images : Tensor (B, C, H, W)
        At least 2.
    train : Tensor (N, C, H, W)
        Training set of the components.
    first, last : int
        Range of components, ``last`` left out; cut at the number that the training set has.

    Returns
    -------
    Tensor (B, K), float64
    """
    if len(checks.images(images, "images")) < 2:
        raise ValueError("images must be at least 2, to have a kurtosis, got 1")
    checks.same_shape(images, checks.images(train, "train"), "images and train", 1)
    if checks.count(last, "last") <= checks.count(first, "first", 0):
        raise ValueError(f"first must be below last, got {first} and {last}")
    units = _unit(train.double(), centered=True)
    components = torch.linalg.svd(units - units.mean(0), full_matrices=False).Vh
    components = components[first : min(last, len(train) - 1, len(components) - 1)]
    if len(components) == 0:
        raise ValueError(f"{len(train)} training images have no principal components {first} to {last}")
    z = _unit(images.double(), centered=True) @ components.T
    z = (z - z.mean(0)) / z.std(0, unbiased=False)
    return z**4 - 3


def cosine_similarity(a: Tensor, b: Tensor, centered: bool = False) -> Tensor:
    """Normalized inner product of corresponding images.

    Parameters
    ----------
    a, b : Tensor (B, C, H, W)
        Floating point.
    centered : bool
        Remove the mean of each image first. The paper's similarity is the plain one, which says
        little where the means dominate.

    Returns
    -------
    Tensor (B,)
        In [-1, 1].
    """
    checks.same_shape(checks.images(a, "a"), checks.images(b, "b"), "a and b")
    return (_unit(a, centered) * _unit(b, centered)).sum(1)


def _unit(images: Tensor, centered: bool) -> Tensor:
    """Images as vectors of norm 1, shape (B, d), without their means if centered."""
    flat = images.flatten(1)
    if centered:
        flat = flat - flat.mean(1, keepdim=True)
    return torch.nn.functional.normalize(flat, dim=1)


@dataclass(frozen=True)
class Nearest:
    """What :func:`nearest` returns, for each of B images.

    Attributes
    ----------
    index : Tensor (B,)
        Position in the set of the most similar image.
    similarity : Tensor (B,)
        Its cosine similarity.
    distance_ratio : Tensor (B,)
        Distance to the most similar over that to the second most similar image; 1 where both are 0, NaN for a
        set of one.
    """

    index: Tensor
    similarity: Tensor
    distance_ratio: Tensor


def nearest(images: Tensor, train: Tensor, centered: bool = False, block: int = 8192) -> Nearest:
    """Most similar training image of each image.

    Similarity is the cosine. Distances are between the images as they are compared: of norm 1,
    and without their means if ``centered``. There distance^2 = 2 - 2 cosine, so that the most
    similar image is also the nearest. Both are computed in float64.

    Parameters
    ----------
    images : Tensor (B, C, H, W)
    train : Tensor (N, C, H, W)
    centered : bool
        Remove the mean of each image before the comparison.
    block : int
        Number of images, and of training images, compared at once.

    Returns
    -------
    Nearest
    """
    checks.images(images, "images")
    checks.same_shape(images, checks.images(train, "train"), "images and train", 1)
    parts = [_two_nearest(part, train, centered, block) for part in images.split(checks.count(block, "block"))]
    indices, cosines, distances = (torch.cat(values) for values in zip(*parts, strict=True))
    ratio = torch.full_like(distances[:, 0], torch.nan)
    if len(train) > 1:
        ratio = torch.where(distances[:, 1] > 0, distances[:, 0] / distances[:, 1], 1)
    return Nearest(indices[:, 0], cosines[:, 0].to(images.dtype), ratio.to(images.dtype))


def _two_nearest(images: Tensor, train: Tensor, centered: bool, block: int) -> tuple[Tensor, Tensor, Tensor]:
    """Positions, cosines and distances of the two nearest training images, each (B, 2), or (B, 1) if there is one."""
    units = _unit(images.double(), centered)
    indices, cosines = units.new_empty(len(units), 0, dtype=torch.long), units.new_empty(len(units), 0)
    for start in range(0, len(train), block):
        part = units @ _unit(train[start : start + block].to(units), centered).T
        values, where = part.topk(min(2, part.shape[1]), dim=1)
        values, where = torch.cat([cosines, values], dim=1), torch.cat([indices, where + start], dim=1)
        cosines, order = values.topk(min(2, values.shape[1]), dim=1)
        indices = where.gather(1, order)
    near = _unit(train[indices.flatten()].to(units), centered).view(*indices.shape, -1)
    distances = (near - units[:, None]).norm(dim=2)  # 2 - 2 cosine would leave 1e-7 between copies
    distances, order = torch.where(distances < 1e-12, 0, distances).sort(dim=1)  # of copies, but for rounding
    return indices.gather(1, order), cosines.gather(1, order), distances


def stein_risk(denoiser: Denoiser, images: Tensor, sigma: float, probes: int = 4, seed: int = 0) -> dict[str, Tensor]:
    """Stein's unbiased risk estimate, and the error that it estimates (Eq. 7 and 10).

    SURE = norm(y - f(y))^2 + 2 sigma^2 tr grad f(y) - sigma^2 d needs no clean image; for the
    optimal denoiser the error is also sigma^2 tr grad f(y).

    Parameters
    ----------
    denoiser : callable
        f(y), acting on each image of a batch separately.
    images : Tensor (B, C, H, W)
        Clean images, intensities in [0, 1].
    sigma : float
        Noise level, intensities.
    probes : int
        Number of random products that estimate the trace (see :func:`gahb.jacobians.divergence`).
    seed : int
        Seed of the noise.

    Returns
    -------
    dict of Tensor (B,)
        ``mse``, ``sure`` and ``trace`` (sigma^2 tr grad f), squared intensities per pixel (divided by d).
    """
    checks.clean_images(images, "images")
    checks.positive(sigma, "sigma")
    d = images[0].numel()
    y = images + sigma * gaussian_noise(len(images), images.shape[1:], seed).to(images)
    parts = enumerate(y.split(64), start=seed + 1)  # each part has its own signs, so that errors are independent
    trace = torch.cat([sigma**2 * divergence(denoiser, part, probes, part_seed) for part_seed, part in parts])
    with evaluating(denoiser, y.dtype) as f, torch.no_grad():
        output = torch.cat([f(part) for part in y.split(64)])
    residual = (y - output).square().flatten(1).sum(1)
    mse = (output - images).square().flatten(1).mean(1)
    return {"mse": mse, "sure": (residual + 2 * trace) / d - sigma**2, "trace": trace / d}

"""Errors, similarities and risk of denoisers."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor

from gahb._neighbours import BLOCK, two_nearest, unit
from gahb._util import checks
from gahb.adapt import NoiseConditional, at_sigma
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


def squared_errors(
    denoiser: Denoiser | NoiseConditional, images: Tensor, sigmas: float | Sequence[float], seed: int = 0
) -> Tensor:
    """Mean squared error per pixel, of each image at each noise level.

    The noise of the i-th image is the same for every denoiser, every sigma (up to scale) and
    every number of images, so that denoisers are compared on the same noisy images.

    Parameters
    ----------
    denoiser : callable
        f(y), (B, C, H, W) -> (B, C, H, W), or sigma -> f(y) as a :class:`gahb.adapt.NoiseConditional`.
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
    first: Denoiser | NoiseConditional,
    second: Denoiser | NoiseConditional,
    images: Tensor,
    sigmas: float | Sequence[float],
    seed: int = 0,
) -> Tensor:
    """Mean squared difference per pixel of two denoisers, of each image at each noise level.

    Relative to the error this is the model variance of two networks trained on disjoint sets (Section 2.2).

    Parameters
    ----------
    first, second : callable
        As for :func:`squared_errors`.
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
    denoisers: Sequence[Denoiser | NoiseConditional],
    images: Tensor,
    sigmas: float | Sequence[float],
    seed: int,
    residual: Callable[..., Tensor],
) -> Tensor:
    """Mean square per pixel of a residual of outputs, clean and noisy images, shape (S, B), on the CPU."""
    checks.clean_images(images, "images")
    sigmas = checks.sigmas(sigmas)
    if len(sigmas) > 1 and any(isinstance(denoiser, NoiseConditional) for denoiser in denoisers):
        return torch.cat([_mean_squares(denoisers, images, sigma, seed, residual) for sigma in sigmas])
    noise = gaussian_noise(len(images), images.shape[1:], seed).to(images)
    squares = torch.empty(len(sigmas), len(images), dtype=images.dtype)
    chunk = max(1, BATCH_PIXELS // images[0].numel())
    jobs = torch.cartesian_prod(torch.arange(len(sigmas)), torch.arange(len(images))).split(chunk)
    levels = torch.tensor(sigmas, dtype=images.dtype, device=images.device)
    chosen = [at_sigma(denoiser, sigmas[0]) for denoiser in denoisers]
    with ExitStack() as stack:
        functions = [stack.enter_context(evaluating(f, images.dtype)) for f in chosen]
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


def psnr_curve(
    denoiser: Denoiser | NoiseConditional, images: Tensor, sigmas: float | Sequence[float], seed: int = 0
) -> Tensor:
    """PSNR of the squared error averaged over images, at each noise level (the curves of Figure 1).

    Parameters
    ----------
    denoiser, images, sigmas, seed
        As for :func:`squared_errors`: f(y) or sigma -> f(y), clean images (B, C, H, W), S noise levels, seed of the
        noise.

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
    units = unit(train.double(), centered=True)
    components = torch.linalg.svd(units - units.mean(0), full_matrices=False).Vh
    components = components[first : min(last, len(train) - 1, len(components) - 1)]
    if len(components) == 0:
        raise ValueError(f"{len(train)} training images have no principal components {first} to {last}")
    z = unit(images.double(), centered=True) @ components.T
    z = (z - z.mean(0)) / z.std(0, unbiased=False)
    return z**4 - 3


def cosine_similarity(a: Tensor, b: Tensor, centered: bool = False) -> Tensor:
    """Normalized inner product of corresponding images.

    Parameters
    ----------
    a, b : Tensor (B, C, H, W)
        Floating point or 8-bit.
    centered : bool
        Remove the mean of each image first. The paper's similarity is the plain one, which says
        little where the means dominate.

    Returns
    -------
    Tensor (B,)
        In [-1, 1].
    """
    checks.same_shape(checks.images(a, "a", uint8=True), checks.images(b, "b", uint8=True), "a and b")
    a, b = (x if x.is_floating_point() else x.float() for x in (a, b))
    return (unit(a, centered) * unit(b, centered)).sum(1)


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
        set of one (image or group).
    """

    index: Tensor
    similarity: Tensor
    distance_ratio: Tensor


def nearest(
    images: Tensor,
    train: Tensor,
    centered: bool = False,
    block: int = BLOCK,
    groups: Tensor | None = None,
    done: Callable[[int], object] = lambda comparisons: None,
) -> Nearest:
    """Most similar training image of each image.

    Similarity is the cosine. Distances are between the images as they are compared: of norm 1,
    and without their means if ``centered``. There distance^2 = 2 - 2 cosine, so that the most
    similar image is also the nearest. Both are computed in float64.

    Parameters
    ----------
    images : Tensor (B, C, H, W)
        Floating point or 8-bit.
    train : Tensor (N, C, H, W)
        Floating point or 8-bit. It is compared in blocks, and no B x N matrix is held.
    centered : bool
        Remove the mean of each image before the comparison.
    block : int
        Number of images, and of training images, compared at once, or fewer if they are large.
    groups : Tensor (N,), int, optional
        Training images of one number count as one picture: the second is the most similar of another number.
    done : callable
        Called with the number of comparisons made since the last call, for a progress bar.

    Returns
    -------
    Nearest
    """
    checks.images(images, "images", uint8=True)
    checks.same_shape(images, checks.images(train, "train", uint8=True), "images and train", 1)
    if groups is not None and groups.shape != train.shape[:1]:
        raise ValueError(f"groups must have a number for each of {len(train)} training images, got {len(groups)}")
    block = checks.count(block, "block")
    index, cosines, distances = two_nearest(images, train, centered, groups, block, done)
    ratio = torch.where(distances[:, 1] == 0, 1, distances[:, 0] / distances[:, 1])
    dtype = images.dtype if images.is_floating_point() else torch.float32
    return Nearest(index[:, 0], cosines[:, 0].to(dtype), ratio.to(dtype))


def stein_risk(
    denoiser: Denoiser | NoiseConditional, images: Tensor, sigma: float, probes: int = 4, seed: int = 0
) -> dict[str, Tensor]:
    """Stein's unbiased risk estimate, and the error that it estimates (Eq. 7 and 10).

    SURE = norm(y - f(y))^2 + 2 sigma^2 tr grad f(y) - sigma^2 d needs no clean image; for the
    optimal denoiser the error is also sigma^2 tr grad f(y).

    Parameters
    ----------
    denoiser : callable
        f(y), acting on each image of a batch separately, or sigma -> f(y) as a :class:`gahb.adapt.NoiseConditional`.
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
    denoiser = at_sigma(denoiser, checks.positive(sigma, "sigma"))
    d = images[0].numel()
    y = images + sigma * gaussian_noise(len(images), images.shape[1:], seed).to(images)
    at_once = min(64, max(1, BATCH_PIXELS // 2 // d))
    parts = enumerate(y.split(at_once), start=seed + 1)  # each part has its own signs, so that errors are independent
    trace = torch.cat([sigma**2 * divergence(denoiser, part, probes, part_seed) for part_seed, part in parts])
    with evaluating(denoiser, y.dtype) as f, torch.no_grad():
        output = torch.cat([f(part) for part in y.split(at_once)])
    residual = (y - output).square().flatten(1).sum(1)
    mse = (output - images).square().flatten(1).mean(1)
    return {"mse": mse, "sure": (residual + 2 * trace) / d - sigma**2, "trace": trace / d}

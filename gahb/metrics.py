"""Errors, similarities and risk of denoisers."""

from dataclasses import dataclass

import torch

from gahb._util import checks
from gahb.denoisers import evaluating
from gahb.jacobians import divergence
from gahb.sampling import gaussian_noise

BATCH_PIXELS = 128 * 40 * 40  # images evaluated at once, in pixels


def psnr(clean, denoised):
    """Peak signal-to-noise ratio of each image, -10 log10(mean squared error), peak 1.

    Parameters
    ----------
    clean, denoised : Tensor (B, C, H, W)
        Intensities in [0, 1].

    Returns
    -------
    Tensor (B,)
        In dB; infinite where the two are equal.

    Raises
    ------
    ValueError, TypeError
        If the shapes differ, or a tensor is empty, not finite or not floating point.
    """
    checks.clean_images(clean, "clean")
    checks.images(denoised, "denoised")
    checks.same_shape(clean, denoised, "clean and denoised")
    return -10 * (clean - denoised).square().flatten(1).mean(1).log10()


@torch.no_grad()
def squared_errors(denoiser, images, sigmas, seed=0):
    """Mean squared error per pixel, of each image at each noise level.

    The noise of the i-th image is the same for every denoiser, every sigma (up to scale) and
    every number of images, so that two denoisers are compared on the same noisy images.

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

    Raises
    ------
    ValueError, TypeError
        If ``images`` is not a finite floating-point batch, a number is out of range, or ``denoiser`` is no function.
    """
    checks.clean_images(images, "images")
    sigmas = checks.sigmas(sigmas)
    noise = gaussian_noise(len(images), images.shape[1:], seed).to(images)
    errors = torch.empty(len(sigmas), len(images), dtype=images.dtype)
    chunk = max(1, BATCH_PIXELS // images[0].numel())
    jobs = torch.cartesian_prod(torch.arange(len(sigmas)), torch.arange(len(images))).split(chunk)
    levels = torch.tensor(sigmas, dtype=images.dtype, device=images.device)
    with evaluating(denoiser, images.dtype) as f:
        for job in jobs:
            s, i = job.to(images.device).unbind(1)
            y = images[i] + levels[s, None, None, None] * noise[i]
            error = (f(y) - images[i]).square().flatten(1).mean(1)
            errors[job[:, 0], job[:, 1]] = error.cpu()
    return errors


def psnr_table(denoiser, images, sigmas, seed=0):
    """PSNR of each image at each noise level, -10 log10 of :func:`squared_errors`.

    Parameters
    ----------
    denoiser, images, sigmas, seed
        As for :func:`squared_errors`: f(y), clean images (B, C, H, W), S noise levels, a seed of the noise.

    Returns
    -------
    Tensor (S, B)
        In dB, peak 1; on the CPU.

    Raises
    ------
    ValueError, TypeError
        As :func:`squared_errors`.
    """
    return -10 * squared_errors(denoiser, images, sigmas, seed).log10()


def psnr_curve(denoiser, images, sigmas, seed=0):
    """Mean PSNR for each noise level (the curves of Figure 1).

    Parameters
    ----------
    denoiser, images, sigmas, seed
        As for :func:`squared_errors`: f(y), clean images (B, C, H, W), S noise levels, a seed of the noise.

    Returns
    -------
    Tensor (S,)
        Mean over the images of the PSNR in dB, peak 1.

    Raises
    ------
    ValueError, TypeError
        As :func:`squared_errors`.
    """
    return psnr_table(denoiser, images, sigmas, seed).mean(1)


def cosine_similarity(a, b, centered=False):
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

    Raises
    ------
    ValueError, TypeError
        If the shapes differ, or a tensor is empty, not finite or not floating point.
    """
    checks.images(a, "a")
    checks.images(b, "b")
    checks.same_shape(a, b, "a and b")
    return (_unit(a, centered) * _unit(b, centered)).sum(1)


def normalized(images):
    """Images of mean 0 and norm 1: what is left when brightness and contrast do not count.

    Parameters
    ----------
    images : Tensor (B, C, H, W)

    Returns
    -------
    Tensor (B, C, H, W)

    Raises
    ------
    ValueError, TypeError
        If ``images`` is not a finite batch of floating-point images.
    """
    return _unit(checks.images(images, "images"), True).view(images.shape)


def _unit(images, centered):
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
        Euclidean distance to the nearest over that to the second-nearest image; 1 where both are 0, NaN for a
        set of one.
    """

    index: torch.Tensor
    similarity: torch.Tensor
    distance_ratio: torch.Tensor


def nearest(images, train, centered=False, block=8192):
    """Most similar training image of each image, by blocked matrix products.

    Parameters
    ----------
    images : Tensor (B, C, H, W)
    train : Tensor (N, C, H, W)
    centered : bool
        Remove the mean of each image before the similarity.
    block : int
        Number of training images compared at once.

    Returns
    -------
    Nearest

    Raises
    ------
    ValueError, TypeError
        If the two do not hold finite images of the same size, or ``block`` is not a positive integer.
    """
    _check_sets(images, train, "images", "train")
    checks.count(block, "block")
    similarity = torch.full((len(images),), -2.0, dtype=images.dtype, device=images.device)
    index = torch.zeros(len(images), dtype=torch.long, device=images.device)
    closest = torch.full((len(images), 2), torch.inf, dtype=torch.float64, device=images.device)
    a = images.flatten(1)
    for start in range(0, len(train), block):
        b = train[start : start + block].to(images).flatten(1)
        products, cosines = _products_and_cosines(a, b, centered)
        value, where = cosines.max(dim=1)
        better = value > similarity
        similarity, index = torch.where(better, value, similarity), torch.where(better, where + start, index)
        closest = torch.cat([closest, _smallest_distances(a, b, products)], dim=1)
        closest = closest.topk(2, dim=1, largest=False).values
    ratio = torch.where(closest[:, 1] > 0, closest[:, 0] / closest[:, 1], 1)  # two copies in the set are a tie
    ratio = ratio.masked_fill(closest[:, 1].isinf(), torch.nan)
    return Nearest(index, similarity, ratio.to(images.dtype))


def _products_and_cosines(a, b, centered):
    """Scalar products of the rows of ``a`` and ``b``, and their cosine similarities, by one matrix product."""
    means = a.mean(1, keepdim=True), b.mean(1, keepdim=True)
    if centered:
        a, b = a - means[0], b - means[1]
    products = a @ b.T
    norms = [x.norm(dim=1).clamp_min(1e-12) for x in (a, b)]
    cosines = products / norms[0][:, None] / norms[1]
    return (products + a.shape[1] * means[0] * means[1].T if centered else products), cosines


def _smallest_distances(a, b, products, candidates=8):
    """The two smallest distances of each row of ``a`` to rows of ``b`` (fewer if b has fewer), in float64.

    The products in the given precision, in which distances to copies drown, find candidates; the
    distances to those are computed anew. Where even the last candidate is as close, within that
    precision, as the second, all distances are.
    """
    squares = b.square().sum(1) - 2 * products  # but for the square of a, the same in each row
    near = squares.topk(min(candidates, len(b)), dim=1, largest=False)
    wide = a.double()
    distances = (b[near.indices].double() - wide[:, None]).norm(dim=2)
    distances = distances.topk(min(2, len(b)), dim=1, largest=False).values
    if len(b) > candidates:
        slack = 1e2 * torch.finfo(a.dtype).eps * (a.square().sum(1) + b.square().sum(1).max())
        unsure = near.values[:, -1] - near.values[:, 1] < slack
        if bool(unsure.any()):
            distances[unsure] = torch.cdist(wide[unsure], b.double()).topk(2, dim=1, largest=False).values
    return distances


def _check_sets(a, b, name_a, name_b):
    checks.images(a, name_a)
    checks.images(b, name_b)
    if a.shape[1:] != b.shape[1:]:
        raise ValueError(
            f"{name_a} and {name_b} must hold images of the same size, got {tuple(a.shape)} and {tuple(b.shape)}"
        )


def closest_pairs(a, b, centered=False):
    """Cosine similarity of each image of one set to the most similar of another (Figure 7).

    Parameters
    ----------
    a : Tensor (A, C, H, W)
    b : Tensor (B, C, H, W)
    centered : bool
        Remove the mean of each image first.

    Returns
    -------
    Tensor (A,)
        In [-1, 1].

    Raises
    ------
    ValueError, TypeError
        If the two do not hold finite images of the same size.
    """
    _check_sets(a, b, "a", "b")
    return nearest(a, b, centered).similarity


def stein_risk(denoiser, images, sigma, probes=4, seed=0):
    """Stein's unbiased risk estimate beside the error that it estimates (Eq. 7 and 10).

    SURE = norm(y - f(y))^2 + 2 sigma^2 tr grad f(y) - sigma^2 d needs no clean image; for the
    optimal denoiser the error is also sigma^2 tr grad f(y).

    Parameters
    ----------
    denoiser : callable
        f(y), acting on each image of a batch alone.
    images : Tensor (B, C, H, W)
        Clean images, intensities in [0, 1].
    sigma : float
        Noise level, intensities.
    probes : int
        Random products that estimate the trace (see :func:`gahb.jacobians.divergence`).
    seed : int
        Seed of the noise.

    Returns
    -------
    dict of Tensor (B,)
        ``mse``, ``sure`` and ``trace`` (sigma^2 tr grad f), squared intensities per pixel (divided by d).

    Raises
    ------
    ValueError, TypeError
        If ``images`` is not a finite floating-point batch, a number is out of range, or ``denoiser`` is no function.
    """
    checks.clean_images(images, "images")
    checks.positive(sigma, "sigma")
    d = images[0].numel()
    y = images + sigma * gaussian_noise(len(images), images.shape[1:], seed).to(images)
    parts = enumerate(y.split(64), start=seed + 1)  # signs of their own for each part: errors are independent
    trace = torch.cat([sigma**2 * divergence(denoiser, part, probes, part_seed) for part_seed, part in parts])
    with evaluating(denoiser, y.dtype) as f, torch.no_grad():
        output = torch.cat([f(part) for part in y.split(64)])
    residual = (y - output).square().flatten(1).sum(1)
    mse = (output - images).square().flatten(1).mean(1)
    return {"mse": mse, "sure": (residual + 2 * trace) / d - sigma**2, "trace": trace / d}

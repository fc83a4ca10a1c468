r"""Optimal denoisers in closed form: f*(y) = E[x | y] for priors where it is known.

Each function returns a denoiser ``f(y)``, (B, C, H, W) -> (B, C, H, W), for :func:`gahb.jacobian`,
:func:`gahb.sample`, :func:`gahb.psnr_curve` and all others that take one. It computes in float64,
returns the dtype of ``y`` and is differentiable. Unlike a blind network it is made for one noise
level ``sigma`` (intensities).
"""

import math

import torch
from torch import Tensor

from gahb._posterior import posterior_mean
from gahb._util import checks
from gahb.adapt import NoiseConditional
from gahb.denoisers import Denoiser
from gahb.locality import local as local  # public here


def empirical(train: Tensor, sigma: float, block: int = 4096) -> Denoiser:
    r"""Posterior mean over a finite set: the optimal denoiser of a training set, a perfect memorizer.

    f*(y) = sum_i w_i x_i with w = softmax(-norm(y - x_i)^2 / 2 sigma^2) (Eq. 8 with a sum of
    Diracs as prior). The softmax is computed block by block, with a running maximum.

    Parameters
    ----------
    train : Tensor (N, C, H, W)
        The set, intensities in [0, 1].
    sigma : float
        Noise level.
    block : int
        Number of training images that are held in float64 at once.

    Returns
    -------
    callable
        f*(y), (B, C, H, W) -> (B, C, H, W).
    """
    checks.images(train, "train")
    variance = checks.positive(sigma, "sigma") ** 2
    checks.count(block, "block")
    points = train.detach().flatten(1)
    center = points.double().mean(0)

    def denoiser(y: Tensor) -> Tensor:
        flat = _flat(y, points.shape[1])
        middle = center.to(flat)
        blocks = (x.to(flat) - middle for x in points.split(block))
        return (posterior_mean(flat - middle, ((x, x) for x in blocks), variance) + middle).view(y.shape).to(y.dtype)

    return denoiser


def gaussian(mean: Tensor, cov: Tensor, sigma: float) -> Denoiser:
    """Wiener filter: f*(y) = m + C (C + sigma^2 Id)^-1 (y - m), for the prior N(m, C).

    Parameters
    ----------
    mean : Tensor (C, H, W)
        Intensities.
    cov : Tensor (d, d)
        Symmetric and non-negative, d = C H W.
    sigma : float
        Noise level.

    Returns
    -------
    callable
        f*(y), (B, C, H, W) -> (B, C, H, W).
    """
    checks.images(mean, "mean", 3)
    checks.tensor(cov, "cov", (mean.numel(), mean.numel()))
    return mixture(mean[None], cov[None], torch.ones(1), sigma)


def moments(train: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of a training set: its Gaussian model.

    Parameters
    ----------
    train : Tensor (N, C, H, W)
        Intensities.

    Returns
    -------
    mean : Tensor (C, H, W)
    cov : Tensor (d, d)
        sum (x - mean) (x - mean)^T / N; both float64.
    """
    flat = checks.images(train, "train").detach().flatten(1).double()
    mean = flat.mean(0)
    return mean.view(train.shape[1:]), (flat - mean).T @ (flat - mean) / len(flat)


def wiener(train: Tensor) -> NoiseConditional:
    """Wiener filters of a training set: the best affine denoisers, from its mean and covariance.

    Parameters
    ----------
    train : Tensor (N, C, H, W)
        Intensities in [0, 1].

    Returns
    -------
    NoiseConditional
        sigma -> f*(y), as :func:`gaussian` of the training set's moments; decomposed once for all noise levels.
    """
    mean, cov = moments(train)
    (values,), (vectors,) = _eigenpairs(cov[None])
    center, d = mean.flatten(), mean.numel()

    def at(sigma: float) -> Denoiser:
        gains = values / (values + sigma**2)

        def denoiser(y: Tensor) -> Tensor:
            flat = _flat(y, d)
            m, e, g = (value.to(y.device) for value in (center, vectors, gains))
            return (m + (flat - m) @ e * g @ e.T).view(y.shape).to(y.dtype)

        return denoiser

    return NoiseConditional(at)


def gaussian_samples(train: Tensor, noise: Tensor) -> Tensor:
    """Samples of the Gaussian model of a training set: m + C^(1/2) z.

    Parameters
    ----------
    train : Tensor (N, C, H, W)
    noise : Tensor (B, C, H, W)
        Standard normal z; two models with the same noise are compared by their samples.

    Returns
    -------
    Tensor (B, C, H, W)
        Of the dtype of ``noise``.
    """
    mean, cov = moments(train)
    flat = _flat(noise, mean.numel(), "noise")
    (values,), (vectors,) = _eigenpairs(cov[None])
    m, e, s = (value.to(noise.device) for value in (mean.flatten(), vectors, values.sqrt()))
    return (m + flat @ e * s @ e.T).view(noise.shape).to(noise.dtype)


def mixture(means: Tensor, covs: Tensor, weights: Tensor, sigma: float) -> Denoiser:
    """Posterior mean for a mixture of Gaussians sum_j w_j N(m_j, C_j).

    Parameters
    ----------
    means : Tensor (M, C, H, W)
        Intensities.
    covs : Tensor (M, d, d)
        Symmetric and non-negative.
    weights : Tensor (M,)
        Positive; normalized to sum to one.
    sigma : float
        Noise level.

    Returns
    -------
    callable
        f*(y) = sum_j p(j | y) (m_j + C_j (C_j + sigma^2 Id)^-1 (y - m_j)).
    """
    checks.images(means, "means")
    variance = checks.positive(sigma, "sigma") ** 2
    centers = means.detach().flatten(1).double()
    d = centers.shape[1]
    values, vectors = _eigenpairs(checks.tensor(covs, "covs", (len(means), d, d)))
    if not bool((checks.tensor(weights, "weights", (len(means),)) > 0).all()):
        raise ValueError(f"weights must be {len(means)} positive numbers, got {weights.tolist()}")
    log_weights = (weights.double() / weights.sum()).log().cpu()
    log_weights = log_weights - (values + variance).log().sum(1) / 2

    def denoiser(y: Tensor) -> Tensor:
        flat = _flat(y, d)
        v, e, c = values.to(y.device), vectors.to(y.device), centers.to(y.device)
        parts = torch.einsum("mij,mbi->mbj", e, flat - c[:, None])
        logits = log_weights.to(y.device)[:, None] - (parts.square() / (v + variance)[:, None]).sum(2) / 2
        means_given_y = c[:, None] + torch.einsum("mij,mbj->mbi", e, parts * (v / (v + variance))[:, None])
        result = (torch.softmax(logits, dim=0)[:, :, None] * means_given_y).sum(0)
        return result.view(y.shape).to(y.dtype)

    return denoiser


def _eigenpairs(covs: Tensor) -> tuple[Tensor, Tensor]:
    covs = covs.detach().double().cpu()
    if not torch.allclose(covs, covs.mT, rtol=0, atol=1e-6 * float(covs.abs().max())):
        raise ValueError("each cov in covs must be symmetric, got one that differs from its transpose")
    values, vectors = torch.linalg.eigh(covs)
    if bool((values < -1e-6 * values.abs().amax(1, keepdim=True)).any()):
        raise ValueError(f"each cov in covs must be non-negative, got an eigenvalue {values.min():.3g}")
    return values.clamp_min(0), vectors


def subspace(vectors: Tensor) -> Denoiser:
    """Orthogonal projection on the span of ``vectors``: optimal for small noise on a flat manifold.

    Parameters
    ----------
    vectors : Tensor (k, C, H, W)
        They need not be orthogonal or independent.

    Returns
    -------
    callable
        f*(y), (B, C, H, W) -> (B, C, H, W).
    """
    checks.images(vectors, "vectors")
    columns = vectors.detach().flatten(1).double().cpu().T
    u, s, _ = torch.linalg.svd(columns, full_matrices=False)
    # Singular values that are rounding errors do not count as dimensions (the tolerance of numpy's matrix_rank).
    u = u[:, s > max(columns.shape) * torch.finfo(vectors.dtype).eps * s[0]]

    def denoiser(y: Tensor) -> Tensor:
        flat = _flat(y, len(u))
        basis = u.to(flat)
        return (flat @ basis @ basis.T).view(y.shape).to(y.dtype)

    return denoiser


def ray(image: Tensor, sigma: float, low: float = 0.0, high: float = 1.0) -> Denoiser:
    """Posterior mean for x = s * image with s uniform on [low, high] (Figure 12).

    Given y, s is a normal of mean <y, image> / norm(image)^2 and standard deviation
    sigma / norm(image), truncated to the interval; its mean is computed in logarithms.

    Parameters
    ----------
    image : Tensor (C, H, W)
        Intensities in [0, 1], not zero everywhere.
    sigma : float
        Noise level.
    low, high : float
        Range of the intensity s.

    Returns
    -------
    callable
        f*(y), (B, C, H, W) -> (B, C, H, W).
    """
    checks.images(image, "image", 3)
    checks.positive(sigma, "sigma")
    if not checks.number(low, "low") < checks.number(high, "high"):
        raise ValueError(f"low must be below high, got {low} and {high}")
    direction = image.detach().flatten().double()
    norm = direction.norm()
    if not norm > 0:
        raise ValueError("image must not be zero everywhere")

    def denoiser(y: Tensor) -> Tensor:
        flat = _flat(y, len(direction))
        x = direction.to(flat)
        s = flat @ x / norm.to(flat) ** 2
        intensity = _truncated_mean(s, float(sigma / norm), low, high)
        return (intensity[:, None] * x).view(y.shape).to(y.dtype)

    return denoiser


def _truncated_mean(mean: Tensor, sd: float, low: float, high: float) -> Tensor:
    """Mean of N(mean, sd^2) truncated to [low, high], stable in both tails."""
    flip = 1 - 2 * (mean > (low + high) / 2).to(mean)  # reflect, so that the interval is on the right
    a = torch.where(flip > 0, low - mean, mean - high) / sd
    b = torch.where(flip > 0, high - mean, mean - low) / sd
    # Densities and masses are divided by exp(-a^2 / 2), because they would underflow or cancel. Below
    # -20, where erfcx overflows, the density at the near end is negligible (1e-87).
    near, far = torch.special.erfcx(a.clamp_min(-20) / math.sqrt(2)), torch.special.erfcx(b / math.sqrt(2))
    fall = (a - b) * (a + b) / 2
    tilt = math.sqrt(2 / math.pi) * -torch.expm1(fall) / (near - far * fall.exp())
    return (mean + flip * sd * tilt).clamp(low, high)


def _flat(y: Tensor, d: int, name: str = "y") -> Tensor:
    checks.images(y, name)
    if y[0].numel() != d:
        raise ValueError(f"{name} must have {d} pixels per image, got shape {tuple(y.shape)}")
    return y.flatten(1).double()

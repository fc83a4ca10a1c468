"""Geometric C-alpha images: regular regions separated by a regular contour (Appendix D, Algorithm 2)."""

import numpy as np
import torch
from torch.nn import functional as F

from gahb._util import checks

BLOCK = 256  # images synthesized at once: few enough for the processor's cache


def c_alpha(n, size, alpha, beta=None, seed=0):
    """Draw C-alpha images.

    A random contour and two random backgrounds are white noise integrated in the Fourier domain
    by ``|k|^-alpha`` and ``(k1^2 + k2^2)^(-beta / 2)``, with the gain of k = 0 that of k = 1. The
    contour is scaled by the image size, starts from the middle row and is rounded to pixels; where it
    leaves the frame it is cut. One background is stretched to [u, 1], the other to [0, v], with u
    and v uniform; the mask is smoothed by a 2x2 box (the authors' normalization).

    Parameters
    ----------
    n : int
        Number of images.
    size : int
        Height and width, pixels, at least 4.
    alpha : float
        Regularity of the contour, above 0.
    beta : float, optional
        Regularity of the backgrounds; that of the contour if left out.
    seed : int
        The i-th image is the same whatever ``n``. The global random state is neither read nor changed.

    Returns
    -------
    Tensor (n, 1, size, size), float32
        Intensities in [0, 1].

    Raises
    ------
    ValueError, TypeError
        If a size is not an integer in range, or a regularity is not positive.
    """
    beta = alpha if beta is None else beta
    rng = _start(n, size, seed, alpha=alpha, beta=beta)
    images = torch.empty(n, 1, size, size)
    for block in images.split(BLOCK):
        draws = _draw(rng, size)
        mask = _smooth_mask(_contours(draws, size, alpha), size)
        below, above = _stretch(_backgrounds(draws, size, beta), draws["range"], draws["swap"]).unbind(1)
        whole = torch.lerp(above, below, mask).clamp_(0, 1)  # rounding may leave [0, 1] by 1e-7
        block[:, 0] = whole[: len(block)]
    return images


def contours(n, size, alpha, seed=0):
    """The contours of :func:`c_alpha` before rounding (Algorithm 2, lines 1 to 4).

    Parameters
    ----------
    n : int
        Number of images.
    size : int
        Height and width, pixels, at least 4.
    alpha : float
        Regularity, above 0.
    seed : int
        As for :func:`c_alpha`, whose images with this seed have these contours.

    Returns
    -------
    Tensor (n, size), float64
        The row of the contour in each column, pixels.

    Raises
    ------
    ValueError, TypeError
        As :func:`c_alpha`.
    """
    rng = _start(n, size, seed, alpha=alpha)
    return torch.cat([_contours(_draw(rng, size), size, alpha) for _ in range(0, n, BLOCK)])[:n]


def backgrounds(n, size, beta, seed=0):
    """The two backgrounds of :func:`c_alpha` before they are stretched (Algorithm 2, lines 5 to 8).

    Parameters
    ----------
    n : int
        Number of images.
    size : int
        Height and width, pixels, at least 4.
    beta : float
        Regularity, above 0.
    seed : int
        As for :func:`c_alpha`, whose images with this seed have these backgrounds.

    Returns
    -------
    Tensor (n, 2, size, size), float32

    Raises
    ------
    ValueError, TypeError
        As :func:`c_alpha`.
    """
    rng = _start(n, size, seed, beta=beta)
    return torch.cat([_backgrounds(_draw(rng, size), size, beta) for _ in range(0, n, BLOCK)])[:n]


def _start(n, size, seed, **regularities):
    checks.count(n, "n")
    checks.count(size, "size", 4)
    for name, value in regularities.items():
        checks.positive(value, name)
    return checks.generator(seed)


def _draw(rng, size):
    """Uniform numbers of a block of images, those of one image in one row.

    Always of a whole block, so that the i-th image is computed in the same place of the same
    arrays whatever n: threads and vector units round differently elsewhere.
    """
    u = torch.from_numpy(rng.random((BLOCK, size + 2 * size * size + 3), dtype=np.float32))
    return {
        "contour": 2 * u[:, :size].double() - 1,
        "background": 2 * u[:, size:-3].view(BLOCK, 2, size, size) - 1,
        "range": u[:, -3:-1],
        "swap": u[:, -1] < 0.5,
    }


def _contours(draws, size, alpha):
    k = np.fft.rfftfreq(size, 1 / size).clip(1)
    noise = np.fft.rfft(draws["contour"].numpy())  # NumPy's: torch's rounds differently on other numbers of threads
    return torch.from_numpy(np.fft.irfft(noise * k**-alpha, n=size)) * size + size / 2


def _backgrounds(draws, size, beta):
    rows, columns = np.fft.fftfreq(size, 1 / size), np.fft.rfftfreq(size, 1 / size)
    gain = (rows[:, None] ** 2 + columns**2).clip(1) ** (-beta / 2)
    noise = np.fft.rfft2(draws["background"].numpy())
    noise *= gain.astype(np.float32)
    return torch.from_numpy(np.fft.irfft2(noise, s=(size, size)))


def _smooth_mask(contour, size):
    rows = torch.arange(size)[:, None]
    mask = (rows > contour.round()[:, None, :]).float()
    padded = F.pad(mask, (0, 1, 0, 1), mode="replicate")
    across = padded[..., 1:] + padded[..., :-1]
    return (across[:, 1:] + across[:, :-1]).div_(4)


def _stretch(backgrounds, uniform, swap):
    """One background to [u, 1], the other to [0, v]; in place."""
    low, high = backgrounds.aminmax(dim=-1)
    low, high = low.amin(-1), high.amax(-1)
    u, v = uniform.unbind(1)
    zero, one = torch.zeros_like(u), torch.ones_like(v)
    bright, dark = torch.stack([u, one]), torch.stack([zero, v])
    ranges = torch.stack([torch.where(swap, dark, bright), torch.where(swap, bright, dark)], dim=2)
    bottom, top = ranges
    scale = (top - bottom) / (high - low)
    return backgrounds.sub_(low[..., None, None]).mul_(scale[..., None, None]).add_(bottom[..., None, None])

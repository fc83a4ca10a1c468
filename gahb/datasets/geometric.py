"""Geometric C-alpha images: regular regions separated by a regular contour (Appendix D, Algorithm 2)."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gahb._util import checks

BLOCK = 256  # images drawn at once: they fit into the processor's cache


def c_alpha(n: int, size: int, alpha: float, beta: float | None = None, seed: int = 0) -> Tensor:
    """Draw C-alpha images.

    A contour and two backgrounds are white noise filtered in the Fourier domain by ``|k|^-alpha`` and
    ``(k1^2 + k2^2)^(-beta / 2)``; k = 0 has the gain of k = 1. The contour is scaled by the image size, centered on
    the middle row, rounded to pixels, and cut where it leaves the frame. One background is stretched to [u, 1] and
    the other to [0, v], with u and v uniform. The mask is smoothed by a 2x2 box (the authors' normalization).

    Parameters
    ----------
    n, size : int
        Number of images; their height and width, pixels, at least 4.
    alpha : float
        Regularity of the contour, above 0.
    beta : float, optional
        Regularity of the backgrounds; alpha if left out.
    seed : int
        The i-th image does not depend on ``n``. The global random state is neither read nor changed.

    Returns
    -------
    Tensor (n, 1, size, size), float32
        Intensities in [0, 1].
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


def contours(n: int, size: int, alpha: float, seed: int = 0) -> Tensor:
    """The contours of :func:`c_alpha` before rounding (Algorithm 2, lines 1 to 4).

    Parameters
    ----------
    n, size, alpha, seed
        As for :func:`c_alpha`, whose images of the same seed have these contours.

    Returns
    -------
    Tensor (n, size), float64
        The row of the contour in each column, pixels.
    """
    rng = _start(n, size, seed, alpha=alpha)
    return torch.cat([_contours(_draw(rng, size), size, alpha) for _ in range(0, n, BLOCK)])[:n]


def backgrounds(n: int, size: int, beta: float, seed: int = 0) -> Tensor:
    """The two backgrounds of :func:`c_alpha` before they are stretched (Algorithm 2, lines 5 to 8).

    Parameters
    ----------
    n, size, beta, seed
        As for :func:`c_alpha`, whose images of the same seed have these backgrounds.

    Returns
    -------
    Tensor (n, 2, size, size), float32
    """
    rng = _start(n, size, seed, beta=beta)
    return torch.cat([_backgrounds(_draw(rng, size), size, beta) for _ in range(0, n, BLOCK)])[:n]


def _start(n: int, size: int, seed: int, **regularities: float) -> np.random.Generator:
    checks.count(n, "n")
    checks.count(size, "size", 4)
    for name, value in regularities.items():
        checks.positive(value, name)
    return checks.generator(seed)


def _draw(rng: np.random.Generator, size: int) -> dict[str, Tensor]:
    """Uniform numbers for a whole block of images, one image a row.

    Always a whole block: how threads and vector units round depends on the place in an array, and the i-th image must
    not depend on n.
    """
    u = torch.from_numpy(rng.random((BLOCK, size + 2 * size * size + 3), dtype=np.float32))
    return {
        "contour": 2 * u[:, :size].double() - 1,
        "background": 2 * u[:, size:-3].view(BLOCK, 2, size, size) - 1,
        "range": u[:, -3:-1],
        "swap": u[:, -1] < 0.5,
    }


def _contours(draws: dict[str, Tensor], size: int, alpha: float) -> Tensor:
    k = np.fft.rfftfreq(size, 1 / size).clip(1)
    noise = np.fft.rfft(draws["contour"].numpy())  # torch's FFT depends on the number of threads
    return torch.from_numpy(np.fft.irfft(noise * k**-alpha, n=size)) * size + size / 2


def _backgrounds(draws: dict[str, Tensor], size: int, beta: float) -> Tensor:
    rows, columns = np.fft.fftfreq(size, 1 / size), np.fft.rfftfreq(size, 1 / size)
    gain = (rows[:, None] ** 2 + columns**2).clip(1) ** (-beta / 2)
    noise = np.fft.rfft2(draws["background"].numpy())
    noise *= gain.astype(np.float32)
    return torch.from_numpy(np.fft.irfft2(noise, s=(size, size)))


def _smooth_mask(contour: Tensor, size: int) -> Tensor:
    rows = torch.arange(size)[:, None]
    mask = (rows > contour.round()[:, None, :]).float()
    padded = F.pad(mask, (0, 1, 0, 1), mode="replicate")
    across = padded[..., 1:] + padded[..., :-1]
    return (across[:, 1:] + across[:, :-1]).div_(4)


def _stretch(backgrounds: Tensor, uniform: Tensor, swap: Tensor) -> Tensor:
    """Stretch one background to [u, 1] and the other to [0, v], in place."""
    low, high = backgrounds.aminmax(dim=-1)
    low, high = low.amin(-1), high.amax(-1)
    u, v = uniform.unbind(1)
    bright, dark = torch.stack([u, torch.ones_like(u)]), torch.stack([torch.zeros_like(v), v])
    bottom, top = torch.stack([torch.where(swap, dark, bright), torch.where(swap, bright, dark)], dim=2)
    scale = (top - bottom) / (high - low)
    return backgrounds.sub_(low[..., None, None]).mul_(scale[..., None, None]).add_(bottom[..., None, None])

"""Samples from the density that a denoiser implies: Algorithm 1, and a schedule for those that must be told sigma."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gahb._util import checks
from gahb.adapt import NoiseConditional
from gahb.denoisers import Denoiser, evaluating


@dataclass(frozen=True)
class Samples:
    """What :func:`sample` returns.

    Attributes
    ----------
    images : Tensor (B, C, H, W)
        The samples, not clipped.
    steps : Tensor (B,)
        Number of steps of each.
    sigmas : Tensor (T, B)
        Noise level at each step, intensities, as the denoiser estimates it; after an image has
        stopped, its last value.
    """

    images: Tensor
    steps: Tensor
    sigmas: Tensor


def gaussian_noise(n: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Standard normal noise; the i-th image does not depend on ``n``.

    Parameters
    ----------
    n : int
        Number of noise images.
    shape : tuple
        Shape of one, (C, H, W).
    seed : int
        The global random state is neither read nor changed.

    Returns
    -------
    Tensor (n, C, H, W), float32
    """
    checks.count(n, "n")
    if not isinstance(shape, tuple) or not shape:  # a torch.Size is one
        raise TypeError(f"shape must be a tuple such as (C, H, W), got {shape!r}")
    shape = [checks.count(side, "shape") for side in shape]
    return torch.from_numpy(checks.generator(seed).standard_normal((n, *shape), dtype=np.float32))


def karras_sigmas(first: float, last: float, steps: int, rho: float = 7.0) -> list[float]:
    """Falling noise levels, dense at small noise (Karras et al., 2022, Eq. 5).

    sigma_i = (first^(1 / rho) + i / (steps - 1) (last^(1 / rho) - first^(1 / rho)))^rho.

    Parameters
    ----------
    first, last : float
        Largest and smallest noise level, intensities.
    steps : int
        Number of levels, at least 2.
    rho : float
        1 for equal steps.

    Returns
    -------
    list of float
    """
    if not checks.positive(first, "first") > checks.positive(last, "last"):
        raise ValueError(f"first must be above last, got {first} and {last}")
    checks.count(steps, "steps", 2)
    start, stop = (float(value) ** (1 / checks.positive(rho, "rho")) for value in (first, last))
    return [float(value) for value in np.linspace(start, stop, steps) ** rho]


@torch.no_grad()
def probability_flow(denoiser: NoiseConditional, noise: Tensor, sigmas: Sequence[float], mean: float = 0.5) -> Tensor:
    """Draw samples along a schedule of noise levels, for a denoiser that must be told them.

    The deterministic sampler of Karras et al. (2022), "Elucidating the design space of diffusion-based generative
    models" (their Algorithm 1): Heun's method for the probability flow dx / dsigma = (x - f(x; sigma)) / sigma from
    x = mean + sigma_1 noise. The step from the last level to 0 is one of Euler's, so that its end is f(x).

    Parameters
    ----------
    denoiser : NoiseConditional
        sigma -> f(y); see :mod:`gahb.adapt`.
    noise : Tensor (B, C, H, W)
        Standard normal, as :func:`gaussian_noise` draws it.
    sigmas : sequence of float
        Falling noise levels, intensities, such as those of :func:`karras_sigmas`; the first should be far above the
        spread of the images, and the last hardly visible.
    mean : float
        Intensity to which the noise is added: 0.5, middle gray, is the zero of models that work on [-1, 1].

    Returns
    -------
    Tensor (B, C, H, W)
        Samples, not clipped.
    """
    if not isinstance(denoiser, NoiseConditional):
        raise TypeError(
            "denoiser must be a gahb.adapt.NoiseConditional, sigma -> f(y); for a function f(y) that need not be told "
            f"the noise level take gahb.sample, got {type(denoiser).__name__}"
        )
    levels = checks.sigmas(sigmas)
    if any(a <= b for a, b in itertools.pairwise(levels)):
        raise ValueError(f"sigmas must fall from one to the next, got {levels}")
    x = checks.number(mean, "mean") + levels[0] * checks.images(noise, "noise")
    slope = _slope(denoiser, x, levels[0])
    for sigma, lower in itertools.pairwise(levels):
        there = _slope(denoiser, x + (lower - sigma) * slope, lower)
        x = x + (lower - sigma) * (slope + there) / 2
        slope = _slope(denoiser, x, lower)
    return x - levels[-1] * slope


def _slope(denoiser: NoiseConditional, x: Tensor, sigma: float) -> Tensor:
    with evaluating(denoiser(sigma), x.dtype) as f:
        return (x - f(x)) / sigma


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    noise: Tensor,
    step_size: float = 0.01,
    sigma_end: float = 0.01,
    mean: float = 0.0,
    max_steps: int = 10_000,
) -> Samples:
    """Draw samples by ascent of the log-likelihood gradient (Algorithm 1).

    Deterministic reverse diffusion of Kadkhodaie & Simoncelli (2020): from x = mean + noise,
    repeat s = f(x) - x, sigma = norm(s) / sqrt(d), x <- x + h s, until sigma < sigma_end. Each
    image stops on its own, and does not depend on the others of its batch.

    Parameters
    ----------
    denoiser : callable
        f(y), (B, C, H, W) -> (B, C, H, W), blind to the noise level; for others see :func:`probability_flow`.
    noise : Tensor (B, C, H, W)
        Initial noise of standard deviation sigma_0 (the paper's is 1), floating point.
    step_size : float
        h, in (0, 1].
    sigma_end : float
        Noise level at which an image is finished, intensities.
    mean : float
        Added to the noise. A bias-free network does not set a scale: from mean 0, as in the
        paper, samples are dark; from 0.5 they are as bright as the training images.
    max_steps : int
        Largest number of steps.

    Returns
    -------
    Samples

    Raises
    ------
    RuntimeError
        If an image diverges, or has not reached ``sigma_end`` after ``max_steps``.
    """
    x = checks.images(noise, "noise") + checks.number(mean, "mean")
    if not 0 < checks.positive(step_size, "step_size") <= 1:
        raise ValueError(f"step_size must be in (0, 1], got {step_size}")
    checks.positive(sigma_end, "sigma_end")
    checks.count(max_steps, "max_steps")
    result = torch.empty_like(x)
    steps = torch.zeros(len(x), dtype=torch.long, device=x.device)
    sigma = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    active = torch.arange(len(x), device=x.device)
    history = []
    with evaluating(denoiser, x.dtype) as f:
        for _ in range(max_steps):
            s = f(x) - x
            sigma[active] = s.flatten(1).norm(dim=1) / s[0].numel() ** 0.5
            history.append(sigma.clone())
            _check_divergence(sigma, history)
            x = x + step_size * s
            steps[active] += 1
            done = sigma[active] < sigma_end
            result[active[done]] = x[done]
            active, x = active[~done], x[~done]
            if len(active) == 0:
                return Samples(result, steps, torch.stack(history))
    raise RuntimeError(
        f"{len(active)} of {len(noise)} samples had not reached sigma_end = {sigma_end} after {max_steps} steps "
        f"(their sigma is {sigma[active].max():.3g}); raise max_steps, step_size or sigma_end"
    )


def _check_divergence(sigma: Tensor, history: list[Tensor]) -> None:
    if not bool(torch.isfinite(sigma).all()) or bool((sigma > 100 * history[0]).any()):
        worst = int(torch.nan_to_num(sigma, nan=torch.inf).argmax())
        raise RuntimeError(
            f"sample {worst} diverged at step {len(history)}: sigma went from {history[0][worst]:.3g} to "
            f"{sigma[worst]:.3g}; take a smaller step_size, or check that the denoiser shrinks its input"
        )

"""Samples from the density that a denoiser implies (Algorithm 1)."""

from dataclasses import dataclass

import numpy as np
import torch

from gahb._util import checks
from gahb.denoisers import evaluating


@dataclass(frozen=True)
class Samples:
    """What :func:`sample` returns.

    Attributes
    ----------
    images : Tensor (B, C, H, W)
        The samples, not clipped.
    steps : Tensor (B,)
        Number of steps that each took.
    sigmas : Tensor (T, B)
        Noise level that the denoiser saw at each step, intensities; after an image has
        stopped, its last value.
    """

    images: torch.Tensor
    steps: torch.Tensor
    sigmas: torch.Tensor


def gaussian_noise(n, shape, seed=0):
    """Standard normal noise; the i-th image is the same whatever ``n``.

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

    Raises
    ------
    ValueError, TypeError
        If ``n``, a side of ``shape`` or ``seed`` is not an integer in range.
    """
    checks.count(n, "n")
    if not isinstance(shape, tuple) or not shape:  # a torch.Size is one
        raise TypeError(f"shape must be a tuple such as (C, H, W), got {shape!r}")
    shape = [checks.count(side, "shape") for side in shape]
    return torch.from_numpy(checks.generator(seed).standard_normal((n, *shape), dtype=np.float32))


@torch.no_grad()
def sample(denoiser, noise, step_size=0.01, sigma_end=0.01, mean=0.0, max_steps=10_000):
    """Draw samples by ascent of the log-likelihood gradient (Algorithm 1).

    Deterministic reverse diffusion of Kadkhodaie & Simoncelli (2020): from x = mean + noise,
    repeat s = f(x) - x, sigma = norm(s) / sqrt(d), x <- x + h s, until sigma < sigma_end. Each
    image stops by itself, and does not depend on the others of its batch.

    Parameters
    ----------
    denoiser : callable
        f(y), (B, C, H, W) -> (B, C, H, W), blind to the noise level.
    noise : Tensor (B, C, H, W)
        Initial noise of standard deviation sigma_0 (the paper's is 1), floating point.
    step_size : float
        h, in (0, 1].
    sigma_end : float
        Noise level at which an image is finished, intensities.
    mean : float
        Added to the noise. A bias-free network has no scale of its own: from mean 0, the
        paper's, samples are dark; from 0.5 they are as bright as the training images.
    max_steps : int
        Limit on the number of steps.

    Returns
    -------
    Samples

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range or of another type.
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


def _check_divergence(sigma, history):
    if not bool(torch.isfinite(sigma).all()) or bool((sigma > 100 * history[0]).any()):
        worst = int(torch.nan_to_num(sigma, nan=torch.inf).argmax())
        raise RuntimeError(
            f"sample {worst} diverged at step {len(history)}: sigma went from {history[0][worst]:.3g} to "
            f"{sigma[worst]:.3g}; take a smaller step_size, or check that the denoiser shrinks its input"
        )

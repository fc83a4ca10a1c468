"""One step of a training: minimize E norm(x - f(y))^2 over y = x + sigma z, with sigma drawn at random (Eq. 4)."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gahb.training.recipe import Recipe

LOG_RANGE = 200  # ratio of the largest to the smallest noise level of the log-uniform distribution: 46 dB
LEAST_SIGMA = 1e-3  # keeps 1 / sigma^p finite
LEVELS, LEVEL_DB = 12, 4  # noise levels of a balanced loss, from sigma_max down, and their width
MOMENTUM = 0.03  # weight of one image in the running mean of its level

Weighting = Callable[[Tensor, Tensor], Tensor]


def step(
    recipe: Recipe,
    denoiser: Callable[[Tensor], Tensor],
    images: Tensor,
    optimizers: list[torch.optim.Optimizer],
    weighting: Weighting,
    generator: torch.Generator,
) -> Tensor:
    """Draw a batch of the training images (N, C, H, W), and move the weights against the gradient of its loss.

    Changes the state of the optimizers, the weighting and the generator. Returns the loss per pixel for the history; a
    balanced loss stays near 1, so that the plain squared error is returned in its place. Nothing here waits for the
    device or depends on the step's number, so that a GPU can replay it as one graph.
    """
    batch, sigma, noise = draw_batch(recipe, images, generator)
    value, errors = loss(denoiser, batch, sigma, noise, weighting)
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    value.backward()
    for optimizer in optimizers:
        optimizer.step()
    shown = errors.mean() if recipe.loss_weighting == "balanced" else value.detach()
    return shown / batch[0].numel()


def loss(
    denoiser: Callable[[Tensor], Tensor], images: Tensor, sigma: Tensor, noise: Tensor, weighting: Weighting
) -> tuple[Tensor, Tensor]:
    """Mean over a batch of w norm(x - f(x + sigma z))^2, and norm(x - f(x + sigma z))^2 of each image, detached.

    x are clean images (B, C, H, W), intensities in [0, 1], z standard normal noise, and sigma (B,) the noise levels.
    The weights w (B,) are ``weighting(errors, sigma)``.
    """
    noisy = (images + sigma[:, None, None, None] * noise).contiguous(memory_format=torch.channels_last)
    errors = (images - denoiser(noisy).float()).square().sum((1, 2, 3))
    return (errors * weighting(errors.detach(), sigma)).mean(), errors.detach()


class BalancedWeighting:
    """Weights 1 / (running mean of the errors at that noise level), so that each level contributes equally.

    ``means`` (LEVELS,), from the largest noise down, are -1 before the first batch, whose mean then takes their place.
    """

    def __init__(self, sigma_max: float, device: torch.device | str = "cpu") -> None:
        self.sigma_max = sigma_max
        self.means = torch.full((LEVELS,), -1.0, device=device)

    def __call__(self, errors: Tensor, sigma: Tensor) -> Tensor:
        """Weights (B,) by the means before this batch, which is then counted in."""
        means = torch.where(self.means < 0, errors.mean(), self.means)
        level = (sigma / self.sigma_max).log10().mul(-20 / LEVEL_DB).long().clamp(0, LEVELS - 1)
        members = (level[:, None] == torch.arange(LEVELS, device=level.device)).to(errors)
        count, total = members.sum(0), errors @ members
        old = (1 - MOMENTUM) ** count
        self.means.copy_(means * old + total / count.clamp_min(1) * (1 - old))
        return 1 / means[level]


def weighting_of(recipe: Recipe, device: torch.device | str = "cpu") -> Weighting:
    """The weighting of a recipe: balanced, or sigma^-p."""
    if recipe.loss_weighting == "balanced":
        return BalancedWeighting(recipe.sigma_max, device)
    power = float(recipe.loss_weighting)
    return lambda errors, sigma: sigma**-power


def learning_rate(recipe: Recipe, images_seen: int) -> float:
    """Learning rate after ``images_seen`` images."""
    if recipe.lr_schedule == "halving":
        return recipe.learning_rate * 0.5 ** (images_seen // recipe.lr_halving_images)
    progress, rise = images_seen / recipe.images_seen, 0.1
    if progress < rise:
        return recipe.learning_rate * (0.04 + 0.96 * progress / rise)
    return recipe.learning_rate * (1 + math.cos(math.pi * (progress - rise) / (1 - rise))) / 2


def draw_sigmas(recipe: Recipe, uniform: Tensor) -> Tensor:
    """Noise levels from numbers uniform on [0, 1], by the recipe's distribution."""
    if recipe.noise_distribution == "log-uniform":
        return recipe.sigma_max * LOG_RANGE**-uniform
    return recipe.sigma_max * (uniform if recipe.noise_distribution == "uniform" else uniform.square())


def draw_batch(recipe: Recipe, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Images (B, C, H, W), float32, noise levels (B,) and standard normal noise for one step."""
    draw: dict[str, Any] = {"generator": generator, "device": images.device}
    picks = torch.randint(len(images), (recipe.batch_size,), **draw)
    uniform = torch.rand(recipe.batch_size, **draw)
    batch = as_float(images[picks])
    return batch, draw_sigmas(recipe, uniform).clamp_min(LEAST_SIGMA), torch.randn(batch.shape, **draw)


def as_float(images: Tensor) -> Tensor:
    """Intensities in [0, 1] of 8-bit or floating-point images."""
    return images.float() / 255 if images.dtype == torch.uint8 else images

"""The posterior mean over a finite set of points, block by block."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor


def posterior_mean(y: Tensor, blocks: Iterable[tuple[Tensor, Tensor]], variance: float) -> Tensor:
    """sum_i w_i v_i with w = softmax(-norm(y - x_i)^2 / 2 sigma^2), by a running maximum over the blocks.

    Parameters
    ----------
    y : Tensor (B, d)
        Noisy points.
    blocks : iterable of two Tensors (n, d), (n, k)
        Points x_i and values v_i.
    variance : float
        Of the noise, sigma^2.

    Returns
    -------
    Tensor (B, k)
    """
    top = y.new_full((len(y), 1), -math.inf)
    total = mean = torch.zeros_like(top)
    for x, values in blocks:
        # norm(y)^2 is common to all weights, and left out.
        logits = torch.addmm(-x.square().sum(1) / (2 * variance), y / variance, x.T)
        new = torch.maximum(top, logits.detach().amax(1, keepdim=True))
        weights, shrink = (logits - new).exp_(), (top - new).exp()
        total = total * shrink + weights.sum(1, keepdim=True)
        mean = mean * shrink + weights @ values
        top = new
    return mean / total

r"""The best denoiser that sees only a patch around each pixel: the local score machine, in closed form.

Of all denoisers whose output at a pixel depends only on the patch of y around it, the one with the least error on a
training set (Kamb & Ganguli, *An analytic theory of creativity in convolutional diffusion models*, arXiv 2412.20292).
Beside it one sees how much of a network is locality.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from gahb._posterior import posterior_mean
from gahb._util import checks
from gahb.denoisers import Denoiser

Patches = tuple[Tensor, Tensor]  # (n, d) with all pixels of each, and (n, C) with its middle pixel


class _Run(NamedTuple):
    """Neighbouring pixels along one side of an image, and how many pixels each sees before and after it."""

    start: int
    stop: int
    before: int
    after: int


def local(train: Tensor, sigma: float, patch: int, equivariant: bool = False, block: int = 1024) -> Denoiser:
    r"""Posterior mean of each pixel given the patch of y around it: the local score machine.

    f*(y)[p] = sum_i w_i x_i[p] with w = softmax(-norm(y_P - x_i,P)^2 / 2 sigma^2), P the patch around p: the optimal
    denoiser of the training set's patches at the same place. The equivariant kind compares with the patches at all
    places. A patch that sees the whole image gives :func:`gahb.optimal.empirical`; one of a pixel, the posterior mean
    of a scalar.

    At the border a patch ends with the image, as under zero padding: the pixels outside weigh nothing. The equivariant
    kind compares it with patches cut off in the same way alone: those of an edge with those along this edge, those of
    a corner with those at the same place (the authors' machine with broken equivariance). A network that pads with
    zeros can tell these places apart.

    Parameters
    ----------
    train : Tensor (N, C, H, W)
        The training set, intensities in [0, 1].
    sigma : float
        Noise level.
    patch : int
        Side of the patch in pixels, odd. From 2 max(H, W) - 1 on, every pixel sees the whole image.
    equivariant : bool
        Whether a patch is compared with those of the training set at all places, not only at its own.
    block : int
        Number of patches of y, and of the training set, that are compared at once, in float64: a handful of matrices
        of block^2 numbers, 8 MB each by default. It is never less than the patches of one image at one kind of place.

    Returns
    -------
    callable
        f*(y), (B, C, H, W) -> (B, C, H, W). It can be differentiated once: its Jacobian,
        Cov[x[p], x[q] given y_P] / sigma^2 for q in P, is computed with it, in closed form, and held as constant.
    """
    checks.images(train, "train")
    variance = checks.positive(sigma, "sigma") ** 2
    if checks.count(patch, "patch") % 2 == 0:
        raise ValueError(f"patch must be odd, so that a pixel is in its middle, got {patch}")
    checks.count(block, "block")
    points, middle = train.detach(), float(train.detach().double().mean())
    rows, columns = (_runs(n, int(patch) // 2, equivariant) for n in train.shape[2:])

    def denoiser(y: Tensor) -> Tensor:
        checks.images(y, "y")
        if y.shape[1:] != points.shape[1:]:
            raise ValueError(f"y must have shape {('B', *points.shape[1:])}, as train, got {tuple(y.shape)}")

        def at(row: _Run, column: _Run) -> Tensor:
            def blocks(images: Tensor) -> Iterator[Patches]:
                for part in images.split(max(1, block // _count(row, column))):
                    x, v = _patches(part, row, column)
                    yield x.to(y.device, torch.float64) - middle, v.to(y.device, torch.float64) - middle

            means = torch.cat([_given_patch(x, blocks(points), variance) for x, _ in blocks(y)])
            return means.view(len(y), row.stop - row.start, -1, y.shape[1]).permute(0, 3, 1, 2)

        whole = torch.cat([torch.cat([at(row, column) for column in columns], 3) for row in rows], 2)
        return (whole + middle).to(y.dtype)

    return denoiser


def _given_patch(patches: Tensor, blocks: Iterable[Patches], variance: float) -> Tensor:
    """Posterior mean of the middle of each patch, (Q, C) of (Q, d), with its derivative if one is asked for.

    The derivative, Cov[v, x] / sigma^2, is attached as a linear map, so that no graph of all comparisons is kept.
    """
    if not (torch.is_grad_enabled() and patches.requires_grad):
        return posterior_mean(patches, blocks, variance)
    with torch.no_grad():
        products = ((x, torch.cat([v, x, (v[:, :, None] * x[:, None]).flatten(1)], 1)) for x, v in blocks)
        moments = posterior_mean(patches, products, variance)
        d = patches.shape[1]
        channels = (moments.shape[1] - d) // (d + 1)
        v, x, vx = moments.split([channels, d, channels * d], dim=1)
        gain = (vx.view(-1, channels, d) - v[:, :, None] * x[:, None]) / variance
    return v + torch.einsum("qcd,qd->qc", gain, patches - patches.detach())


def _patches(images: Tensor, row: _Run, column: _Run) -> Patches:
    """Patches around every pixel of two runs, and those pixels: (n, C h w) and (n, C)."""
    middles = images[:, :, row.start : row.stop, column.start : column.stop].permute(0, 2, 3, 1)
    for dim, run in ((2, row), (3, column)):
        images = images.narrow(dim, run.start - run.before, run.before + run.stop - run.start + run.after)
        images = images.unfold(dim, run.before + 1 + run.after, 1)
    return images.permute(0, 2, 3, 1, 4, 5).flatten(0, 2).flatten(1), middles.flatten(0, 2)


def _runs(n: int, radius: int, equivariant: bool) -> list[_Run]:
    """Runs of pixels along a side of n whose patches are cut off in the same way; else each pixel alone."""
    seen = [(min(i, radius), min(n - 1 - i, radius)) for i in range(n)]
    runs = [list(run) for _, run in groupby(range(n), key=lambda i: seen[i] if equivariant else i)]
    return [_Run(run[0], run[-1] + 1, *seen[run[0]]) for run in runs]


def _count(row: _Run, column: _Run) -> int:
    return (row.stop - row.start) * (column.stop - column.start)

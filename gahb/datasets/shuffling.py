"""Images whose pixels are permuted, all by the same permutation (Section 3.3, Figure 6)."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gahb._util import checks


def permutation(d: int, seed: int = 0) -> Tensor:
    """A random permutation of d pixels, the same on every machine.

    Drawn by ``numpy.random.RandomState``, whose stream never changes (NEP 19).

    Parameters
    ----------
    d : int
        Number of pixels.
    seed : int
        From 0 to 2^32 - 1. The global random state is neither read nor changed.

    Returns
    -------
    Tensor (d,)
        The integers below d, int64, in random order.
    """
    checks.count(d, "d")
    return torch.from_numpy(np.random.RandomState(checks.count(seed, "seed", 0)).permutation(d))


def shuffled(images: Tensor, seed: int = 0) -> Tensor:
    """Permute the pixels of each image, all by one random permutation.

    Parameters
    ----------
    images : Tensor (n, C, H, W)
        Floating point or uint8. The channels of a pixel stay together.
    seed : int
        Seed of the permutation. The global random state is neither read nor changed.

    Returns
    -------
    Tensor (n, C, H, W)
        Of the type of ``images``.
    """
    return _permute(images, lambda order: order, seed)


def unshuffled(images: Tensor, seed: int = 0) -> Tensor:
    """Undo :func:`shuffled` with the same seed.

    Parameters
    ----------
    images : Tensor (n, C, H, W)
        Floating point or uint8.
    seed : int
        The one given to :func:`shuffled`.

    Returns
    -------
    Tensor (n, C, H, W)
        Of the type of ``images``.
    """
    return _permute(images, torch.argsort, seed)


def _permute(images: Tensor, order_of: Callable[[Tensor], Tensor], seed: int) -> Tensor:
    checks.images(images, "images", uint8=True)
    order = order_of(permutation(images.shape[2] * images.shape[3], seed)).to(images.device)
    return images.flatten(2)[:, :, order].view(images.shape)

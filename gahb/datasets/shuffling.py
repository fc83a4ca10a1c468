"""Images whose pixels are moved by one fixed permutation (Section 3.3, Figure 6)."""

import numpy as np
import torch

from gahb._util import checks


def permutation(d, seed=0):
    """A random permutation of d pixels; the same on every machine.

    Drawn by ``numpy.random.RandomState``, whose stream is frozen for ever (NEP 19).

    Parameters
    ----------
    d : int
        Number of pixels.
    seed : int
        From 0 to 2^32 - 1. The global random state is neither read nor changed.

    Returns
    -------
    Tensor (d,)
        The integers below d, shuffled.

    Raises
    ------
    ValueError, TypeError
        If ``d`` or ``seed`` is not an integer in range.
    """
    checks.count(d, "d")
    return torch.from_numpy(np.random.RandomState(checks.count(seed, "seed", 0)).permutation(d))


def shuffled(images, seed=0):
    """Move the pixels of each image by one random permutation, the same for all.

    Parameters
    ----------
    images : Tensor (n, C, H, W)
        Floating point or uint8. Channels move together.
    seed : int
        Seed of the permutation. The global random state is neither read nor changed.

    Returns
    -------
    Tensor (n, C, H, W)
        Of the type of ``images``.

    Raises
    ------
    ValueError, TypeError
        If ``images`` is not a finite batch of floating-point or uint8 images, or ``seed`` no integer in range.
    """
    return _move(images, lambda order: order, seed)


def unshuffled(images, seed=0):
    """Undo :func:`shuffled` with the same seed.

    Parameters
    ----------
    images : Tensor (n, C, H, W)
        Floating point or uint8.
    seed : int
        Seed of the permutation.

    Returns
    -------
    Tensor (n, C, H, W)
        Of the type of ``images``.

    Raises
    ------
    ValueError, TypeError
        As :func:`shuffled`.
    """
    return _move(images, torch.argsort, seed)


def _move(images, order_of, seed):
    checks.images(images, "images", uint8=True)
    order = order_of(permutation(images.shape[2] * images.shape[3], seed)).to(images.device)
    return images.flatten(2)[:, :, order].view(images.shape)

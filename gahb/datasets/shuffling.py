"""Images whose pixels are moved by one fixed permutation (Section 3.3, Figure 6)."""

import numpy as np
import torch

from gahb import _checks


def permutation(d, seed=0):
    """A permutation of d pixels, Tensor (d,); the same on every machine.

    Drawn by ``numpy.random.RandomState``, whose stream is frozen for ever (NEP 19).
    """
    _checks.count(d, "d")
    return torch.from_numpy(np.random.RandomState(_checks.count(seed, "seed", 0)).permutation(d))


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
    """
    return _move(images, lambda order: order, seed)


def unshuffled(images, seed=0):
    """Undo :func:`shuffled` with the same seed."""
    return _move(images, torch.argsort, seed)


def _move(images, order_of, seed):
    _checks.images(images, "images", uint8=True)
    order = order_of(permutation(images.shape[2] * images.shape[3], seed)).to(images.device)
    return images.flatten(2)[:, :, order].view(images.shape)

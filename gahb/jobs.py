"""Train the denoisers of a scale, one after the other."""

import time

from gahb import scales, store
from gahb.training import TrainingStopped


def pending(scale, only, faces, scenes, seed):
    """The recipes of a scale whose names begin with one of ``only`` (all, if it is empty)."""
    scale = scales.get(scale)
    recipes = scales.recipes(scale, scales.faces(scale, faces), scales.scenes(scale, scenes), seed)
    chosen = [recipe for recipe in recipes if not only or any(recipe.name.startswith(name) for name in only)]
    if not chosen:
        names = ", ".join(recipe.name for recipe in recipes)
        raise ValueError(f"--only {' '.join(only)} names no denoiser of {scale.name}; they are {names}")
    return chosen


def train_all(scale, only=(), faces=None, scenes=None, folder=None, seed=0, device="auto", time_limit=None, echo=print):
    """Train what the store lacks; at the time limit stop with a checkpoint and return.

    Parameters
    ----------
    scale, only, faces, scenes, folder, seed, device
        As for ``gahb train``; ``folder`` is the store.
    time_limit : float, optional
        Seconds, for all together.
    echo : callable
        Takes one line of progress.
    """
    begun = time.monotonic()
    with interruptible():
        for recipe in pending(scale, only, faces, scenes, seed):
            left = None if time_limit is None else time_limit - (time.monotonic() - begun)
            if left is not None and left <= 0:
                echo("time limit reached; the same command goes on from here")
                return
            try:
                store.trained(recipe, folder, device, time_limit=left)
            except TrainingStopped as stopped:
                echo(str(stopped))
                return
            echo(f"{store.identity(recipe)} is in the store")

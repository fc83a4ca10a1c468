"""Whether a training uses torch.compile, and whether this machine can."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch

from gahb.training.recipe import Recipe

STEPS = {"cpu": 10_000, "cuda": 1_000}  # from which "auto" compiles: compiling takes about a minute, and 13 s


def is_compiled(recipe: Recipe, device: torch.device) -> bool:
    """Whether to compile, from the recipe and the device alone, so that a resumed training decides the same."""
    if recipe.compile == "auto":
        return recipe.images_seen / recipe.batch_size >= STEPS.get(device.type, float("inf")) and works(device)
    return bool(recipe.compile) and works(device)


@functools.cache
def works(device: torch.device) -> bool:
    """Whether torch.compile works here, found by compiling something small; one line of warning if not."""
    try:
        small = compiled(torch.square)
        with warnings.catch_warnings(action="ignore"):  # torch imports deprecated parts of itself
            small(torch.ones(8, device=device))
    except Exception as error:  # no compiler, a broken one, no headers, no Triton, no user name: each its own error
        reason = " ".join(str(error).split())[:120]
        warnings.warn(
            f"training without torch.compile, which does not work here ({reason}); install a C++ compiler such as g++",
            stacklevel=2,
        )
        return False
    return True


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a whole function, separately for each shape, without tuning by timings, so that bits repeat.

    Values computed once per channel are stored (``realize_reads_threshold``), not recomputed at each pixel. On a GPU
    the whole step is one graph (:mod:`gahb.training.graph`), so that a part of it needs none of its own.
    """
    options: dict[str, Any] = {"deterministic": True, "realize_reads_threshold": 1, "triton.cudagraphs": False}
    return torch.compile(function, fullgraph=True, dynamic=False, options=options)

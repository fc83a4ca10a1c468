"""Whether a training is compiled (torch.compile), and whether this machine can."""

import functools
import warnings

import torch

REPAID_SECONDS = 300.0  # compiling takes about a minute
MODEST_RATE = {  # operations a second of an eager training, by device and whether in bfloat16
    ("cpu", True): 3e11,
    ("cpu", False): 6e10,
    ("cuda", True): 3e13,
    ("cuda", False): 1e13,
}
SAVED = {True: 0.5, False: 0.15}  # share of an eager training's time, in bfloat16 and in float32


def repays(recipe, net, pixels, device, bfloat16):
    """Whether compiling repays, from the recipe and the device alone: a training that goes on decides the same.

    In bfloat16 the products take so little that the passes over memory between them count, and compiling
    fuses those. In float32 on a CPU the products are most of the time: 5 % (AVX2) to 30 % (AVX-512) were saved.
    What it saves must be worth five minutes.
    """
    if (device.type, bfloat16) not in MODEST_RATE:
        return False
    parameters = sum(parameter.numel() for parameter in net.parameters())
    operations = 6 * parameters * pixels * recipe.images_seen  # at most: each parameter meets each pixel
    return SAVED[bfloat16] * operations / MODEST_RATE[device.type, bfloat16] > REPAID_SECONDS


@functools.cache
def works(device):
    """Whether torch.compile works here, found by compiling something small; one line of warning if not."""
    small = compiled(torch.square)
    try:
        with warnings.catch_warnings(action="ignore"):  # torch imports deprecated parts of itself
            small(torch.ones(8, device=device))
    except Exception as error:  # no compiler, a broken one, no headers, no Triton: each with an error of its own
        reason = " ".join(str(error).split())[:120]
        warnings.warn(
            f"training without torch.compile, which does not work here ({reason}); install a C++ compiler such as g++",
            stacklevel=2,
        )
        return False
    return True


def compiled(function):
    """A function compiled whole, for each shape anew, by rules that do not depend on timings: bits repeat.

    What is computed once a channel is kept (``realize_reads_threshold``), and not computed anew at each pixel.
    """
    options = {"deterministic": True, "realize_reads_threshold": 1}
    return torch.compile(function, fullgraph=True, dynamic=False, options=options)

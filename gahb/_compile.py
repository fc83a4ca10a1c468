"""Whether a training is compiled (torch.compile), and whether this machine can."""

import functools
import warnings

import torch

REPAID_SECONDS = {"cpu": 300.0, "cuda": 30.0}  # compiling takes about a minute, and 13 s
MODEST_RATE = {  # operations a second of an eager training, by device and whether in bfloat16
    ("cpu", True): 3e11,
    ("cpu", False): 6e10,
    ("cuda", True): 3e13,
    ("cuda", False): 1e13,
}
LEAST_STEP = {"cpu": 0.0, "cuda": 0.02}  # seconds of an eager step: to launch its thousand kernels
SAVED = {  # share of an eager training's time
    ("cpu", True): 0.5,
    ("cpu", False): 0.15,
    ("cuda", True): 0.7,
    ("cuda", False): 0.15,
}


def repays(recipe, net, pixels, device, bfloat16):
    """Whether compiling repays, from the recipe and the device alone: a training that goes on decides the same.

    In bfloat16 the products take so little that the passes over memory between them count, and compiling
    fuses those. In float32 on a CPU the products are most of the time: 5 % (AVX2) to 30 % (AVX-512) were saved.
    On an H200 a step of the paper's network takes 25 ms for any batch up to 256, all of it launches; as a
    graph 6 to 8 ms. What it saves must be worth the compiling.
    """
    if (device.type, bfloat16) not in MODEST_RATE:
        return False
    parameters = sum(parameter.numel() for parameter in net.parameters())
    operations = 6 * parameters * pixels * recipe.images_seen  # at most: each parameter meets each pixel
    steps = recipe.images_seen / recipe.batch_size
    seconds = max(operations / MODEST_RATE[device.type, bfloat16], steps * LEAST_STEP[device.type])
    return SAVED[device.type, bfloat16] * seconds > REPAID_SECONDS[device.type]


@functools.cache
def works(device):
    """Whether torch.compile works here, found by compiling something small; one line of warning if not."""
    small = compiled(torch.square, device)
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


def compiled(function, device):
    """A function compiled whole, for each shape anew, by rules that do not depend on timings: bits repeat.

    What is computed once a channel is kept (``realize_reads_threshold``), and not computed anew at each pixel.
    On a GPU its kernels are launched together, as a CUDA graph.
    """
    options = {"deterministic": True, "realize_reads_threshold": 1, "triton.cudagraphs": device.type == "cuda"}
    return torch.compile(function, fullgraph=True, dynamic=False, options=options)

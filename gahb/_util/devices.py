"""Devices, cores and arithmetic of this machine."""

import ctypes
import functools
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import torch


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """Return a torch device; ``"auto"`` is cuda or cpu (mps can train, but lacks the float64 of the analyses).

    A card on which torch cannot compute, such as one older than its kernels, is not taken: ``"auto"`` warns.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        if available["cuda"] and (fault := _cuda_fault("cuda")):
            warnings.warn(f"the GPU is not used, as torch cannot compute on it ({fault}); the CPU is", stacklevel=2)
        return torch.device("cuda" if available["cuda"] and not fault else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        chosen = None
    count = torch.cuda.device_count() if chosen is not None and chosen.type == "cuda" else 1
    if chosen is None or not available.get(chosen.type, False) or (chosen.index or 0) >= count:
        there = ", ".join(name for name, found in available.items() if found)
        raise ValueError(f"device {device!r} is not available here; take auto or one of {there}")
    if chosen.type == "cuda" and (fault := _cuda_fault(str(chosen))):
        raise ValueError(
            f"torch cannot compute on device {device!r} ({fault}); take cpu, or a torch built for this card"
        )
    return chosen


@functools.cache
def _cuda_fault(device: str) -> str:
    """What a tiny computation on the GPU fails with; empty if it works."""
    try:
        return "" if torch.ones(2, device=device).sum().item() == 2 else "wrong result"
    except Exception as error:  # each release of torch raises its own
        return str(error).partition("\n")[0]


def has_bfloat16_units(device: str | torch.device) -> bool:
    """Whether bfloat16 products are faster than float32 products on a device."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_amx_tile_supported()  # bfloat16 of AVX-512 was slower than its float32
    return False


@contextmanager
def exact_arithmetic(convolutions: str = "ieee") -> Iterator[None]:
    """Switch off TF32 and cuDNN's nondeterministic algorithms; restore all settings on exit.

    Convolutions keep TF32 with ``"tf32"``. torch has two interfaces to TF32. It refuses to read a setting of the older
    one that a setting of the newer one contradicts; the older setting is then left as it is.
    """

    def setting(place: object, name: str, exact: object) -> tuple:
        return partial(getattr, place, name), partial(setattr, place, name), exact

    cudnn: Any = torch.backends.cudnn
    mkldnn: Any = torch.backends.mkldnn
    settings = [  # the older interface first: it also changes the settings of the newer one
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
        setting(cudnn, "allow_tf32", convolutions == "tf32"),
        setting(cudnn.conv, "fp32_precision", convolutions),
        setting(torch.backends.cuda.matmul, "fp32_precision", "ieee"),
        setting(mkldnn.matmul, "fp32_precision", "ieee"),
        setting(cudnn, "benchmark", False),
        setting(cudnn, "deterministic", True),
    ]
    former = []
    for get, change, exact in settings:
        with suppress(RuntimeError):
            former.append((change, get(), exact))
    try:
        for change, _, exact in former:
            change(exact)
        yield
    finally:
        for change, value, _ in former:
            change(value)


def cores() -> int:
    """Number of CPU cores that this process may use, also where a container has a quota of CPU time."""
    from joblib import cpu_count

    return cpu_count()


def keep_to_quota() -> None:
    """Let torch start no more threads than there are :func:`cores`; it does not read the quota of a container."""
    torch.set_num_threads(min(torch.get_num_threads(), cores()))


def keep_freed_memory() -> None:
    """From now on, this process keeps freed memory for its next tensors; for programs that only train.

    glibc's allocator returns large tensors to the system, which clears their pages again each time: a fifth of a
    training step of the paper's network on a CPU. With another allocator this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-4, 0)  # M_MMAP_MAX: no mapping of its own for a large block
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: never shrink the heap

"""Checks of arguments: each error names the argument, what it got, and what is expected."""

import math
from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor

FAR_OFF = 10  # no image meant for [0, 1] has such an intensity; nearly every image of 0 to 255 has


def images(value: Any, name: str, dims: int = 4, uint8: bool = False) -> Tensor:
    """Return ``value`` if it is a finite, non-empty tensor with ``dims`` dimensions, floating point or 8-bit."""
    wanted = {3: "(C, H, W)", 4: "(B, C, H, W)"}[dims]
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor of shape {wanted}, got {type(value).__name__}")
    if value.ndim != dims:
        raise ValueError(f"{name} must have shape {wanted}, got {tuple(value.shape)}")
    if not value.is_floating_point() and not (uint8 and value.dtype == torch.uint8):
        raise TypeError(
            f"{name} must hold floating-point intensities in [0, 1], got {value.dtype}; divide 8-bit images by 255"
        )
    if value.numel() == 0:
        raise ValueError(f"{name} must not be empty, got shape {tuple(value.shape)}")
    return _finite(value, name)


def clean_images(value: Any, name: str, uint8: bool = False) -> Tensor:
    """Return ``value`` if it is a batch of images on the scale of [0, 1]; signed and somewhat larger values pass."""
    value = images(value, name, uint8=uint8)
    if value.is_floating_point() and (largest := float(value.abs().max())) > FAR_OFF:
        raise ValueError(
            f"{name} must hold intensities in [0, 1], to which sigma and PSNR refer, but reach {largest:g}; "
            "divide images of 0 to 255 by 255"
        )
    return value


def one_image(value: Any, name: str) -> Tensor:
    """Return one image as (1, C, H, W)."""
    if isinstance(value, Tensor):
        if value.ndim not in (3, 4):
            raise ValueError(f"{name} must have shape (C, H, W) or (1, C, H, W), got {tuple(value.shape)}")
        value = value[None] if value.ndim == 3 else value
    if len(images(value, name)) != 1:
        raise ValueError(f"{name} must be one image of shape (C, H, W) or (1, C, H, W), got a batch of {len(value)}")
    return value


def square(value: Any, name: str) -> Tensor:
    """Return ``value`` if it is a batch of square images of one channel."""
    if images(value, name).shape[1] != 1 or value.shape[2] != value.shape[3]:
        raise ValueError(f"{name} must have shape (B, 1, size, size), got {tuple(value.shape)}")
    return value


def tensor(value: Any, name: str, shape: tuple[int, ...]) -> Tensor:
    """Return ``value`` if it is a finite tensor of exactly this shape."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor of shape {shape}, got {type(value).__name__}")
    if tuple(value.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(value.shape)}")
    return _finite(value, name)


def same_shape(a: Tensor, b: Tensor, names: str, first: int = 0) -> None:
    """Raise unless two tensors have the same shape; from ``first`` = 1 on, that of their images."""
    if a.shape[first:] != b.shape[first:]:
        wanted = "hold images of the same size" if first else "have the same shape"
        raise ValueError(f"{names} must {wanted}, got {tuple(a.shape)} and {tuple(b.shape)}")


def number(value: Any, name: str, kind: str = "number") -> float:
    """Return ``value`` as a finite float."""
    try:
        result = float(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} must be a {kind}, got {value!r}") from None
    if not math.isfinite(result):
        raise ValueError(f"{name} must be a finite {kind}, got {value!r}")
    return result


def positive(value: Any, name: str) -> Any:
    """Return ``value`` if it is one finite number above 0."""
    if isinstance(value, bool | str):
        raise TypeError(f"{name} must be a positive number, got {value!r}")
    if not number(value, name, "positive number") > 0:
        raise ValueError(f"{name} must be a positive number, got {value!r}")
    return value


def at_least_zero(value: Any, name: str) -> float:
    """Return ``value`` as a finite float of at least 0."""
    if number(value, name) < 0:
        raise ValueError(f"{name} must be at least 0, got {value!r}")
    return float(value)


def count(value: Any, name: str, low: int = 1) -> int:
    """Return ``value`` if it is an integer of at least ``low``."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if int(value) < low:
        raise ValueError(f"{name} must be at least {low}, got {value}")
    return int(value)


def generator(seed: Any) -> np.random.Generator:
    """Return NumPy's generator of a seed, which must be an integer of at least 0."""
    return np.random.default_rng(count(seed, "seed", 0))


def array(value: Any, name: str, dims: int | None = None) -> np.ndarray:
    """Return ``value`` as a non-empty float array without NaN, of ``dims`` dimensions if given."""
    try:
        result = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value, dtype=float)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be an array of numbers, got {value!r}") from None
    if result.ndim == 0 or (dims is not None and result.ndim != dims):
        wanted = "at least one dimension" if dims is None else f"{dims} dimensions"
        raise ValueError(f"{name} must have {wanted}, got shape {result.shape}")
    if result.size == 0 or np.isnan(result).any():
        reason = "NaN" if result.size else f"shape {result.shape}"
        raise ValueError(f"{name} must hold at least one number and no NaN, got {reason}")
    return result


def choice(value: Any, name: str, allowed: Collection[Any]) -> Any:
    """Return ``value`` if it is one of ``allowed``."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")
    return value


def sigmas(values: Any, name: str = "sigmas") -> list[float]:
    """Return noise levels as a list of positive floats; one number is a list of one."""
    values = values if isinstance(values, Tensor) else np.atleast_1d(values)
    return [positive(value, name) for value in array(values, name).flatten().tolist()]


def _finite(value: Tensor, name: str) -> Tensor:
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return value

"""Image files and arrays, in any of their forms, as gray, square, uint8 pixels."""

import contextlib
import errno
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gahb._util.files import File, first_bytes, is_web_page

Form = tuple[int, int, str]  # height, width, mode
CELEBA = (218, 178)  # height and width of the aligned CelebA images


def to_pixels(gray: np.ndarray, size: int) -> Tensor:
    """Crop to the central square and resize with antialiasing: uint8 (n, 1, size, size) from any array (n, H, W)."""
    images = torch.from_numpy(np.ascontiguousarray(gray))
    parts = []
    for part in images.split(4096):
        scale = {torch.uint8: 255.0, torch.uint16: 65535.0}.get(part.dtype, 1.0)
        square = _central_square(part.float() / scale)
        parts.append((resize(square[:, None], size).clamp(0, 1) * 255).round().to(torch.uint8))
    return torch.cat(parts)


def resize(images: Tensor, size: int) -> Tensor:
    """Antialiased bilinear resize of (n, 1, H, W) to (n, 1, size, size)."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def _central_square(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    side = 160 if (height, width) == CELEBA else min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[..., top : top + side, left : left + side]


def read_gray(file: File) -> tuple[np.ndarray, Form]:
    """Gray image (1, H, W) of a file, upright, and its form: height, width, mode."""
    from PIL import Image, ImageOps

    if isinstance(file, Path) and file.exists() and not file.is_file():  # reading a pipe would wait forever
        raise OSError(errno.EINVAL, "not a regular file")
    with warnings.catch_warnings(action="ignore"), Image.open(file) as image:  # on palettes, for example
        mode = image.mode
        upright = ImageOps.exif_transpose(image)
        if upright.mode == "F":
            gray = as_gray(np.asarray(upright)[None], "the image")
        elif upright.mode.startswith("I"):  # 16 bits, which some formats store in 32
            gray = (np.asarray(upright, dtype=np.float32) / 65535).clip(0, 1)[None]
        else:  # the mean of the channels, as in the authors' code
            gray = np.asarray(upright.convert("RGB"), dtype=np.float32).mean(-1)[None] / 255
    return gray, (*gray.shape[1:], mode)


def why_unreadable(file: File, error: Exception) -> str:
    """Why an image could not be read, in a few words and without its path."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    with contextlib.suppress(OSError):
        start = first_bytes(file)
        if not start:
            return "empty"
        if is_web_page(start):
            return "a web page"
        if isinstance(error, UnidentifiedImageError):
            return "not an image"
    if "truncated" in str(error).lower():
        return "truncated"
    if isinstance(error, Image.DecompressionBombError | MemoryError):
        return "too large"
    if isinstance(error, ValueError) and "in [0, 1]" in str(error):  # see as_gray
        return "intensities not in [0, 1]"
    return "damaged"


def as_gray(images: np.ndarray, name: str) -> np.ndarray:
    """Check an array of images and return it as (n, H, W), uint8, uint16 or float32."""
    channels = next((axis for axis in (3, 1) if images.ndim == 4 and images.shape[axis] in (1, 3, 4)), None)
    if images.ndim != 3 and channels is None:
        raise ValueError(
            f"{name} has shape {images.shape}; images (n, H, W), (n, H, W, C) or (n, C, H, W) of 1, 3 or 4 channels "
            "are expected"
        )
    if 0 in images.shape:
        raise ValueError(f"{name} has shape {images.shape}: it holds no images")
    images = _known_type(images, name)
    return images if channels is None else _mean_channel(images, channels)


def _known_type(images: np.ndarray, name: str) -> np.ndarray:
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind in "iu" and images.min() >= 0 and images.max() <= 255:
        return images.astype(np.uint8)  # 8 bits in a wider type
    if images.dtype == np.uint16:
        return images
    if images.dtype.kind == "f" and images.min() >= 0 and images.max() <= 1:  # false for NaN
        return images.astype(np.float32)
    extent = f" from {images.min():.3g} to {images.max():.3g}" if images.dtype.kind in "iuf" else ""
    raise ValueError(f"{name} holds {images.dtype}{extent}; uint8, uint16 or floats in [0, 1] are expected")


def _mean_channel(images: np.ndarray, axis: int) -> np.ndarray:
    """Mean of the color channels, without a fourth, the opacity."""
    colors = images.take(range(min(images.shape[axis], 3)), axis=axis)
    if colors.shape[axis] == 1:
        return colors.squeeze(axis)
    mean = colors.mean(axis, dtype=np.float32)
    return mean / np.float32(np.iinfo(images.dtype).max) if images.dtype.kind == "u" else mean

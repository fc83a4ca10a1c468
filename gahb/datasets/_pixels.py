"""Image files and arrays, in any of their forms, as gray, square, uint8 pixels."""

import errno
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from gahb._util.files import File, first_bytes, what_is

Form = tuple[int, int, str]  # height, width, mode
CELEBA = (218, 178)  # height and width of the aligned CelebA images
BLOCK = 2**20  # pixels that are converted at once
LARGE = 64_000_000  # pixels: larger images are reduced while they are decoded
REDUCED = 2_000  # to at least as many pixels on their shorter side
OVERSHOOT = 1e-3  # of an interpolation or of half precision; a quarter of one of 255 levels
EXPECTED = "uint8, uint16 or floats in [0, 1] are expected"
TRANSPARENT = "transparent parts are shown on white"


def to_pixels(gray: np.ndarray, size: int) -> Tensor:
    """Crop to the central square and resize with antialiasing: uint8 (n, 1, size, size) from any array (n, H, W)."""
    images = torch.from_numpy(np.ascontiguousarray(gray))
    parts = []
    for part in images.split(max(1, 64 * BLOCK // images[0].numel())):
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


def read_gray(file: File) -> tuple[np.ndarray, Form, str]:
    """Gray image (1, H, W) of a file, upright; its form, height, width and mode; a remark on what was left out."""
    from PIL import Image, ImageOps

    if isinstance(file, Path) and file.exists() and not file.is_file():  # reading a pipe would wait forever
        raise OSError(errno.EINVAL, "not a regular file")
    with warnings.catch_warnings(action="ignore"), Image.open(file) as image:  # on palettes, for example
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # those of a camera hold previews
        mode, full, factor = image.mode, image.size, 1
        if full[0] * full[1] > LARGE:
            image.draft(None, (REDUCED, REDUCED))  # a JPEG is reduced by its decoder
            factor = max(1, min(image.size) // REDUCED)
        decoded = image.size
        ImageOps.exif_transpose(image, in_place=True)
        height, width = full[::-1] if image.size == decoded else full
        gray, transparent = _gray(image, factor)
    remarks = [f"the first of {frames} images"] if frames > 1 else []
    return gray[None], (height, width, mode), "; ".join([*remarks, *([TRANSPARENT] if transparent else [])])


def _gray(image, factor: int) -> tuple[np.ndarray, bool]:  # noqa: ANN001 (Pillow is imported when it is needed)
    """Means of ``factor`` x ``factor`` pixels, (H, W), and whether any pixel is transparent; strip by strip."""
    width, height = image.width // factor, image.height // factor
    gray, transparent = np.empty((height, width), dtype=np.float32), False
    rows = max(1, BLOCK // (image.width * factor))
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = image.crop((0, top * factor, width * factor, bottom * factor))
        values, also = _intensities(strip)
        gray[top:bottom] = values.reshape(bottom - top, factor, width, factor).mean((1, 3)) if factor > 1 else values
        transparent |= also
    return gray, transparent


def _intensities(image) -> tuple[np.ndarray, bool]:  # noqa: ANN001
    if image.mode == "F":
        return as_gray(np.asarray(image)[None], "the image")[0][0], False
    if image.mode.startswith("I"):  # 16 bits, which some formats store in 32
        return (np.asarray(image, dtype=np.float32) / 65535).clip(0, 1), False
    # The mean of the channels, as in the authors' code.
    gray = np.asarray(image.convert("RGB"), dtype=np.float32).mean(-1) / 255
    if not image.has_transparency_data:
        return gray, False
    opacity = np.asarray(image.convert("RGBA"), dtype=np.float32)[..., 3] / 255
    return _on_white(gray, opacity), bool(opacity.min() < 1)


def _on_white(gray: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Composite on white, as a web page shows an image; opaque pixels keep their bits."""
    return np.where(opacity == 1, gray, gray * opacity + (1 - opacity))


def why_unreadable(file: File, error: Exception) -> str:
    """Why an image could not be read, in a few words and without its path."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    with suppress(OSError):
        start = first_bytes(file)
        if not start:
            return "empty"
        if isinstance(error, UnidentifiedImageError):
            return ": ".join(filter(None, what_is(start))) or "not an image"
    if "truncated" in str(error).lower():
        return "truncated"
    if isinstance(error, Image.DecompressionBombError):
        return "too large"
    if isinstance(error, ValueError) and EXPECTED in str(error):
        return "intensities not in [0, 1]"
    return "damaged"


def as_gray(images: np.ndarray, name: str) -> tuple[np.ndarray, bool]:
    """An array of images as (n, H, W), uint8, uint16 or float32, and whether any pixel is transparent."""
    channels = next((axis for axis in (3, 1) if images.ndim == 4 and images.shape[axis] in (1, 3, 4)), None)
    if images.ndim != 3 and channels is None:
        raise ValueError(
            f"{name} has shape {images.shape}; images (n, H, W), (n, H, W, C) or (n, C, H, W) of 1, 3 or 4 channels "
            "are expected"
        )
    if 0 in images.shape:
        raise ValueError(f"{name} has shape {images.shape}: it holds no images")
    images = _known_type(images, name)
    return (images, False) if channels is None else _mean_channel(images, channels)


def _known_type(images: np.ndarray, name: str) -> np.ndarray:
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind in "iu" and images.min() >= 0 and images.max() <= 255:
        return images.astype(np.uint8)  # 8 bits in a wider type
    if images.dtype == np.uint16:
        return images
    if images.dtype.kind == "f" and images.min() >= -OVERSHOOT and images.max() <= 1 + OVERSHOOT:  # false for NaN
        return images.astype(np.float32).clip(0, 1)
    extent = f" from {images.min():.7g} to {images.max():.7g}" if images.dtype.kind in "iuf" else ""
    raise ValueError(f"{name} holds {images.dtype}{extent}; {EXPECTED}")


def _mean_channel(images: np.ndarray, axis: int) -> tuple[np.ndarray, bool]:
    """Mean of the color channels; if there is a fourth, the opacity, on white."""
    colors = images.take(range(min(images.shape[axis], 3)), axis=axis)
    if colors.shape[axis] == 1:
        return colors.squeeze(axis), False
    most = np.float32(1 if images.dtype.kind == "f" else np.iinfo(images.dtype).max)
    gray = colors.mean(axis, dtype=np.float32) / most
    if images.shape[axis] == 3:
        return gray, False
    opacity = images.take(3, axis=axis) / most
    return _on_white(gray, opacity), bool(opacity.min() < 1)

"""From image files and arrays in any of their forms to gray, square, uint8 pixels."""

import contextlib
import errno
import io
import warnings
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

CELEBA = (218, 178)  # height and width of the aligned CelebA images


def to_pixels(gray, size):
    """Central square, antialiased resize: uint8 (n, 1, size, size) of an array (n, H, W) in any of its types."""
    images = torch.from_numpy(np.ascontiguousarray(gray))
    parts = []
    for part in images.split(4096):
        scale = {torch.uint8: 255.0, torch.uint16: 65535.0}.get(part.dtype, 1.0)
        square = _central_square(part.float() / scale)
        parts.append((resize(square[:, None], size).clamp(0, 1) * 255).round().to(torch.uint8))
    return torch.cat(parts)


def resize(images, size):
    """Antialiased bilinear resize of (n, 1, H, W) to (n, 1, size, size)."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def _central_square(images):
    height, width = images.shape[-2:]
    side = 160 if (height, width) == CELEBA else min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[..., top : top + side, left : left + side]


def read_gray(file):
    """Gray image (1, H, W) of a path or an open file, upright, and its form: height, width, mode."""
    from PIL import Image, ImageOps

    if isinstance(file, Path) and file.exists() and not file.is_file():  # a pipe would be waited for
        raise OSError(errno.EINVAL, "not a regular file")
    with warnings.catch_warnings(action="ignore"), Image.open(file) as image:  # such as a palette's transparency
        mode = image.mode
        image = ImageOps.exif_transpose(image)
        if image.mode == "F":
            gray = as_gray(np.asarray(image)[None], "the image")
        elif image.mode.startswith("I"):  # 16 bits, which some formats hold in 32
            gray = (np.asarray(image, dtype=np.float32) / 65535).clip(0, 1)[None]
        else:  # the mean of the channels, as in the authors' code
            gray = np.asarray(image.convert("RGB"), dtype=np.float32).mean(-1)[None] / 255
    return gray, (*gray.shape[1:], mode)


def why_unreadable(file, error):
    """In a few words and without paths, why an image could not be read."""
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


def first_bytes(file):
    """The first 256 bytes of a path or an open file."""
    if isinstance(file, io.BytesIO):
        return file.getvalue()[:256]
    with file.open("rb") as opened:
        return opened.read(256)


def is_web_page(start):
    """Whether a file that starts so is HTML, whatever its name."""
    return start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html"))


def as_gray(images, name):
    """Check an array of images and make it (n, H, W), in uint8, uint16 or float32."""
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


def _known_type(images, name):
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind in "iu" and images.min() >= 0 and images.max() <= 255:
        return images.astype(np.uint8)  # 8 bits in a wider type
    if images.dtype == np.uint16:
        return images
    if images.dtype.kind not in "iuf":
        raise ValueError(f"{name} holds {images.dtype}; uint8, uint16 or floats in [0, 1] are expected")
    if images.dtype.kind != "f" or not (images.min() >= 0 and images.max() <= 1):  # NaN is not
        raise ValueError(
            f"{name} holds {images.dtype} from {images.min():.3g} to {images.max():.3g}; "
            "uint8, uint16 or floats in [0, 1] are expected"
        )
    return images.astype(np.float32)


def _mean_channel(images, axis):
    """Mean of the colour channels (a fourth, the opacity, is left out)."""
    colours = images.take(range(min(images.shape[axis], 3)), axis=axis)
    if colours.shape[axis] == 1:
        return colours.squeeze(axis)
    mean = colours.mean(axis, dtype=np.float32)
    return mean / np.float32(np.iinfo(images.dtype).max) if images.dtype.kind == "u" else mean

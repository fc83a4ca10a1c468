"""Whole sets of images, in gray or in colour, at one size: what ``gahb assess`` compares."""

import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from gahb._util.files import File, is_passing, try_again
from gahb.datasets._pixels import TRANSPARENT, _central_square, _known_type, as_gray, read_gray, resize, why_unreadable
from gahb.datasets._readers import Array, Reader, Source, open_source

GRAY_MODES = ("1", "L", "LA", "La", "F")  # and those that begin with I
BLOCK = 512  # images of an array that are prepared at once
Size = tuple[int, int]


@dataclass
class ImageSet:
    """What :func:`read_images` read.

    Attributes
    ----------
    source : str
        What was read.
    pixels : Tensor (n, C, H, W), uint8
        One channel if any image is gray, else three.
    names : list of str
        File names, or positions in an array.
    unreadable : list of str
        Names of files and folders, with the reason.
    notes : list of str
        Names of images of which something was left out, with what, and kinds of files that are no images.
    sizes : Counter of str
        Number of images of each height and width before they were resized, pixels.
    """

    source: str
    pixels: Tensor = field(repr=False)
    names: list[str] = field(repr=False)
    unreadable: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sizes: Counter[str] = field(default_factory=Counter)

    @property
    def size(self) -> Size:
        """Height and width of the pixels."""
        return self.pixels.shape[2], self.pixels.shape[3]


def read_images(
    source: Source,
    name: str,
    size: Size | None = None,
    resized: bool = False,
    color: bool = True,
    progress: bool = True,
) -> ImageSet:
    """Read all images of a source.

    Parameters
    ----------
    source : str or Path
        A folder of images, an LMDB export or an array, as for :func:`gahb.datasets.faces`.
    name : str
        Begins each error: samples, train, unseen or twin.
    size : tuple of int, optional
        Height and width that images must have; those of the first if left out.
    resized : bool
        Bring images of another size to ``size``, which must be square: the central square (160x160 of CelebA's
        178x218), resized with antialiasing.
    color : bool
        Keep the colours if all images have some. Otherwise the channels are averaged.
    progress : bool
        Show a bar, on a terminal.

    Returns
    -------
    ImageSet

    Raises
    ------
    ValueError
        If there is no readable image, or one of another size.
    """
    reader = open_source(name, source)
    found = ImageSet(str(reader), torch.empty(0), [], [*reader.unreadable_folders], [*reader.not_read])
    if isinstance(reader, Array):  # whose length would need a gray copy
        loaded = np.asarray(reader.load())
        total, images = len(loaded), _of_array(loaded, f"{name}: {reader}", found.notes)
    else:
        total, images = len(reader), _images(reader, found)
    for each, image in tqdm(images, name, total, unit="image", disable=None if progress else True, leave=False):
        found.sizes[_text(image)] += 1
        color &= len(image) == 3
        size = size or (image.shape[1], image.shape[2])
        image = _matched(image, size, resized, f"{name}: {each}")
        if not found.names:  # filled in place, as a list would need the memory twice
            found.pixels = torch.empty(total, 3 if color else 1, *size, dtype=torch.uint8)
        if len(image) > found.pixels.shape[1]:
            image = image.mean(0, keepdim=True)
        found.pixels[len(found.names)] = (image.clamp(0, 1) * 255).round()
        found.names.append(each)
    if not found.names:
        unreadable = f" Unreadable: {', '.join(found.unreadable[:3])}." if found.unreadable else ""
        raise ValueError(f"{name}: {reader} holds no readable image.{unreadable} {reader.remarks()}".rstrip())
    found.pixels = found.pixels[: len(found.names)]
    return found if color else in_gray(found)


def in_gray(images: ImageSet) -> ImageSet:
    """The same images, their channels averaged.

    Parameters
    ----------
    images : ImageSet
        Changed in place.

    Returns
    -------
    ImageSet
    """
    if images.pixels.shape[1] > 1:
        parts = images.pixels.split(BLOCK)
        images.pixels = torch.cat([part.float().mean(1, keepdim=True).round().to(torch.uint8) for part in parts])
    return images


def _images(reader: Reader, found: ImageSet) -> Iterator[tuple[str, Tensor]]:
    """Names and images (1 or 3, H, W), floats in [0, 1]; what is unreadable or was left out is noted in the set."""
    for name, file in reader.encoded(range(len(reader))):
        try:
            image, note = _decoded(file)
        except Exception as error:  # each of Pillow's decoders raises its own errors for damaged files
            if is_passing(error):
                raise try_again(f"{name} in {reader}", error) from None
            found.unreadable.append(f"{name} ({why_unreadable(file, error)})")
            continue
        if note:
            found.notes.append(f"{name} ({note})")
        yield name, image


def _decoded(file: File) -> tuple[Tensor, str]:
    """An image, and a remark on what was left out."""
    if not isinstance(file, Path) or file.is_file():
        with warnings.catch_warnings(action="ignore"), Image.open(file) as image:
            if image.mode not in GRAY_MODES and not image.mode.startswith("I"):
                return _colors(ImageOps.exif_transpose(image))
    gray, _, note = read_gray(file)
    return torch.from_numpy(gray), note


def _colors(image: Image.Image) -> tuple[Tensor, str]:
    note = ""
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        note = TRANSPARENT if np.asarray(layers)[..., 3].min() < 255 else ""
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), layers)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1) / 255, note


def _of_array(images: np.ndarray, name: str, notes: list[str]) -> Iterator[tuple[str, Tensor]]:
    """The same of an array, whose images have positions for names."""
    axis = next((axis for axis in (3, 1) if images.ndim == 4 and images.shape[axis] in (1, 3, 4)), None)
    if (images.ndim != 3 and axis is None) or 0 in images.shape:
        as_gray(images, name)  # raises, and says what is expected
    if images.dtype.kind != "f":  # not by blocks: a dark block of 16 bits looks like 8
        images = _known_type(images, name)
    for start in range(0, len(images), BLOCK):
        block = images[start : start + BLOCK]
        block = _known_type(block, name) if block.dtype.kind == "f" else block
        scale = np.iinfo(block.dtype).max if block.dtype.kind == "u" else 1
        block = torch.from_numpy(block.astype(np.float32)) / scale
        block = block[:, None] if axis is None else block.movedim(axis, 1)
        if block.shape[1] == 4:
            notes += [TRANSPARENT] if block[:, 3].min() < 1 and TRANSPARENT not in notes else []
            block = block[:, :3] * block[:, 3:] + 1 - block[:, 3:]
        yield from zip(map(str, range(start, start + len(block))), block, strict=True)


def _matched(image: Tensor, size: Size, resized: bool, name: str) -> Tensor:
    height, width = size
    if image.shape[1:] == size:
        return image
    if not resized:
        raise ValueError(f"{name} is {_text(image)} (height x width), where {height} x {width} is expected")
    if height != width:
        raise ValueError(
            f"{name} is {_text(image)} (height x width), and the samples {height} x {width}: only to a square could "
            "it be resized; give images as the model saw them"
        )
    return resize(_central_square(image[None]), height)[0]


def _text(image: Tensor) -> str:
    return f"{image.shape[1]} x {image.shape[2]}"

"""Photographs: faces and scenes from a folder, an array, or a package, split into S1, S2 and test."""

import hashlib
import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gahb._util import checks
from gahb.datasets._cache import Prepared, load_or_prepare
from gahb.datasets._pixels import resize
from gahb.datasets._readers import Images, Reader, Source, open_source

PREPARATION = 3  # raised if the same source would be prepared or described differently, so that caches are made again
DUPLICATE_BLOCK = 512  # images compared with all others at once, so that no n x n matrix is held


@dataclass(frozen=True)
class Photographs:
    """A prepared list of photographs and its parts.

    S1 and S2 are the two ends of the list and test is its middle, so that the three are disjoint. Smaller training sets
    are the beginnings of larger ones: ``faces.S1[:10]`` has the ten images of N = 10.

    Attributes
    ----------
    pixels : Tensor (n, 1, size, size), uint8
        Usable photographs, in the order of their names.
    N, test_size : int
        Images in S1 and in S2 (0 if there is only a test set), and images in the test set.
    manifest : dict
        The source, the number of images found and read, unreadable files and folders, notes on images of which
        something was left out, files that are no images, near duplicates, the file names of each part, and the
        SHA-256 of the pixels.
    """

    pixels: Tensor = field(repr=False)
    N: int
    test_size: int
    manifest: dict[str, Any] = field(repr=False)

    @property
    def S1(self) -> Tensor:
        """First training set, Tensor (N, 1, size, size), float32 in [0, 1]."""
        return as_float(self.part("S1"))

    @property
    def S2(self) -> Tensor:
        """Second training set, disjoint from S1, Tensor (N, 1, size, size), float32 in [0, 1]."""
        return as_float(self.part("S2"))

    @property
    def test(self) -> Tensor:
        """Test images, in neither training set, Tensor (test_size, 1, size, size), float32 in [0, 1]."""
        return as_float(self.part("test"))

    def part(self, name: str, n: int | None = None) -> Tensor:
        """The first photographs of one part.

        Parameters
        ----------
        name : str
            ``"S1"``, ``"S2"`` or ``"test"``.
        n : int, optional
            How many; all if left out.

        Returns
        -------
        Tensor (n, 1, size, size), uint8
        """
        checks.choice(name, "part", ("S1", "S2", "test"))
        full = self.test_size if name == "test" else self.N
        if not full:
            raise ValueError(f"there is no {name}: with N = 0 these photographs are a test set alone; give a larger N")
        n = full if n is None else checks.count(n, "n")
        if n > full:
            raise ValueError(f"{name} holds {full} images, {n} were asked for; prepare more with N={n}")
        return self.pixels[_positions(len(self.pixels), self.N, self.test_size)[name][:n]]


def faces(
    source: Source = None, size: int = 40, N: int = 10_000, test_size: int = 1_000, cache: str | Path | None = None
) -> Photographs:
    """Photographs of faces.

    Parameters
    ----------
    source : str or Path, optional
        A folder of images, read recursively and sorted by name, such as CelebA from Kaggle or torchvision, whose
        partition file is not used; an LMDB export of encoded images, such as LSUN's (needs ``lmdb``); an ``.npz``,
        ``.npy`` or ``.pt`` file, of one array or with labels beside it; or ``"lfw"`` (Labeled Faces in the Wild,
        downloaded by scikit-learn). If left out, the 100 faces inside scikit-image if they are enough, else LFW.
    size : int
        Height and width, pixels. Photographs are converted to gray by the mean of their channels, cropped to the
        central square (160x160 of CelebA's 178x218) and resized with antialiasing; transparent parts are shown on
        white, and of several images in a file the first is taken, as the manifest notes.
    N : int
        Images in each of the training sets S1 and S2; 0 for a test set alone.
    test_size : int
        Images in the test set.
    cache : str or Path, optional
        Folder in which the prepared photographs are kept. The next call, of any process, reads them there unless the
        name, size or time of any file of the source has changed.

    Returns
    -------
    Photographs

    Raises
    ------
    ValueError
        If too few photographs are usable: readable, and not near duplicates of earlier ones.
    OSError
        If the disk or the memory fails while a photograph is read; nothing is kept then.
    """
    return _photographs("faces", source, size, N, test_size, cache)


def scenes(
    source: Source = None, size: int = 32, N: int = 20_000, test_size: int = 1_000, cache: str | Path | None = None
) -> Photographs:
    """Photographs of scenes (the paper's are LSUN bedrooms).

    Parameters
    ----------
    source : str or Path, optional
        As for :func:`faces`; if left out, the 100 patches without faces inside scikit-image.
    size, N, test_size, cache
        As for :func:`faces`.

    Returns
    -------
    Photographs
    """
    return _photographs("scenes", source, size, N, test_size, cache)


def as_float(pixels: Tensor) -> Tensor:
    """Intensities of 8-bit images: divided by 255.

    Parameters
    ----------
    pixels : Tensor, uint8
        Of any shape.

    Returns
    -------
    Tensor, float32
        Of the same shape, in [0, 1].
    """
    _check_pixels(pixels)
    return pixels.float() / 255


def _check_pixels(pixels: Tensor) -> None:
    if not isinstance(pixels, torch.Tensor) or pixels.dtype != torch.uint8:
        got = pixels.dtype if isinstance(pixels, torch.Tensor) else type(pixels).__name__
        raise TypeError(f"pixels must be a torch.uint8 tensor, got {got}")


def _photographs(kind: str, source: Source, size: int, N: int, test_size: int, cache: str | Path | None) -> Photographs:
    size, N, test_size = checks.count(size, "size", 4), checks.count(N, "N", 0), checks.count(test_size, "test_size")
    reader = open_source(kind, source, 2 * N + test_size)

    prepare = partial(_prepare, kind, reader, size, N, test_size)
    if cache is None:
        pixels, manifest = prepare()
    else:
        request = {"kind": kind, "place": reader.place, "size": size, "N": N, "test_size": test_size}
        request["version"] = PREPARATION
        pixels, manifest = load_or_prepare(cache, request, reader.fingerprint(), prepare)
    return Photographs(pixels, N, test_size, manifest | {"not_read": list(reader.not_read)})


def _prepare(kind: str, reader: Reader, size: int, N: int, test_size: int) -> Prepared:
    """The usable photographs of a reader, and their manifest."""
    needed = 2 * N + test_size
    take = 2 * needed
    while True:  # photographs between the ends and the middle are read only if duplicates make them necessary
        images = reader.read(spread(len(reader), take), size)
        repeated = near_duplicates(images.pixels)
        kept = np.flatnonzero(~repeated)
        if len(kept) >= needed or take >= len(reader):
            break
        take *= 2
    if len(kept) < needed:
        raise ValueError(_too_few(kind, reader, images, len(kept), N, test_size))
    if reader.unreadable_folders:
        warnings.warn(f"{kind}: parts of {reader} were not read. {reader.remarks()}", stacklevel=5)
    pixels = images.pixels[kept]
    parts = _positions(len(kept), N, test_size)
    manifest = {
        "kind": kind,
        "source": str(reader),
        "size": size,
        "found": len(reader),
        "read": len(images.names),
        "unreadable": images.unreadable,
        "notes": images.notes,
        "not_read": list(reader.not_read),
        "unreadable_folders": list(reader.unreadable_folders),
        "near_duplicates": [images.names[i] for i in np.flatnonzero(repeated)],
        "parts": {name: [images.names[kept[i]] for i in parts[name]] for name in parts},
        "sha256": hashlib.sha256(pixels.numpy().tobytes()).hexdigest(),
    }
    return pixels, manifest


def _too_few(kind: str, reader: Reader, images: Images, kept: int, N: int, test_size: int) -> str:
    message = (
        f"{kind}: {reader} has {kept} usable photographs ({len(reader)} found, {len(images.unreadable)} unreadable, "
        f"{len(images.names) - kept} near duplicates), and 2 x {N} + {test_size} = {2 * N + test_size} are needed. "
        "Give a larger folder or array, or a smaller scale, N or test_size."
    )
    if images.unreadable:
        message += f" Unreadable, for example: {', '.join(images.unreadable[:3])}."
    return f"{message} {reader.remarks()}".rstrip()


def spread(n: int, take: int) -> list[int]:
    """At most ``take`` positions of n: from both ends and, for the test set, the middle."""
    if take >= n:
        return list(range(n))
    end, middle = take * 2 // 5, take - 2 * (take * 2 // 5)
    start = (n - middle) // 2
    return [*range(end), *range(start, start + middle), *range(n - end, n)]


def _positions(n: int, N: int, test_size: int) -> dict[str, list[int]]:
    start = N + (n - 2 * N - test_size) // 2
    return {
        "S1": list(range(N)),
        "S2": list(range(n - 1, n - 1 - N, -1)),
        "test": list(range(start, start + test_size)),
    }


def near_duplicates(pixels: Tensor, threshold: float = 0.95) -> np.ndarray:
    """Which images repeat an earlier one: the mean-removed correlation at 20x20 pixels is above ``threshold``.

    Parameters
    ----------
    pixels : Tensor (n, 1, H, W), uint8
    threshold : float
        A correlation, above 0.

    Returns
    -------
    ndarray (n,), bool
        True for all but the first image of each group, and for images without any contrast.
    """
    first = first_of_duplicates(pixels, threshold)
    return first != np.arange(len(first))


def first_of_duplicates(pixels: Tensor, threshold: float = 0.95) -> np.ndarray:
    """Which earlier image each image repeats, in the sense of :func:`near_duplicates`.

    Parameters
    ----------
    pixels : Tensor (n, 1, H, W), uint8
    threshold : float
        A correlation, above 0.

    Returns
    -------
    ndarray (n,), int
        Position of the first image of its group, which is its own if it repeats none; -1 for an image without any
        contrast.
    """
    _check_pixels(pixels)
    checks.positive(threshold, "threshold")
    if pixels.ndim != 4 or pixels.shape[1] != 1:
        raise ValueError(f"pixels must have shape (n, 1, H, W), got {tuple(pixels.shape)}")
    small = torch.cat([resize(as_float(part), 20) for part in pixels.split(4096)]).flatten(1)
    small = small - small.mean(1, keepdim=True)
    own = np.arange(len(small))
    first = np.where(small.norm(dim=1).numpy() < 1e-5, -1, own)  # rounding leaves 1e-6
    small = torch.nn.functional.normalize(small, dim=1)
    bound = _bounds(small)
    for start in range(0, len(small), DUPLICATE_BLOCK):
        end = start + DUPLICATE_BLOCK
        kept = torch.from_numpy(np.flatnonzero(first[:end] == own[:end]))
        i, j = torch.nonzero(bound[start:end] @ bound[kept].T > threshold - 1e-5).unbind(1)
        pairs = torch.stack([i + start, kept[j]], dim=1)
        i, j = pairs[pairs[:, 1] < pairs[:, 0]].unbind(1)
        close = (small[i] * small[j]).sum(1) > threshold
        for later, earlier in zip(i[close].tolist(), j[close].tolist(), strict=True):  # sorted by the later
            if first[later] == later and first[earlier] == earlier:
                first[later] = earlier
    return first


def _bounds(vectors: Tensor) -> Tensor:
    """Short vectors whose products bound those of the given ones from above, at a tenth of the cost.

    They hold the first principal components and the norm of the rest (Cauchy-Schwarz).
    """
    _, basis = torch.linalg.eigh((vectors.T @ vectors).double())
    components = vectors @ basis[:, -32:].float()
    rest = (vectors.square().sum(1) - components.square().sum(1)).clamp_min(0).sqrt()
    return torch.cat([components, rest[:, None]], dim=1)

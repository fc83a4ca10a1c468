"""Photographs: faces and scenes from a folder, an array, or a package, split into S1, S2 and test."""

import hashlib
import warnings
from dataclasses import dataclass, field

import numpy as np
import torch

from gahb._util import checks
from gahb.datasets import _cache, _pixels, _readers

PREPARATION = 1  # raised when the same source would be prepared differently: what is kept is then made again
DUPLICATE = 0.95  # mean-removed correlation at 20x20 above which two photographs are one


@dataclass(frozen=True)
class Photographs:
    """A prepared list of photographs and its parts.

    S1 and S2 are taken from opposite ends of the list and test from its middle, so that the
    three are disjoint, and the subsets of one part are nested: ``faces.S1[:10]`` begins ``faces.S1``.

    Attributes
    ----------
    pixels : Tensor (n, 1, size, size), uint8
        All photographs kept, in order.
    N, test_size : int
        Sizes of S1 (and of S2; 0: test images alone) and of the test set.
    manifest : dict
        Where they come from and what was done: source, count, file names, unreadable files, closed folders,
        near duplicates dropped, positions of the parts, SHA-256 of the pixels.
    """

    pixels: torch.Tensor = field(repr=False)
    N: int
    test_size: int
    manifest: dict = field(repr=False)

    @property
    def S1(self):
        """First subset, Tensor (N, 1, size, size), float32 in [0, 1]."""
        return as_float(self.part("S1"))

    @property
    def S2(self):
        """Second subset, disjoint from S1, Tensor (N, 1, size, size), float32 in [0, 1]."""
        return as_float(self.part("S2"))

    @property
    def test(self):
        """Images of neither subset, Tensor (test_size, 1, size, size), float32 in [0, 1]."""
        return as_float(self.part("test"))

    def part(self, name, n=None):
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

        Raises
        ------
        ValueError, TypeError
            If there is no such part, or ``n`` is not an integer from 1 to its size.
        """
        checks.choice(name, "part", ("S1", "S2", "test"))
        full = self.test_size if name == "test" else self.N
        n = full if n is None else checks.count(n, "n")
        if n > full:
            raise ValueError(f"{name} holds {full} images, {n} were asked for; prepare more with N={n}")
        return self.pixels[_positions(len(self.pixels), self.N, self.test_size)[name][:n]]


def faces(source=None, size=40, N=10_000, test_size=1_000, cache=None):
    """Photographs of faces.

    Parameters
    ----------
    source : str or Path, optional
        A folder of images (read recursively, sorted by name), such as CelebA as Kaggle or
        torchvision lay it out; an LMDB export of encoded images, such as LSUN's (needs ``lmdb``);
        an ``.npz``, ``.npy`` or ``.pt`` array; or ``"lfw"`` (Labeled Faces in the Wild, fetched by
        scikit-learn). Left out: the 100 faces inside scikit-image where they suffice, else LFW.
        CelebA's partition file is not used: its images are taken as one list.
    size : int
        Height and width, pixels. Photographs are made gray by the mean of their channels, cropped
        to the central square (160x160 of CelebA's 178x218) and resized with antialiasing.
    N : int
        Images in each of S1 and S2; 0 for a test set alone.
    test_size : int
        Images in the test set.
    cache : str or Path, optional
        Folder in which the prepared photographs are kept. The next call, of any process, reads them
        there if the names, sizes and times of the source's files are as they were.

    Returns
    -------
    Photographs

    Raises
    ------
    FileNotFoundError
        If there is no such source.
    PermissionError
        If it may not be read. A folder below it that may not be entered is told in a warning.
    ValueError, TypeError
        If it holds too few photographs that are readable and not near duplicates (says how many), is of a kind
        that cannot be read, or a number is not an integer in range.
    OSError
        If the photographs cannot be kept in ``cache``.
    """
    return _photographs("faces", source, size, N, test_size, cache)


def scenes(source=None, size=32, N=20_000, test_size=1_000, cache=None):
    """Photographs of scenes (the paper's are LSUN bedrooms).

    Parameters
    ----------
    source : str or Path, optional
        As for :func:`faces`; left out: the 100 patches without faces inside scikit-image.
    size : int
        Height and width, pixels.
    N : int
        Images in each of S1 and S2; 0 for a test set alone.
    test_size : int
        Images in the test set.
    cache : str or Path, optional
        As for :func:`faces`.

    Returns
    -------
    Photographs

    Raises
    ------
    FileNotFoundError, PermissionError, ValueError, TypeError, OSError
        As :func:`faces`.
    """
    return _photographs("scenes", source, size, N, test_size, cache)


def as_float(pixels):
    """Intensities of 8-bit images: divided by 255.

    Parameters
    ----------
    pixels : Tensor, uint8
        Of any shape.

    Returns
    -------
    Tensor, float32
        Of the same shape, in [0, 1].

    Raises
    ------
    TypeError
        If ``pixels`` is not a tensor of uint8.
    """
    _check_pixels(pixels)
    return pixels.float() / 255


def _check_pixels(pixels):
    if not isinstance(pixels, torch.Tensor) or pixels.dtype != torch.uint8:
        got = pixels.dtype if isinstance(pixels, torch.Tensor) else type(pixels).__name__
        raise TypeError(f"pixels must be a torch.uint8 tensor, got {got}")


def _photographs(kind, source, size, N, test_size, cache):
    size, N, test_size = (
        checks.count(value, name, low)
        for value, name, low in ((size, "size", 4), (N, "N", 0), (test_size, "test_size", 1))
    )
    reader = _readers.open_source(kind, source, 2 * N + test_size)

    def prepare():
        return _prepare(kind, reader, size, N, test_size)

    if cache is None:
        pixels, manifest = prepare()
    else:
        asked = {"kind": kind, "place": reader.place, "size": size, "N": N, "test_size": test_size}
        pixels, manifest = _cache.through(cache, asked | {"version": PREPARATION}, reader.fingerprint(), prepare)
    return Photographs(pixels, N, test_size, manifest)


def _prepare(kind, reader, size, N, test_size):
    """The pixels of a reader that are kept, and their manifest."""
    needed = 2 * N + test_size
    take = 2 * needed
    while True:  # photographs between the ends and the middle are not even read, unless duplicates ask for them
        pixels, names, unreadable = reader.read(spread(len(reader), take), size)
        kept = np.flatnonzero(~near_duplicates(pixels))
        if len(kept) >= needed or take >= len(reader):
            break
        take *= 2
    if len(kept) < needed:
        raise ValueError(_too_few(kind, reader, len(kept), len(pixels), unreadable, N, test_size))
    if reader.closed:
        warnings.warn(f"{kind}: {reader} is not read as a whole. {_readers.told_closed(reader)}", stacklevel=4)
    pixels = pixels[kept]
    manifest = {
        "kind": kind,
        "source": str(reader),
        "size": size,
        "found": len(reader),
        "read": len(names),
        "unreadable": unreadable,
        "closed": list(reader.closed),
        "near_duplicates": [names[i] for i in sorted(set(range(len(names))) - set(kept.tolist()))],
        "parts": {k: [names[kept[i]] for i in v] for k, v in _positions(len(kept), N, test_size).items()},
        "sha256": hashlib.sha256(pixels.numpy().tobytes()).hexdigest(),
    }
    return pixels, manifest


def _too_few(kind, reader, kept, read, unreadable, N, test_size):
    message = (
        f"{kind}: {reader} has {kept} usable photographs ({len(reader)} found, {len(unreadable)} unreadable, "
        f"{read - kept} near duplicates), and 2 x {N} + {test_size} = {2 * N + test_size} are needed. "
        "Give a larger folder or array, or take a smaller scale, N or test_size."
    )
    if unreadable:
        message += f" Unreadable, for example: {', '.join(unreadable[:3])}."
    hint = "" if len(reader) else reader.hint()
    return " ".join(part for part in (message, _readers.told_closed(reader), hint) if part)


def spread(n, take):
    """At most ``take`` positions of n: from both ends and, for the test set, the middle."""
    if take >= n:
        return list(range(n))
    end, middle = take * 2 // 5, take - 2 * (take * 2 // 5)
    start = (n - middle) // 2
    return [*range(end), *range(start, start + middle), *range(n - end, n)]


def _positions(n, N, test_size):
    start = N + (n - 2 * N - test_size) // 2
    return {
        "S1": list(range(N)),
        "S2": list(range(n - 1, n - 1 - N, -1)),
        "test": list(range(start, start + test_size)),
    }


def near_duplicates(pixels, threshold=DUPLICATE, block=512):
    """Which images repeat an earlier one: mean-removed correlation at 20x20 above ``threshold``.

    Parameters
    ----------
    pixels : Tensor (n, 1, H, W), uint8
    threshold : float
        A correlation, above 0.
    block : int
        Images compared with the others at once; no n x n matrix is held.

    Returns
    -------
    ndarray (n,), bool
        The first of each group is not marked. Images without any contrast are all marked.

    Raises
    ------
    ValueError, TypeError
        If ``pixels`` is not a uint8 tensor of that shape, or another argument is not positive.
    """
    _check_pixels(pixels)
    checks.positive(threshold, "threshold")
    checks.count(block, "block")
    if pixels.ndim != 4 or pixels.shape[1] != 1:
        raise ValueError(f"pixels must have shape (n, 1, H, W), got {tuple(pixels.shape)}")
    small = torch.cat([_pixels.resize(as_float(part), 20) for part in pixels.split(4096)]).flatten(1)
    small = small - small.mean(1, keepdim=True)
    repeated = small.norm(dim=1) < 1e-6
    small = torch.nn.functional.normalize(small, dim=1)
    bound = _bounds(small)
    for start in range(0, len(small), block):
        kept = torch.nonzero(~repeated[: start + block]).flatten()
        i, j = torch.nonzero(bound[start : start + block] @ bound[kept].T > threshold - 1e-5).unbind(1)
        pairs = torch.stack([i + start, kept[j]], dim=1)
        i, j = pairs[pairs[:, 1] < pairs[:, 0]].unbind(1)
        close = (small[i] * small[j]).sum(1) > threshold
        for later, earlier in zip(i[close].tolist(), j[close].tolist(), strict=True):  # in rising order of the later
            repeated[later] |= ~repeated[earlier]
    return repeated.numpy()


def _bounds(vectors, axes=32):
    """Short vectors whose products are no less than those of the given ones, and cost a tenth.

    Principal components and the norm of what they leave out (Cauchy-Schwarz).
    """
    _, basis = torch.linalg.eigh((vectors.T @ vectors).double())
    components = vectors @ basis[:, -axes:].float()
    rest = (vectors.square().sum(1) - components.square().sum(1)).clamp_min(0).sqrt()
    return torch.cat([components, rest[:, None]], dim=1)

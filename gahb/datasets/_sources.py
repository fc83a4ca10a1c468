"""Where photographs are read from: folders, arrays, and packages."""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
ARRAYS = {".npz", ".npy", ".pt"}
CELEBA = (218, 178)  # height and width of the aligned CelebA images


def open_source(kind, source, needed):
    """The reader of a source; see :func:`gahb.datasets.faces`."""
    if source is None:
        if kind == "faces" and needed > 100:
            return Array(_lfw(needed), "Labeled Faces in the Wild")
        return Array(_skimage_patches(kind), f"the {kind} inside scikit-image")
    if str(source) == "lfw":
        return Array(_lfw(needed), "Labeled Faces in the Wild")
    path = Path(source).expanduser()
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise FileNotFoundError(f"{kind}: there is no folder or file {path}; give a folder of images or an array")
    if path.suffix.lower() not in ARRAYS:
        raise ValueError(
            f"{kind}: {path.name} is neither a folder of images nor an array ({', '.join(sorted(ARRAYS))}); "
            "unpack an archive first"
        )
    return Array(_load_array(path), path.name)


class Folder:
    """The images below a folder, sorted by their path."""

    def __init__(self, path):
        self.path = path
        self.files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)

    def __len__(self):
        return len(self.files)

    def __str__(self):
        return f"folder {self.path.name}"

    def read(self, positions, size):
        """uint8 images (n, 1, size, size), their names, and the names that could not be read."""
        pixels, names, unreadable = [], [], []
        for position in positions:
            file = self.files[position]
            name = file.relative_to(self.path).as_posix()
            try:
                pixels.append(to_pixels(_read_gray(file), size))
                names.append(name)
            except (OSError, ValueError, SyntaxError) as error:  # Pillow raises any of these on damaged files
                unreadable.append(f"{name} ({error.__class__.__name__})")
        stacked = torch.cat(pixels) if pixels else torch.empty(0, 1, size, size, dtype=torch.uint8)
        return stacked, names, unreadable


class Array:
    """Images in memory: (n, H, W), (n, H, W, C) or (n, C, H, W), uint8, uint16, or float in [0, 1]."""

    def __init__(self, images, name):
        self.images, self.name = _as_gray(images, name), name

    def __len__(self):
        return len(self.images)

    def __str__(self):
        return self.name

    def read(self, positions, size):
        """uint8 images (n, 1, size, size), their positions as names, and an empty list."""
        chosen = self.images[np.asarray(positions)]
        return to_pixels(chosen, size), [str(p) for p in positions], []


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


def _read_gray(file):
    from PIL import Image, ImageOps

    with Image.open(file) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):
            return (np.asarray(image, dtype=np.float32) / 65535)[None]
        if image.mode in ("I", "F"):
            return _as_gray(np.asarray(image)[None], file.name)
        colours = np.asarray(image.convert("RGB"), dtype=np.float32)
    return colours.mean(-1)[None] / 255  # the mean of the channels, as in the authors' code


def _as_gray(images, name):
    """Check an array of images and make it (n, H, W)."""
    images = np.asarray(images)
    if images.ndim == 4 and images.shape[-1] in (1, 3, 4):
        images = _mean_channel(images, axis=-1)
    elif images.ndim == 4 and images.shape[1] in (1, 3, 4):
        images = _mean_channel(images, axis=1)
    if images.ndim != 3:
        raise ValueError(
            f"{name} has shape {images.shape}; images (n, H, W), (n, H, W, C) or (n, C, H, W) are expected"
        )
    if images.dtype in (np.uint8, np.uint16):
        return images
    if images.dtype.kind in "iu" and images.min() >= 0 and images.max() <= 65535:
        return images.astype(np.uint8 if images.max() <= 255 else np.uint16)
    if images.dtype.kind != "f":
        raise ValueError(f"{name} holds {images.dtype}; uint8, uint16 or floats in [0, 1] are expected")
    if not np.isfinite(images).all() or images.min() < 0 or images.max() > 1:
        raise ValueError(f"{name} holds floats from {images.min():.3g} to {images.max():.3g}; they must lie in [0, 1]")
    return images.astype(np.float32)


def _mean_channel(images, axis):
    """Mean of the colour channels (a fourth, the opacity, is left out)."""
    channels = images.take(range(min(images.shape[axis], 3)), axis=axis)
    if channels.shape[axis] == 1:
        return channels.squeeze(axis)
    mean = channels.mean(axis, dtype=np.float32)
    return mean / np.iinfo(images.dtype).max if images.dtype.kind == "u" else mean


def _load_array(path):
    try:
        if path.suffix == ".pt":
            loaded = torch.load(path, map_location="cpu", weights_only=True)
            loaded = {"images": loaded} if isinstance(loaded, torch.Tensor) else loaded
            arrays = {key: value.numpy() for key, value in dict(loaded).items() if isinstance(value, torch.Tensor)}
        else:
            loaded = np.load(path, allow_pickle=False)
            arrays = dict(loaded) if path.suffix == ".npz" else {"images": loaded}
    except Exception as error:  # each library has errors of its own for a damaged or unsafe file
        raise ValueError(
            f"{path.name} could not be read as an array: {error}. Files that need arbitrary code are refused."
        ) from None
    if "images" in arrays:
        return arrays["images"]
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    raise ValueError(f"{path.name} holds {sorted(arrays)}; name the array of images 'images'")


def _skimage_patches(kind):
    from skimage.data import lfw_subset

    patches = lfw_subset()  # the first 100 are faces, the others patches without faces
    return patches[:100] if kind == "faces" else patches[100:]


def _lfw(needed):
    from sklearn.datasets import fetch_lfw_people

    try:
        people = fetch_lfw_people(resize=0.5, slice_=None, funneled=True)
    except OSError as error:
        raise ValueError(
            f"faces: {needed} photographs are needed, scikit-image has 100, and Labeled Faces in the Wild could "
            f"not be fetched ({error}). Give a folder of faces or an array."
        ) from None
    return np.clip(people.images, 0, 1)

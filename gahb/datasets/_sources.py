"""Where photographs are read from: folders, arrays, and packages."""

import os
import warnings
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
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"source must be the path of a folder or file, or 'lfw', got {type(source).__name__}")
    path = Path(source).expanduser()
    if path.is_dir():
        return Folder(path)
    if not path.exists():
        raise FileNotFoundError(f"{kind}: there is no folder or file {path}; give a folder of images or an array")
    if _is_web_page(path):
        raise ValueError(
            f"{kind}: {path.name} is a web page and holds no images: the download was refused, often for its quota; "
            "open its address in a browser"
        )
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
        self.files = sorted(_image_files(path), key=lambda file: file.relative_to(path).parts)

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
            except Exception as error:  # each of Pillow's decoders has errors of its own for damaged files
                unreadable.append(f"{name} ({error.__class__.__name__})")
        stacked = torch.cat(pixels) if pixels else torch.empty(0, 1, size, size, dtype=torch.uint8)
        return stacked, names, unreadable


class Array:
    """Images in memory: (n, H, W), (n, H, W, C) or (n, C, H, W), uint8, uint16, or float in [0, 1]."""

    def __init__(self, images, name):
        self.images, self.name = _as_gray(np.asarray(images), name), name

    def __len__(self):
        return len(self.images)

    def __str__(self):
        return self.name

    def read(self, positions, size):
        """uint8 images (n, 1, size, size), their positions as names, and an empty list."""
        return to_pixels(self.images[np.asarray(positions)], size), [str(p) for p in positions], []


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


def _image_files(folder):
    """All images below a folder. Links to folders are followed, each folder is entered once, hidden files are not."""
    entered = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        place = Path(parent).stat()
        if (place.st_dev, place.st_ino) in entered:  # a link back to a folder above, or a second link
            folders.clear()
            continue
        entered.add((place.st_dev, place.st_ino))
        folders.sort()
        for name in names:
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield Path(parent, name)


def _is_web_page(path):
    with path.open("rb") as file:
        start = file.read(256).lstrip().lower()
    return start.startswith((b"<!doctype", b"<html"))


def _read_gray(file):
    from PIL import Image, ImageOps

    with warnings.catch_warnings(action="ignore"), Image.open(file) as image:  # such as a palette's transparency
        image = ImageOps.exif_transpose(image)
        if image.mode == "F":
            return _as_gray(np.asarray(image)[None], file.name)
        if image.mode.startswith("I"):  # 16 bits, which some formats hold in 32
            return (np.asarray(image, dtype=np.float32) / 65535).clip(0, 1)[None]
        colours = np.asarray(image.convert("RGB"), dtype=np.float32)
    return colours.mean(-1)[None] / 255  # the mean of the channels, as in the authors' code


def _as_gray(images, name):
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
    if images.dtype in (np.uint8, np.uint16):
        return images
    if images.dtype.kind in "iu" and images.min() >= 0 and images.max() <= 65535:
        return images.astype(np.uint8 if images.max() <= 255 else np.uint16)
    if images.dtype.kind not in "iuf":
        raise ValueError(f"{name} holds {images.dtype}; uint8, uint16 or floats in [0, 1] are expected")
    if not (images.min() >= 0 and images.max() <= 1):  # NaN is not
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


def _load_array(path):
    try:
        arrays = _load_tensors(path) if path.suffix.lower() == ".pt" else _load_numpy(path)
    except Exception as error:  # each library has errors of its own for a damaged or unsafe file
        reason = str(error).splitlines()[0] if str(error) else error.__class__.__name__
        raise ValueError(
            f"{path.name} could not be read as an array ({reason}). It is damaged, of another format, or needs code "
            "to be run, which is refused; save plain numbers with numpy.savez(path, images=images)."
        ) from None
    if "images" not in arrays and len(arrays) != 1:
        raise ValueError(f"{path.name} holds {sorted(arrays)}; name the array of images 'images'")
    return arrays["images"] if "images" in arrays else next(iter(arrays.values()))


def _load_tensors(path):
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    tensors = loaded if isinstance(loaded, dict) else {"images": loaded}
    return {key: value.detach().numpy() for key, value in tensors.items() if isinstance(value, torch.Tensor)}


def _load_numpy(path):
    with path.open("rb") as file:  # numpy would leave a damaged one open
        loaded = np.load(file, allow_pickle=False)
        return {"images": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)


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

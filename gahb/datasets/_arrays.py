"""Arrays of images: files as people save them, and those of packages."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gahb._util.files import is_passing, try_again

ARRAYS = {".npz", ".npy", ".pt", ".pth"}
LFW = 13_233  # images of Labeled Faces in the Wild


def load_array(path: Path) -> np.ndarray:
    """The images in a file: what is called so, the only array, or the only one of more than two dimensions."""
    try:
        loaded = _load_tensors(path) if path.suffix.lower() in (".pt", ".pth") else _load_numpy(path)
    except PermissionError:
        raise
    except Exception as error:  # each library raises its own errors for a damaged or unsafe file
        if is_passing(error):
            raise try_again(path.name, error) from None
        # Not in the library's words, which may advise loading it unsafely.
        raise ValueError(
            f"{path.name} could not be read as an array ({type(error).__name__}). It is damaged, of another format, or "
            "needs code to be run, which is refused; save plain numbers with numpy.savez(path, images=images)."
        ) from None
    arrays = dict(_named_arrays(loaded))
    batches = [name for name, array in arrays.items() if array.ndim > 2]
    named = "images" if "images" in arrays else batches[0] if len(batches) == 1 else next(iter(arrays), "")
    if named != "images" and len(batches) != 1 and len(arrays) != 1:
        shapes = [f"{name} of shape {array.shape}" for name, array in arrays.items()]
        held = ", ".join(shapes[:3]) + (f" and {len(shapes) - 3} more" if len(shapes) > 3 else "")
        raise ValueError(
            f"{path.name} holds {held or 'no array'}; name the array of images 'images', and make one array of a list"
        )
    return arrays[named]


def _named_arrays(loaded: Any, name: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """The arrays in nested dicts, lists and tuples, such as (images, labels), with their keys and positions."""
    if isinstance(loaded, dict | list | tuple):
        for key, value in loaded.items() if isinstance(loaded, dict) else enumerate(loaded):
            yield from _named_arrays(value, f"{name}.{key}" if name else str(key))
    elif isinstance(loaded, Tensor):  # NumPy has no bfloat16
        loaded = loaded.detach().resolve_conj().resolve_neg()
        yield name, (loaded.float() if loaded.is_floating_point() and loaded.itemsize < 4 else loaded).numpy()
    elif isinstance(loaded, np.ndarray):
        yield name, loaded


def _load_tensors(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _load_numpy(path: Path) -> Any:
    with path.open("rb") as file:  # numpy would leave a damaged file open
        loaded = np.load(file, allow_pickle=False)
        return loaded if isinstance(loaded, np.ndarray) else dict(loaded)


def skimage_patches(kind: str) -> np.ndarray:
    """The faces inside scikit-image, or its patches without faces."""
    from skimage.data import lfw_subset

    patches = lfw_subset()  # the first 100 are faces
    return patches[:100] if kind == "faces" else patches[100:]


def lfw() -> np.ndarray:
    """Labeled Faces in the Wild, which scikit-learn downloads once."""
    from sklearn.datasets import fetch_lfw_people

    try:
        people = fetch_lfw_people(resize=0.5, slice_=None, funneled=True)
    except OSError as error:
        raise ValueError(
            "faces: Labeled Faces in the Wild, which is used if more faces are needed than the 100 inside "
            f"scikit-image, could not be downloaded ({error}). Give a folder of faces or an array."
        ) from None
    return np.clip(people.images, 0, 1)

"""Denoisers carried between machines, trained or half trained: one zip a denoiser.

It holds the files of the denoiser's folder, uncompressed. Nothing in it decides where anything is
written: the place is the store's folder of the recipe that the files tell, and they are verified
before the first of them is written.
"""

import json
import math
import tempfile
import warnings
import zipfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from gahb._files import read_tensors, remove_leftovers, verified_tensors, write_atomically
from gahb.recipe import Recipe
from gahb.store import about, default_store, identity, is_named, locked

TRAINED = ("history.csv", "recipe.json", "weights.safetensors")  # in this order they are written
HALF_TRAINED = ("checkpoint.safetensors",)


@dataclass(frozen=True)
class Carried:
    """What a file holds: the denoiser's folder in a store, and how far it is trained.

    Attributes
    ----------
    name : str
        Of its folder.
    seen, total : int
        Images seen, and in the whole training.
    trained : bool
        Whether it is finished.
    kept : bool
        Whether one that is trained as far was there already, which was left alone.
    """

    name: str
    seen: int
    total: int
    trained: bool
    kept: bool = False

    def __str__(self):
        far = "trained" if self.trained else f"{self.seen:,} of {self.total:,} images"
        return f"{self.name}  {far}" + ("; left alone, what is there is trained as far" if self.kept else "")

    def reached(self):
        """Images seen; infinity if it is trained."""
        return math.inf if self.trained else self.seen


def pack(destination, only=(), store=None):
    """Pack denoisers of a store, each into ``<destination>/<its folder's name>.zip``.

    One may be packed while it trains: its last checkpoint is. A file that holds the same denoiser
    trained as far is left alone; a denoiser whose files are damaged is left out, with a warning.

    Parameters
    ----------
    destination : str or Path
        Folder, made if it is missing.
    only : sequence of str
        Names of what to pack, or their beginnings; all if it is empty.
    store : str or Path, optional

    Yields
    ------
    Carried

    Raises
    ------
    ValueError
        If the store has none of them.
    OSError
        If the destination cannot be written to.
    """
    root, destination = Path(store or default_store()).expanduser(), Path(destination).expanduser()
    found = False
    folders = {folder: folder.name.rpartition("-")[0] for folder in sorted(root.glob("*"))}  # to their names
    for folder, name in folders.items():
        chosen = folder.name in only or is_named(name, only, folders.values())
        files = _files(folder) if chosen else None
        if files is None:
            continue
        found = True
        try:
            packed = _verified(files, folder.name)
            if packed.name != folder.name:
                raise ValueError(f"{folder.name} holds a checkpoint of {packed.name}")
        except ValueError as error:
            warnings.warn(f"{error}; it is left out", stacklevel=2)
            continue
        path = destination / f"{folder.name}.zip"
        if _reached_by(path) >= packed.reached():
            packed = replace(packed, kept=True)
        else:
            write_atomically(path, lambda temporary, files=files: _write_zip(temporary, files))
        yield packed
    if not found:
        named = f" whose name begins with {' or '.join(only)}" if only else ""
        raise ValueError(f"there is no denoiser{named} in {root}; give another store or name")


def unpack(path, store=None):
    """Put a packed denoiser into a store, unless it is trained as far there.

    Parameters
    ----------
    path : str or Path
        A file that :func:`pack` wrote.
    store : str or Path, optional

    Returns
    -------
    Carried

    Raises
    ------
    ValueError
        If the file is damaged or holds anything else; then nothing was written.
    RuntimeError
        If the denoiser is being trained there.
    OSError
        If the file cannot be read or the store cannot be written to.
    """
    path = Path(path)
    files = _opened(path)
    packed = _verified(files, path.name)
    folder = Path(store or default_store()).expanduser() / packed.name
    with locked(folder, wait=False):
        kept = _reached(folder) >= packed.reached()
        if not kept:
            remove_leftovers(folder)
            for name in TRAINED if packed.trained else HALF_TRAINED:  # the weights last, as in a training
                write_atomically(folder / name, lambda temporary, name=name: temporary.write_bytes(files[name]))
            if packed.trained:
                (folder / "checkpoint.safetensors").unlink(missing_ok=True)
    return replace(packed, kept=kept)


def _files(folder):
    """The files of a denoiser by name, or None if the folder has none."""
    for _ in range(2):  # a training that ends meanwhile removes its checkpoint
        names = TRAINED if (folder / "weights.safetensors").is_file() else HALF_TRAINED
        with suppress(FileNotFoundError, NotADirectoryError):
            return {name: (folder / name).read_bytes() for name in names}
    return None


def _write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # of no time: equal denoisers are equal files


def _opened(path):
    """The files in a packed denoiser by name; any other name, a path or a compressed entry is refused."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = sorted(entry.filename for entry in entries)
            if names not in (sorted(TRAINED), sorted(HALF_TRAINED)):
                raise ValueError(f"it holds {', '.join(map(repr, names[:5])) or 'nothing'}")
            if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
                raise ValueError("its files are compressed or encrypted")
            return {entry.filename: archive.read(entry) for entry in entries}
    except FileNotFoundError:
        raise FileNotFoundError("there is no such file") from None
    except IsADirectoryError:
        raise ValueError(f"{path.name} is a folder; give the files in it") from None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, OSError) as error:
        if isinstance(error, PermissionError):
            raise PermissionError(f"{path} may not be read; change its permissions") from None
        raise ValueError(f"{path.name} is no denoiser that gahb store pack wrote, or it is damaged: {error}") from None


def _verified(files, source):
    """What the files of a denoiser hold; a ValueError that names their source unless all of them are sound."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return (_trained if "weights.safetensors" in files else _half_trained)(files, Path(folder))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{source} is damaged or was altered ({error})") from None


def _trained(files, folder):
    recipe = Recipe(**json.loads(files["recipe.json"])["recipe"])
    folder = folder / identity(recipe)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    seen = about(folder)["made"]["images_seen"]
    network = verified_tensors(folder / "weights.safetensors")[1]
    size = {"in_channels": network["size"]["in_channels"], **recipe.size}
    named = network.get("denoiser", folder.name)
    if (network["network"], network["size"], named) != (recipe.network, size, folder.name):
        raise ValueError("its weights are of another network than its recipe's")
    return Carried(folder.name, int(seen), recipe.images_seen, True)


def _half_trained(files, folder):
    (name,) = files
    (folder / name).write_bytes(files[name])
    held = verified_tensors(folder / name)[1]
    recipe = Recipe(**held["recipe"])
    return Carried(identity(recipe), int(held["state"]["seen"]), recipe.images_seen, False)


def _reached_by(path):
    """As :func:`_reached`, of a packed denoiser; one that cannot be unpacked is of no use to anybody."""
    with suppress(ValueError, FileNotFoundError):
        return _verified(_opened(path), path.name).reached()
    return -1


def _reached(folder):
    """How many images the denoiser in a folder of the store has seen; infinity if it is trained; -1 for none."""
    if read_tensors(folder / "weights.safetensors") is not None:
        return math.inf
    found = read_tensors(folder / "checkpoint.safetensors")
    return -1 if found is None else found[1]["state"]["seen"]

"""Trained denoisers by recipe: one folder each, found again and shared by all notebooks.

``<store>/<name>-<hash of the recipe>/`` holds ``recipe.json``, ``weights.safetensors`` and
``history.csv``; while it trains, ``checkpoint.safetensors``. Some denoisers come with the package,
in ``gahb/pretrained/<scale>/`` (see :mod:`gahb.shipping`).
"""

import hashlib
import json
import os
import re
import sys
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock
import torch

from gahb import __version__, datasets
from gahb._files import read_tensors, remove_leftovers, write_tensors, write_text
from gahb._machine import pick_device
from gahb.denoisers import NETWORKS
from gahb.recipe import Recipe
from gahb.training import digest, train, write_history

SHIPPED = Path(__file__).parent / "pretrained"


def project():
    """The folder of the checkout that holds this package, or None if it was installed elsewhere."""
    folder = Path(__file__).resolve().parents[1]
    return folder if (folder / "pyproject.toml").is_file() and (folder / "notebooks").is_dir() else None


def default_store():
    """Where denoisers are kept if no store is given: ``$GAHB_STORE``, else ``runs/store`` of the project."""
    if os.environ.get("GAHB_STORE"):
        return Path(os.environ["GAHB_STORE"]).expanduser()
    return (project() or Path.cwd()) / "runs" / "store"


def identity(recipe):
    """Name of the folder of a recipe: its name and a hash of all its settings."""
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe must be a gahb.Recipe, got {type(recipe).__name__}")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", recipe.name):
        raise ValueError(f"the name of a recipe must be letters, digits, '.', '_' and '-', got {recipe.name!r}")
    return _folder_name(recipe.settings())


def _folder_name(settings):
    hashed = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return f"{settings['name']}-{hashed[:10]}"


def training_images(recipe):
    """The images that a recipe trains on: its own, or those of its generator."""
    if recipe.images is not None:
        return recipe.images
    arguments = dict(recipe.data)
    generator = getattr(datasets, arguments.pop("class", ""), None)
    if generator is None:
        raise ValueError(f"the recipe {recipe.name} has no images, and its data {recipe.data} name no generator")
    return generator(**arguments)


def trained(recipe, store=None, device="auto", progress=True, time_limit=None):
    """The denoiser of a recipe, from the store or the package; trained first if neither has it.

    Of two processes that ask for the same one, one trains and the other waits. An interrupted
    training goes on from its checkpoint.

    Parameters
    ----------
    recipe : Recipe
    store : str or Path, optional
        Folder of the store; see :func:`default_store`.
    device : str
        ``"auto"``, ``"cuda"``, ``"mps"`` or ``"cpu"``.
    progress : bool
        Show a bar while training.
    time_limit : float, optional
        Seconds of training after which it stops with a checkpoint.

    Returns
    -------
    nn.Module
        In evaluation mode, float32, on the device.

    Raises
    ------
    gahb.training.TrainingStopped
        At the time limit.
    gahb.training.TrainingFailed
        If the training became NaN or infinite.
    ValueError, TypeError
        If the device is not there, or the recipe is none, has no images, or other ones than the denoiser in the store.
    OSError
        If the store cannot be read or written to.
    """
    device = pick_device(device)
    folder = Path(store or default_store()).expanduser() / identity(recipe)
    net = load(folder, device, recipe)
    if net is None and (shipped := place(recipe, store)):  # it came with the package
        net = load(shipped, device)
    if net is not None:
        with suppress(OSError):  # left by a process that was killed when it had just written the weights
            (folder / "checkpoint.safetensors").unlink(missing_ok=True)
        return net
    with locked(folder):
        net = load(folder, device, recipe)  # another process may have trained it meanwhile
        if net is None:
            remove_leftovers(folder)
            images = training_images(recipe)
            net = train(images, recipe, device, folder / "checkpoint.safetensors", time_limit, progress)
            _save(net, recipe, images, folder, device)
    return net


def place(recipe, store=None):
    """The folder with the denoiser of a recipe: in the store, else one that came with the package, else None."""
    folders = [Path(store or default_store()).expanduser() / identity(recipe), *SHIPPED.glob(f"*/{identity(recipe)}")]
    return next((folder for folder in folders if (folder / "weights.safetensors").is_file()), None)


def is_named(name, only, names):
    """Whether a name is one of ``only``, or begins with one of it that is none of ``names``; any is, if it is empty."""
    beginnings = tuple(set(only) - set(names))
    return not only or name in only or (bool(beginnings) and name.startswith(beginnings))


def has(recipe, store=None):
    """Whether the store or the package has the weights of a recipe, whole; damaged ones are set aside."""
    while folder := place(recipe, store):
        if _weights(folder) is not None:
            return True
        if (folder / "weights.safetensors").is_file():  # and could not be set aside, as on a read-only disk
            return False
    return False


def load(folder, device="cpu", recipe=None):
    """The denoiser in a folder of a store, in evaluation mode; None if it is not there or damaged.

    Raises
    ------
    ValueError
        If ``recipe`` is given with images, and the denoiser was trained on others.
    """
    found = _weights(Path(folder))
    if found is None:
        return None
    tensors, about = found
    if recipe is not None and recipe.images is not None and about.get("images", "") not in ("", digest(recipe.images)):
        raise ValueError(
            f"{Path(folder).name} was trained on other images than this recipe's: what tells two sets of images "
            "apart, such as a checksum, belongs in the data of a recipe"
        )
    net = NETWORKS[about["network"]](**about["size"])
    net.load_state_dict({key: value.float() for key, value in tensors.items()})
    return net.to(pick_device(device)).to(memory_format=torch.channels_last).eval()


def _weights(folder):
    """Tensors and what is said about them, or None if there are none, or they are damaged or of another denoiser."""

    def check(about):
        if not {"network", "size"} <= about.keys():
            raise ValueError("it holds no weights")
        if about.get("denoiser", folder.name) != folder.name:
            raise ValueError(f"it holds the weights of {about['denoiser']}")

    return read_tensors(folder / "weights.safetensors", check)


def stored(store=None):
    """What a store holds, whole: a list of the dicts in the ``recipe.json`` files, in order of their names."""
    rows = []
    for weights in sorted(Path(store or default_store()).expanduser().glob("*/weights.safetensors")):
        if _weights(weights.parent) is None:
            continue
        try:
            rows.append(about(weights.parent) | {"folder": weights.parent.name})
        except (OSError, ValueError) as error:
            warnings.warn(f"recipe.json in {weights.parent.name} cannot be read: {error}", stacklevel=2)
    return rows


def about(folder):
    """What ``recipe.json`` in a folder says: a dict of ``recipe`` and how it was ``made``.

    Raises
    ------
    ValueError
        If it is damaged or altered: the name of the folder holds a hash of the recipe.
    """
    about = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    with suppress(AttributeError, KeyError, TypeError):
        made = about["made"]
        complete = all(type(made[key]) in (int, float) for key in ("images_seen", "seconds")) and made["device"]
        if complete and _folder_name(about["recipe"]) == folder.name:
            return about
    raise ValueError("it is not of the recipe that its folder is named after")


def _save(net, recipe, images, folder, device):
    """The weights come last: where they are, the other files are."""
    history = net.history
    about = {
        "recipe": recipe.settings(),
        "made": {
            "gahb": __version__,
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
            "threads": torch.get_num_threads(),
            "images_seen": history[-1]["images"],
            "seconds": round(history[-1]["seconds"], 1),
        },
    }
    write_history(folder / "history.csv", history)
    write_text(folder / "recipe.json", json.dumps(about, indent=1, sort_keys=True) + "\n")
    size = {"in_channels": net.in_channels, **recipe.size}
    about = {"denoiser": folder.name, "network": recipe.network, "size": size, "images": digest(images)}
    write_tensors(folder / "weights.safetensors", net.state_dict(), about)
    (folder / "checkpoint.safetensors").unlink(missing_ok=True)


@contextmanager
def locked(folder, wait=True):
    """One process at a time; the lock of a process that died is free."""
    lock = filelock.FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        if not wait:
            raise RuntimeError(f"{folder.name} is being trained by another process; stop that first") from None
        print(f"{folder.name} is being trained by another process; waiting for it", file=sys.stderr)
        lock.acquire()
    except OSError as error:
        raise OSError(f"the store {folder.parent} cannot be written to: {error}; give another store") from None
    try:
        yield
    finally:
        lock.release()

"""Trained networks by recipe: one folder each, which all notebooks use.

``<store>/<name>-<hash of the recipe>/`` holds ``recipe.json``, ``weights.safetensors`` and ``history.csv``; during
training also ``checkpoint.safetensors``. Pretrained networks come with the package, in ``gahb/pretrained/<scale>/``.
"""

import hashlib
import json
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import filelock
import torch
from torch import Tensor, nn

from gahb import datasets
from gahb._util import checks
from gahb._util.devices import pick_device
from gahb._util.files import read_tensors, remove_leftovers, write_tensors, write_text
from gahb.denoisers import NETWORKS
from gahb.training.checkpoint import digest, sketch
from gahb.training.loop import train
from gahb.training.recipe import Recipe

NEARLY = 0.01  # root mean square difference of two sets of images, intensities; JPEG decoders differ by 1 / 255 at most
PRETRAINED = Path(__file__).parents[1] / "pretrained"


def project() -> Path | None:
    """The checkout that holds this package, or None if the package is installed elsewhere."""
    folder = Path(__file__).resolve().parents[2]
    return folder if (folder / "pyproject.toml").is_file() and (folder / "notebooks").is_dir() else None


def default_store() -> Path:
    """The store if none is given: ``$GAHB_STORE``, else ``runs/store`` of the project."""
    if os.environ.get("GAHB_STORE"):
        return Path(os.environ["GAHB_STORE"]).expanduser()
    return (project() or Path.cwd()) / "runs" / "store"


def identity(recipe: Recipe) -> str:
    """Name of a recipe's folder: its name and a hash of all its settings."""
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe must be a gahb.Recipe, got {type(recipe).__name__}")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", recipe.name):
        raise ValueError(f"the name of a recipe must be letters, digits, '.', '_' and '-', got {recipe.name!r}")
    return _folder_name(recipe.settings())


def _folder_name(settings: dict[str, Any]) -> str:
    hashed = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return f"{settings['name']}-{hashed[:10]}"


def generated_images(recipe: Recipe) -> Tensor:
    """The training images that a recipe's data describe: those of a generator of :mod:`gahb.datasets`."""
    arguments = dict(recipe.data)
    generator = getattr(datasets, arguments.pop("class", ""), None)
    if generator is None or "sha256" in arguments:
        raise ValueError(f"{recipe.name} needs its training images: its data {recipe.data} name no generator")
    return generator(**arguments)


def load_or_train(
    recipe: Recipe,
    images: Tensor | None = None,
    store: str | Path | None = None,
    device: str | torch.device = "auto",
    progress: bool = True,
    time_limit: float | None = None,
) -> nn.Module:
    """Load the network of a recipe from the store or the package; train it first if neither has it.

    If two processes ask for the same network, one trains it and the other waits. An interrupted training resumes
    from its checkpoint, also in a copy of the store. If the store has the network of nearly the same photographs, as
    another library or machine decodes them, this is printed; with ``GAHB_NEARLY=1`` in the environment it is taken.

    Parameters
    ----------
    recipe : Recipe
    images : Tensor (N, C, H, W), optional
        Training images, uint8 or float32 in [0, 1]; needed only to train on photographs.
    store : str or Path, optional
        Folder of trained networks; see :func:`default_store`.
    device, progress, time_limit
        As for :func:`gahb.train`.

    Returns
    -------
    nn.Module
        In evaluation mode, float32, on the device.
    """
    device = pick_device(device)
    images = None if images is None else checks.clean_images(images, "images", uint8=True)
    folder = Path(store or default_store()).expanduser() / identity(recipe)
    network = load(folder, device, images)
    if network is None:  # perhaps a pretrained one
        network = next(filter(None, (load(found, device) for found in places(recipe, store))), None)
    if network is None and images is not None and (near := _nearly(recipe, images, store)):
        network = _take_over(near, recipe, images, folder, device)
    if network is not None:
        with suppress(OSError):  # left by a process that was killed just after it had written the weights
            (folder / "checkpoint.safetensors").unlink(missing_ok=True)
        return network
    with locked(folder):
        network = load(folder, device, images)  # another process may have trained it meanwhile
        if network is None:
            remove_leftovers(folder)
            images = generated_images(recipe) if images is None else images
            network = train(images, recipe, device, folder / "checkpoint.safetensors", time_limit, progress)
            _save(network, recipe, images, folder, device)
    return network


def _nearly(recipe: Recipe, images: Tensor, store: str | Path | None) -> Path | None:
    """Folder of the network of the same recipe and nearly these photographs; see :func:`sketch`."""
    asked = recipe.settings()
    if "sha256" not in asked["data"]:
        return None
    own = torch.tensor(sketch(images))
    folders = Path(store or default_store()).expanduser().glob(f"{recipe.name}-*")
    for folder in sorted(folder for folder in folders if folder.name != identity(recipe)):
        with suppress(OSError, ValueError):
            found = about(folder)
            settings, other = found["recipe"], torch.tensor(found["made"].get("sketch", [torch.inf]))
            asked["data"]["sha256"] = settings["data"].get("sha256")
            if settings == asked and (apart := float((own - other).square().mean().sqrt())) < NEARLY:
                levels = f"they differ by about {255 * apart:.1g} of 255 levels"
                print(f"a denoiser of nearly these images is here: {folder.name} ({levels}).", end=" ", file=sys.stderr)
                print("GAHB_NEARLY=1 in the environment takes it; without, one is trained anew", file=sys.stderr)
                return folder
    return None


def _take_over(near: Path, recipe: Recipe, images: Tensor, folder: Path, device: torch.device) -> nn.Module | None:
    """The network of nearly the same photographs, copied to the folder of this recipe, if the user asks for it."""
    found = _weights(near) if os.environ.get("GAHB_NEARLY") == "1" else None
    if found is None:
        return None
    tensors, described = found
    made = about(near)["made"] | {"trained_on_nearly": near.name}
    with locked(folder):
        text = json.dumps({"recipe": recipe.settings(), "made": made}, indent=1, sort_keys=True)
        write_text(folder / "recipe.json", text + "\n")
        write_text(folder / "history.csv", (near / "history.csv").read_text(encoding="utf-8"))
        described |= {"folder": folder.name, "images": digest(images)}
        write_tensors(folder / "weights.safetensors", tensors, described)
    return load(folder, device, images)


def places(recipe: Recipe, store: str | Path | None = None) -> list[Path]:
    """The folders that hold the network of a recipe: that of the store first, then that of the package."""
    name = identity(recipe)
    folders = [Path(store or default_store()).expanduser() / name, *PRETRAINED.glob(f"*/{name}")]
    return [folder for folder in folders if (folder / "weights.safetensors").is_file()]


def has(recipe: Recipe, store: str | Path | None = None) -> bool:
    """Whether the store or the package holds intact weights of a recipe; damaged ones are set aside."""
    return any(_weights(folder) is not None for folder in places(recipe, store))


def pretrained_recipe(scale: str, name: str, seed: int = 0) -> Recipe | None:
    """The recipe of a pretrained network, such as ``("laptop", "faces-S1-N10000")``; None if there is none."""
    for file in sorted(PRETRAINED.glob(f"{scale}/{name}-*/recipe.json")):
        recipe = Recipe(**json.loads(file.read_text(encoding="utf-8"))["recipe"])
        if (recipe.name, recipe.seed) == (name, seed):
            return recipe
    return None


def load(folder: str | Path, device: str | torch.device = "cpu", images: Tensor | None = None) -> nn.Module | None:
    """The network in a folder of a store, in evaluation mode; None if it is absent or damaged.

    If ``images`` are given, a network that was trained on others is an error.
    """
    folder = Path(folder).expanduser()
    found = _weights(folder)
    if found is None:
        return None
    tensors, about = found
    if images is not None and about.get("images") not in (None, digest(images)):
        raise ValueError(
            f"{folder.name} was trained on other images than these: add something that tells the two sets apart to "
            "the data of the recipe, such as a checksum"
        )
    network: Any = NETWORKS[about["network"]](**about["network_kwargs"])
    network.load_state_dict({key: value.float() for key, value in tensors.items()})
    network = network.to(pick_device(device)).to(memory_format=torch.channels_last)
    return network.eval()


def _weights(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and their description; None if they are absent, damaged or of another network."""

    def check(about: dict[str, Any]) -> None:
        if not {"network", "network_kwargs"} <= about.keys():
            raise ValueError("it holds no weights")
        if about.get("folder", folder.name) != folder.name:
            raise ValueError(f"it holds the weights of {about['folder']}")

    return read_tensors(folder / "weights.safetensors", check)


def stored(store: str | Path | None = None) -> list[dict[str, Any]]:
    """The ``recipe.json`` of every intact network of a store, sorted by name."""
    rows = []
    for weights in sorted(Path(store or default_store()).expanduser().glob("*/weights.safetensors")):
        if _weights(weights.parent) is None:
            continue
        try:
            rows.append(about(weights.parent) | {"folder": weights.parent.name})
        except (OSError, ValueError) as error:
            warnings.warn(f"recipe.json in {weights.parent.name} cannot be read: {error}", stacklevel=2)
    return rows


def about(folder: Path) -> dict[str, Any]:
    """The ``recipe.json`` of a folder: the ``recipe`` and how it was ``made``; a ValueError if it was altered."""
    about = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    with suppress(AttributeError, KeyError, TypeError):
        made = about["made"]
        complete = all(type(made[key]) in (int, float) for key in ("images_seen", "seconds")) and made["device"]
        if complete and _folder_name(about["recipe"]) == folder.name:
            return about
    raise ValueError("its recipe is not the one that the folder is named after")


def _save(network: nn.Module, recipe: Recipe, images: Tensor, folder: Path, device: torch.device) -> None:
    """Write the files of a network; the weights come last, so that the other files are there if they are."""
    history: Any = network.history
    made = {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "threads": torch.get_num_threads(),
        "images_seen": history[-1]["images"],
        "seconds": round(history[-1]["seconds"], 1),
        "sketch": sketch(images),
    }
    with suppress(PackageNotFoundError):  # in a checkout that is not installed
        made["gahb"] = version("gahb")
    about = {"recipe": recipe.settings(), "made": made}
    write_text(folder / "recipe.json", json.dumps(about, indent=1, sort_keys=True) + "\n")
    columns = ["images", "loss", "learning_rate", "seconds"]
    rows = [columns, *([row[key] for key in columns] for row in history)]
    write_text(folder / "history.csv", "".join(",".join(map(str, row)) + "\n" for row in rows))
    kwargs = {"in_channels": network.in_channels, **recipe.network_kwargs}
    about = {"folder": folder.name, "network": recipe.network, "network_kwargs": kwargs, "images": digest(images)}
    write_tensors(folder / "weights.safetensors", network.state_dict(), about)
    (folder / "checkpoint.safetensors").unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time train into a folder; a process that dies releases its lock."""
    lock = filelock.FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        print(f"{folder.name} is being trained by another process; waiting for it", file=sys.stderr)
        lock.acquire()
    except OSError as error:
        raise OSError(f"the store {folder.parent} cannot be written to: {error}; give another store") from None
    try:
        yield
    finally:
        lock.release()

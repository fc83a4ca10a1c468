"""Trained denoisers that come with the package, in ``gahb/pretrained/<scale>/``, and what goes there.

A folder there is one of a store, with weights in half precision (but see ``WHOLE``).
``gahb.trained`` looks there before it trains.
"""

import json
from pathlib import Path

from gahb import store as stores
from gahb._files import read_tensors, write_tensors, write_text
from gahb.recipe import Recipe

WHOLE = ("ray",)  # at sigma = 0.01 its error is so small that half precision moves its curve by 0.03 dB
LEAST_PHOTOGRAPHS = 10_000  # networks of fewer can hold the faces of persons (Figure 2)


def ship(recipes, to, store=None):
    """Copy denoisers of a store to the package, in half precision but for those of a class in ``WHOLE``.

    Parameters
    ----------
    recipes : list of Recipe
        Those of photographs with fewer than 10,000 images are left out: their weights can hold
        training images.
    to : str or Path
        ``gahb/pretrained/<scale>``.
    store : str or Path, optional
        The store.

    Returns
    -------
    list of str
        Names of the folders written.

    Raises
    ------
    FileNotFoundError
        If the store lacks one of them; nothing is written then.
    ValueError
        If the weights of one are damaged.
    OSError
        If ``to`` cannot be written to.
    """
    store = Path(store or stores.default_store()).expanduser()
    chosen = [recipe for recipe in recipes if may_be_shipped(recipe)]
    missing = [recipe.name for recipe in chosen if not (store / stores.identity(recipe) / "recipe.json").is_file()]
    if missing:
        raise FileNotFoundError(f"the store {store} lacks {', '.join(missing)}; train them first")
    for recipe in chosen:
        source, target = store / stores.identity(recipe), Path(to) / stores.identity(recipe)
        found = read_tensors(source / "weights.safetensors")
        if found is None:
            raise ValueError(f"the weights in {source.name} are damaged; train that denoiser again")
        tensors, about = found
        # No checksum of the images: that of photographs is in the recipe, and generated ones differ between
        # machines in the last digit.
        about = {key: about[key] for key in ("network", "size")}
        whole = recipe.data["class"] in WHOLE
        tensors = {key: value if whole else value.half() for key, value in tensors.items()}
        write_tensors(target / "weights.safetensors", tensors, about)
        write_text(target / "recipe.json", (source / "recipe.json").read_text(encoding="utf-8"))
        write_text(target / "history.csv", (source / "history.csv").read_text(encoding="utf-8"))
    return [stores.identity(recipe) for recipe in chosen]


def may_be_shipped(recipe):
    """Whether a denoiser holds no single photograph: it is of a synthetic class, or of 10,000 photographs.

    Parameters
    ----------
    recipe : Recipe

    Returns
    -------
    bool
    """
    return "sha256" not in recipe.data or recipe.data["n"] >= LEAST_PHOTOGRAPHS


def shipped_recipe(scale, name, seed=0):
    """The recipe, without its images, of a denoiser of photographs in the package.

    Parameters
    ----------
    scale : str
        Such as ``"laptop"``.
    name : str
        Such as ``"faces-S1-N10000"``.
    seed : int
        Of the recipe.

    Returns
    -------
    Recipe or None
        None if there is none.

    Raises
    ------
    ValueError, TypeError, KeyError
        If a ``recipe.json`` there is damaged.
    """
    for file in sorted(stores.SHIPPED.glob(f"{scale}/{name}-*/recipe.json")):
        recipe = Recipe(**json.loads(file.read_text(encoding="utf-8"))["recipe"])
        if (recipe.name, recipe.seed) == (name, seed):
            return recipe
    return None

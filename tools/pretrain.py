"""Copy trained networks of a scale from the store into the package: ``gahb/pretrained/<scale>/``.

``python tools/pretrain.py laptop FACES SCENES [--store STORE] [--to FOLDER]``. Weights are kept in half precision,
except those of ``ray``. Networks of fewer than 10,000 photographs are left out: they can hold single photographs.
"""

import argparse
from pathlib import Path

from gahb._util.files import read_tensors, write_tensors, write_text
from gahb.companion import scales, tasks
from gahb.training import Recipe
from gahb.training import store as stores

WHOLE = ("ray",)  # its error at sigma = 0.01 is so small that half precision moves its curve by 0.03 dB
LEAST_PHOTOGRAPHS = 10_000  # networks of fewer can hold the faces of persons (Figure 2)


def may_be_public(recipe: Recipe) -> bool:
    """Whether a network holds no single photograph: of a synthetic class, or of at least 10,000 photographs."""
    return "sha256" not in recipe.data or recipe.data["n"] >= LEAST_PHOTOGRAPHS


def copy(recipes: list[Recipe], to: Path, store: Path) -> list[str]:
    """Copy the networks that may be public to the folder ``to``; return the names of the folders written.

    Raises
    ------
    FileNotFoundError
        If the store lacks one of them; nothing is written then.
    ValueError
        If the weights of one are damaged.
    """
    chosen = [recipe for recipe in recipes if may_be_public(recipe)]
    missing = [recipe.name for recipe in chosen if not (store / stores.identity(recipe) / "recipe.json").is_file()]
    if missing:
        raise FileNotFoundError(f"the store {store} lacks {', '.join(missing)}; train them first")
    for recipe in chosen:
        source, target = store / stores.identity(recipe), to / stores.identity(recipe)
        found = read_tensors(source / "weights.safetensors")
        if found is None:
            raise ValueError(f"the weights in {source.name} are damaged; train that network again")
        tensors, about = found
        # No checksum of the images: that of photographs is in the recipe, and generated images differ between
        # machines in the last digit.
        about = {key: about[key] for key in ("network", "network_kwargs")}
        whole = recipe.data["class"] in WHOLE
        tensors = {key: value if whole else value.half() for key, value in tensors.items()}
        write_tensors(target / "weights.safetensors", tensors, about)
        for name in ("recipe.json", "history.csv"):
            write_text(target / name, (source / name).read_text(encoding="utf-8"))
    return [stores.identity(recipe) for recipe in chosen]


def main() -> None:
    """Copy the networks of a scale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("scale", "faces", "scenes"):
        parser.add_argument(name)
    parser.add_argument("--store", type=Path, default=stores.default_store())
    parser.add_argument("--to", type=Path)
    given = parser.parse_args()
    all_tasks = tasks.of_scale(scales.get(given.scale), (), given.faces, given.scenes, store=given.store)
    to = given.to or stores.PRETRAINED / given.scale
    print(*copy([recipe for recipe, _ in all_tasks], to, given.store), sep="\n")


if __name__ == "__main__":
    main()

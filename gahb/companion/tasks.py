"""What to train for a scale: its networks, chosen by name, with their images, and how many at once."""

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from gahb._util.devices import cores, pick_device
from gahb.companion import scales
from gahb.training.parallel import Task
from gahb.training.store import default_store

OF_PHOTOGRAPHS = {"faces": ("faces", "shuffled"), "scenes": ("scenes",)}  # beginnings of the names of networks


def of_scale(
    scale: scales.Scale,
    only: Sequence[str] = (),
    faces_source: str | None = None,
    scenes_source: str | None = None,
    seed: int = 0,
    store: str | Path | None = None,
) -> list[Task]:
    """Return recipes of a scale with their training images, for :func:`gahb.training.parallel.train_all`.

    ``only`` selects networks by name: ``faces-S1-N10`` is that network, ``faces-S1`` and ``faces-S1-*`` are those of
    S1; all if it is empty. Prepared photographs are kept in the store, where the notebooks find them.
    """
    cache = Path(store or default_store()) / "photographs"
    chosen = [name for name in scales.names(scale) if not only or any(_matches(name, pattern) for pattern in only)]
    if not chosen:
        raise ValueError(
            f"--only {' '.join(only)} names no network of {scale.name}; they are {', '.join(scales.names(scale))}"
        )
    needs = {kind: any(name.startswith(of) for name in chosen) for kind, of in OF_PHOTOGRAPHS.items()}
    of = {
        "faces": scales.faces(scale, faces_source, cache) if needs["faces"] else None,
        "scenes": scales.scenes(scale, scenes_source, cache) if needs["scenes"] else None,
    }
    return [
        (recipe, scales.training_images(recipe, of["scenes" if recipe.data["class"] == "scenes" else "faces"]))
        for recipe in scales.recipes(scale, of["faces"], of["scenes"], seed)
        if recipe.name in chosen
    ]


def _matches(name: str, pattern: str) -> bool:
    return fnmatch(name, pattern) or fnmatch(name, f"{pattern}-*")


def pick_jobs(scale: scales.Scale, device: str, jobs: int | None = None) -> int:
    """Return the number of networks to train at once: ``jobs`` if given, else one per core on a CPU, one on a GPU.

    A small network keeps one core busy and gains little from more; a network of the paper's size needs all the memory
    and all the cores.
    """
    if jobs is not None:
        return jobs
    return cores() if scale.parallel and pick_device(device).type == "cpu" else 1


def photograph_needs() -> list[tuple[str, str, tuple[int, ...], int]]:
    """Return rows (scale, kind of photographs, sizes N of the training sets, number of test images)."""
    rows = []
    for name, scale in scales.SCALES.items():
        rows += [(name, "faces", scale.face_N, scale.face_test), (name, "scenes", (scale.scene_N,), scale.scene_test)]
    return rows

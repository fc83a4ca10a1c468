"""What to train for a scale: its networks, chosen by name, with their images, and how many at once."""

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from gahb._util.devices import cores, pick_device
from gahb.companion import scales
from gahb.training.parallel import Task
from gahb.training.store import default_store


def of_scale(
    scale: scales.Scale,
    only: Sequence[str] = (),
    faces_source: str | None = None,
    scenes_source: str | None = None,
    seed: int = 0,
    store: str | Path | None = None,
) -> list[Task]:
    """Recipes of a scale with their training images, for :func:`gahb.training.parallel.train_all`.

    ``only`` selects networks by name: ``faces-S1-N10`` is that network, ``faces-S1`` and ``faces-S1-*`` are those of
    S1; all if it is empty. Prepared photographs are kept in the store, where the notebooks find them.
    """
    cache = Path(store or default_store()) / "photographs"
    patterns = [*only, *(f"{pattern}-*" for pattern in only)] or ["*"]
    chosen = [name for name in scales.names(scale) if any(fnmatch(name, pattern) for pattern in patterns)]
    if not chosen:
        raise ValueError(
            f"--only {' '.join(only)} names no network of {scale.name}; they are {', '.join(scales.names(scale))}"
        )
    of_faces, of_scenes = (any(name.startswith(of) for name in chosen) for of in (("faces", "shuffled"), "scenes"))
    faces = scales.faces(scale, faces_source, cache) if of_faces else None
    scenes = scales.scenes(scale, scenes_source, cache) if of_scenes else None
    return [
        (recipe, scales.training_images(recipe, scenes if recipe.data["class"] == "scenes" else faces))
        for recipe in scales.recipes(scale, faces, scenes, seed)
        if recipe.name in chosen
    ]


def pick_jobs(scale: scales.Scale, device: str, jobs: int | None = None) -> int:
    """The number of networks to train at once: ``jobs`` if given, else one per core on a CPU, one on a GPU.

    A small network keeps one core busy and gains little from more; one of the paper's size needs all cores and memory.
    """
    return jobs or (cores() if scale.parallel and pick_device(device).type == "cpu" else 1)


def photograph_needs() -> list[tuple[str, str, tuple[int, ...], int]]:
    """Rows (scale, kind of photographs, sizes N of the training sets, number of test images)."""
    rows = []
    for name, scale in scales.SCALES.items():
        rows += [(name, "faces", scale.face_N, scale.face_test), (name, "scenes", (scale.scene_N,), scale.scene_test)]
    return rows

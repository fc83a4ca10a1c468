"""Settings of a run at each scale, and the recipes of its denoisers.

``smoke``: seconds a network, to see that all works. ``laptop``: hours on a CPU. ``paper-short``: the
paper's networks and images, trained for seconds each on a GPU. ``paper``: the paper's own training, of as
many images a network, and measured on as many, as this project has chosen: the paper does not say.
"""

import difflib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path

from torch import Tensor

from gahb import datasets
from gahb._util import checks
from gahb._util.devices import cores, pick_device
from gahb.training.parallel import Task
from gahb.training.recipe import Recipe
from gahb.training.store import default_store, pretrained_recipe

OF_PHOTOGRAPHS = {"faces": ("faces", "shuffled"), "scenes": ("scenes",)}  # beginnings of the names of denoisers
STAND_INS = 90  # test faces of the 100 inside scikit-image, near duplicates left out

PAPER_TRAINING = {  # Appendix A, with the authors' code for what it leaves out
    "network": "BFCNN",
    "network_kwargs": {"depth": 20, "channels": 64},
    "sigma_max": 1.0,
    "noise_distribution": "uniform",
    "batch_size": 512,
    "images_seen": 10_000_000,  # this project's choice: the rate is not halved within them
    "optimizer": "adam",
    "loss_weighting": 0.0,
    "learning_rate": 1e-3,
    "lr_schedule": "halving",
    "precision": "auto",
}
LAPTOP_TRAINING = {  # the cheapest found that shows the effects: see benchmarks/recipes.md
    "network": "ResUNet",
    "network_kwargs": {"channels": 16, "blocks": 2},
    # Evaluated up to sigma = 1. Trained up to there alone, a network knows that noise is never larger: at the edge
    # it does better than any denoiser that must be told sigma, and Eq. 10 is 16 % off.
    "sigma_max": 1.5,
    "noise_distribution": "sqrt-uniform",
    "loss_weighting": "balanced",
    "batch_size": 16,
    "images_seen": 240_000,
    "optimizer": "muon",
    "learning_rate": 5e-3,
    "lr_schedule": "one-cycle",
    "precision": "auto",
}
SMALL_NOISE = {
    "sigma_max": 1.0,
    "noise_distribution": "log-uniform",
    "images_seen": 48_000,
}  # which C-alpha slopes are about
PAPER_SHORT_TRAINING = LAPTOP_TRAINING | {  # the paper's network, trained as on a laptop by the larger steps of a GPU
    "network": PAPER_TRAINING["network"],
    "network_kwargs": PAPER_TRAINING["network_kwargs"],
    "batch_size": 256,
    "images_seen": 320_000,
    "learning_rate": 2e-2,
}
SMOKE_TRAINING = {
    "network": "BFCNN",
    "network_kwargs": {"depth": 5, "channels": 16},
    "noise_distribution": "sqrt-uniform",
    "loss_weighting": 0.5,
    "batch_size": 32,
    "images_seen": 4_800,
    "learning_rate": 1.5e-2,
    "lr_schedule": "one-cycle",
    "precision": "float32",
}


@dataclass(frozen=True)
class Scale:
    """One scale. Sizes in pixels, noise levels as input PSNR in dB (-20 log10 sigma).

    Attributes
    ----------
    name : str
    face_size, face_N, face_test
        Size of the faces, the sizes N of the training sets, the number of test faces.
    scene_size, scene_N, scene_test
        The same for scenes (bedrooms).
    class_size, class_N, class_test
        The same for synthetic images.
    alphas : tuple
        Regularities of the C-alpha classes (Figure 4).
    contour_alphas, background_alpha
        alpha_1 and alpha_2 of the classes of Figure 10.
    input_db : tuple
        Noise levels of the PSNR curves.
    slope_db : tuple
        Range over which slopes of synthetic classes are fitted: small noise. It moves to larger noise for
        C-alpha classes that are rougher than the pixels there (notebook 04).
    face_slope_db : tuple
        The same for faces (Figure 6): noise at which faces of this size are far from their input. Below it
        every denoiser nears the identity, whose slope is 1.
    samples : int
        Number of samples drawn from each pair of networks.
    analysed : int
        Number of images over which Jacobians are averaged.
    step_size, sigma_0, sigma_end : float
        Of Algorithm 1.
    training, synthetic_training : dict
        Fields of :class:`gahb.Recipe` for photographs and for synthetic classes.
    disks_training : dict
        What is different for disks.
    cell_timeout : int
        Seconds that one cell of a notebook may take.
    parallel : bool
        Whether networks are small enough to train one on each core of a CPU.
    """

    name: str
    face_size: int = 40
    face_N: tuple = (1, 10, 100, 1_000, 10_000)
    face_test: int = 1_000
    scene_size: int = 32
    scene_N: int = 20_000
    scene_test: int = 900
    class_size: int = 40
    class_N: int = 10_000
    class_test: int = 256
    alphas: tuple = (1.0, 2.0, 3.0, 4.0)
    contour_alphas: tuple = (1.5, 2.0, 4.0)
    background_alpha: float = 8.0
    input_db: tuple = tuple(range(0, 41, 2))
    slope_db: tuple = (24, 40)
    face_slope_db: tuple = (0, 20)
    samples: int = 200
    analysed: int = 32
    step_size: float = 0.01
    sigma_0: float = 1.0
    sigma_end: float = 0.01
    training: dict = field(default_factory=lambda: dict(PAPER_TRAINING))
    synthetic_training: dict = field(default_factory=lambda: dict(PAPER_TRAINING))
    disks_training: dict = field(default_factory=dict)
    cell_timeout: int = 14 * 24 * 3600
    parallel: bool = False

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Noise levels of the PSNR curves, intensities, falling."""
        return tuple(10 ** (-db / 20) for db in self.input_db)


SCALES = {
    "smoke": Scale(
        "smoke",
        face_size=20,
        face_N=(1, 10, 40),
        face_test=20,
        scene_size=20,
        scene_N=36,
        scene_test=20,
        class_size=20,
        class_N=1_000,
        class_test=32,
        input_db=(0, 8, 16, 24, 32, 40),
        samples=8,
        analysed=2,
        step_size=0.05,
        sigma_end=0.05,
        training=SMOKE_TRAINING,
        synthetic_training=SMOKE_TRAINING,
        cell_timeout=600,
        parallel=True,
    ),
    "laptop": Scale(
        "laptop",
        face_size=20,
        face_test=500,
        scene_size=20,
        scene_test=500,
        class_size=32,
        class_test=128,
        samples=100,
        sigma_end=0.002,
        training=LAPTOP_TRAINING,
        synthetic_training=LAPTOP_TRAINING | SMALL_NOISE,
        # After fewer images a network keeps more at a disk's edge than tangents; noise law: figures/laptop/notes.md.
        disks_training={"images_seen": 960_000, "noise_distribution": "sqrt-uniform"},
        cell_timeout=24 * 3600,
        parallel=True,
    ),
    "paper-short": Scale(
        "paper-short",
        class_test=64,
        samples=16,
        analysed=8,
        training=PAPER_SHORT_TRAINING,
        synthetic_training=PAPER_SHORT_TRAINING | {"sigma_max": 1.0, "noise_distribution": "log-uniform"},
        disks_training={"images_seen": 640_000, "noise_distribution": "sqrt-uniform"},
    ),
    "paper": Scale("paper"),
}


def get(name: str | Scale) -> Scale:
    """The scale of a name.

    Raises
    ------
    ValueError
        If there is no such scale.
    """
    if isinstance(name, Scale):
        return name
    if name not in SCALES:
        close = difflib.get_close_matches(str(name), SCALES, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"unknown scale {name!r}: take one of {', '.join(SCALES)}{hint}")
    return SCALES[name]


def settings(scale: Scale) -> dict:
    """All settings of a scale, as JSON gives them back."""
    return json.loads(json.dumps(asdict(scale)))


def faces(scale: Scale, source: str | None = None, cache: str | Path | None = None) -> datasets.Photographs:
    """The faces of a scale; see :func:`gahb.datasets.faces`.

    If none are given and the networks of faces come with the package, the faces inside scikit-image are test images
    for them; there is no training set then.
    """
    if stand_ins(scale, source):
        return datasets.faces(None, scale.face_size, 0, STAND_INS, cache)
    return datasets.faces(source, scale.face_size, max(scale.face_N), scale.face_test, cache)


def stand_ins(scale: Scale, source: str | None) -> bool:
    """Whether the faces inside scikit-image stand in for those of a scale; see :func:`faces`."""
    return source is None and pretrained_recipe(scale.name, f"faces-S1-N{max(scale.face_N)}") is not None


def results(scale: Scale, source: str | None) -> str:
    """Name of the folder of figures; results on stand-ins are kept apart from those on the faces of a scale."""
    return f"{scale.name}-stand-ins" if stand_ins(scale, source) else scale.name


def scenes(scale: Scale, source: str | None = None, cache: str | Path | None = None) -> datasets.Photographs:
    """The scenes of a scale; see :func:`gahb.datasets.scenes`."""
    return datasets.scenes(source, scale.scene_size, scale.scene_N, scale.scene_test, cache)


def photograph_recipe(
    scale: Scale, photographs: datasets.Photographs, part: str, N: int | None = None, seed: int = 0
) -> Recipe:
    """Recipe of a network of photographs: the first N images of ``"S1"`` or ``"S2"``.

    Raises
    ------
    ValueError
        If there are too few photographs and no such network comes with the package.
    """
    kind = photographs.manifest["kind"]
    if photographs.N == 0:
        return _pretrained(scale, f"{kind}-{part}-N{N or max(scale.face_N)}", seed)
    pixels = photographs.part(part, N)
    data = {
        "class": kind,
        "part": part,
        "n": len(pixels),
        "size": pixels.shape[-1],
        "sha256": hashlib.sha256(pixels.numpy().tobytes()).hexdigest(),
    }
    return Recipe(f"{kind}-{part}-N{len(pixels)}", data, seed=seed, **scale.training)


def shuffled_recipe(scale: Scale, photographs: datasets.Photographs, seed: int = 0) -> Recipe:
    """Recipe of the network of shuffled faces, from the whole of S1."""
    if photographs.N == 0:
        return _pretrained(scale, f"shuffled-N{max(scale.face_N)}", seed)
    recipe = photograph_recipe(scale, photographs, "S1", seed=seed)
    return replace(recipe, name=f"shuffled-N{photographs.N}", data=recipe.data | {"class": "shuffled faces"})


def training_images(recipe: Recipe, photographs: datasets.Photographs | None) -> Tensor | None:
    """The images of a recipe of photographs; None for synthetic classes, and for pretrained networks without them."""
    if "sha256" not in recipe.data or photographs is None or photographs.N == 0:
        return None
    pixels = photographs.part(recipe.data["part"], recipe.data["n"])
    return datasets.shuffled(pixels) if recipe.data["class"] == "shuffled faces" else pixels


def c_alpha_recipe(scale: Scale, alpha: float, beta: float | None = None, seed: int = 0) -> Recipe:
    """Recipe of a denoiser of C-alpha images."""
    name = f"c_alpha-{alpha:g}" + ("" if beta is None else f"-background-{beta:g}")
    return _synthetic(scale, name, {"class": "c_alpha", "alpha": alpha, "beta": beta}, seed)


def disks_recipe(scale: Scale, seed: int = 0) -> Recipe:
    """Recipe of the denoiser of disks."""
    return _synthetic(scale, "disks", {"class": "disks"}, seed, **scale.disks_training)


def sinusoids_recipe(scale: Scale, seed: int = 0) -> Recipe:
    """Recipe of the denoiser of sinusoids."""
    return _synthetic(scale, "sinusoids", {"class": "sinusoids"}, seed)


def ray_recipe(scale: Scale, seed: int = 0) -> Recipe:
    """Recipe of the denoiser of one image times an intensity."""
    return _synthetic(scale, "ray", {"class": "ray"}, seed)


def names(scale: Scale) -> list[str]:
    """The name of every network of a scale."""
    return [
        *(f"faces-{part}-N{N}" for part in ("S1", "S2") for N in scale.face_N),
        *(f"scenes-{part}-N{scale.scene_N}" for part in ("S1", "S2")),
        *(recipe.name for recipe in recipes(scale, None, None)),
        f"shuffled-N{max(scale.face_N)}",
    ]


def recipes(
    scale: Scale, faces: datasets.Photographs | None, scenes: datasets.Photographs | None, seed: int = 0
) -> list[Recipe]:
    """Every recipe of a scale, in the order in which the notebooks need them.

    Without faces or scenes (None), recipes that need them are left out.
    """
    face_parts = () if faces is None else ("S1", "S2")
    scene_parts = () if scenes is None else ("S1", "S2")
    return [
        *(photograph_recipe(scale, faces, part, N, seed) for part in face_parts for N in scale.face_N),
        *(photograph_recipe(scale, scenes, part, seed=seed) for part in scene_parts),
        *(c_alpha_recipe(scale, alpha, seed=seed) for alpha in scale.alphas),
        *(c_alpha_recipe(scale, alpha, scale.background_alpha, seed) for alpha in scale.contour_alphas),
        disks_recipe(scale, seed),
        ray_recipe(scale, seed),
        sinusoids_recipe(scale, seed),
        *([] if faces is None else [shuffled_recipe(scale, faces, seed)]),
    ]


def tasks(
    scale: Scale,
    only: Sequence[str] = (),
    faces_source: str | None = None,
    scenes_source: str | None = None,
    seed: int = 0,
    store: str | Path | None = None,
) -> list[Task]:
    """Recipes of a scale and their training images, for :func:`gahb.training.parallel.train_all`.

    ``only`` selects names by pattern: ``faces-S1-N10`` is that network, ``faces-S1`` and ``faces-S1-*`` are those of
    S1; all if it is empty. Prepared photographs are kept in the store, where the notebooks find them.
    """
    cache = Path(store or default_store()) / "photographs"
    chosen = [name for name in names(scale) if not only or any(_matches(name, pattern) for pattern in only)]
    if not chosen:
        raise ValueError(
            f"--only {' '.join(only)} names no network of {scale.name}; they are {', '.join(names(scale))}"
        )
    needs = {kind: any(name.startswith(of) for name in chosen) for kind, of in OF_PHOTOGRAPHS.items()}
    of = {
        "faces": faces(scale, faces_source, cache) if needs["faces"] else None,
        "scenes": scenes(scale, scenes_source, cache) if needs["scenes"] else None,
    }
    return [
        (recipe, training_images(recipe, of["scenes" if recipe.data["class"] == "scenes" else "faces"]))
        for recipe in recipes(scale, of["faces"], of["scenes"], seed)
        if recipe.name in chosen
    ]


def _matches(name: str, pattern: str) -> bool:
    return fnmatch(name, pattern) or fnmatch(name, f"{pattern}-*")


def pick_jobs(scale: Scale, device: str, jobs: int | None = None) -> int:
    """Number of networks to train at once: ``jobs`` if given, else one per core on a CPU, one on a GPU.

    A small network keeps one core busy and gains little from more; a network of the paper's size takes all the
    memory and all the cores.
    """
    if jobs is not None:
        return checks.count(jobs, "jobs")
    return cores() if scale.parallel and pick_device(device).type == "cpu" else 1


def _pretrained(scale: Scale, name: str, seed: int) -> Recipe:
    recipe = pretrained_recipe(scale.name, name, seed)
    if recipe is None:
        raise ValueError(
            f"{name} of seed {seed} does not come with gahb (networks of few faces can hold them), and no faces were "
            f"given to train it: give at least {2 * max(scale.face_N) + scale.face_test:,} with faces=, such as CelebA"
        )
    return recipe


def _synthetic(scale: Scale, name: str, data: dict, seed: int, **changes: object) -> Recipe:
    data = data | {"n": scale.class_N, "size": scale.class_size, "seed": seed}
    return Recipe(f"{name}-N{scale.class_N}", data, seed=seed, **scale.synthetic_training | changes)


def photograph_needs() -> list[tuple[str, str, tuple[int, ...], int]]:
    """For each scale and kind of photographs: scale, kind, the sizes N of the training sets, number of test images."""
    return [
        need
        for name, scale in SCALES.items()
        for need in (
            (name, "faces", scale.face_N, scale.face_test),
            (name, "scenes", (scale.scene_N,), scale.scene_test),
        )
    ]

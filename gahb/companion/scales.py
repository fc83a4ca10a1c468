"""Settings of a run at each scale, and the recipes of its networks.

``smoke``: seconds for each network, to see that everything runs. ``laptop``: hours on a CPU. ``paper-short``: the
paper's networks and images, each trained for seconds on a GPU. ``paper``: the paper's own training; the number of
images seen, and of images measured, is this project's choice, as the paper does not state it.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from torch import Tensor

from gahb import datasets
from gahb.training.recipe import Recipe
from gahb.training.store import pretrained_recipe

STAND_INS = 90  # test faces among the 100 inside scikit-image, without near duplicates

PAPER_TRAINING = {  # Appendix A, and the authors' code where it is silent
    "network": "BFCNN",
    "network_kwargs": {"depth": 20, "channels": 64},
    "sigma_max": 1.0,
    "noise_distribution": "uniform",
    "batch_size": 512,
    "images_seen": 10_000_000,  # this project's choice; the learning rate is not yet halved by then
    "optimizer": "adam",
    "loss_weighting": 0.0,
    "learning_rate": 1e-3,
    "lr_schedule": "halving",
    "precision": "auto",
}
LAPTOP_TRAINING = {  # the cheapest found that shows the effects: see benchmarks/recipes.md
    "network": "ResUNet",
    "network_kwargs": {"channels": 16, "blocks": 2},
    # Networks are evaluated up to sigma = 1. One trained only that far knows that noise is never larger: near the edge
    # it beats every denoiser that does not know this, and Eq. 10 is off by 16 %.
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
# For the slopes of C-alpha images.
SMALL_NOISE = {"sigma_max": 1.0, "noise_distribution": "log-uniform", "images_seen": 48_000}
PAPER_SHORT_TRAINING = LAPTOP_TRAINING | {  # the paper's network, trained as on a laptop, in a GPU's larger batches
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
    """One scale. Sizes in pixels, noise levels as input PSNR in dB (-20 log10 sigma)."""

    name: str
    face_size: int = 40
    face_N: tuple[int, ...] = (1, 10, 100, 1_000, 10_000)  # sizes of the training sets
    face_test: int = 1_000  # number of test images
    scene_size: int = 32  # of scenes (bedrooms), with one N
    scene_N: int = 20_000
    scene_test: int = 900
    class_size: int = 40  # of synthetic images
    class_N: int = 10_000
    class_test: int = 256
    c_alpha_size: int = 40  # of the C-alpha images of Figure 4: on smaller ones all bases are alike
    alphas: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0)  # regularities of the C-alpha classes (Figure 4)
    contour_alphas: tuple[float, ...] = (1.5, 2.0, 4.0)  # alpha_1 of the classes of Figure 10
    background_alpha: float = 8.0  # their alpha_2
    input_db: tuple[float, ...] = tuple(range(0, 41, 2))  # noise levels of the PSNR curves
    # Range over which slopes of synthetic classes are fitted: small noise. For C-alpha classes that are rougher than
    # the pixels there, it moves to larger noise (notebook 04).
    slope_db: tuple[float, ...] = (24, 40)
    # The same for faces (Figure 6): noise at which faces of this size are far from their input. At smaller noise every
    # denoiser nears the identity, whose slope is 1.
    face_slope_db: tuple[float, ...] = (0, 20)
    samples: int = 200  # drawn from each pair of networks
    analysed: int = 32  # number of images over which Jacobians are averaged
    step_size: float = 0.01  # of Algorithm 1, like the next two
    sigma_0: float = 1.0
    sigma_end: float = 0.01
    training: dict = field(default_factory=lambda: dict(PAPER_TRAINING))  # fields of Recipe, for photographs
    synthetic_training: dict = field(default_factory=lambda: dict(PAPER_TRAINING))
    disks_training: dict = field(default_factory=dict)  # changes to synthetic_training
    cell_timeout: int = 14 * 24 * 3600  # seconds that one cell of a notebook may take
    parallel: bool = False  # whether networks are small enough to train one on each core of a CPU

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Noise levels of the PSNR curves, in intensities, falling."""
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
        c_alpha_size=20,
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
        c_alpha_size=64,
        samples=100,
        sigma_end=0.002,
        training=LAPTOP_TRAINING,
        synthetic_training=LAPTOP_TRAINING | SMALL_NOISE,
        # After fewer images a network keeps more than tangents at the edge of a disk. Noise: figures/laptop/notes.md.
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


def get(name: str) -> Scale:
    """The scale of a name."""
    if name not in SCALES:
        raise ValueError(f"unknown scale {name!r}: take one of {', '.join(SCALES)}")
    return SCALES[name]


def settings(scale: Scale) -> dict:
    """All settings of a scale, as JSON reads them back."""
    return json.loads(json.dumps(asdict(scale)))


def faces(scale: Scale, source: str | None = None, cache: str | Path | None = None) -> datasets.Photographs:
    """The faces of a scale; see :func:`gahb.datasets.faces`.

    Without a source, if the networks of faces are pretrained, the test images are the faces inside scikit-image, and
    there is no training set.
    """
    if stand_ins(scale, source):
        return datasets.faces(None, scale.face_size, 0, STAND_INS, cache)
    return datasets.faces(source, scale.face_size, max(scale.face_N), scale.face_test, cache)


def stand_ins(scale: Scale, source: str | None) -> bool:
    """Whether the faces inside scikit-image replace those of a scale; see :func:`faces`."""
    return source is None and pretrained_recipe(scale.name, f"faces-S1-N{max(scale.face_N)}") is not None


def results(scale: Scale, source: str | None) -> str:
    """Name of the folder of figures; results on stand-ins are kept apart from those on the scale's faces."""
    return f"{scale.name}-stand-ins" if stand_ins(scale, source) else scale.name


def scenes(scale: Scale, source: str | None = None, cache: str | Path | None = None) -> datasets.Photographs:
    """The scenes of a scale; see :func:`gahb.datasets.scenes`."""
    return datasets.scenes(source, scale.scene_size, scale.scene_N, scale.scene_test, cache)


def photograph_recipe(
    scale: Scale,
    photographs: datasets.Photographs,
    part: str,
    N: int | None = None,
    seed: int = 0,
    name: str | None = None,
    shuffled: bool = False,
) -> Recipe:
    """Recipe of a network of photographs: the first N images of ``"S1"`` or ``"S2"``, all by default.

    Without training images it is the recipe of the pretrained network, or a ValueError if there is none.
    """
    kind, N = photographs.manifest["kind"], N or photographs.N or max(scale.face_N)
    name = name or f"{kind}-{part}-N{N}"
    if photographs.N == 0:
        return _pretrained(scale, name, seed)
    pixels = photographs.part(part, N)
    data = {
        "class": "shuffled faces" if shuffled else kind,
        "part": part,
        "n": N,
        "size": pixels.shape[-1],
        "sha256": hashlib.sha256(pixels.numpy().tobytes()).hexdigest(),
    }
    return Recipe(name, data, seed=seed, **scale.training)


def other_seed_recipe(scale: Scale, photographs: datasets.Photographs, seed: int = 0) -> Recipe:
    """Recipe of the network of S2 and the largest N, trained from another seed."""
    name = f"faces-S2-other-seed-N{max(scale.face_N)}"
    return photograph_recipe(scale, photographs, "S2", seed=seed + 1, name=name)


def shuffled_recipe(scale: Scale, photographs: datasets.Photographs, seed: int = 0) -> Recipe:
    """Recipe of the network of shuffled faces, trained on all of S1."""
    name = f"shuffled-N{photographs.N or max(scale.face_N)}"
    return photograph_recipe(scale, photographs, "S1", seed=seed, name=name, shuffled=True)


def training_images(recipe: Recipe, photographs: datasets.Photographs | None) -> Tensor | None:
    """Images of a recipe of photographs; None for synthetic classes, and for pretrained networks without images."""
    if "sha256" not in recipe.data or photographs is None or photographs.N == 0:
        return None
    pixels = photographs.part(recipe.data["part"], recipe.data["n"])
    return datasets.shuffled(pixels) if recipe.data["class"] == "shuffled faces" else pixels


def c_alpha_recipe(scale: Scale, alpha: float, beta: float | None = None, seed: int = 0) -> Recipe:
    """Recipe of a network of C-alpha images; with backgrounds of another regularity beta (Figure 10) of class_size."""
    name = f"c_alpha-{alpha:g}" + ("" if beta is None else f"-background-{beta:g}")
    size = scale.c_alpha_size if beta is None else scale.class_size
    return _synthetic(scale, name, {"class": "c_alpha", "alpha": alpha, "beta": beta, "size": size}, seed)


def class_recipe(scale: Scale, name: str, seed: int = 0) -> Recipe:
    """Recipe of a network of a class of images without parameters of its own, such as ``"disks"``."""
    return _synthetic(scale, name, {"class": name}, seed, **(scale.disks_training if name == "disks" else {}))


def names(scale: Scale) -> list[str]:
    """The name of every network of a scale."""
    return [
        *(f"faces-{part}-N{N}" for part in ("S1", "S2") for N in scale.face_N),
        f"faces-S2-other-seed-N{max(scale.face_N)}",
        *(f"scenes-{part}-N{scale.scene_N}" for part in ("S1", "S2")),
        *(recipe.name for recipe in recipes(scale, None, None)),
        f"shuffled-N{max(scale.face_N)}",
    ]


def recipes(
    scale: Scale, faces: datasets.Photographs | None, scenes: datasets.Photographs | None, seed: int = 0
) -> list[Recipe]:
    """Every recipe of a scale, in the order in which the notebooks need them.

    Recipes of faces are left out if ``faces`` is None, and so for scenes.
    """
    face_parts = () if faces is None else ("S1", "S2")
    scene_parts = () if scenes is None else ("S1", "S2")
    return [
        *(photograph_recipe(scale, faces, part, N, seed) for part in face_parts for N in scale.face_N),
        *([] if faces is None else [other_seed_recipe(scale, faces, seed)]),
        *(photograph_recipe(scale, scenes, part, seed=seed) for part in scene_parts),
        *(c_alpha_recipe(scale, alpha, seed=seed) for alpha in scale.alphas),
        *(c_alpha_recipe(scale, alpha, scale.background_alpha, seed) for alpha in scale.contour_alphas),
        *(class_recipe(scale, name, seed) for name in ("disks", "ray", "sinusoids")),
        *([] if faces is None else [shuffled_recipe(scale, faces, seed)]),
    ]


def _pretrained(scale: Scale, name: str, seed: int) -> Recipe:
    recipe = pretrained_recipe(scale.name, name, seed)
    if recipe is None:
        raise ValueError(
            f"{name} of seed {seed} does not come with gahb (a network of few faces can hold them), and there are no "
            f"faces to train it: give at least {2 * max(scale.face_N) + scale.face_test:,} with faces=, such as CelebA"
        )
    return recipe


def _synthetic(scale: Scale, name: str, data: dict, seed: int, **changes: object) -> Recipe:
    data = {"size": scale.class_size} | data | {"n": scale.class_N, "seed": seed}
    return Recipe(f"{name}-N{scale.class_N}", data, seed=seed, **scale.synthetic_training | changes)

"""What every notebook does: take its parameters, find its denoisers, keep its figures and claims."""

import platform
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from gahb._util.devices import pick_device
from gahb.companion import claims, plotting, scales
from gahb.training import store as stores

PARAMETERS = ("scale", "faces", "scenes", "store", "figures", "device", "seed", "denoiser")


@dataclass(frozen=True)
class Run:
    """One notebook at one scale; made by :func:`start`.

    Attributes
    ----------
    notebook : str
    scale : gahb.companion.scales.Scale
    faces_source, scenes_source : str or None
        Where the photographs come from.
    store, figures : Path
        Folders of the denoisers and of this scale's figures.
    device : torch.device
    seed : int
    """

    notebook: str
    scale: scales.Scale
    faces_source: str | None
    scenes_source: str | None
    store: Path
    figures: Path
    device: torch.device
    seed: int
    used: list = field(default_factory=list, repr=False)
    started: float = field(default_factory=time.monotonic, repr=False)

    def faces(self):
        """The faces of this scale; prepared, they are kept in the store with their manifest."""
        return self._noted(scales.faces(self.scale, self.faces_source, self.store / "photographs"))

    def scenes(self):
        """The scenes of this scale; prepared, they are kept in the store with their manifest."""
        return self._noted(scales.scenes(self.scale, self.scenes_source, self.store / "photographs"))

    def network(self, recipe, photographs=None):
        """The network of a recipe; trained, on these photographs, if neither the store nor the package has it."""
        self.used.append(stores.identity(recipe))
        images = scales.training_images(recipe, photographs)
        net = stores.load_or_train(recipe, images, self.store, str(self.device))
        folder = stores.place(recipe, self.store)
        with suppress(OSError, ValueError):  # a damaged recipe.json; the weights have a checksum of their own
            made = stores.about(folder)["made"] | {"pretrained": folder.parent.parent == stores.PRETRAINED}
            plotting.note(self.figures, lambda record: record.setdefault("networks", {}).update({folder.name: made}))
        return net

    def to(self, images):
        """Images on this run's device."""
        return images.to(self.device)

    def save(self, fig, name):
        """Write a figure, marked with this notebook, scale, seed and its denoisers, and show it."""
        made_by = {"notebook": self.notebook, "scale": self.scale.name, "seed": self.seed, "networks": self.used}
        plotting.save(fig, name, self.figures, made_by)
        plotting.show(name, self.figures, fig.get_figwidth())

    def claim(self, id, **measured):
        """Record what was measured for a claim, and print its verdict."""
        row = claims.record(id, measured, self.scale.name, self.figures)
        print(f"claim {id} ({row['verdict']}): {row['statement']}\n   rule: {row['rule']}")

    def finish(self):
        """Note what this run was: settings, device, wall time."""
        about = {
            "seconds": round(time.monotonic() - self.started, 1),
            "seed": self.seed,
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device),
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
            "torch": torch.__version__,
            "networks": self.used,
        }
        settings = scales.settings(self.scale)

        def change(record):
            record["scale"] = settings
            record.setdefault("notebooks", {})[self.notebook] = about

        plotting.note(self.figures, change)

    def _noted(self, photographs):
        manifest = photographs.manifest
        summary = {key: manifest[key] for key in ("source", "size", "found", "sha256")}
        summary |= {"unreadable": len(manifest["unreadable"]), "near_duplicates": len(manifest["near_duplicates"])}
        plotting.note(self.figures, lambda record: record.setdefault("data", {}).update({manifest["kind"]: summary}))
        return photographs


def start(notebook, scale="smoke", faces=None, scenes=None, store=None, figures=None, device="auto", seed=0):
    """Check the parameters of a notebook and set the look of its figures.

    Parameters
    ----------
    notebook : str
        Its name.
    scale : str
        ``"smoke"``, ``"laptop"``, ``"paper-short"`` or ``"paper"``.
    faces, scenes : str, optional
        Folder or file of photographs; see :func:`gahb.datasets.faces`.
    store : str, optional
        Folder of trained denoisers; see :func:`gahb.training.store.default_store`.
    figures : str, optional
        Folder in which this scale's folder of figures is; ``figures`` of the project if left out.
        Where the faces inside scikit-image stand in for your own, its name ends in ``-stand-ins``.
    device : str
        ``"auto"``, ``"cuda"``, ``"mps"`` or ``"cpu"``.
    seed : int

    Returns
    -------
    Run

    Raises
    ------
    ValueError, FileNotFoundError
        With one sentence that names the parameter.
    """
    _refuse_unknown()
    scale = scales.get(scale)
    # papermill takes a folder called 2024 for a number
    faces, scenes, store, figures = (None if path is None else str(path) for path in (faces, scenes, store, figures))
    for name, source in (("faces", faces), ("scenes", scenes)):
        if source is not None and source != "lfw" and not Path(source).expanduser().exists():
            raise FileNotFoundError(f"{name}: there is no folder or file {source}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be a whole number of at least 0, got {seed!r}")
    chosen = pick_device(device)
    if chosen.type == "mps":
        raise ValueError("device mps lacks the float64 of the analyses; train on it by gahb train, and take cpu here")
    figures = Path(figures or default_figures()).expanduser() / scales.results(scale, faces)
    claims.read(figures)  # damage is told now, not when hours of work are recorded
    plotting.provenance(figures)
    plotting.style()
    return Run(
        notebook,
        scale,
        faces,
        scenes,
        Path(store or stores.default_store()).expanduser(),
        figures,
        chosen,
        seed,
    )


def default_figures():
    """``figures`` of the project, or of the current folder if the package was installed elsewhere."""
    return (stores.project() or Path.cwd()) / "figures"


def _refuse_unknown():
    """Refuse a parameter that no notebook has: papermill sets it, and only warns.

    In a kernel that has run no more than its first cells, every literal that is not a parameter
    was injected.
    """
    try:
        from IPython import get_ipython
    except ImportError:
        return
    shell = get_ipython()
    if shell is None or shell.execution_count > 4:
        return
    literals = {
        name: value
        for name, value in shell.user_ns.items()
        if not name.startswith("_") and isinstance(value, str | int | float | bool)
    }
    unknown = sorted(set(literals) - set(PARAMETERS))
    if unknown:
        raise ValueError(f"unknown parameter {', '.join(unknown)}; the parameters are {', '.join(PARAMETERS)}")

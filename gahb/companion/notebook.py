"""What every notebook does: read its parameters, load its networks, keep its figures and claims."""

import platform
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from IPython import get_ipython
from IPython.display import Image, display
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor, nn

from gahb._util import checks
from gahb._util.devices import keep_to_quota, pick_device
from gahb._util.files import absent
from gahb.companion import ledger, plotting, scales
from gahb.datasets import Photographs
from gahb.training import store as stores
from gahb.training.recipe import Recipe

PARAMETERS = ("scale", "faces", "scenes", "store", "figures", "device", "seed", "denoiser", "model")


@dataclass(frozen=True)
class Run:
    """One notebook at one scale; made by :func:`start`.

    ``figures`` is the folder of this scale's figures; ``networks`` are those loaded so far, with their folders' names.
    """

    notebook: str
    scale: scales.Scale
    faces_source: str | None
    scenes_source: str | None
    store: Path
    figures: Path
    device: torch.device
    seed: int
    networks: dict[nn.Module, str] = field(default_factory=dict, repr=False)
    _since_last_figure: list[nn.Module] = field(default_factory=list, repr=False)
    _started: float = field(default_factory=time.monotonic, repr=False)

    def faces(self) -> Photographs:
        """The faces of this scale; once prepared, they are kept in the store with their manifest."""
        return self._noted(scales.faces(self.scale, self.faces_source, self.store / "photographs"))

    def scenes(self) -> Photographs:
        """The scenes of this scale, as :meth:`faces`."""
        return self._noted(scales.scenes(self.scale, self.scenes_source, self.store / "photographs"))

    def network(self, recipe: Recipe, photographs: Photographs | None = None) -> nn.Module:
        """The network of a recipe; trained on these photographs first if neither the store nor the package has it."""
        images = scales.training_images(recipe, photographs)
        network = stores.load_or_train(recipe, images, self.store, str(self.device))
        self.networks[network] = stores.identity(recipe)
        self._since_last_figure.append(network)
        folder = stores.places(recipe, self.store)[0]
        with suppress(OSError, ValueError):  # a damaged recipe.json; the weights have a checksum of their own
            made = stores.about(folder)["made"] | {"pretrained": folder.parent.parent == stores.PRETRAINED}
            plotting.note(self.figures, lambda record: record.setdefault("networks", {}).update({folder.name: made}))
        return network

    def to(self, images: Tensor) -> Tensor:
        """Move images to this run's device."""
        return images.to(self.device)

    def save(
        self,
        fig: Figure,
        name: str,
        title: str,
        caption: str,
        claims: Sequence[str] = (),
        networks: Iterable[nn.Module] | None = None,
    ) -> None:
        """Write a figure, marked with the notebook, scale, seed and networks that made it, and show it.

        The report shows ``title`` (the figure of the paper) and ``caption`` (what is drawn), then what the paper and
        this scale find in it, from ``claims``, the ids of the claims that it is about. ``networks`` are those loaded
        since the last figure was saved, by default; if there are none, all those loaded so far.
        """
        if networks is None:
            networks = self._since_last_figure or self.networks
        names = sorted({self.networks[network] for network in networks})
        self._since_last_figure.clear()
        made_by = {"notebook": self.notebook, "scale": self.scale.name, "seed": self.seed, "networks": names}
        made_by |= {"title": title, "caption": caption, "claims": list(claims)}
        plotting.save(fig, name, self.figures, made_by)
        # Its file, so that it is drawn only once.
        display(Image(filename=str(self.figures / f"{name}.png"), width=round(100 * fig.get_figwidth())))

    def claim(
        self,
        id: str,
        null: dict[str, Any] | None = None,
        interval: ArrayLike | None = None,
        chosen_after: str | None = None,
        **measured: Any,
    ) -> None:
        """Record what was measured for a claim and on its null, and print the verdict; see :func:`ledger.record`."""
        row = ledger.record(id, measured, self.scale.name, self.figures, null, interval, chosen_after)
        print(ledger.in_words(row))

    def finish(self) -> None:
        """Record what this run was: settings, device, wall time, networks."""
        about = {
            "seconds": round(time.monotonic() - self._started, 1),
            "seed": self.seed,
            "device": torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device),
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
            "torch": torch.__version__,
            "networks": sorted(set(self.networks.values())),
        }

        def change(record: dict[str, Any]) -> None:
            record["scale"] = scales.settings(self.scale)
            record.setdefault("notebooks", {})[self.notebook] = about

        plotting.note(self.figures, change)

    def _noted(self, photographs: Photographs) -> Photographs:
        manifest = photographs.manifest
        summary = {key: manifest[key] for key in ("source", "size", "found", "sha256")}
        summary |= {"unreadable": len(manifest["unreadable"]), "near_duplicates": len(manifest["near_duplicates"])}
        plotting.note(self.figures, lambda record: record.setdefault("data", {}).update({manifest["kind"]: summary}))
        return photographs


def start(
    notebook: str,
    scale: str = "smoke",
    faces: str | None = None,
    scenes: str | None = None,
    store: str | None = None,
    figures: str | None = None,
    device: str = "auto",
    seed: int = 0,
) -> Run:
    """Check the parameters of a notebook, and set the style of its figures.

    ``faces`` and ``scenes`` are folders or files of photographs (see :func:`gahb.datasets.faces`), ``store`` is the
    folder of trained networks, and ``figures`` that of figures, in which this scale has its own.
    """
    _refuse_unknown()
    chosen_scale = scales.get(scale)
    keep_to_quota()
    faces, scenes = _existing("faces", faces), _existing("scenes", scenes)
    checks.count(seed, "seed", 0)
    chosen_device = pick_device(device)
    if chosen_device.type == "mps":
        raise ValueError("device mps lacks the float64 of the analyses; train on it by gahb train, and take cpu here")
    folder = Path(str(figures or default_figures())).expanduser() / scales.results(chosen_scale, faces)
    ledger.read(folder)  # damage is reported now, not after hours of work
    plotting.provenance(folder)
    plotting.style()
    store_folder = Path(str(store or stores.default_store())).expanduser()
    for name, place in (("store", store_folder), ("figures", folder)):
        if not place.is_absolute():
            print(f"{name}: {place.absolute()}")  # a kernel runs where its notebook lies
    return Run(notebook, chosen_scale, faces, scenes, store_folder, folder, chosen_device, seed)


def default_figures() -> Path:
    """``figures`` of the project, or of the current folder if the package is installed elsewhere."""
    return (stores.project() or Path.cwd()) / "figures"


def _existing(name: str, source: object) -> str | None:
    """The text of a source of photographs, at which something must be; papermill reads a folder called 2024 as 2024."""
    if source is None or str(source) == "lfw" or Path(str(source)).expanduser().exists():
        return None if source is None else str(source)
    error = absent(str(source), name)
    if isinstance(source, int | float):
        raise FileNotFoundError(
            f"{error}; papermill read {source!r} as a number or a word of Python: -r {name} PATH is text"
        )
    raise error


def _refuse_unknown() -> None:
    """Refuse a parameter that no notebook has: papermill, which injects a cell of assignments, only warns."""
    shell = get_ipython()
    cells = [] if shell is None else [cell for cell in shell.user_ns["In"] if cell.startswith("# Parameters\n")]
    given = re.findall(r"^(\w+) = ", "".join(cells), re.MULTILINE)
    if unknown := [name for name in given if name not in PARAMETERS and not name.startswith("PAPERMILL_")]:
        raise ValueError(f"unknown parameter {', '.join(unknown)}; the parameters are {', '.join(PARAMETERS)}")

"""What every notebook does: read its parameters, load its networks, keep its figures and claims."""

import platform
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor, nn

from gahb._util.devices import pick_device
from gahb.companion import ledger, plotting, scales
from gahb.datasets import Photographs
from gahb.training import store as stores
from gahb.training.recipe import Recipe

PARAMETERS = ("scale", "faces", "scenes", "store", "figures", "device", "seed", "denoiser", "model")


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
        Folders of the networks and of this scale's figures.
    device : torch.device
    seed : int
    networks : dict of nn.Module to str
        The networks loaded so far, with the names of their folders.
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
        """Return the faces of this scale; once prepared, they are kept in the store with their manifest."""
        return self._noted(scales.faces(self.scale, self.faces_source, self.store / "photographs"))

    def scenes(self) -> Photographs:
        """Return the scenes of this scale; once prepared, they are kept in the store with their manifest."""
        return self._noted(scales.scenes(self.scale, self.scenes_source, self.store / "photographs"))

    def network(self, recipe: Recipe, photographs: Photographs | None = None) -> nn.Module:
        """Return the network of a recipe; train it, on these photographs, if neither store nor package has it."""
        images = scales.training_images(recipe, photographs)
        network = stores.load_or_train(recipe, images, self.store, str(self.device))
        self.networks[network] = stores.identity(recipe)
        self._since_last_figure.append(network)
        folder = stores.place(recipe, self.store)
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

        Parameters
        ----------
        fig : Figure
        name : str
            Of its files, such as ``fig03_adaptive_basis``.
        title, caption : str
            For the report: the figure of the paper, and what is drawn. What the paper finds in it, and what was found
            here, follows there from the claims.
        claims : sequence of str
            Ids of the claims that the figure is about.
        networks : iterable of nn.Module, optional
            The networks that the figure is about, as :meth:`network` returned them. By default those loaded since
            the last figure was saved; if there are none, all those loaded so far.
        """
        if networks is None:
            networks = self._since_last_figure or self.networks
        names = sorted({self.networks[network] for network in networks})
        self._since_last_figure.clear()
        made_by = {"notebook": self.notebook, "scale": self.scale.name, "seed": self.seed, "networks": names}
        made_by |= {"title": title, "caption": caption, "claims": list(claims)}
        plotting.save(fig, name, self.figures, made_by)
        plotting.show(name, self.figures, fig.get_figwidth())

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
    """Check the parameters of a notebook, each error in one sentence, and set the style of its figures.

    Parameters
    ----------
    notebook : str
        Its name.
    scale : str
        ``"smoke"``, ``"laptop"``, ``"paper-short"`` or ``"paper"``.
    faces, scenes : str, optional
        Folder or file of photographs; see :func:`gahb.datasets.faces`.
    store : str, optional
        Folder of trained networks; see :func:`gahb.training.store.default_store`.
    figures : str, optional
        Folder of figures, ``figures`` of the project by default; this scale has its own folder in it. Its name ends
        in ``-stand-ins`` if the faces inside scikit-image replace those of the scale.
    device : str
        ``"auto"``, ``"cuda"`` or ``"cpu"``.
    seed : int
    """
    _refuse_unknown()
    chosen_scale = scales.get(scale)
    # papermill reads a folder called 2024 as a number
    faces, scenes, store, figures = (None if path is None else str(path) for path in (faces, scenes, store, figures))
    for name, source in (("faces", faces), ("scenes", scenes)):
        if source is not None and source != "lfw" and not Path(source).expanduser().exists():
            raise FileNotFoundError(f"{name}: there is no folder or file {source}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be a whole number of at least 0, got {seed!r}")
    chosen_device = pick_device(device)
    if chosen_device.type == "mps":
        raise ValueError("device mps lacks the float64 of the analyses; train on it by gahb train, and take cpu here")
    folder = Path(figures or default_figures()).expanduser() / scales.results(chosen_scale, faces)
    ledger.read(folder)  # damage is reported now, not after hours of work
    plotting.provenance(folder)
    plotting.style()
    store_folder = Path(store or stores.default_store()).expanduser()
    return Run(notebook, chosen_scale, faces, scenes, store_folder, folder, chosen_device, seed)


def default_figures() -> Path:
    """Return ``figures`` of the project, or of the current folder if the package was installed elsewhere."""
    return (stores.project() or Path.cwd()) / "figures"


def _refuse_unknown() -> None:
    """Refuse a parameter that no notebook has: papermill sets it with only a warning.

    In a kernel that has run only its first cells, every literal that is not a parameter was injected.
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

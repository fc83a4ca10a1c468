"""Explorers in notebooks 03 and 05: move a slider, and see what a denoiser does."""

import base64
import html
import io
import math
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import ipywidgets as widgets
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from torch import Tensor, nn

from gahb import bases, datasets, metrics
from gahb.companion import plotting
from gahb.datasets._pixels import read_gray, to_pixels
from gahb.training import store as stores

OWN = "of this notebook"
DISK = ("row", "column", "radius", "foreground", "background")


class Explorer(widgets.VBox):
    """Controls above a picture that follows them. A viewer without widgets shows only the picture.

    ``draw`` takes the value of each control under its name and returns a figure. Setting
    ``explorer.controls["k"].value = 3`` is the same as moving that slider.
    """

    def __init__(self, controls: dict[str, widgets.Widget], draw: Callable[..., Figure]) -> None:
        self.controls, self._draw = controls, draw
        width = {"width": "100%", "max_width": f"{100 * plotting.WIDTH:.0f}px"}
        self.picture = widgets.Image(layout=width)
        self.message = widgets.HTML()  # what went wrong at the last move
        columns = {"grid_template_columns": "repeat(auto-fit, minmax(270px, 1fr))"}  # as many as fit
        panel = widgets.GridBox(list(controls.values()), layout=width | columns)
        super().__init__([panel, self.message, self.picture])
        self._show()
        for control in controls.values():
            control.observe(self._moved, "value")

    def _moved(self, change: object) -> None:
        try:
            self._show()
            self.message.value = ""
        except Exception as error:  # a widget's callback has no cell in which it could be raised
            self.message.value = f"<b>{html.escape(str(error) or type(error).__name__)}</b>"

    def _show(self) -> None:
        self.picture.value = png(self._draw(**{name: control.value for name, control in self.controls.items()}))

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        return None if bundle is None else bundle | {"image/png": base64.b64encode(self.picture.value).decode()}


def adaptive_basis(
    net: nn.Module, images: Tensor, store: str | Path | None = None, sigma: float = 0.15, seed: int = 0
) -> Explorer:
    """Explorer of notebook 03: one image, its noise, a network, and the basis in which it shrinks.

    The reader chooses among ``net`` and the networks of the store for images of this size, and among ``images``
    (B, C, H, W); an uploaded file replaces them until another of them is chosen. ``sigma`` is the first noise level.
    """
    store, device, size = Path(store or stores.default_store()).expanduser(), images.device, images.shape[-1]

    @lru_cache(maxsize=1)
    def network(name: str) -> nn.Module:
        found = net if name == OWN else stores.load(store / name, device)
        if found is None:
            raise ValueError(f"the weights in {name} are damaged or missing; train that network again")
        return found

    @lru_cache(maxsize=1)  # a move of k computes nothing
    def analysis(name: str, image: int | bytes, sigma: float) -> bases.Analysis:
        clean = images[image] if isinstance(image, int) else _of_file(image, size).to(images)
        return bases.analyse(network(name), clean, sigma, seed)

    def draw(denoiser: str, image: int, file: tuple, sigma: float, k: int) -> Figure:
        return draw_basis(analysis(denoiser, bytes(file[0]["content"]) if file else image, sigma), k)

    controls = {
        "denoiser": widgets.Dropdown(options=[OWN, *_of_size(store, size)], **_labelled("denoiser")),
        "image": _slider(widgets.IntSlider, "test image", 0, len(images) - 1, 0),
        "file": widgets.FileUpload(accept="image/*", description="own image", layout={"margin": "2px 2px 2px 6em"}),
        "sigma": _noise_slider(sigma),
        "k": _slider(widgets.IntSlider, "vector k", 1, images[0].numel(), 1),
    }
    controls["image"].observe(lambda change: setattr(controls["file"], "value", ()), "value")
    return Explorer(controls, draw)


def disk(net: nn.Module, size: int, sigma: float = 0.04, seed: int = 0) -> Explorer:
    """Explorer of notebook 05: move a disk, and compare its tangent space with the adaptive basis.

    ``net`` is a network of disks of ``size`` pixels, at least 9; ``sigma`` is the first noise level.
    """
    device = next(net.parameters()).device

    def draw(sigma: float, **parameters: float) -> Figure:
        images, tangents = datasets.disk_at([list(parameters.values())], size)
        return draw_disk(bases.analyse(net, images[0].to(device), sigma, seed), tangents[0])

    middle, largest = (size - 1) / 2, size / 2 - 1.5  # as in the images of the class
    ranges = ((0, size - 1, middle), (0, size - 1, middle), (3, largest, 0.6 * largest), (0, 1, 0.9), (0, 1, 0.2))
    controls = {
        name: _slider(widgets.FloatSlider, name, low, high, start, step=0.05 if high == 1 else 0.5)
        for name, (low, high, start) in zip(DISK, ranges, strict=True)
    }
    controls["sigma"] = _noise_slider(sigma)
    return Explorer(controls, draw)


def draw_basis(analysis: bases.Analysis, k: int) -> Figure:
    """Draw the images, factors, coefficients and k-th vector, from 1, of an analysis with a basis."""
    shrinkage, coefficients = analysis.basis.shrinkage.cpu(), analysis.coefficients.cpu()
    fig = Figure(figsize=(plotting.WIDTH, 4.6))
    grid = fig.add_gridspec(2, 4, left=0.085, right=0.915, top=0.94, bottom=0.115, hspace=0.16, wspace=0.06)
    _show_images(fig, grid, analysis)
    title = f"e{k}: λ = {shrinkage[k - 1]:.3f}, ⟨x, e⟩ = {coefficients[k - 1]:.2f}"
    plotting.show_vector(fig.add_subplot(grid[0, 3]), analysis.basis.vectors[k - 1].cpu(), title)
    ax = fig.add_subplot(grid[1, :])
    plotting.decay(ax, shrinkage, coefficients)
    ax.axvline(k, color="0.6", linewidth=1, zorder=0)
    ax.plot(k, shrinkage[k - 1], "o", color=plotting.COLOURS["shrinkage"])
    rank = f"effective rank {bases.effective_rank(shrinkage):.1f} of {len(shrinkage)}"
    ax.set_title(f"{rank}, asymmetry {analysis.basis.asymmetry:.2f}", fontsize=9)
    return fig


def draw_disk(analysis: bases.Analysis, tangents: Tensor) -> Figure:
    """Draw the images of a disk, its tangent vectors (5, H, W), and the first five vectors of the basis."""
    fig = Figure(figsize=(plotting.WIDTH, 6))
    grid = fig.add_gridspec(3, 5, left=0.03, right=0.97, top=0.96, bottom=0.02, hspace=0.36, wspace=0.08)
    _show_images(fig, grid, analysis)
    for column, name in enumerate(DISK):
        plotting.show_vector(fig.add_subplot(grid[1, column]), tangents[column], f"tangent: {name}")
    shrinkage, vectors = analysis.basis.shrinkage.cpu(), analysis.basis.vectors[:5].cpu()
    plotting.decay(fig.add_axes((0.69, 0.765, 0.22, 0.195)), shrinkage, analysis.coefficients.cpu())
    for column, vector in enumerate(vectors):
        plotting.show_vector(fig.add_subplot(grid[2, column]), vector, f"e{column + 1}: λ = {shrinkage[column]:.2f}")
    cosine = bases.subspace_cosine(vectors, tangents)
    text = f"cosine of the largest angle between the span of these five and the tangent space: {cosine:.2f}"
    fig.text(0.5, 0.322, text, ha="center", fontsize=9)
    return fig


def png(fig: Figure) -> bytes:
    """A figure as a PNG of 100 dots per inch, without small and invisible ticks, which take most of the time."""
    for ax in fig.axes:
        ax.minorticks_off()
        if ax.images:
            ax.set_axis_off()
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def _show_images(fig: Figure, grid: GridSpec, analysis: bases.Analysis) -> None:
    psnr = [float(metrics.psnr(analysis.clean, image)) for image in (analysis.noisy, analysis.denoised)]
    titles = ("clean", f"noisy, {psnr[0]:.1f} dB", f"denoised, {psnr[1]:.1f} dB")
    for column, (image, title) in enumerate(zip(analysis.images, titles, strict=True)):
        plotting.show_image(fig.add_subplot(grid[0, column]), image, title)


def _slider(kind: type, label: str, low: float, high: float, value: float, **options: Any) -> widgets.Widget:
    return kind(value, min=low, max=high, **_labelled(label), **options)


def _noise_slider(sigma: float) -> widgets.FloatLogSlider:
    """A slider from ``sigma / 10`` to ``10 sigma``, with ``sigma`` on a step: browsers round to the steps."""
    start = math.log10(sigma)
    return _slider(widgets.FloatLogSlider, "noise σ", start - 1, start + 1, sigma, step=0.05, readout_format=".3f")


def _labelled(label: str) -> dict[str, Any]:
    return {"description": label, "style": {"description_width": "6em"}, "layout": {"width": "auto"}}


def _of_size(store: Path, size: int) -> list[str]:
    """The folders of a store whose networks were trained on images of this size."""
    rows = stores.stored(store)
    return [row["folder"] for row in rows if row["recipe"]["data"].get("size") == size]


def _of_file(content: bytes, size: int) -> Tensor:
    """A photograph (1, size, size) from the bytes of an image file."""
    try:
        gray, *_ = read_gray(io.BytesIO(content))
    except Exception:  # each of Pillow's decoders has errors of its own
        raise ValueError("this file is not an image that can be read; choose a PNG or JPEG") from None
    return datasets.as_float(to_pixels(gray, size))[0]

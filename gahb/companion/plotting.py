"""The style of figures: one colour for each quantity, one gray scale for images; and the record of what made them."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import filelock
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from numpy.typing import ArrayLike
from torch import Tensor

from gahb import stats
from gahb._util.files import read_json, write_atomically, write_text
from gahb.bases import Analysis, effective_rank

Colour = str | tuple[float, float, float]
Values = Tensor | np.ndarray | Sequence

# One colour for each quantity, in all figures.
COLOURS = {
    "train": "#332288",
    "test": "#b8860b",
    "S1": "#8172b3",
    "S2": "#937860",
    "pair": "#1f77b4",
    "nearest": "#ff7f0e",
    "closest": "#17becf",
    "shrinkage": "#d62728",
    "coefficient": "#1f77b4",
    "network": "#222222",
    "optimal": "#7f7f7f",
    "rival": "#009e73",
    "bandlets": "#d55e00",
    "local": "#56b4e9",
    "singular": "#cc79a7",
    "unseen": "#999933",
    "shuffled": "#e377c2",
}
OPTIMAL = {"linestyle": "--", "color": COLOURS["optimal"], "linewidth": 1.2}
WIDTH = 9.0  # inches
INPUT_PSNR = r"input PSNR $-20 \log_{10} \sigma$ (dB)"


def style() -> None:
    """Set the style of all figures, whatever a matplotlibrc says; on white, to be readable in dark themes."""
    changes = {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "savefig.dpi": 150,
        "legend.frameon": False,
        "image.interpolation": "nearest",
        "pdf.fonttype": 42,
    }
    plt.rcdefaults()
    sns.set_theme(context="notebook", style="ticks", font_scale=0.85, rc=changes)


def ladder(values: Sequence[float], palette: str = "viridis") -> dict[float, Colour]:
    """A colour for each of a rising sequence: training-set sizes, regularities."""
    return dict(zip(values, sns.color_palette(palette, len(values) + 1)[: len(values)], strict=True))


def save(fig: Figure, name: str, folder: str | Path, made_by: dict[str, Any]) -> None:
    """Write ``name.png`` and ``name.pdf``, marked with what made them, and record it in ``provenance.json``.

    ``made_by`` is what a reader needs to make the figure again: notebook, scale, seed, networks.
    """
    description, software = json.dumps(made_by, sort_keys=True), f"gahb {version('gahb')}"
    marks = {
        "png": {"Title": name, "Description": description, "Software": software},
        "pdf": {"Title": name, "Subject": description, "Creator": software, "CreationDate": None},  # the same bytes
    }
    fig.draw_without_rendering()  # lay out once, not for each file
    fig.set_layout_engine("none")
    for suffix, metadata in marks.items():
        write_atomically(Path(folder, f"{name}.{suffix}"), partial(fig.savefig, format=suffix, metadata=metadata))
    note(folder, lambda record: record.setdefault("figures", {}).update({name: made_by}))
    plt.close(fig)


def provenance(folder: str | Path) -> dict[str, Any]:
    """What ``provenance.json`` of a folder of figures records; empty if there is none yet."""
    return read_json(Path(folder) / "provenance.json", lambda record: {k: dict(v) for k, v in record.items()}) or {}


def note(folder: str | Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change ``provenance.json`` of a folder of figures, one process at a time."""
    path = Path(folder) / "provenance.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.with_name(".provenance.lock")):
        record = provenance(folder)
        change(record)
        write_text(path, json.dumps(record, indent=1, sort_keys=True) + "\n")


def show_image(
    ax: Axes, image: ArrayLike, title: str = "", vmin: float = 0.0, vmax: float = 1.0, cmap: str = "gray"
) -> None:
    """Show one image (H, W) or (1, H, W) on a fixed gray scale, or (3, H, W) in colour, without axes."""
    image = np.asarray(image)
    if image.ndim == 3 and len(image) == 3:
        ax.imshow(((image.transpose(1, 2, 0) - vmin) / (vmax - vmin)).clip(0, 1))
    else:
        ax.imshow(image.reshape(image.shape[-2:]), vmin=vmin, vmax=vmax, cmap=cmap)
    ax.set_title(title, fontsize=9, pad=3)
    ax.set(xticks=[], yticks=[])
    sns.despine(ax=ax, left=True, bottom=True)


def show_vector(ax: Axes, vector: ArrayLike, title: str = "") -> None:
    """Show one basis vector (H, W) on a diverging map centred on zero; one of (3, H, W) in colour, with zero as gray.

    The map ends at the 99 % quantile of the absolute values, unless it is zero: a few pixels, often at the border,
    would leave the rest pale.
    """
    sizes = np.abs(np.asarray(vector))
    limit = float(np.quantile(sizes, 0.99)) or float(sizes.max()) or 1.0
    show_image(ax, vector, title, -limit, limit, "RdBu_r")


def image_row(fig: Figure | SubFigure, images: Values, titles: Sequence[str], **limits: float) -> np.ndarray:
    """Show a row of images in a figure or subfigure; return its axes."""
    axes = np.atleast_1d(fig.subplots(1, len(images)))
    for ax, image, title in zip(axes, images, titles, strict=True):
        show_image(ax, image, title, **limits)
    return axes


def vector_grid(fig: Figure | SubFigure, vectors: Values, titles: Sequence[str], columns: int = 5) -> np.ndarray:
    """Show basis vectors, each with its title, in rows of ``columns``; return the axes."""
    axes = np.atleast_1d(fig.subplots(math.ceil(len(vectors) / columns), columns)).flatten()
    for ax in axes:
        ax.axis("off")
    for ax, vector, title in zip(axes, vectors, titles, strict=False):
        ax.axis("on")
        show_vector(ax, vector, title)
    return axes


def shrinkage_titles(shrinkage: Values, indices: Iterable[int] | None = None) -> list[str]:
    """Titles of basis vectors: their number, from 1, and their shrinkage factor."""
    indices = range(len(shrinkage)) if indices is None else indices
    return [rf"$\lambda_{{{k + 1}}}$ = {float(shrinkage[k]):.2f}" for k in indices]


def decay(
    ax: Axes,
    shrinkage: Values,
    coefficients: ArrayLike | None = None,
    label: str = r"$\lambda_k(y)$",
    color: Colour = COLOURS["shrinkage"],
) -> None:
    """Plot the shrinkage factors lambda_k, and on a second axis the coefficients <x, e_k>."""
    k = np.arange(1, len(shrinkage) + 1)
    ax.plot(k, shrinkage, color=color, label=label)
    ax.axhline(0, color="0.85", linewidth=0.8, zorder=0)
    ax.set(xscale="log", xlabel="k", ylabel=r"shrinkage factor $\lambda_k$")
    if coefficients is None:
        return
    twin = ax.twinx()
    twin.plot(k, np.abs(np.asarray(coefficients)), ".", markersize=3, color=COLOURS["coefficient"], alpha=0.7)
    twin.set_yscale("log")
    twin.set_ylabel(r"coefficient $|\langle x, e_k(y) \rangle|$", color=COLOURS["coefficient"])
    twin.spines["right"].set_visible(True)
    ax.set_zorder(twin.get_zorder() + 1)
    ax.patch.set_visible(False)


def banded(
    ax: Axes,
    input_db: ArrayLike,
    errors: ArrayLike,
    color: Colour,
    label: str | None = None,
    minus_input: bool = False,
    **style: Any,
) -> None:
    """Plot the PSNR of squared errors (S, B) against input PSNR, with its 95 % bootstrap band over images.

    ``minus_input`` subtracts the input PSNR, which separates curves that are close.
    """
    baseline = np.asarray(input_db) if minus_input else 0
    low, high = -10 * np.log10(np.quantile(stats.resampled_means(errors), [0.975, 0.025], axis=-1))
    with_interval(ax, input_db, stats.psnr(errors) - baseline, (low - baseline, high - baseline), color, label, **style)


def with_interval(
    ax: Axes,
    x: ArrayLike,
    values: ArrayLike,
    interval: Sequence[ArrayLike],
    color: Colour,
    label: str | None = None,
    **style: Any,
) -> None:
    """Plot values against x with a band from the lower to the upper ends of their intervals."""
    ax.plot(x, values, **{"marker": "o", "markersize": 3.5, "color": color, "label": label} | style)
    ax.fill_between(x, *interval, color=color, alpha=0.2, linewidth=0)


def error_bars(
    ax: Axes,
    x: ArrayLike,
    values: ArrayLike,
    interval: Sequence[ArrayLike],
    color: Colour,
    label: str | None = None,
    marker: str = "o-",
) -> None:
    """Plot values against x with bars from the lower to the upper ends of their intervals."""
    bars = np.abs(np.asarray(interval) - np.asarray(values))
    ax.errorbar(x, values, bars, fmt=marker, markersize=4, linewidth=1.2, color=color, label=label)


def basis_figure(fig: Figure, at: Analysis, sigma: float) -> None:
    """Draw the layout of Figure 3: images, decay, and 20 vectors chosen on a log scale up to twice the rank."""
    shrinkage = at.basis.shrinkage.cpu().numpy()
    left, right = fig.subfigures(1, 2, width_ratios=[1, 1.25])
    top, bottom = left.subfigures(2, 1, height_ratios=[1, 1.6])
    image_row(top, at.images, ["clean", rf"noisy, $\sigma$ = {sigma}", "denoised"])
    decay(bottom.subplots(), shrinkage, at.coefficients.cpu())
    last = min(max(20, 2 * effective_rank(shrinkage)), len(shrinkage))
    chosen = np.unique(np.round(np.geomspace(1, last, 60)).astype(int) - 1)
    chosen = chosen[np.unique(np.linspace(0, len(chosen) - 1, 20).round().astype(int))]
    vector_grid(right, at.basis.vectors.cpu()[chosen], shrinkage_titles(shrinkage, chosen))


def oracle_gains(ax: Axes, oracles: dict[float, dict[str, np.ndarray]]) -> None:
    """Plot the oracle PSNR in several bases minus the DCT's, with bands; see :func:`gahb.oracle.oracle_errors`."""
    sigmas = list(oracles)
    drawn = {"adaptive": "shrinkage", "bandlets": "bandlets", "PCA": "train", "wavelets": "rival"}
    for key, colour in ((key, colour) for key, colour in drawn.items() if key in oracles[sigmas[0]]):
        found = [stats.psnr_gain(oracles[s][key], oracles[s]["DCT"]) for s in sigmas]
        gains, intervals = np.array([gain for gain, _ in found]), np.array([interval for _, interval in found]).T
        with_interval(ax, sigmas, gains, intervals, COLOURS[colour], key)
    ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    ax.set(xscale="log", xlabel=r"noise level $\sigma$", ylabel="gain over the DCT (dB)")
    ax.set_xticks(sigmas, [f"{s:g}" for s in sigmas])
    ax.minorticks_off()
    ax.legend(fontsize=8)


def histograms(ax: Axes, groups: dict[str, ArrayLike], bins: np.ndarray, xlabel: str = "cosine similarity") -> None:
    """Plot overlaid densities of several groups of similarities, ``{key of COLOURS: values}``, and their medians."""
    for key, values in groups.items():
        inside = np.clip(np.asarray(values), bins[0], bins[-1])
        ax.hist(inside, bins=bins, density=True, color=COLOURS[key], alpha=0.6)
        ax.axvline(np.median(values), color=COLOURS[key], linewidth=1.2)
    ax.set(xlabel=xlabel, yticks=[])
    sns.despine(ax=ax, left=True)


def keys(**labels: str) -> tuple[list[Patch], list[str]]:
    """Handles and labels of a legend, from ``{key of COLOURS: label}``."""
    return [Patch(color=COLOURS[key], alpha=0.6) for key in labels], list(labels.values())


def same_gray(images: ArrayLike) -> dict[str, float]:
    """Limits ``vmin`` and ``vmax`` that show all images on one gray scale, stretched to their quantiles."""
    vmin, vmax = np.quantile(np.asarray(images), [0.01, 0.99])
    return {"vmin": float(vmin), "vmax": float(max(vmax, vmin + 1e-6))}


def new(width: float = WIDTH, height: float = 4.0) -> Figure:
    """A new figure with automatic layout."""
    with plt.rc_context({"figure.max_open_warning": 0}):  # a notebook shows them all
        return plt.figure(figsize=(width, height), layout="constrained")

"""Does a generative model copy its training set? The measures of Section 2.2, for any samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gahb import stats
from gahb._util import checks
from gahb._util.progress import progress_bar
from gahb.datasets.photographs import as_float, first_of_duplicates
from gahb.metrics import Nearest, cosine_similarity, nearest

THRESHOLD = 1 / 3  # of the distance ratio, below which a sample counts as a copy
DUPLICATE = 0.99  # correlation at 20x20 above which two training images count as one picture
BATCH = 256  # images given to a feature function at once

Features = Callable[[Tensor], Tensor]  # (B, C, H, W) in [0, 1] -> (B, F)


def memorized(found: Nearest, threshold: float = THRESHOLD) -> Tensor:
    """Which images copy a training image: the nearest is less than a third as far away as the second nearest.

    The rule of Yoon et al. (2023) and Gu et al. (2023). It needs no scale of distances, but has a level of chance:
    where training images fill k dimensions evenly, it calls an unseen image a copy with probability 3^-k. That is
    nothing for photographs, but 4 % for disks of 20x20, of equal contrast, where k is about 3.

    Parameters
    ----------
    found : Nearest
        What :func:`gahb.nearest` returns.
    threshold : float
        Of the distance ratio.

    Returns
    -------
    Tensor (B,), bool
        False also where there is no second image, whose ratio is NaN.
    """
    return found.distance_ratio < checks.positive(threshold, "threshold")


def similarities(
    samples: Tensor,
    train: Tensor,
    unseen: Tensor | None = None,
    twin: Tensor | None = None,
    centered: Sequence[bool] = (False, True),
    done: Callable[[int], object] = lambda comparisons: None,
) -> dict[str, np.ndarray]:
    """Cosine similarities of samples to the training set and to a twin, and those of their nulls.

    Parameters
    ----------
    samples : Tensor (B, C, H, W)
        Samples of the model.
    train : Tensor (N, C, H, W)
        Its training set.
    unseen : Tensor (M, C, H, W), optional
        Images that it did not see. If M is not N, as many are taken of both for their comparison, evenly spaced.
    twin : Tensor (B, C, H, W), optional
        Samples from the same noise of a model with another training set.
    centered : sequence of bool
        Whether the mean of each image is removed; ``_centered`` is added to the names where it is.
    done : callable
        Called with the number of comparisons made since the last call.

    Returns
    -------
    dict of ndarray (B,)
        ``nearest``, to the nearest training image; ``unseen``, to the nearest unseen image; ``seen``, to the nearest
        of as many training images, if there are not as many of both; ``pair``, to the twin's sample; ``other_noise``,
        to another sample of the model, from another noise, if there are at least two.
    """
    table = {}
    for remove in centered:
        suffix = "_centered" if remove else ""

        def similarity(images: Tensor, remove: bool = remove) -> np.ndarray:
            return nearest(samples, images, remove, done=done).similarity.cpu().numpy()

        if twin is not None:
            table["pair" + suffix] = cosine_similarity(samples, twin, remove).cpu().numpy()
        table["nearest" + suffix] = similarity(train)
        if unseen is not None:
            count = min(len(train), len(unseen))
            table["unseen" + suffix] = similarity(_evenly(unseen, count))
            if count < len(train):
                table["seen" + suffix] = similarity(_evenly(train, count))
        if len(samples) > 1:
            table["other_noise" + suffix] = cosine_similarity(samples, samples.roll(1, 0), remove).cpu().numpy()
    return table


def excess(table: dict[str, np.ndarray], suffix: str = "") -> np.ndarray:
    """Similarity to the nearest training image minus that to the nearest of as many unseen images.

    Parameters
    ----------
    table : dict of ndarray (B,)
        What :func:`similarities` returns, with ``unseen``.
    suffix : str
        ``""`` or ``"_centered"``.

    Returns
    -------
    ndarray (B,)
        About 0 if the samples are no nearer to the training set than to other images.
    """
    if "unseen" + suffix not in table:
        raise ValueError("the excess needs unseen images, with which similarities() was not called")
    return table.get("seen" + suffix, table["nearest" + suffix]) - table["unseen" + suffix]


def evenly_spaced(n: int, count: int) -> Tensor:
    """Positions of the unseen or training images that are taken if fewer are needed.

    Parameters
    ----------
    n, count : int
        Number of images, and of positions.

    Returns
    -------
    Tensor (count,), int
    """
    return torch.linspace(0, checks.count(n, "n") - 1, checks.count(count, "count")).round().long()


@dataclass(frozen=True)
class Assessment:
    """What :func:`assess` found, of B samples and N training images.

    Attributes
    ----------
    found : Nearest
        The nearest training image of each sample, or of its mirror image if that is nearer.
    mirrored : Tensor (B,), bool
        Whether it is that of the mirror image.
    null : Nearest or None
        The same for as many unseen images as there are samples, evenly spaced, or all of them if they are fewer.
    table : dict of ndarray (B,)
        What :func:`similarities` returns; plain only, for features.
    duplicates : ndarray (N,), int
        For each training image the first one of the same picture, which is its own position if it repeats none.
    """

    found: Nearest = field(repr=False)
    mirrored: Tensor = field(repr=False)
    null: Nearest | None = field(repr=False)
    table: dict[str, np.ndarray] = field(repr=False)
    duplicates: np.ndarray = field(repr=False)

    @property
    def decided(self) -> bool:
        """Whether the training set has at least two pictures, without which nothing can be called a copy."""
        return len(np.unique(self.duplicates)) > 1

    @property
    def copied(self) -> Tensor:
        """Which samples copy a training image, by :func:`memorized`, (B,)."""
        return memorized(self.found)

    @property
    def suspect(self) -> Tensor:
        """Which samples have a lower distance ratio than all of the unseen images, (B,); none if there are none.

        Finds copies that are too damaged for :func:`memorized`: blurred, noisy, shifted. If samples were like unseen
        images, B / (M + 1) of them would be expected for M of these.
        """
        if self.null is None or not self.decided:
            return torch.zeros_like(self.copied)
        return self.found.distance_ratio < self.null.distance_ratio.min()

    def closest(self, n: int = 10) -> list[int]:
        """Positions of the samples that are most similar to a training image, the most similar first."""
        return self.found.similarity.argsort(descending=True, stable=True)[: checks.count(n, "n")].tolist()

    def repeated(self) -> list[tuple[int, int]]:
        """Near duplicates in the training set: positions of an image, and of the earlier one that it repeats."""
        later = np.flatnonzero(self.duplicates != np.arange(len(self.duplicates)))
        return [(int(i), int(self.duplicates[i])) for i in later]

    def summary(self) -> dict[str, Any]:
        """The shares, medians and intervals (95 %) as plain numbers, which JSON can hold.

        ``copies``, ``false_alarms`` (unseen images that :func:`memorized` calls copies) and ``suspects`` are counts and
        shares with exact binomial intervals, None where they are not known. ``similarity`` has the median of each row
        of the table and of the excess, with a bootstrap interval. ``twin`` has what claim 2.3 asks: the pairs' median,
        their median excess over the nearest training image, the 95th percentile of the similarity of two samples from
        two noise images, and whether the pairs are beyond both.
        """
        suffixes = [key.removeprefix("nearest") for key in self.table if key.startswith("nearest")]
        rows = dict(self.table)
        if "unseen" in rows:
            rows |= {"excess" + suffix: excess(rows, suffix) for suffix in suffixes}
        null = self.null if self.decided else None
        summary = {
            "samples": len(self.mirrored),
            "train": len(self.duplicates),
            "threshold": THRESHOLD,
            "copies": _share(self.copied) if self.decided else None,
            "false_alarms": None if null is None else _share(memorized(null)),
            "suspects": None if null is None else _share(self.suspect),
            "near_duplicates": len(self.repeated()),
            "similarity": {key: _median(values) for key, values in rows.items()},
        }
        if "pair" in rows:
            summary["twin"] = {suffix[1:] or "plain": _twin(rows, suffix) for suffix in suffixes}
        return summary


def assess(
    samples: Tensor,
    train: Tensor,
    unseen: Tensor | None = None,
    twin: Tensor | None = None,
    features: Features | None = None,
    mirrored: bool = True,
    progress: bool = True,
) -> Assessment:
    """Compare the samples of a generative model with its training set.

    Images are compared by their pixels, of equal brightness and contrast (mean removed, norm 1), or by their features.
    A sample is a copy by :func:`memorized`, where training images that nearly repeat each other count as one.

    Parameters
    ----------
    samples : Tensor (B, C, H, W)
        Samples of the model, intensities in [0, 1], or 8-bit.
    train : Tensor (N, C, H, W)
        Its training set. 8-bit images need a quarter of the memory.
    unseen : Tensor (M, C, H, W), optional
        Images of the same kind that it did not see: a null for copies and for similarities.
    twin : Tensor (B, C, H, W), optional
        Samples from the same noise, in the same order, of a model with another training set.
    features : callable, optional
        Maps images (B, C, H, W), floats in [0, 1], to vectors (B, F), which are compared by their cosine. All vectors
        of a set are held, in float32.
    mirrored : bool
        Look for mirrored copies too, left and right exchanged.
    progress : bool
        Show a bar.

    Returns
    -------
    Assessment
    """
    optional = {"unseen": unseen, "twin": twin}
    sets = {"samples": samples, "train": train} | {key: x for key, x in optional.items() if x is not None}
    _check_sets(sets)
    duplicates = _duplicates(train)
    known = [] if unseen is None else [_evenly(unseen, min(len(samples), len(unseen)))]
    vectors = {name: _vectors(images, features) for name, images in sets.items()}
    kinds = [False] if features else [False, True]
    total = (1 + mirrored) * (len(samples) + sum(map(len, known))) * len(train)
    total += len(kinds) * _comparisons(samples, train, unseen)
    with progress_bar(total, 0, "comparing", progress, "pair") as bar:
        options = {"centered": features is None, "groups": torch.from_numpy(duplicates), "done": bar.update}
        asked = [samples, *known, *([images.flip(-1) for images in (samples, *known)] if mirrored else [])]
        found = nearest(torch.cat([_vectors(images, features) for images in asked]), vectors["train"], **options)
        found, nearer = _nearer(found, len(samples) + sum(map(len, known)))
        table = similarities(**vectors, centered=kinds, done=bar.update)
    n = len(samples)
    return Assessment(_rows(found, 0, n), nearer[:n], _rows(found, n) if known else None, table, duplicates)


def _check_sets(sets: dict[str, Tensor]) -> None:
    for name, images in sets.items():
        checks.clean_images(images, name, uint8=True)
        if images.shape[1:] != sets["samples"].shape[1:]:
            raise ValueError(
                f"{name} must hold images of the size of the samples, {tuple(sets['samples'].shape[1:])}, got "
                f"{tuple(images.shape[1:])}; resize them with antialiasing"
            )
    if "twin" in sets and len(sets["twin"]) != len(sets["samples"]):
        raise ValueError(
            f"twin must hold a sample for each of the {len(sets['samples'])} samples, from the same noise and in the "
            f"same order, got {len(sets['twin'])}"
        )


def _duplicates(train: Tensor) -> np.ndarray:
    """For each training image the first of the same picture, which is its own position if it repeats none."""
    parts = (as_float(part) if part.dtype == torch.uint8 else part for part in train.split(4096))
    gray = [(part.mean(1, keepdim=True).clamp(0, 1) * 255).round().to(torch.uint8).cpu() for part in parts]
    first = first_of_duplicates(torch.cat(gray), DUPLICATE)
    return np.where(first < 0, np.arange(len(first)), first)


def _vectors(images: Tensor, features: Features | None) -> Tensor:
    """The images themselves, or their features as (B, F, 1, 1)."""
    if features is None:
        return images
    found = []
    for part in images.split(BATCH):
        vectors = features(as_float(part) if part.dtype == torch.uint8 else part)
        if not isinstance(vectors, Tensor) or vectors.ndim != 2 or len(vectors) != len(part):
            got = tuple(vectors.shape) if isinstance(vectors, Tensor) else type(vectors).__name__
            raise ValueError(f"features must return a tensor ({len(part)}, F) for {len(part)} images, got {got}")
        found.append(vectors.detach().float())
    return torch.cat(found)[:, :, None, None]


def _nearer(found: Nearest, n: int) -> tuple[Nearest, Tensor]:
    """The nearer of each of n images and its mirror image, if these follow them, and whether it is the latter."""
    if len(found.index) == n:
        return found, torch.zeros_like(found.index, dtype=torch.bool)
    first, other = _rows(found, 0, n), _rows(found, n)
    nearer = other.similarity > first.similarity
    pairs = zip(vars(other).values(), vars(first).values(), strict=True)
    return Nearest(*(torch.where(nearer, a, b) for a, b in pairs)), nearer


def _rows(found: Nearest, start: int, end: int | None = None) -> Nearest:
    return Nearest(found.index[start:end], found.similarity[start:end], found.distance_ratio[start:end])


def _evenly(images: Tensor, count: int) -> Tensor:
    """That many images, evenly spaced."""
    return images if count == len(images) else images[evenly_spaced(len(images), count).to(images.device)]


def _comparisons(samples: Tensor, train: Tensor, unseen: Tensor | None) -> int:
    """How many similarities() makes of each kind."""
    count = 0 if unseen is None else min(len(train), len(unseen))
    return len(samples) * (len(train) + count + (count if count < len(train) else 0))


def _share(flags: Tensor) -> dict[str, Any]:
    low, high = stats.share_interval(flags.cpu().numpy())
    count = int(flags.sum())
    return {"count": count, "of": len(flags), "share": count / len(flags), "interval": [low, high]}


def _median(values: np.ndarray) -> dict[str, Any]:
    interval = stats.confidence_interval(values, np.median).tolist() if len(values) > 1 else None
    return {"median": float(np.median(values)), "interval": interval}


def _twin(rows: dict[str, np.ndarray], suffix: str) -> dict[str, Any]:
    pair, more = _median(rows["pair" + suffix]), _median(rows["pair" + suffix] - rows["nearest" + suffix])
    other = rows.get("other_noise" + suffix)
    limit = None if other is None else float(np.quantile(other, 0.95))
    agree = None if limit is None else more["interval"][0] > 0 and pair["median"] > limit
    return {"pair": pair, "pair_minus_nearest": more, "other_noise_95": limit, "agree": agree}

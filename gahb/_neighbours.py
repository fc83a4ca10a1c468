"""The two nearest of many images: shortlisted by products in float32, decided in float64."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gahb._util.devices import exact_arithmetic

SHORTLIST = 8  # images that are compared in float64, unless rounding in float32 may have left out one
BLOCK = 4096  # images compared with as many at once
NUMBERS = 2**22  # numbers in a block of training images, 32 MB in float64; eight times as many in one of images


def unit(images: Tensor, centered: bool) -> Tensor:
    """Images as vectors of norm 1, shape (B, d), without their means if centered."""
    flat = images.flatten(1)
    if centered:
        flat = flat - flat.mean(1, keepdim=True)
    return torch.nn.functional.normalize(flat, dim=1)


def two_nearest(
    images: Tensor, train: Tensor, centered: bool, groups: Tensor | None, block: int, done: Callable[[int], object]
) -> tuple[Tensor, Tensor, Tensor]:
    """Positions, cosines and distances of the nearest training image and of the nearest of another group, each (B, 2).

    Where there is no other group, the second distance is NaN. ``done`` is called with the number of comparisons.
    """
    groups = torch.arange(len(train), device=images.device) if groups is None else groups.to(images.device)
    d, parts = images[0].numel(), []
    rows, block = max(1, min(block, 8 * NUMBERS // d)), max(1, min(block, NUMBERS // d))
    for part in images.split(rows):
        units = unit(part.double(), centered)
        with exact_arithmetic():
            where, bound = _shortlist(units, train, centered, block, done)
        few = max(1, NUMBERS // (d * where.shape[1]))  # rows whose candidates fit in a block
        pairs = zip(units.split(few), where.split(few), strict=True)
        found = [_decide(*pair, train, centered, groups) for pair in pairs]
        index, cosines, distances = (torch.cat(values) for values in zip(*found, strict=True))
        unsure = torch.nonzero(~(cosines[:, 1] > bound)).flatten()  # with no second of another group, too
        if len(unsure) and where.shape[1] < len(train):
            where = _two_of_all(units[unsure], train, centered, groups, block)
            index[unsure], cosines[unsure], distances[unsure] = _decide(units[unsure], where, train, centered, groups)
        distances, order = distances.sort(dim=1)  # NaN comes last
        parts.append((index.gather(1, order), cosines.gather(1, order), distances))
    index, cosines, distances = (torch.cat(values) for values in zip(*parts, strict=True))
    return index, cosines, distances


def _shortlist(
    units: Tensor, train: Tensor, centered: bool, block: int, done: Callable[[int], object]
) -> tuple[Tensor, Tensor]:
    """Positions of the most similar training images by float32, (B, k), and what no other's cosine exceeds, (B,)."""
    single = units.float()
    values, where = single.new_empty(len(units), 0), torch.empty(len(units), 0, dtype=torch.long, device=units.device)
    for start in range(0, len(train), block):
        part = single @ unit(train[start : start + block].to(units), centered).float().T
        new, position = part.topk(min(SHORTLIST, part.shape[1]), dim=1)
        values, where = torch.cat([values, new], dim=1), torch.cat([where, position + start], dim=1)
        values, order = values.topk(min(SHORTLIST, values.shape[1]), dim=1)
        where = where.gather(1, order)
        done(part.numel())
    rounding = 8 * math.sqrt(units.shape[1]) * torch.finfo(torch.float32).eps  # eight times that of random rounding
    return where, values[:, -1].double() + rounding


def _decide(
    units: Tensor, where: Tensor, train: Tensor, centered: bool, groups: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Positions, cosines and distances of the best two of different groups among candidates (B, k)."""
    near = unit(train[where.flatten()].to(units), centered).view(*where.shape, -1)
    cosines = (near * units[:, None]).sum(2)
    distances = (near - units[:, None]).norm(dim=2)  # 2 - 2 cosine would leave 1e-7 between copies
    distances = torch.where(distances < 1e-12, 0, distances)  # of copies, but for rounding
    best, found = _best_two(cosines, groups[where])
    distances = distances.gather(1, best).where(found.isfinite(), torch.nan)
    return where.gather(1, best), found, distances


def _best_two(cosines: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Columns and values of the largest, and of the largest of another group (minus infinity if there is none)."""
    first = cosines.argmax(1, keepdim=True)
    others = cosines.masked_fill(groups == groups.gather(1, first), -torch.inf)
    second = others.argmax(1, keepdim=True)
    return torch.cat([first, second], 1), torch.cat([cosines.gather(1, first), others.gather(1, second)], 1)


def _two_of_all(units: Tensor, train: Tensor, centered: bool, groups: Tensor, block: int) -> Tensor:
    """Positions of the best two of different groups, (B, 2), all in float64."""
    values, where = units.new_empty(len(units), 0), torch.empty(len(units), 0, dtype=torch.long, device=units.device)
    for start in range(0, len(train), block):
        part = units @ unit(train[start : start + block].to(units), centered).T
        position, new = _best_two(part, groups[start : start + block].expand_as(part))
        values, where = torch.cat([values, new], 1), torch.cat([where, position + start], 1)
        best, values = _best_two(values, groups[where])
        where = where.gather(1, best)
    return where

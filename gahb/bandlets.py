"""Orthogonal bandlets: wavelet coefficients transformed once more along the geometry of the image (Section 3.2).

Each detail subband of an orthogonal wavelet transform is cut into squares by a quadtree. In each square either the
wavelets stay, or an Alpert transform along a direction replaces them by vectors that are smooth along it and vary
sharply across it (Le Pennec & Mallat, "Bandelet image approximation and compression", 2005; Peyré & Mallat,
"Orthogonal bandlet bases for geometric images approximation", 2008). To denoise, coefficients are thresholded in the
best basis of the noisy image (Dossal, Le Pennec & Mallat, "Bandlet image estimation with model selection", 2011).

The Alpert transform of a square along a direction is one orthogonal matrix, computed once, so that all work is matrix
products on the images' device. Directions are straight lines: rates of alpha > 2 would need curved ones.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pywt
import torch
from torch import Tensor
from torch.nn import functional as F

from gahb import _alpert
from gahb._util import checks

BLOCK = 2**18  # pixels processed at once; their coefficients along all directions take up to 100 MB


@dataclass(frozen=True)
class Dictionary:
    """The bandlet bases among which the best one is chosen.

    Attributes
    ----------
    wavelet : str
        An orthogonal wavelet of PyWavelets. Images are periodic.
    levels : int, optional
        Levels of the wavelet transform; 2^levels must divide height and width. If left out, as many as do and leave
        at least 4 coefficients in each direction, and at least 1.
    sides : tuple of int
        Sides of the squares in coefficients: some of 4, 8, 16, in a row. A square of side s has 2s directions,
        180 / 2s degrees apart. What remains of a subband beside whole squares stays wavelets.
    order : int
        Number of moments that vanish along the direction, 1 to 4.
    """

    wavelet: str = "db2"
    levels: int | None = None
    sides: tuple[int, ...] = (4, 8, 16)
    order: int = 2

    def __post_init__(self) -> None:
        """Check the values."""
        filters = _filters(64, self.wavelet)
        if np.abs(filters @ filters.T - np.eye(64)).max() > 1e-9:
            raise ValueError(f"wavelet must be orthogonal, got {self.wavelet!r}; use one such as 'db2' or 'sym4'")
        if self.levels is not None:
            checks.count(self.levels, "levels")
        checks.choice(self.sides, "sides", ((4,), (8,), (16,), (4, 8), (8, 16), (4, 8, 16)))
        checks.choice(self.order, "order", (1, 2, 3, 4))


@dataclass(frozen=True)
class Geometry:
    """Square and direction of each coefficient.

    Attributes
    ----------
    side : Tensor (H, W), int64
        Side of its square, in coefficients; 0 where the wavelets stay.
    direction : Tensor (H, W), int64
        Index of the direction of its square, from 1; 0 where the wavelets stay.
    """

    side: Tensor
    direction: Tensor

    @property
    def angle(self) -> Tensor:
        """Directions in degrees, (H, W): 0 is along rows, 45 rises to the right; NaN where the wavelets stay."""
        return torch.where(self.direction > 0, 90 * (self.direction - 1) / self.side, torch.nan)


@dataclass(frozen=True)
class BandletBasis:
    """An orthonormal basis of bandlets, and the coefficients of an image in it.

    Attributes
    ----------
    coefficients : Tensor (H, W)
        As wavelets are laid out: the coarsest approximation in the corner; at each level vertical edges on its right,
        horizontal edges below it, diagonal ones between them.
    geometry : Geometry
        Square and direction of each coefficient.
    dictionary : Dictionary
        Where the basis comes from.
    """

    coefficients: Tensor
    geometry: Geometry
    dictionary: Dictionary

    def vectors(self, k: int) -> Tensor:
        """The k basis vectors with the largest coefficients in size, the largest first, (k, H, W)."""
        flat = self.coefficients.flatten()
        if checks.count(k, "k") > len(flat):
            raise ValueError(f"k must be at most the number of pixels, {len(flat)}, got {k}")
        largest = flat.abs().sort(descending=True, stable=True).indices[:k]
        units = flat.new_zeros(k, len(flat)).scatter_(1, largest[:, None], 1).view(k, *self.coefficients.shape)
        return torch.cat([self._images(_working(block)) for block in _blocks(units)]).to(flat)

    def transform(self, image: Tensor) -> Tensor:
        """Coefficients of another image (1, H, W) or (1, 1, H, W) in this basis, (H, W)."""
        image = checks.one_image(image, "image")[:, 0]
        if image.shape[1:] != self.coefficients.shape:
            sizes = f"{tuple(self.coefficients.shape)}, got {tuple(image.shape[1:])}"
            raise ValueError(f"image must have the size of the basis, {sizes}")
        working = _working(image).to(self.coefficients.device)
        nothing = torch.zeros_like(working, requires_grad=True)
        with torch.enable_grad():  # the inverse of an orthogonal map is its transpose, which autograd knows
            return torch.autograd.grad(self._images(nothing), nothing, working)[0][0].to(image.dtype)

    def _images(self, coefficients: Tensor) -> Tensor:
        plan = _plan(self.dictionary, coefficients)
        return _synthesis(coefficients, self.geometry.side, self.geometry.direction, plan)


def best_basis(
    image: Tensor, threshold: float, penalty: float = 1.0, dictionary: Dictionary | None = None
) -> BandletBasis:
    """Find the bandlet basis in which an image has the least Lagrangian.

    With T the threshold and c_k the coefficients, the Lagrangian is sum_k min(c_k^2, T^2), which is the squared error
    of keeping those above T plus T^2 for each of them, plus penalty T^2 for each square that has a direction. The
    minimum over all quadtrees and directions is found from the smallest squares up.

    Parameters
    ----------
    image : Tensor (1, H, W) or (1, 1, H, W)
        Intensities, one channel.
    threshold : float
        T, intensities, at least 0. With T = 0 the wavelets stay.
    penalty : float
        Price of a direction, in units of T^2, at least 0.
    dictionary : Dictionary, optional
        The bases to choose from; ``Dictionary()`` if left out.

    Returns
    -------
    BandletBasis
    """
    image = checks.one_image(image, "image")
    if image.shape[1] != 1:
        raise ValueError(f"image must have one channel, got {image.shape[1]}; give each channel by itself")
    threshold, penalty = checks.at_least_zero(threshold, "threshold"), checks.at_least_zero(penalty, "penalty")
    dictionary = dictionary or Dictionary()
    working = _working(image[:, 0])
    plan = _plan(dictionary, working)
    found = _adapt(_wavelet_transform(working, plan), threshold, penalty, plan)
    coefficients, side, direction = (x[0] for x in found)
    return BandletBasis(coefficients.to(image.dtype), Geometry(side, direction), dictionary)


def denoise(
    noisy: Tensor,
    sigma: float,
    threshold: float = 3.0,
    soft: bool = False,
    spins: int = 1,
    penalty: float = 1.0,
    dictionary: Dictionary | None = None,
    margin: int = 0,
) -> Tensor:
    """Denoise by thresholding in the best bandlet basis of the noisy image (Dossal, Le Pennec & Mallat, 2011).

    Each channel of each image has its own basis; the coarsest approximation is kept. The gradient is that of the basis
    held fixed: with hard thresholds, one spin and no margin the Jacobian is the projection onto the vectors kept.

    Parameters
    ----------
    noisy : Tensor (B, C, H, W)
        Intensities. Half precision is computed in single precision.
    sigma : float
        Noise level, intensities.
    threshold : float
        T in units of sigma, at least 0.
    soft : bool
        Whether coefficients above T are also reduced by T.
    spins : int
        Cycle spinning (Coifman & Donoho, 1995): average over spins^2 shifts, in spins^2 times the time. They are by all
        pairs of pixels modulo ``spins``, and spread over spins^2 pixels, for the coarser scales.
    penalty : float
        Price of a direction, as in :func:`best_basis`.
    dictionary : Dictionary, optional
        The bases to choose from; ``Dictionary()`` if left out.
    margin : int
        Pixels by which images are continued by reflection. Without, they are periodic, and the border is an edge.

    Returns
    -------
    Tensor (B, C, H, W)
        Intensities.
    """
    checks.images(noisy, "noisy")
    cut = checks.at_least_zero(threshold, "threshold") * float(checks.positive(sigma, "sigma"))
    penalty = checks.at_least_zero(penalty, "penalty")
    shifts = [(i + spins * j, j + spins * i) for i in range(checks.count(spins, "spins")) for j in range(spins)]
    height, width = noisy.shape[-2:]
    checks.count(margin, "margin", 0)
    rows, columns = (np.pad(np.arange(n), margin, mode="symmetric") for n in (height, width))
    images = _working(noisy.flatten(0, 1))[:, rows[:, None], columns]
    plan = _plan(dictionary or Dictionary(), images)

    def once(block: Tensor) -> Tensor:
        coefficients, side, direction = _adapt(_wavelet_transform(block, plan), cut, penalty, plan)
        size = coefficients.abs()
        kept = coefficients.sign() * (size - cut).clamp(min=0) if soft else coefficients * (size > cut)
        low_rows, low_columns = (slice(len(matrix) // 2) for matrix in plan.wavelets[-1])
        kept[:, low_rows, low_columns] = coefficients[:, low_rows, low_columns]
        return _synthesis(kept, side, direction, plan)

    shifted = torch.cat([images.roll(shift, (-2, -1)) for shift in shifts])
    denoised = torch.cat([once(block) for block in _blocks(shifted)]).split(len(images))
    back = [block.roll((-i, -j), (-2, -1)) for block, (i, j) in zip(denoised, shifts, strict=True)]
    mean = sum(back, torch.zeros_like(images)) / len(shifts)
    return mean[:, margin : margin + height, margin : margin + width].reshape(noisy.shape).to(noisy)


def _working(images: Tensor) -> Tensor:
    return images if images.dtype == torch.float64 else images.float()


def _blocks(images: Tensor) -> tuple[Tensor, ...]:
    return images.split(max(1, BLOCK // images[0].numel()))


@dataclass(frozen=True)
class _Plan:
    """The matrices for images of one size, on their device and in their precision.

    ``wavelets`` has those of columns and of rows for each level, the finest first. ``subbands`` has the place of each
    detail subband, with the Alpert transforms by the side of squares that fit into it, the smallest first.
    """

    wavelets: list[list[Tensor]]
    subbands: list[tuple[tuple, dict[int, Tensor]]]


def _plan(dictionary: Dictionary, images: Tensor) -> _Plan:
    shape, levels = images.shape[-2:], dictionary.levels or 1
    while dictionary.levels is None and not any(n % 2 ** (levels + 1) for n in shape) and min(shape) >> levels >= 8:
        levels += 1
    if any(n % 2**levels for n in shape):
        size = f"{shape[0]} x {shape[1]}"
        raise ValueError(f"2^levels = {2**levels} must divide height and width, got {size}; crop, or take fewer levels")
    wavelets, subbands = [], []
    alpert = {side: torch.from_numpy(_alpert.matrices(side, dictionary.order)).to(images) for side in dictionary.sides}
    for level in range(levels):
        wavelets.append([torch.from_numpy(_filters(n >> level, dictionary.wavelet)).to(images) for n in shape])
        h, w = (n >> level + 1 for n in shape)
        fitting = {side: matrices for side, matrices in alpert.items() if side <= min(h, w)}
        places = [(..., slice(i * h, i * h + h), slice(j * w, j * w + w)) for i, j in ((0, 1), (1, 0), (1, 1))]
        subbands += [(place, fitting) for place in places if fitting]
    return _Plan(wavelets, subbands)


@cache
def _filters(size: int, wavelet: str) -> np.ndarray:
    """One level of the periodized wavelet transform of a signal, (size, size): low frequencies above high ones."""
    return np.concatenate(pywt.dwt(np.eye(size), wavelet, mode="periodization", axis=0))


def _wavelet_transform(images: Tensor, plan: _Plan) -> Tensor:
    out = images.clone()
    for columns, rows in plan.wavelets:
        low = (..., slice(len(columns)), slice(len(rows)))
        out[low] = columns @ out[low] @ rows.T
    return out


def _adapt(wavelets: Tensor, threshold: float, penalty: float, plan: _Plan) -> tuple[Tensor, Tensor, Tensor]:
    """Coefficients, sides and directions of the best basis of each image, each (N, H, W)."""
    coefficients = wavelets.clone()
    side, direction = torch.zeros(2, *wavelets.shape, dtype=torch.int64, device=wavelets.device)
    for place, alpert in plan.subbands:
        coefficients[place], side[place], direction[place] = _quadtree(wavelets[place], threshold, penalty, alpert)
    return coefficients, side, direction


def _quadtree(band: Tensor, threshold: float, penalty: float, alpert: dict[int, Tensor]) -> list[Tensor]:
    """Coefficients, sides and directions of the best squares of a subband (N, h, w), each (N, h, w)."""
    padded = _pad(band, max(alpert))
    within = _pad(torch.ones_like(band[:1], dtype=torch.bool), max(alpert))
    nowhere = torch.zeros_like(padded, dtype=torch.int64)
    least, best = padded.detach().square().clamp(max=threshold**2), [padded, nowhere, nowhere]
    for side, matrices in alpert.items():
        squares, inside = _squares(padded, side), _squares(within, side).all(-1, keepdim=True)
        cost, found = _best_directions(squares, inside, threshold, penalty, side, matrices)
        n = least.shape[-1] // cost.shape[-1]
        parts = least.unflatten(-1, (-1, n)).unflatten(-3, (-1, n)).sum((-3, -1))
        joined = (cost < parts)[..., None]
        best = [
            torch.where(_whole(joined.expand_as(squares), side), _whole(new.expand_as(squares), side), old)
            for new, old in zip(found, best, strict=True)
        ]
        least = torch.minimum(cost, parts)
    return [x[..., : band.shape[-2], : band.shape[-1]] for x in best]


def _best_directions(
    squares: Tensor, inside: Tensor, threshold: float, penalty: float, side: int, matrices: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """Least cost of each square; its coefficients (..., side^2), side and direction (..., 1) there."""
    directed = torch.arange(len(matrices), device=squares.device) > 0
    products = (squares @ matrices.flatten(0, 1).T).unflatten(-1, matrices.shape[:2])
    costs = products.detach().square().clamp(max=threshold**2).sum(-1) + penalty * threshold**2 * directed
    cost, direction = costs.masked_fill(directed & ~inside, torch.inf).min(-1, keepdim=True)
    coefficients = products.take_along_dim(direction[..., None], -2).squeeze(-2)
    return cost.squeeze(-1), [coefficients, side * (direction > 0), direction]


def _synthesis(coefficients: Tensor, sides: Tensor, directions: Tensor, plan: _Plan) -> Tensor:
    """Images of coefficients (N, H, W). Sides and directions are those of each, (N, H, W), or of all, (H, W)."""
    out = coefficients.clone()
    for place, alpert in plan.subbands:
        height, width = out[place].shape[-2:]
        for side, vectors in alpert.items():
            squares = _squares(_pad(out[place], side), side)[..., None, :]
            direction = directions[place] * (sides[place] == side)
            direction = _squares(_pad(direction, side), side)[..., None, :]
            # Zeros for all directions but the square's own, so that one product serves all squares.
            slots = squares.new_zeros(*squares.shape[:-2], *vectors.shape[:2])
            slots = slots.scatter(-2, direction.expand_as(squares), squares)
            out[place] = _whole(slots.flatten(-2) @ vectors.flatten(0, 1), side)[..., :height, :width]
    for columns, rows in reversed(plan.wavelets):
        low = (..., slice(len(columns)), slice(len(rows)))
        out[low] = columns.T @ out[low] @ rows
    return out


def _pad(band: Tensor, side: int) -> Tensor:
    """Add zeros on the right and below until ``side`` divides the size."""
    return F.pad(band, (0, -band.shape[-1] % side, 0, -band.shape[-2] % side))


def _squares(band: Tensor, side: int) -> Tensor:
    """Cut (..., h, w) into squares, (..., h / side, w / side, side^2)."""
    return band.unflatten(-1, (-1, side)).unflatten(-3, (-1, side)).transpose(-3, -2).flatten(-2)


def _whole(squares: Tensor, side: int) -> Tensor:
    """The inverse of :func:`_squares`."""
    return squares.unflatten(-1, (side, side)).transpose(-3, -2).flatten(-2).flatten(-3, -2)

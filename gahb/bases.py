"""Measures of an adaptive basis: its rank, its frequencies, its geometry."""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from numpy.typing import ArrayLike
from scipy import fft
from skimage.feature import structure_tensor
from torch import Tensor

from gahb._util import checks
from gahb.adapt import NoiseConditional, at_sigma
from gahb.denoisers import Denoiser, evaluating
from gahb.jacobians import Basis, adaptive_basis
from gahb.sampling import gaussian_noise


@dataclass(frozen=True)
class Analysis:
    """What :func:`analyse` returns.

    Attributes
    ----------
    clean, noisy, denoised : Tensor (1, C, H, W)
        Intensities.
    basis : Basis
        Adaptive basis at the noisy image.
    coefficients : Tensor (K,)
        <x, e_k> of the clean image x for each vector.
    """

    clean: Tensor
    noisy: Tensor
    denoised: Tensor
    basis: Basis
    coefficients: Tensor

    @property
    def images(self) -> list[Tensor]:
        """Clean, noisy and denoised image on the CPU, each (H, W) or (C, H, W)."""
        return [image[0].squeeze(0).cpu() for image in (self.clean, self.noisy, self.denoised)]


def analyse(
    denoiser: Denoiser | NoiseConditional, image: Tensor, sigma: float, seed: int = 0, k: int | None = None
) -> Analysis:
    """Add noise to one image, denoise it, and compute the adaptive basis there (Figures 3 to 6 and 10 to 13).

    Parameters
    ----------
    denoiser : callable
        f(y), acting on each image of a batch separately, or sigma -> f(y) as a :class:`gahb.adapt.NoiseConditional`.
    image : Tensor (C, H, W) or (1, C, H, W)
        Clean image, intensities in [0, 1].
    sigma : float
        Noise level, intensities.
    seed : int
        Seed of the noise.
    k : int, optional
        Number of leading eigenpairs, by default all; see :func:`gahb.adaptive_basis`.

    Returns
    -------
    Analysis
    """
    denoiser = at_sigma(denoiser, sigma)
    clean = checks.clean_images(checks.one_image(image, "image"), "image")
    noisy = clean + checks.positive(sigma, "sigma") * gaussian_noise(1, clean.shape[1:], seed).to(clean)
    with evaluating(denoiser, noisy.dtype) as f, torch.no_grad():
        denoised = f(noisy)
    basis = adaptive_basis(denoiser, noisy, k)
    return Analysis(clean, noisy, denoised, basis, basis.vectors.flatten(1) @ clean.flatten())


def effective_rank(shrinkage: ArrayLike) -> float:
    """Sum of the eigenvalues lambda_k: the dimension of the preserved subspace (Section 3.1).

    Parameters
    ----------
    shrinkage : Tensor or array (K,)

    Returns
    -------
    float
        In dimensions.
    """
    return float(checks.array(shrinkage, "shrinkage", 1).sum())


def preserved_fraction(image: ArrayLike, vectors: ArrayLike, rank: float) -> float:
    """Fraction of norm(x)^2 that lies in the span of the first ``rank`` vectors.

    Parameters
    ----------
    image : array (C, H, W) or (H, W)
    vectors : array (K, H, W)
        Orthonormal.
    rank : float
        Rounded to a whole number of vectors.

    Returns
    -------
    float
        In [0, 1].
    """
    x, vectors = checks.array(image, "image").ravel(), _flat(vectors, "vectors")
    if vectors.shape[1] != len(x):
        raise ValueError(f"vectors must have as many pixels as image, {len(x)}, got {vectors.shape[1]}")
    kept = max(1, round(checks.number(rank, "rank")))
    return float(np.square(vectors[:kept] @ x).sum() / np.square(x).sum())


def mean_frequency(vectors: ArrayLike) -> np.ndarray:
    """Mean spatial frequency of each vector, weighted by its power spectrum.

    Parameters
    ----------
    vectors : array (K, H, W)

    Returns
    -------
    ndarray (K,)
        Cycles per pixel.
    """
    values = checks.array(vectors, "vectors", 3)
    power = np.abs(fft.fft2(values)) ** 2
    height, width = values.shape[-2:]
    radius = np.hypot(fft.fftfreq(height)[:, None], fft.fftfreq(width))
    return (power * radius).sum((-2, -1)) / power.sum((-2, -1)).clip(1e-300)


def contour_anisotropy(vectors: ArrayLike, image: ArrayLike, smoothing: float = 1.0) -> float:
    """Ratio of the variation of vectors across the contours of an image to that along them.

    At each pixel the structure tensor of ``image`` gives the direction across its contour and a
    weight, the coherent part of its gradient energy. The result is the weighted energy of the
    derivatives of all vectors across, divided by the same along: above 1 if they follow the contours.

    Parameters
    ----------
    vectors : array (K, H, W)
    image : array (H, W)
        The clean image.
    smoothing : float
        Standard deviation of the structure tensor's window, pixels.

    Returns
    -------
    float
        Infinite if they vary across contours only, NaN without contours.
    """
    image, vectors = checks.array(image, "image", 2), checks.array(vectors, "vectors", 3)
    if vectors.shape[1:] != image.shape:
        raise ValueError(f"vectors must have the shape of image, {image.shape}, got {vectors.shape[1:]}")
    # The border is repeated: by default zeros surround the image, which makes its frame a contour.
    rows, mixed, columns = structure_tensor(
        image, sigma=checks.positive(smoothing, "smoothing"), mode="nearest", order="rc"
    )
    angle = np.arctan2(2 * mixed, rows - columns) / 2  # of the direction of largest variation
    weight = np.hypot(rows - columns, 2 * mixed)
    d_row, d_column = np.gradient(vectors, axis=(-2, -1))
    across = np.cos(angle) * d_row + np.sin(angle) * d_column
    along = -np.sin(angle) * d_row + np.cos(angle) * d_column
    with np.errstate(divide="ignore", invalid="ignore"):
        return float((weight * across**2).sum() / (weight * along**2).sum())


def contour_mask(image: ArrayLike, fraction: float = 0.15) -> np.ndarray:
    """The pixels where the gradient of an image is largest.

    Parameters
    ----------
    image : array (H, W)
    fraction : float
        Fraction of the pixels, in [0, 1].

    Returns
    -------
    ndarray (H, W), bool
    """
    if not 0 <= checks.number(fraction, "fraction") <= 1:
        raise ValueError(f"fraction must be in [0, 1], got {fraction!r}")
    size = np.hypot(*np.gradient(checks.array(image, "image", 2)))
    return size >= np.quantile(size, 1 - fraction)


def participation_ratio(vectors: ArrayLike, mask: ArrayLike) -> float:
    """How far vectors spread along a contour, on average: 1 if evenly, close to 0 if localized.

    (sum e^2)^2 / (n sum e^4) over the n pixels of the contour, for each vector e that has at
    least a tenth of its energy there.

    Parameters
    ----------
    vectors : array (K, H, W)
    mask : bool array (H, W)

    Returns
    -------
    float
        In [0, 1]; NaN if there is no such vector.
    """
    vectors, mask = checks.array(vectors, "vectors", 3), checks.array(mask, "mask", 2).astype(bool)
    if vectors.shape[1:] != mask.shape:
        raise ValueError(f"vectors must have the shape of mask, {mask.shape}, got {vectors.shape[1:]}")
    energy = vectors[:, mask] ** 2
    energy = energy[energy.sum(1) > 0.1]
    if len(energy) == 0:
        return float("nan")
    return float((energy.sum(1) ** 2 / (energy.shape[1] * (energy**2).sum(1))).mean())


def subspace_cosine(vectors: ArrayLike, tangents: ArrayLike) -> float:
    """Cosine of the largest principal angle between two spans of equal dimension.

    Parameters
    ----------
    vectors, tangents : array (k, H, W)

    Returns
    -------
    float
        1 if the spans are the same.
    """
    vectors, tangents = _flat(vectors, "vectors"), _flat(tangents, "tangents")
    if vectors.shape != tangents.shape:
        raise ValueError(
            f"vectors and tangents must have the same number and size, got {vectors.shape} and {tangents.shape}"
        )
    angles = scipy.linalg.subspace_angles(vectors.T, tangents.T)
    return float(np.cos(angles.max()))


def energy_in_span(vectors: ArrayLike, span: ArrayLike) -> float:
    """Mean fraction of the energy of vectors that lies in the span of orthonormal ones.

    Parameters
    ----------
    vectors : array (K, H, W)
        Of norm 1.
    span : array (m, H, W)
        Orthonormal.

    Returns
    -------
    float
        In [0, 1].
    """
    vectors, span = _flat(vectors, "vectors"), _flat(span, "span")
    if vectors.shape[1] != span.shape[1]:
        raise ValueError(f"vectors and span must have as many pixels, got {vectors.shape[1]} and {span.shape[1]}")
    return float(np.square(vectors @ span.T).sum(1).mean())


def _flat(vectors: ArrayLike, name: str) -> np.ndarray:
    """Vectors as the rows of a matrix (K, pixels), float64."""
    values = checks.array(vectors, name)
    if values.ndim < 2:
        raise ValueError(f"{name} must have shape (K, H, W), got {values.shape}")
    return values.reshape(len(values), -1)

"""What is measured on an adaptive basis: its rank, its frequencies, its geometry."""

from dataclasses import dataclass, replace

import numpy as np
import pywt
import scipy.linalg
import torch
from scipy import fft
from skimage.feature import structure_tensor

from gahb.denoisers import evaluating
from gahb.jacobian import Basis, adaptive_basis
from gahb.sampling import gaussian_noise


@dataclass(frozen=True)
class Analysis:
    """What :func:`analyse` returns; from :func:`denoise` the images alone.

    Attributes
    ----------
    clean, noisy, denoised : Tensor (1, C, H, W)
        Intensities.
    basis : Basis or None
        Adaptive basis at the noisy image.
    coefficients : Tensor (K,) or None
        <x, e_k> of the clean image x for each vector.
    """

    clean: torch.Tensor
    noisy: torch.Tensor
    denoised: torch.Tensor
    basis: Basis | None = None
    coefficients: torch.Tensor | None = None

    @property
    def images(self):
        """Clean, noisy and denoised image on the CPU, each (H, W) or (C, H, W)."""
        return [image[0].squeeze(0).cpu() for image in (self.clean, self.noisy, self.denoised)]


def analyse(denoiser, image, sigma, seed=0, k=None):
    """Denoise one image, and decompose the Jacobian there (the left column of Figures 3, 5, 6, 12, 13).

    Parameters
    ----------
    denoiser : callable
        f(y), acting on each image of a batch alone.
    image : Tensor (C, H, W) or (1, C, H, W)
        Clean image, intensities in [0, 1].
    sigma : float
        Noise level, intensities.
    seed : int
        Seed of the noise.
    k : int, optional
        Number of eigenpairs; all if left out.

    Returns
    -------
    Analysis

    Raises
    ------
    ValueError, TypeError
        If an image is not finite floating point, a number is out of range, or ``denoiser`` is no function.
    RuntimeError
        If ``image`` is a batch of several, or as for :func:`gahb.adaptive_basis`.
    """
    images = denoise(denoiser, image, sigma, seed)
    basis = adaptive_basis(denoiser, images.noisy, k)
    return replace(images, basis=basis, coefficients=basis.vectors.flatten(1) @ images.clean.flatten())


def denoise(denoiser, image, sigma, seed=0):
    """The images of :func:`analyse`, by one pass through the denoiser.

    Parameters
    ----------
    denoiser, image, sigma, seed
        As for :func:`analyse`: f(y), a clean image (C, H, W) or (1, C, H, W), noise level, seed of the noise.

    Returns
    -------
    Analysis
        Without a basis.

    Raises
    ------
    ValueError, TypeError
        If ``seed`` is not an integer of at least 0, or ``denoiser`` is no function.
    RuntimeError
        If ``image`` is a batch of several.
    """
    clean = image.reshape(1, *image.shape[-3:])
    noisy = clean + sigma * gaussian_noise(1, clean.shape[1:], seed).to(clean)
    with evaluating(denoiser, noisy.dtype) as f, torch.no_grad():
        return Analysis(clean, noisy, f(noisy))


def effective_rank(shrinkage):
    """Sum of the eigenvalues lambda_k: the dimension of the preserved subspace (Section 3.1).

    Parameters
    ----------
    shrinkage : Tensor or array (K,)

    Returns
    -------
    float
        In dimensions.
    """
    return float(torch.as_tensor(shrinkage).double().sum())


def preserved_share(image, vectors, rank):
    """Share of norm(x)^2 that lies in the span of the first ``rank`` vectors.

    Parameters
    ----------
    image : Tensor (C, H, W) or (H, W)
    vectors : Tensor (K, H, W)
        Orthonormal.
    rank : float
        Rounded to a whole number of vectors.

    Returns
    -------
    float
        In [0, 1].
    """
    coefficients = vectors.flatten(1).double() @ image.flatten().double()
    kept = coefficients[: max(1, round(rank))].square().sum()
    return float(kept / image.double().square().sum())


def mean_frequency(vectors):
    """Mean spatial frequency of each vector, weighted by its power spectrum, in cycles per pixel.

    Parameters
    ----------
    vectors : Tensor (K, H, W)

    Returns
    -------
    ndarray (K,)
        Cycles per pixel.
    """
    values = np.asarray(vectors, dtype=float)
    power = np.abs(fft.fft2(values)) ** 2
    height, width = values.shape[-2:]
    radius = np.hypot(fft.fftfreq(height)[:, None], fft.fftfreq(width))
    return (power * radius).sum((-2, -1)) / power.sum((-2, -1)).clip(1e-300)


def dct_basis(size, k):
    """The two-dimensional cosines of lowest frequency (the inverse of the orthonormal DCT-II).

    Parameters
    ----------
    size : int
        Height and width, pixels.
    k : int
        Number of cosines.

    Returns
    -------
    ndarray (k, size, size)
        Orthonormal.
    """
    columns = fft.idct(np.eye(size), norm="ortho", axis=0)
    order = np.argsort([np.hypot(u, v) for u in range(size) for v in range(size)], kind="stable")[:k]
    return np.stack([np.outer(columns[:, i // size], columns[:, i % size]) for i in order])


def contour_anisotropy(vectors, image, smoothing=1.0):
    """Variation of vectors across the contours of an image over that along them.

    At each pixel the structure tensor of ``image`` gives the direction across its contour and a
    weight, the coherent part of its gradient energy. The figure is the weighted energy of the
    derivative of all vectors across, over the same along: above 1 where they follow the contours.

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
    # The border is repeated: by default zeros surround the image, and its frame is a contour.
    image = np.asarray(image, dtype=float)
    rows, mixed, columns = structure_tensor(image, sigma=smoothing, mode="nearest", order="rc")
    angle = np.arctan2(2 * mixed, rows - columns) / 2  # of the direction of largest variation
    weight = np.hypot(rows - columns, 2 * mixed)
    d_row, d_column = np.gradient(np.asarray(vectors, dtype=float), axis=(-2, -1))
    across = np.cos(angle) * d_row + np.sin(angle) * d_column
    along = -np.sin(angle) * d_row + np.cos(angle) * d_column
    with np.errstate(divide="ignore", invalid="ignore"):
        return float((weight * across**2).sum() / (weight * along**2).sum())


def contour_mask(image, share=0.15):
    """The pixels where the gradient of an image is largest.

    Parameters
    ----------
    image : array (H, W)
    share : float
        Share of the pixels, in [0, 1].

    Returns
    -------
    ndarray (H, W), bool
    """
    size = np.hypot(*np.gradient(np.asarray(image, dtype=float)))
    return size >= np.quantile(size, 1 - share)


def participation_ratio(vectors, mask):
    """Over how much of a contour the vectors spread, averaged over them: 1 if evenly, towards 0 if localized.

    (sum e^2)^2 / (n sum e^4) over the n pixels of the contour; vectors with less than a tenth of
    their energy there do not count.

    Parameters
    ----------
    vectors : array (K, H, W)
    mask : bool array (H, W)

    Returns
    -------
    float
        In [0, 1]; NaN if no vector counts.
    """
    energy = np.asarray(vectors, dtype=float)[:, np.asarray(mask)] ** 2
    energy = energy[energy.sum(1) > 0.1]
    if len(energy) == 0:
        return float("nan")
    return float((energy.sum(1) ** 2 / (energy.shape[1] * (energy**2).sum(1))).mean())


def subspace_cosine(vectors, tangents):
    """Cosine of the largest principal angle between two spans of equal dimension.

    Parameters
    ----------
    vectors, tangents : Tensor (k, H, W)

    Returns
    -------
    float
        1 if the spans are the same.
    """
    angles = scipy.linalg.subspace_angles(
        vectors.flatten(1).double().cpu().numpy().T, tangents.flatten(1).double().cpu().numpy().T
    )
    return float(np.cos(angles.max()))


def oracle_error(coefficients, sigma):
    """Eq. 12: sum_k sigma^2 c_k^2 / (c_k^2 + sigma^2), the least error of a diagonal denoiser that knows x.

    Parameters
    ----------
    coefficients : array (K,)
        c_k = <x, e_k> of the clean image.
    sigma : float
        Noise level, intensities.

    Returns
    -------
    float
        Squared error, a sum over the pixels.
    """
    c2 = np.asarray(coefficients, dtype=float) ** 2
    return float((sigma**2 * c2 / (c2 + sigma**2)).sum())


def soft_threshold(values, threshold):
    """Shrink towards zero by a threshold (Donoho & Johnstone, 1994).

    Parameters
    ----------
    values : array
        Of any shape.
    threshold : float
        In units of the values.

    Returns
    -------
    ndarray
        sign(v) max(abs(v) - threshold, 0), of the same shape.
    """
    values = np.asarray(values, dtype=float)
    return np.sign(values) * (np.abs(values) - threshold).clip(0)


def wavelet_denoise(noisy, sigma, wavelet="db4", threshold=3.0):
    """Denoise by soft thresholding of wavelet coefficients: the fixed-basis rival of Section 3.1.

    Parameters
    ----------
    noisy : Tensor (B, C, H, W)
        Intensities.
    sigma : float
        Noise level.
    wavelet : str
        An orthogonal wavelet of PyWavelets; the border is extended by reflection.
    threshold : float
        In units of sigma; the coarsest approximation is kept.

    Returns
    -------
    Tensor (B, C, H, W)
        Intensities.

    Raises
    ------
    ValueError
        If the images are too small for the wavelet, or PyWavelets has none of its name.
    """
    levels = pywt.dwtn_max_level(noisy.shape[-2:], wavelet)
    if levels < 1:
        raise ValueError(f"noisy is too small for the filters of {wavelet}, got shape {tuple(noisy.shape)}")
    coefficients = pywt.wavedec2(noisy.double().cpu().numpy(), wavelet, mode="symmetric", level=levels)
    kept = [coefficients[0]] + [
        tuple(soft_threshold(detail, threshold * sigma) for detail in level) for level in coefficients[1:]
    ]
    restored = pywt.waverec2(kept, wavelet, mode="symmetric")[..., : noisy.shape[-2], : noisy.shape[-1]]
    return torch.from_numpy(restored).to(noisy)


def share_above(images, sigma, wavelet="db2"):
    """Share of the wavelet coefficients of clean images that exceed the noise: M / d of Section 3.1.

    Eq. 13 and its slopes hold while few do; where most do, the pixels are too coarse for the noise, and
    every denoiser nears the identity, of slope 1.

    Parameters
    ----------
    images : Tensor (B, C, H, W)
        Clean.
    sigma : float
        Noise level, in units of the intensities.
    wavelet : str
        An orthogonal wavelet of PyWavelets; the image is periodic.

    Returns
    -------
    float
        In [0, 1].
    """
    pixels = images.double().cpu().numpy()
    levels = pywt.dwtn_max_level(pixels.shape[-2:], wavelet)
    coefficients = pywt.wavedec2(pixels, wavelet, mode="periodization", level=levels)
    return float((np.abs(pywt.coeffs_to_array(coefficients, axes=(-2, -1))[0]) > sigma).mean())

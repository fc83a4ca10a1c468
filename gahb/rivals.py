"""Denoising in one basis for all images: the rivals of an adaptive basis (Section 3.1)."""

import numpy as np
import pywt
import torch
from numpy.typing import ArrayLike
from scipy import fft
from torch import Tensor

from gahb._util import checks


def oracle_error(coefficients: ArrayLike, sigma: float) -> float:
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
    c2 = checks.array(coefficients, "coefficients", 1) ** 2
    checks.positive(sigma, "sigma")
    return float((sigma**2 * c2 / (c2 + sigma**2)).sum())


def dct_basis(size: int, k: int) -> np.ndarray:
    """The two-dimensional cosines of lowest frequency: vectors of the orthonormal DCT-II.

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
    checks.count(size, "size")
    if checks.count(k, "k") > size**2:
        raise ValueError(f"k must be at most size^2 = {size**2}, got {k}")
    columns = fft.idct(np.eye(size), norm="ortho", axis=0)
    order = np.argsort([np.hypot(u, v) for u in range(size) for v in range(size)], kind="stable")[:k]
    return np.stack([np.outer(columns[:, i // size], columns[:, i % size]) for i in order])


def wavelet_denoise(noisy: Tensor, sigma: float, wavelet: str = "db4", threshold: float = 3.0) -> Tensor:
    """Denoise by soft thresholding of wavelet coefficients (Donoho & Johnstone, 1994), as in Section 3.1.

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
    """
    checks.images(noisy, "noisy")
    checks.positive(sigma, "sigma")
    if checks.number(threshold, "threshold") < 0:
        raise ValueError(f"threshold must be at least 0, got {threshold!r}")
    levels = pywt.dwtn_max_level(noisy.shape[-2:], wavelet)
    if levels < 1:
        raise ValueError(f"noisy is too small for the filters of {wavelet}, got shape {tuple(noisy.shape)}")
    coefficients = pywt.wavedec2(noisy.cpu().double().numpy(), wavelet, mode="symmetric", level=levels)
    if threshold > 0:  # at 0, pywt.threshold makes NaN of a coefficient that is 0
        shrunk = [[pywt.threshold(d, threshold * sigma, "soft") for d in details] for details in coefficients[1:]]
        coefficients[1:] = map(tuple, shrunk)
    restored = pywt.waverec2(coefficients, wavelet, mode="symmetric")[..., : noisy.shape[-2], : noisy.shape[-1]]
    return torch.from_numpy(restored).to(noisy)


def fraction_above(images: Tensor, sigma: float, wavelet: str = "db2") -> float:
    """Fraction of the wavelet coefficients of clean images that exceed the noise: M / d of Section 3.1.

    Eq. 13 and its slopes hold while this is small. Where most coefficients exceed the noise, the
    pixels are too coarse for it, and every denoiser is close to the identity, of slope 1.

    Parameters
    ----------
    images : Tensor (B, C, H, W)
        Clean images, intensities.
    sigma : float
        Noise level, intensities.
    wavelet : str
        An orthogonal wavelet of PyWavelets; the image is periodic.

    Returns
    -------
    float
        In [0, 1].
    """
    checks.images(images, "images")
    checks.positive(sigma, "sigma")
    pixels = images.cpu().double().numpy()
    levels = pywt.dwtn_max_level(pixels.shape[-2:], wavelet)
    coefficients = pywt.wavedec2(pixels, wavelet, mode="periodization", level=levels)
    return float((np.abs(pywt.coeffs_to_array(coefficients, axes=(-2, -1))[0]) > sigma).mean())

"""Denoising in one basis for all images: the rivals of an adaptive basis (Section 3.1)."""

import numpy as np
import pywt
import torch
from scipy import fft

from gahb._util import checks


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

    Raises
    ------
    ValueError, TypeError
        If ``coefficients`` is not (K,) or holds NaN, or ``sigma`` is not positive.
    """
    c2 = checks.array(coefficients, "coefficients", 1) ** 2
    checks.positive(sigma, "sigma")
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

    Raises
    ------
    ValueError, TypeError
        If ``values`` holds NaN or nothing, or ``threshold`` is below 0.
    """
    values = checks.array(values, "values")
    _at_least_zero(threshold)
    return np.sign(values) * (np.abs(values) - threshold).clip(0)


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

    Raises
    ------
    ValueError, TypeError
        If a number is not an integer of at least 1, or ``k`` is above the number of pixels.
    """
    checks.count(size, "size")
    if checks.count(k, "k") > size**2:
        raise ValueError(f"k must be at most size^2 = {size**2}, got {k}")
    columns = fft.idct(np.eye(size), norm="ortho", axis=0)
    order = np.argsort([np.hypot(u, v) for u in range(size) for v in range(size)], kind="stable")[:k]
    return np.stack([np.outer(columns[:, i // size], columns[:, i % size]) for i in order])


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
    ValueError, TypeError
        If ``noisy`` is not a finite floating-point batch or too small for the wavelet, if a number is out of range,
        or PyWavelets has no such wavelet.
    """
    checks.images(noisy, "noisy")
    checks.positive(sigma, "sigma")
    _at_least_zero(threshold)
    levels = pywt.dwtn_max_level(noisy.shape[-2:], wavelet)
    if levels < 1:
        raise ValueError(f"noisy is too small for the filters of {wavelet}, got shape {tuple(noisy.shape)}")
    coefficients = pywt.wavedec2(noisy.cpu().double().numpy(), wavelet, mode="symmetric", level=levels)
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

    Raises
    ------
    ValueError, TypeError
        If ``images`` is not a finite floating-point batch, ``sigma`` is not positive, or there is no such wavelet.
    """
    checks.images(images, "images")
    checks.positive(sigma, "sigma")
    pixels = images.cpu().double().numpy()
    levels = pywt.dwtn_max_level(pixels.shape[-2:], wavelet)
    coefficients = pywt.wavedec2(pixels, wavelet, mode="periodization", level=levels)
    return float((np.abs(pywt.coeffs_to_array(coefficients, axes=(-2, -1))[0]) > sigma).mean())


def _at_least_zero(threshold):
    if checks.number(threshold, "threshold") < 0:
        raise ValueError(f"threshold must be at least 0, got {threshold!r}")

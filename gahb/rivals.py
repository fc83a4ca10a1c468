"""Rivals of an adaptive basis (Section 3.1): thresholds in one basis for all images, chosen on training images.

Bases are arrays (k, size, size) of orthonormal vectors, for images of one channel. Bandlets, whose basis is chosen
for each image, are in :mod:`gahb.bandlets`; their settings are chosen here in the same way.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pywt
import torch
from numpy.typing import ArrayLike
from scipy import fft
from torch import Tensor

from gahb import bandlets
from gahb._util import checks
from gahb.metrics import squared_errors
from gahb.sampling import gaussian_noise

WAVELETS = ("haar", "db2", "db4", "sym4")
HARD, SOFT = ({"soft": soft} for soft in (False, True))
WAVELET_OPTIONS = [
    kind | {"threshold": threshold, "wavelet": wavelet}
    for wavelet in WAVELETS
    for kind, thresholds in ((HARD, (2.5, 3.0, 3.5, 4.0)), (SOFT, (1.0, 1.5)))
    for threshold in thresholds
]
BANDLET_OPTIONS = [  # squares of 16 gain less than 0.1 dB and take as long as all others
    {"threshold": threshold, "spins": 4, "margin": 8, "dictionary": bandlets.Dictionary(wavelet, sides=(4, 8))}
    for wavelet in ("haar", "db2")
    for threshold in (3.0, 3.5, 4.0)
]
BLOCK = 2**18  # pixels transformed at once; their wavelets take about 50 MB
Options = Sequence[dict[str, Any]]  # arguments of a rival, from which the best are chosen


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


def pca_basis(train: Tensor, k: int) -> np.ndarray:
    """The leading principal components of a training set, its mean removed.

    Parameters
    ----------
    train : Tensor (N, 1, size, size)
    k : int
        Number of components.

    Returns
    -------
    ndarray (k, size, size)
        Orthonormal; beyond the rank of the training set, directions that it does not determine.
    """
    flat = checks.square(train, "train").flatten(1).double().cpu()
    if checks.count(k, "k") > flat.shape[1]:
        raise ValueError(f"k must be at most the number of pixels {flat.shape[1]}, got {k}")
    flat = flat - flat.mean(0)
    _, vectors = torch.linalg.eigh(flat.T @ flat)
    return vectors.T.flip(0)[:k].reshape(k, *train.shape[-2:]).numpy()


def basis_denoise(noisy: Tensor, sigma: float, basis: ArrayLike, threshold: float = 3.0, soft: bool = False) -> Tensor:
    """Denoise by thresholding the coefficients in a fixed basis, such as :func:`dct_basis` or :func:`pca_basis`.

    Parameters
    ----------
    noisy : Tensor (B, C, size, size)
        Intensities. Half precision is computed in single precision.
    sigma : float
        Noise level, intensities.
    basis : array (k, size, size)
        Orthonormal. The first vector, the coarsest, is kept; what is outside their span is dropped.
    threshold : float
        In units of sigma, at least 0.
    soft : bool
        Whether coefficients above the threshold are also reduced by it.

    Returns
    -------
    Tensor (B, C, size, size)
        Intensities.
    """
    checks.images(noisy, "noisy")
    cut = checks.at_least_zero(threshold, "threshold") * checks.positive(sigma, "sigma")
    vectors = checks.array(basis, "basis", 3)
    if vectors.shape[1:] != noisy.shape[2:]:
        raise ValueError(f"basis must have the size of noisy, {tuple(noisy.shape[2:])}, got {vectors.shape[1:]}")
    images = _working(noisy)
    rows = torch.from_numpy(vectors).to(images).flatten(1)
    coefficients = images.flatten(2) @ rows.T
    kept = torch.cat([coefficients[..., :1], _thresholded(coefficients[..., 1:], cut, soft)], -1)
    return (kept @ rows).view(noisy.shape).to(noisy)


def wavelet_denoise(
    noisy: Tensor,
    sigma: float,
    threshold: float = 3.0,
    soft: bool = False,
    wavelet: str = "db2",
    levels: int | None = None,
) -> Tensor:
    """Denoise by thresholding translation-invariant wavelets (Coifman & Donoho, 1995).

    The stationary transform is thresholded, which is the same as averaging over all shifts ("cycle spinning").

    Parameters
    ----------
    noisy : Tensor (B, C, H, W)
        Intensities; the border is extended by reflection. Half precision is computed in single precision.
    sigma : float
        Noise level, intensities.
    threshold : float
        In units of sigma, at least 0; the coarsest approximation is kept.
    soft : bool
        Whether coefficients above the threshold are also reduced by it.
    wavelet : str
        An orthogonal wavelet of PyWavelets.
    levels : int, optional
        Number of scales; 2^levels is at most twice the longer side. If left out, as many as leave at least 4 pixels
        at the coarsest, and at least 1.

    Returns
    -------
    Tensor (B, C, H, W)
        Intensities.
    """
    checks.images(noisy, "noisy")
    cut = checks.at_least_zero(threshold, "threshold") * checks.positive(sigma, "sigma")
    height, width = noisy.shape[-2:]
    levels = max(1, int(np.log2(min(height, width) / 4))) if levels is None else checks.count(levels, "levels")
    if 2**levels > 2 * max(height, width):
        raise ValueError(f"levels must be fewer than {levels} for images of shape {tuple(noisy.shape)}")
    rows, columns = (np.pad(np.arange(side), 2**levels, mode="symmetric") for side in (height, width))
    inside = (..., slice(2**levels, 2**levels + height), slice(2**levels, 2**levels + width))
    shape, images = (len(rows), len(columns)), _working(noisy)
    responses, weights = _responses(shape, wavelet, levels)
    weights, responses = weights.to(images), responses.to(images.device, images.dtype.to_complex())

    def once(block: Tensor) -> Tensor:
        spectra = responses * torch.fft.rfft2(block[..., rows[:, None], columns])[..., None, :, :]
        bands = torch.fft.irfft2(spectra, shape)
        bands = torch.cat([bands[..., :1, :, :], _thresholded(bands[..., 1:, :, :], cut, soft)], -3)
        return torch.fft.irfft2((weights * responses.conj() * torch.fft.rfft2(bands)).sum(-3), shape)[inside]

    return torch.cat([once(block) for block in images.split(max(1, BLOCK // images[0].numel()))]).to(noisy)


def _responses(shape: tuple[int, int], wavelet: str, levels: int) -> tuple[Tensor, Tensor]:
    """Frequency responses of stationary wavelets (1 + 3 levels, H, W // 2 + 1), and weights that make a tight frame.

    The approximation comes first, then three details of each level, the finest first.
    """
    filters = np.array(_orthogonal(wavelet).filter_bank[:2])
    frequencies = np.fft.fftfreq(shape[0]), np.fft.rfftfreq(shape[1])
    bands, (low_rows, low_columns) = [], (np.ones(len(f), dtype=complex) for f in frequencies)
    for level in range(levels):
        waves = [np.exp(-2j * np.pi * 2**level * np.outer(np.arange(filters.shape[1]), f)) for f in frequencies]
        (low_rows, high_rows), (low_columns, high_columns) = (
            filters @ waves[0] * low_rows,
            filters @ waves[1] * low_columns,
        )
        pairs = (low_rows, high_columns), (high_rows, low_columns), (high_rows, high_columns)
        bands += [np.outer(*pair) for pair in pairs]
    level = np.array([levels, *np.repeat(np.arange(1, levels + 1), 3)])
    responses = np.stack([np.outer(low_rows, low_columns), *bands])
    return torch.from_numpy(responses), torch.from_numpy(0.25**level)[:, None, None]


def best_option(
    denoise: Callable[..., Tensor], options: Options, train: Tensor, sigma: float, seed: int = 0
) -> dict[str, Any]:
    """The arguments of a rival with the least error on training images.

    Parameters
    ----------
    denoise : callable
        ``denoise(noisy, sigma, **option)``, such as :func:`wavelet_denoise` or :func:`gahb.bandlets.denoise`.
    options : sequence of dict
        Arguments to choose from.
    train : Tensor (B, C, H, W)
        Clean images of the class, not the test images.
    sigma : float
        Noise level, intensities.
    seed : int
        Of their noise.

    Returns
    -------
    dict
        One of the options.
    """
    checks.clean_images(train, "train")
    if not options:
        raise ValueError("options must hold at least one set of arguments, got none")
    noisy = train + checks.positive(sigma, "sigma") * gaussian_noise(len(train), tuple(train.shape[1:]), seed).to(train)
    return min(options, key=lambda option: float((denoise(noisy, sigma, **option) - train).square().mean()))


def chosen_errors(
    denoise: Callable[..., Tensor],
    options: Options,
    train: Tensor,
    images: Tensor,
    sigmas: Sequence[float],
    seed: int = 0,
) -> np.ndarray:
    """Squared errors of a rival whose arguments are chosen on training images, at each noise level.

    Parameters
    ----------
    denoise, options, train
        As for :func:`best_option`; the noise of the training images is that of seed + 1.
    images, sigmas, seed
        As for :func:`gahb.metrics.squared_errors`: clean test images, noise levels, seed of their noise.

    Returns
    -------
    ndarray (S, B)
        Squared intensities per pixel.
    """
    checks.count(seed, "seed", 0)
    found = []
    for sigma in checks.sigmas(sigmas):
        option = best_option(denoise, options, train, sigma, seed + 1)
        found.append(squared_errors(partial(denoise, sigma=sigma, **option), images, sigma, seed).numpy())
    return np.concatenate(found)


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
    _orthogonal(wavelet)
    pixels = images.cpu().double().numpy()
    levels = pywt.dwtn_max_level(pixels.shape[-2:], wavelet)
    coefficients = pywt.wavedec2(pixels, wavelet, mode="periodization", level=levels)
    return float((np.abs(pywt.coeffs_to_array(coefficients, axes=(-2, -1))[0]) > sigma).mean())


def _working(images: Tensor) -> Tensor:
    return images if images.dtype == torch.float64 else images.float()


def _thresholded(coefficients: Tensor, cut: float, soft: bool) -> Tensor:
    size = coefficients.abs()
    return coefficients.sign() * (size - cut).clamp(min=0) if soft else coefficients * (size > cut)


def _orthogonal(wavelet: str) -> pywt.Wavelet:
    if wavelet not in pywt.wavelist(kind="discrete") or not pywt.Wavelet(wavelet).orthogonal:
        raise ValueError(f"wavelet must be an orthogonal wavelet of PyWavelets, such as db2, got {wavelet!r}")
    return pywt.Wavelet(wavelet)

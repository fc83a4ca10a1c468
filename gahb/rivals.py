"""Rivals of an adaptive basis (Section 3.1): one basis for all images, with thresholds or an oracle.

Bases are arrays (k, size, size) of orthonormal vectors, for images of one channel.
"""

from typing import Any

import numpy as np
import pywt
import torch
from numpy.typing import ArrayLike
from scipy import fft
from torch import Tensor

from gahb import stats
from gahb._util import checks
from gahb.denoisers import Denoiser
from gahb.jacobians import adaptive_basis
from gahb.sampling import gaussian_noise

WAVELETS = ("haar", "db2", "db4", "sym4")
THRESHOLDS = (1.0, 2.0, 2.5, 3.0, 3.5, 4.0)


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
    flat = _square(train, "train").flatten(1).double().cpu()
    if checks.count(k, "k") > flat.shape[1]:
        raise ValueError(f"k must be at most the number of pixels {flat.shape[1]}, got {k}")
    flat = flat - flat.mean(0)
    _, vectors = torch.linalg.eigh(flat.T @ flat)
    return vectors.T.flip(0)[:k].reshape(k, *train.shape[-2:]).numpy()


def wavelet_basis(size: int, wavelet: str) -> np.ndarray:
    """The orthogonal wavelets of periodic images.

    Parameters
    ----------
    size : int
        Height and width, pixels; halved as often as it is even.
    wavelet : str
        An orthogonal wavelet of PyWavelets.

    Returns
    -------
    ndarray (size^2, size, size)
        Orthonormal; from the coarsest scale to the finest.
    """
    _orthogonal(wavelet)
    d = checks.count(size, "size") ** 2
    coarse, parts = np.eye(d).reshape(d, size, size), []  # the transforms of all unit images
    while coarse.shape[-1] % 2 == 0:
        coarse, details = pywt.dwt2(coarse, wavelet, mode="periodization", axes=(-2, -1))
        parts += [part.reshape(d, -1) for part in details]
    return np.concatenate([coarse.reshape(d, -1), *parts[::-1]], axis=1).T.reshape(d, size, size)


def oracle_errors(
    denoiser: Denoiser, images: Tensor, sigma: float, train: Tensor, seed: int = 0
) -> dict[str, np.ndarray]:
    """Oracle errors (Eq. 12) of images in the adaptive basis and in fixed bases.

    The adaptive basis is computed from another noisy copy of the image: Eq. 11 to 13 are about bases that do not
    depend on the noise.

    Parameters
    ----------
    denoiser : callable
        f(y).
    images : Tensor (B, 1, size, size)
        Clean images, intensities in [0, 1].
    sigma : float
        Noise level, intensities.
    train : Tensor (N, 1, size, size)
        Training set of the principal components.
    seed : int
        Of the noise of the other copies, one for each image.

    Returns
    -------
    dict of ndarray (B,)
        Squared errors per pixel: ``adaptive``, ``DCT``, ``PCA``, and ``wavelets``, the best of several by their mean.
    """
    checks.positive(sigma, "sigma")
    checks.count(seed, "seed", 0)
    size, d = _square(images, "images").shape[-1], images[0].numel()
    checks.same_shape(images, checks.images(train, "train"), "images and train", 1)
    fixed = {"DCT": dct_basis(size, d), "PCA": pca_basis(train, d)}
    fixed |= {wavelet: wavelet_basis(size, wavelet) for wavelet in WAVELETS}
    pixels = images.double().cpu().flatten(1).numpy()
    rows = {name: _oracle(pixels @ basis.reshape(d, d).T, sigma) for name, basis in fixed.items()}
    best = min(WAVELETS, key=lambda wavelet: rows[wavelet].mean())
    noise = [gaussian_noise(1, tuple(images.shape[1:]), seed + i).to(images) for i in range(len(images))]
    vectors = [adaptive_basis(denoiser, x + sigma * z).vectors.flatten(1) for x, z in zip(images, noise, strict=True)]
    adaptive = np.stack([v.double().cpu().numpy() @ x for v, x in zip(vectors, pixels, strict=True)])
    return {"adaptive": _oracle(adaptive, sigma), "DCT": rows["DCT"], "PCA": rows["PCA"], "wavelets": rows[best]}


def _oracle(coefficients: np.ndarray, sigma: float) -> np.ndarray:
    """Oracle errors per pixel of the rows of coefficients."""
    return np.array([oracle_error(row, sigma) for row in coefficients]) / coefficients.shape[1]


def adaptive_gain(rows: dict[str, np.ndarray]) -> tuple[float, np.ndarray]:
    """Oracle PSNR in the adaptive basis minus that in the best fixed basis, and its 95 % interval over images.

    Parameters
    ----------
    rows : dict of ndarray (B,)
        As :func:`oracle_errors` returns them.

    Returns
    -------
    gain : float
        dB.
    interval : ndarray (2,)
    """
    if len(rows) < 2 or "adaptive" not in rows:
        raise ValueError(f"rows must hold adaptive and another basis, got {', '.join(rows) or 'none'}")
    best = min((errors for name, errors in rows.items() if name != "adaptive"), key=np.mean)
    gain, interval = stats.psnr_gain(rows["adaptive"], best)
    return float(gain), interval


def wavelet_denoise(
    noisy: Tensor, sigma: float, wavelet: str = "db2", threshold: float = 3.0, mode: str = "hard", levels: int = 3
) -> Tensor:
    """Denoise by thresholding translation-invariant wavelets (Coifman & Donoho, 1995).

    The stationary transform is thresholded, which is the same as averaging over all shifts ("cycle spinning").

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
    mode : str
        ``"hard"`` or ``"soft"``.
    levels : int
        Number of scales; 2^levels is at most twice the longer side.

    Returns
    -------
    Tensor (B, C, H, W)
        Intensities.
    """
    checks.images(noisy, "noisy")
    checks.positive(sigma, "sigma")
    checks.choice(mode, "mode", ("hard", "soft"))
    if checks.number(threshold, "threshold") < 0:
        raise ValueError(f"threshold must be at least 0, got {threshold!r}")
    _orthogonal(wavelet)
    height, width = noisy.shape[-2:]
    unit = 2 ** checks.count(levels, "levels")
    if unit > 2 * max(height, width):
        raise ValueError(f"levels must be fewer than {levels} for images of shape {tuple(noisy.shape)}")
    margins = [(0, 0), (0, 0), *((unit, unit + -side % unit) for side in (height, width))]
    padded = np.pad(noisy.double().cpu().numpy(), margins, mode="symmetric")
    coarse, *details = pywt.swt2(padded, wavelet, levels, axes=(-2, -1), trim_approx=True)
    if threshold > 0:  # at 0, pywt.threshold makes NaN of a coefficient that is 0
        details = [tuple(pywt.threshold(d, threshold * sigma, mode) for d in scale) for scale in details]
    restored = pywt.iswt2([coarse, *details], wavelet, axes=(-2, -1))
    return torch.from_numpy(restored[..., unit : unit + height, unit : unit + width].copy()).to(noisy)


def best_wavelet(train: Tensor, sigma: float, seed: int = 0) -> dict[str, Any]:
    """The wavelet, threshold and mode of :func:`wavelet_denoise` with the least error on training images.

    Parameters
    ----------
    train : Tensor (B, C, H, W)
        Clean images of the class, not the test images.
    sigma : float
        Noise level.
    seed : int
        Of their noise.

    Returns
    -------
    dict
        Arguments of :func:`wavelet_denoise`.
    """
    checks.clean_images(train, "train")
    noisy = train + checks.positive(sigma, "sigma") * gaussian_noise(len(train), tuple(train.shape[1:]), seed).to(train)
    options: list[dict[str, Any]] = [
        {"wavelet": wavelet, "threshold": threshold, "mode": mode}
        for wavelet in WAVELETS
        for threshold in THRESHOLDS
        for mode in ("hard", "soft")
    ]
    return min(options, key=lambda option: float((wavelet_denoise(noisy, sigma, **option) - train).square().mean()))


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


def _square(images: Tensor, name: str) -> Tensor:
    if checks.images(images, name).shape[1] != 1 or images.shape[2] != images.shape[3]:
        raise ValueError(f"{name} must have shape (B, 1, size, size), got {tuple(images.shape)}")
    return images


def _orthogonal(wavelet: str) -> None:
    if wavelet not in pywt.wavelist(kind="discrete") or not pywt.Wavelet(wavelet).orthogonal:
        raise ValueError(f"wavelet must be an orthogonal wavelet of PyWavelets, such as db2, got {wavelet!r}")

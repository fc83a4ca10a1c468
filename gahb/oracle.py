"""The oracle of Eq. 12, which shrinks the coefficients of an image that it knows, in adaptive and in fixed bases."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pywt
import scipy.linalg
import torch
from numpy.typing import ArrayLike
from scipy import fft
from torch import Tensor

from gahb import bandlets, rivals, stats
from gahb._util import checks
from gahb.denoisers import Denoiser
from gahb.jacobians import adaptive_basis
from gahb.sampling import gaussian_noise

Transform = Callable[[np.ndarray], np.ndarray]  # images (B, size, size) to coefficients in an orthonormal basis (B, d)
FIXED = ("DCT", "PCA", "wavelets")


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


def fixed_transforms(train: Tensor) -> dict[str, Transform]:
    """The fixed bases with which an adaptive one is compared, as functions from images to coefficients.

    Parameters
    ----------
    train : Tensor (N, 1, size, size)
        Training set of the principal components, intensities.

    Returns
    -------
    dict of callable
        ``DCT``, ``PCA``, and periodic wavelets by their name in PyWavelets: images (B, size, size) to coefficients
        (B, size^2) in an orthonormal basis, float64.
    """
    size, d = checks.square(train, "train").shape[-1], train[0].numel()
    components = rivals.pca_basis(train, d).reshape(d, d)

    def principal(images: np.ndarray) -> np.ndarray:
        if images.shape[1:] != (size, size):
            raise ValueError(f"images must have the size of train, {size}x{size}, got shape {images.shape}")
        return images.reshape(-1, d) @ components.T

    return {
        "DCT": lambda images: fft.dctn(images, norm="ortho", axes=(-2, -1)).reshape(len(images), -1),
        "PCA": principal,
        **{wavelet: partial(_wavelet_coefficients, wavelet=wavelet) for wavelet in rivals.WAVELETS},
    }


def _wavelet_coefficients(images: np.ndarray, wavelet: str) -> np.ndarray:
    """Orthogonal wavelet coefficients of periodic images, halved as often as their side is even."""
    coarse, parts = images, []
    while coarse.shape[-1] % 2 == 0:
        coarse, details = pywt.dwt2(coarse, wavelet, mode="periodization", axes=(-2, -1))
        parts += [part.reshape(len(images), -1) for part in details]
    return np.concatenate([coarse.reshape(len(images), -1), *parts[::-1]], axis=1)


def oracle_errors(
    denoiser: Denoiser,
    images: Tensor,
    sigma: float,
    fixed: dict[str, Transform],
    seed: int = 0,
    k: int | None = None,
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
    fixed : dict of callable
        Fixed bases, from :func:`fixed_transforms`.
    seed : int
        Of the noise of the other copies, one for each image.
    k : int, optional
        Number of leading eigenvectors, by default all. The rest of the space then has the vectors of the best fixed
        basis, made orthogonal to them: what is compared is that basis with k vectors of it replaced.

    Returns
    -------
    dict of ndarray (B,)
        Squared errors per pixel: ``adaptive``, ``DCT``, ``PCA``, and ``wavelets``, the best of several by their mean.
    """
    checks.positive(sigma, "sigma")
    pixels = checks.square(images, "images").double().cpu()[:, 0].numpy()
    tables = {name: transform(pixels) for name, transform in fixed.items()}
    rows = {name: _oracle(table, sigma) for name, table in tables.items()}
    best = min(fixed, key=lambda name: rows[name].mean())

    def coefficients(y: Tensor, x: np.ndarray, of_best: np.ndarray) -> np.ndarray:
        vectors = adaptive_basis(denoiser, y, k).vectors.double().cpu().numpy()
        return vectors.reshape(len(vectors), -1) @ x.ravel() if k is None else _completed(fixed[best](vectors), of_best)

    noisy = _another_copy(images, sigma, seed)
    adaptive = [coefficients(*of_image) for of_image in zip(noisy, pixels, tables[best], strict=True)]
    wavelets = min((rows[name] for name in rivals.WAVELETS), key=np.mean)
    return {
        "adaptive": _oracle(np.stack(adaptive), sigma),
        "DCT": rows["DCT"],
        "PCA": rows["PCA"],
        "wavelets": wavelets,
    }


def bandlet_oracle_errors(images: Tensor, sigma: float, seed: int = 0, threshold: float = 3.0) -> np.ndarray:
    """Oracle errors (Eq. 12) of images in their best bandlet bases, computed from another noisy copy.

    Parameters
    ----------
    images, sigma, seed
        As for :func:`oracle_errors`, whose other noisy copies these are.
    threshold : float
        Of :func:`gahb.bandlets.best_basis`, in units of sigma.

    Returns
    -------
    ndarray (B,)
        Squared errors per pixel.
    """
    checks.square(images, "images")
    cut = checks.at_least_zero(threshold, "threshold") * checks.positive(sigma, "sigma")
    noisy = _another_copy(images, sigma, seed)
    found = [bandlets.best_basis(y, cut).transform(x) for x, y in zip(images, noisy, strict=True)]
    return _oracle(torch.stack(found).flatten(1).double().cpu().numpy(), sigma)


def _another_copy(images: Tensor, sigma: float, seed: int) -> Tensor:
    """Noisy images; the noise of the i-th image is that of seed + i."""
    checks.count(seed, "seed", 0)
    noise = [gaussian_noise(1, tuple(images.shape[1:]), seed + i) for i in range(len(images))]
    return images + checks.positive(sigma, "sigma") * torch.cat(noise).to(images)


def _completed(vectors: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Coefficients (d,) of an image in k orthonormal vectors and in a fixed basis made orthogonal to them, up to signs.

    Both are given by their coefficients in the fixed basis, (k, d) and (d,). Householder reflections that turn k of the
    fixed vectors, those nearest to the k given ones, into these, turn the others into a basis of the rest of the space.
    """
    order = scipy.linalg.qr(vectors, mode="r", pivoting=True)[1]
    reflections, scales = torch.geqrf(torch.from_numpy(vectors[:, order].T.copy()))
    return torch.ormqr(reflections, scales, torch.from_numpy(image[order])[:, None], transpose=True)[:, 0].numpy()


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
    fixed = [rows[name] for name in FIXED if name in rows]
    if not fixed or "adaptive" not in rows:
        raise ValueError(f"rows must hold adaptive and a fixed basis, got {', '.join(rows) or 'none'}")
    best = min(fixed, key=np.mean)
    gain, interval = stats.psnr_gain(rows["adaptive"], best)
    return float(gain), interval

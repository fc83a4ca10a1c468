"""Low-dimensional image manifolds and their tangent spaces (Section 3.3, Appendix B.4)."""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from gahb._util import checks
from gahb.datasets.geometric import c_alpha

EDGE = 0.5  # standard deviation of the blur of a disk's edge, pixels
MIN_RADIUS = 3.0  # pixels
BLOCK = 256  # disks drawn at once: they fit into the processor's cache


def disks(n: int, size: int, seed: int = 0) -> Tensor:
    """Disks of random center, radius, foreground and background: a five-dimensional manifold.

    The edge is blurred by a Gaussian of half a pixel, so that an image is a smooth function of its five parameters;
    the radius is corrected for the blur, so that the area is pi r^2. Disks lie inside the frame, and their radius is
    at least 3 pixels.

    Parameters
    ----------
    n, size : int
        Number of images; their height and width, pixels, at least 12.
    seed : int
        The i-th image does not depend on ``n``. The global random state is neither read nor changed.

    Returns
    -------
    Tensor (n, 1, size, size), float32
        Intensities in [0, 1].
    """
    parameters = disk_parameters(n, size, seed)[:, :, None, None].float()
    return torch.cat([_render_disks(block, size) for block in parameters.split(BLOCK)])[:, None]


def disk_tangents(n: int, size: int, seed: int = 0) -> Tensor:
    """Derivatives of :func:`disks` by their parameters: the tangent spaces of the manifold.

    Parameters
    ----------
    n, size, seed : int
        As for :func:`disks`.

    Returns
    -------
    Tensor (n, 5, size, size), float32
        By center row, center column, radius (intensity per pixel), foreground, background.
    """
    return _tangents(_render_disks, disk_parameters(n, size, seed)[:, :, None, None], size)


def disk_at(parameters: ArrayLike | Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Disks of given parameters, and their derivatives by the parameters.

    Parameters
    ----------
    parameters : array (n, 5)
        Center row and column, radius (pixels, above half a pixel), foreground, background.
    size : int
        Height and width, pixels.

    Returns
    -------
    images : Tensor (n, 1, size, size), float32
    tangents : Tensor (n, 5, size, size), float32
        In the order of the parameters.
    """
    parameters = torch.as_tensor(parameters, dtype=torch.float64)
    if parameters.ndim != 2 or parameters.shape[1] != 5 or not parameters.isfinite().all():
        raise ValueError(f"parameters must be (n, 5) finite numbers, got shape {tuple(parameters.shape)}")
    if (parameters[:, 2] <= EDGE).any():
        raise ValueError(f"the radius of a disk must be above {EDGE} pixel, got {float(parameters[:, 2].min())}")
    checks.count(size, "size")
    parameters = parameters[:, :, None, None]
    return _render_disks(parameters, size)[:, None].float(), _tangents(_render_disks, parameters, size)


def disk_parameters(n: int, size: int, seed: int = 0) -> Tensor:
    """The random parameters of :func:`disks`.

    Parameters
    ----------
    n, size, seed : int
        As for :func:`disks`.

    Returns
    -------
    Tensor (n, 5), float64
        Center row and column, radius (pixels), foreground, background (intensities in [0, 1]).
    """
    checks.count(n, "n")
    checks.count(size, "size", 12)
    u = torch.from_numpy(checks.generator(seed).random((n, 5)))
    margin = 3 * EDGE
    radius = MIN_RADIUS + u[:, 2] * (size / 2 - margin - MIN_RADIUS)
    low = radius + margin - 0.5  # pixel centers have whole coordinates; the frame ends half a pixel outside
    span = size - 1 - 2 * low
    return torch.stack([low + u[:, 0] * span, low + u[:, 1] * span, radius, u[:, 3], u[:, 4]], dim=1)


def _render_disks(parameters: Tensor, size: int) -> Tensor:
    """Images (n, size, size) of parameters (n, 5, 1, 1), or (n, 5, size, size): those of each pixel."""
    row, column, radius, foreground, background = parameters.unbind(1)
    grid = torch.arange(size, dtype=parameters.dtype)
    # The blur adds pi EDGE^2 to the area of a disk.
    effective = (radius.square() - EDGE**2).sqrt()
    distance = ((grid[:, None] - row).square() + (grid - column).square() + 1e-12).sqrt()
    inside = (1 + torch.erf((effective - distance) / (EDGE * math.sqrt(2)))) / 2
    return background + (foreground - background) * inside


def disk_harmonics(parameters: ArrayLike, size: int, waves: int = 7, background: int = 8, inside: int = 4) -> Tensor:
    """Harmonics of one disk: waves along its edge, and the lowest modes of the two regions.

    Waves are cos(m theta) and sin(m theta), m = 2, 3, ..., on a band of one pixel on each side of the edge (m = 0 and 1
    are tangents of the manifold: radius and centre). Modes are eigenvectors of the Laplacian of a region's grid of
    pixels with free (Neumann) borders, without the constant. All are orthonormalized, in this order.

    Parameters
    ----------
    parameters : array (5,)
        Of :func:`disk_parameters`: centre row and column, radius (pixels); the intensities do not matter.
    size : int
        Height and width, pixels.
    waves, background, inside : int
        Number of frequencies m, of modes of the background and of modes of the disk.

    Returns
    -------
    Tensor (2 waves + background + inside, size, size), float64
        Orthonormal.
    """
    values = checks.array(parameters, "parameters", 1)
    if values.shape != (5,):
        raise ValueError(f"parameters must be those of one disk, shape (5,), got {values.shape}")
    (row, column), radius = values[:2], checks.positive(values[2], "radius")
    checks.count(waves, "waves", 0)
    i, j = np.mgrid[: checks.count(size, "size"), :size]
    distance, angle = np.hypot(i - row, j - column), np.arctan2(i - row, j - column)
    band = np.exp(-((distance - radius) ** 2) / 2)
    edge = [band * wave(m * angle) for m in range(2, 2 + waves) for wave in (np.cos, np.sin)]
    modes = [
        *_neumann_modes(distance > radius, checks.count(background, "background", 0), "background"),
        *_neumann_modes(distance <= radius, checks.count(inside, "inside", 0), "inside"),
    ]
    orthonormal, _ = np.linalg.qr(np.stack([*edge, *modes]).reshape(len(edge) + len(modes), -1).T)
    return torch.from_numpy(orthonormal.T.reshape(-1, size, size).copy())


def _neumann_modes(region: np.ndarray, count: int, name: str) -> np.ndarray:
    """Eigenvectors of the smallest non-zero eigenvalues of the graph Laplacian of a region's pixels."""
    import scipy.linalg  # here, because training works without it

    modes = np.zeros((count, *region.shape))
    if count == 0:
        return modes
    if count >= region.sum():
        raise ValueError(f"{name} must be below the number of pixels of that region, {region.sum()}, got {count}")
    number = np.cumsum(region.ravel()).reshape(region.shape) - 1
    down, right = region[:-1] & region[1:], region[:, :-1] & region[:, 1:]
    laplacian = np.zeros((region.sum(), region.sum()))
    for a, b in ((number[:-1][down], number[1:][down]), (number[:, :-1][right], number[:, 1:][right])):
        laplacian[a, b] = laplacian[b, a] = -1
    np.fill_diagonal(laplacian, -laplacian.sum(0))
    modes[:, region] = scipy.linalg.eigh(laplacian, subset_by_index=[1, count])[1].T
    return modes


def sinusoids(n: int, size: int, seed: int = 0) -> Tensor:
    """Plane waves a cos(2 pi (i + j) / size + phase): a cone in a two-dimensional space (Figure 13).

    One period along each axis, phase uniform, amplitude a uniform on [0, 1]; the mean intensity is 0.

    Parameters
    ----------
    n, size : int
        Number of images; their height and width, pixels, at least 4.
    seed : int
        As for :func:`disks`.

    Returns
    -------
    Tensor (n, 1, size, size), float32
        Intensities in [-1, 1].
    """
    return _render_sinusoids(_sinusoid_parameters(n, size, seed)[:, :, None, None], size)[:, None].float()


def sinusoid_tangents(n: int, size: int, seed: int = 0) -> Tensor:
    """Derivatives of :func:`sinusoids` by amplitude and phase: the tangent planes of the cone.

    Parameters
    ----------
    n, size, seed : int
        As for :func:`sinusoids`.

    Returns
    -------
    Tensor (n, 2, size, size), float32
        By amplitude, and by phase (intensity per radian).
    """
    return _tangents(_render_sinusoids, _sinusoid_parameters(n, size, seed)[:, :, None, None], size)


def _sinusoid_parameters(n: int, size: int, seed: int) -> Tensor:
    checks.count(n, "n")
    checks.count(size, "size", 4)
    u = torch.from_numpy(checks.generator(seed).random((n, 2)))
    return torch.stack([u[:, 0], 2 * math.pi * u[:, 1]], dim=1)


def _render_sinusoids(parameters: Tensor, size: int) -> Tensor:
    amplitude, phase = parameters.unbind(1)
    grid = torch.arange(size, dtype=parameters.dtype)
    return amplitude * torch.cos(2 * math.pi * (grid[:, None] + grid) / size + phase)


def scaled_image(image: Tensor, n: int, seed: int = 0) -> Tensor:
    """One image times an intensity uniform on [0, 1]: a ray (Figure 12).

    Parameters
    ----------
    image : Tensor (C, H, W) or (1, C, H, W)
        Intensities in [0, 1].
    n : int
        Number of images.
    seed : int
        As for :func:`disks`.

    Returns
    -------
    Tensor (n, C, H, W), float32
        Intensities in [0, 1].
    """
    image = checks.one_image(image, "image")
    checks.count(n, "n")
    intensity = torch.from_numpy(checks.generator(seed).random(n)).to(image.device)
    return (intensity[:, None, None, None] * image).float()


def ray_image(size: int) -> Tensor:
    """The image of :func:`ray`: a C-alpha image of alpha = 3.

    Parameters
    ----------
    size : int
        Height and width, pixels, at least 4.

    Returns
    -------
    Tensor (1, 1, size, size), float32
        Intensities in [0, 1].
    """
    return c_alpha(1, size, 3.0, seed=7)


def ray(n: int, size: int, seed: int = 0) -> Tensor:
    """One C-alpha image times random intensities: the class of Figure 12, whose image is a face in the paper.

    Parameters
    ----------
    n, size : int
        Number of images; their height and width, pixels, at least 4.
    seed : int
        Of the intensities; see :func:`scaled_image`.

    Returns
    -------
    Tensor (n, 1, size, size), float32
        Intensities in [0, 1].
    """
    return scaled_image(ray_image(size), n, seed)


def _tangents(render: Callable[[Tensor, int], Tensor], parameters: Tensor, size: int) -> Tensor:
    """Derivatives of images by their parameters (n, p, 1, 1): (n, p, size, size), float32.

    Each pixel gets its own copy of the parameters, so that one gradient of the sum holds every pixel's derivatives.
    """
    copies = parameters.repeat(1, 1, size, size).requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(render(copies, size).sum(), copies)
    return gradient.float()

"""Low-dimensional image manifolds and their tangent spaces (Section 3.3, Appendix B.4)."""

import math

import torch

from gahb._util import checks
from gahb.datasets.geometric import c_alpha

EDGE = 0.5  # standard deviation of the blur of a disk's edge, pixels
MIN_RADIUS = 3.0  # pixels
BLOCK = 256  # disks drawn at once: few enough for the processor's cache


def disks(n, size, seed=0):
    """Disks of random centre, radius, foreground and background: a five-dimensional manifold.

    The edge is blurred by a Gaussian of half a pixel, so that an image is a smooth function of
    its five parameters; the radius is corrected so that the disk keeps its area pi r^2. Disks lie
    inside the frame, and their radius is at least 3 pixels.

    Parameters
    ----------
    n : int
        Number of images.
    size : int
        Height and width, pixels, at least 12.
    seed : int
        The i-th image is the same whatever ``n``. The global random state is neither read nor changed.

    Returns
    -------
    Tensor (n, 1, size, size), float32
        Intensities in [0, 1].

    Raises
    ------
    ValueError, TypeError
        If ``n``, ``size`` or ``seed`` is not an integer in range.
    """
    parameters = disk_parameters(n, size, seed).float()
    return torch.cat([_render_disks(block, size) for block in parameters.split(BLOCK)])[:, None]


def disk_tangents(n, size, seed=0):
    """Derivatives of :func:`disks` by its parameters: the tangent spaces of the manifold.

    Parameters
    ----------
    n, size, seed : int
        As for :func:`disks`.

    Returns
    -------
    Tensor (n, 5, size, size), float32
        By centre row, centre column, radius (intensity per pixel), foreground, background.

    Raises
    ------
    ValueError, TypeError
        As :func:`disks`.
    """
    parameters = disk_parameters(n, size, seed)
    return _tangents(_render_disks, parameters, size).float()


def disk_at(parameters, size):
    """Disks of given parameters, and their derivatives by them.

    Parameters
    ----------
    parameters : array (n, 5)
        Centre row and column, radius (pixels, above half a pixel), foreground, background; where
        :func:`disks` draws its own, by :func:`disk_parameters`, any may stand here.
    size : int
        Height and width, pixels.

    Returns
    -------
    images : Tensor (n, 1, size, size), float32
    tangents : Tensor (n, 5, size, size), float32
        In the order of the parameters.

    Raises
    ------
    ValueError, TypeError
        If the parameters are not (n, 5) finite numbers, a radius is too small, or ``size`` is no positive integer.
    """
    parameters = torch.as_tensor(parameters, dtype=torch.float64)
    if parameters.ndim != 2 or parameters.shape[1] != 5 or not parameters.isfinite().all():
        raise ValueError(f"parameters must be (n, 5) finite numbers, got shape {tuple(parameters.shape)}")
    if (parameters[:, 2] <= EDGE).any():
        raise ValueError(f"the radius of a disk must be above {EDGE} pixel, got {float(parameters[:, 2].min())}")
    checks.count(size, "size")
    return _render_disks(parameters, size)[:, None].float(), _tangents(_render_disks, parameters, size).float()


def disk_parameters(n, size, seed=0):
    """The random parameters of :func:`disks`.

    Parameters
    ----------
    n, size, seed : int
        As for :func:`disks`.

    Returns
    -------
    Tensor (n, 5), float64
        Centre row and column, radius (pixels), foreground, background (intensities in [0, 1]).

    Raises
    ------
    ValueError, TypeError
        As :func:`disks`.
    """
    checks.count(n, "n")
    checks.count(size, "size", 12)
    u = torch.from_numpy(checks.generator(seed).random((n, 5)))
    margin = 3 * EDGE
    radius = MIN_RADIUS + u[:, 2] * (size / 2 - margin - MIN_RADIUS)
    low = radius + margin - 0.5  # pixel centres have whole coordinates, the frame ends half a pixel out
    span = size - 1 - 2 * low
    return torch.stack([low + u[:, 0] * span, low + u[:, 1] * span, radius, u[:, 3], u[:, 4]], dim=1)


def _render_disks(parameters, size):
    row, column, radius, foreground, background = _per_pixel(parameters).unbind(1)
    grid = torch.arange(size, dtype=parameters.dtype)
    # The blur adds pi EDGE^2 to the area of a disk.
    effective = (radius.square() - EDGE**2).sqrt()
    distance = ((grid[:, None] - row).square() + (grid - column).square() + 1e-12).sqrt()
    inside = (1 + torch.erf((effective - distance) / (EDGE * math.sqrt(2)))) / 2
    return background + (foreground - background) * inside


def sinusoids(n, size, seed=0):
    """Plane waves a cos(2 pi (i + j) / size + phase): a cone in a two-dimensional space (Figure 13).

    One period along each axis, phase uniform, amplitude a uniform on [0, 1]; the mean is 0.

    Parameters
    ----------
    n : int
        Number of images.
    size : int
        Height and width, pixels, at least 4.
    seed : int
        The i-th image is the same whatever ``n``. The global random state is neither read nor changed.

    Returns
    -------
    Tensor (n, 1, size, size), float32
        Intensities in [-1, 1].

    Raises
    ------
    ValueError, TypeError
        If ``n``, ``size`` or ``seed`` is not an integer in range.
    """
    return _render_sinusoids(_sinusoid_parameters(n, size, seed), size)[:, None].float()


def sinusoid_tangents(n, size, seed=0):
    """Derivatives of :func:`sinusoids` by amplitude and phase: the tangent planes of the cone.

    Parameters
    ----------
    n, size, seed : int
        As for :func:`sinusoids`.

    Returns
    -------
    Tensor (n, 2, size, size), float32
        By amplitude, and by phase (intensity a radian).

    Raises
    ------
    ValueError, TypeError
        As :func:`sinusoids`.
    """
    parameters = _sinusoid_parameters(n, size, seed)
    return _tangents(_render_sinusoids, parameters, size).float()


def _sinusoid_parameters(n, size, seed):
    checks.count(n, "n")
    checks.count(size, "size", 4)
    u = torch.from_numpy(checks.generator(seed).random((n, 2)))
    return torch.stack([u[:, 0], 2 * math.pi * u[:, 1]], dim=1)


def _render_sinusoids(parameters, size):
    amplitude, phase = _per_pixel(parameters).unbind(1)
    grid = torch.arange(size, dtype=parameters.dtype)
    return amplitude * torch.cos(2 * math.pi * (grid[:, None] + grid) / size + phase)


def scaled_image(image, n, seed=0):
    """One image times an intensity uniform on [0, 1]: a ray (Figure 12).

    Parameters
    ----------
    image : Tensor (C, H, W) or (1, C, H, W)
        Intensities in [0, 1].
    n : int
        Number of images.
    seed : int
        The i-th image is the same whatever ``n``. The global random state is neither read nor changed.

    Returns
    -------
    Tensor (n, C, H, W), float32
        Intensities in [0, 1].

    Raises
    ------
    ValueError, TypeError
        If ``image`` is not one finite floating-point image, or ``n`` or ``seed`` no integer in range.
    """
    image = checks.one_image(image, "image")
    checks.count(n, "n")
    intensity = torch.from_numpy(checks.generator(seed).random(n)).to(image.device)
    return (intensity[:, None, None, None] * image).float()


def ray_image(size):
    """The image of :func:`ray`: a geometric one (:func:`c_alpha`, alpha = 3), not a face.

    Parameters
    ----------
    size : int
        Height and width, pixels, at least 4.

    Returns
    -------
    Tensor (1, 1, size, size), float32
        Intensities in [0, 1].

    Raises
    ------
    ValueError, TypeError
        If ``size`` is not an integer of at least 4.
    """
    return c_alpha(1, size, 3.0, seed=7)


def ray(n, size, seed=0):
    """Multiples of one geometric image: the class of Figure 12, whose image is a face in the paper.

    Parameters
    ----------
    n : int
        Number of images.
    size : int
        Height and width, pixels, at least 4.
    seed : int
        Of the intensities; see :func:`scaled_image`.

    Returns
    -------
    Tensor (n, 1, size, size), float32
        Intensities in [0, 1].

    Raises
    ------
    ValueError, TypeError
        If ``n``, ``size`` or ``seed`` is not an integer in range.
    """
    return scaled_image(ray_image(size), n, seed)


def _per_pixel(parameters):
    return parameters if parameters.ndim == 4 else parameters[:, :, None, None]


def _tangents(render, parameters, size):
    """Derivatives of images by their parameters, (n, parameters, size, size).

    Each pixel is given a copy of the parameters, whose gradient is then that of this pixel alone.
    """
    copies = parameters[:, :, None, None].repeat(1, 1, size, size).requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(render(copies, size).sum(), copies)
    return gradient

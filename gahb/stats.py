"""Slopes, confidence intervals and bounds, each with its error."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.integrate
import scipy.stats
from numpy.typing import ArrayLike

from gahb._util import checks

BATCH = 10**7  # numbers that a bootstrap resamples at once


@dataclass(frozen=True)
class Slope:
    """A fitted line, output over input PSNR, that :func:`fit_slope` returns.

    Attributes
    ----------
    slope, error : float
        dB per dB, and its standard error; NaN for one image.
    intercept : float
        dB.
    low, high : float
        Range of the input PSNR of its points, dB.
    """

    slope: float
    error: float
    intercept: float
    low: float
    high: float


def fit_slope(input_db: ArrayLike, table: ArrayLike, low: float, high: float) -> Slope:
    """Slope of output against input PSNR over a range of noise levels.

    Least squares through the mean curve. Images have the same noise at all levels, so that the
    points of a curve are not independent, but least squares is linear: the slope of the mean is
    the mean of the slopes of the images, and its standard error that of this mean.

    Parameters
    ----------
    input_db : array (S,)
        Input PSNR, dB.
    table : array (S, B)
        PSNR of each image, dB.
    low, high : float
        Range of input PSNR, dB, ends included.

    Returns
    -------
    Slope

    Raises
    ------
    ValueError
        If fewer than two noise levels lie in the range.
    """
    x, table = checks.array(input_db, "input_db", 1), checks.array(table, "table", 2)
    if len(x) != len(table):
        raise ValueError(f"table must have a row for each of {len(x)} noise levels, got shape {table.shape}")
    checks.number(low, "low")
    checks.number(high, "high")
    inside = (x >= low - 1e-9) & (x <= high + 1e-9)
    if inside.sum() < 2:
        raise ValueError(f"a slope needs two noise levels between {low} and {high} dB, got {inside.sum()}")
    x, table = x[inside], table[inside]
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    slopes = weights @ table
    slope, error = slopes.mean(), math.sqrt(_variance_of_mean(slopes)) if len(slopes) > 1 else math.nan
    return Slope(float(slope), error, float(table.mean() - slope * x.mean()), float(x.min()), float(x.max()))


def resampled_means(table: ArrayLike, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """Bootstrap means over the last axis.

    Parameters
    ----------
    table : array (..., n)
    resamples : int
        Number of bootstrap samples.
    seed : int
        Seed of the bootstrap; tables with as many columns have the same columns drawn.

    Returns
    -------
    ndarray (..., resamples)
        In units of the table.
    """
    table = checks.array(table, "table")
    shape = (checks.count(resamples, "resamples"), table.shape[-1])
    picks = checks.generator(seed).integers(0, table.shape[-1], shape)
    return np.stack([table[..., pick].mean(-1) for pick in picks], axis=-1)


def confidence_interval(
    values: ArrayLike,
    statistic: Callable = np.mean,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> np.ndarray:
    """Percentile-bootstrap confidence interval of a statistic over the last axis.

    Parameters
    ----------
    values : array (..., n)
    statistic : callable
        Of a sample, such as ``np.mean`` or ``np.median``, as ``scipy.stats.bootstrap`` takes it.
    level : float
        Confidence, between 0 and 1.
    resamples : int
        Number of bootstrap samples, at least 2.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    ndarray (2, ...)
        Lower and upper end, in units of the statistic; both are the statistic itself for one value, or equal ones.
    """
    values = checks.array(values, "values")
    checks.count(resamples, "resamples", 2)
    if not 0 < checks.number(level, "level") < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    if values.shape[-1] == 1:  # no spread, which SciPy refuses
        values = np.repeat(values, 2, axis=-1)
    found = scipy.stats.bootstrap(
        (values,), statistic, axis=-1, confidence_level=level, n_resamples=resamples, method="percentile",
        batch=max(1, BATCH // values.size), rng=checks.generator(seed),
    )  # fmt: skip
    return np.array(found.confidence_interval)


def steps(samples: Sequence[ArrayLike], paired: bool) -> tuple[np.ndarray, np.ndarray]:
    """Differences of consecutive means and their standard errors.

    Parameters
    ----------
    samples : sequence of array (n,)
        Values of one quantity for each of a rising sequence, such as PSNR by image for each N.
    paired : bool
        Whether all samples are of the same images, in the same order.

    Returns
    -------
    differences, errors : ndarray (len(samples) - 1,)
        In units of the samples. A sample of one value, whose spread is unknown, adds nothing to an error.
    """
    samples = [checks.array(sample, "samples", 1) for sample in samples]
    if paired and len({len(sample) for sample in samples}) > 1:
        raise ValueError(f"samples must have the same length if paired, got {[len(sample) for sample in samples]}")
    differences, errors = [], []
    for a, b in itertools.pairwise(samples):
        differences.append(b.mean() - a.mean())
        variance = _variance_of_mean(b - a) if paired else _variance_of_mean(a) + _variance_of_mean(b)
        errors.append(math.sqrt(variance))
    return np.array(differences), np.array(errors)


def _variance_of_mean(values: np.ndarray) -> float:
    """Square of the standard error of the mean of (n,) values; 0 for one value."""
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else 0.0


def kl_integral(sigmas: ArrayLike, gap: ArrayLike) -> float:
    """Integral of (MSE(f, sigma^2) - MSE(f*, sigma^2)) sigma^-3 over sigma (Eq. 5), in nats.

    Simpson's rule over log sigma, where the integrand is gap * sigma^-2.

    Parameters
    ----------
    sigmas : array (S,)
        Noise levels, intensities, in any order.
    gap : array (S,)
        Difference of the squared errors (sums over pixels; divided by d for nats per dimension).

    Returns
    -------
    float
        The integral over the range of ``sigmas``; over the whole half-line it bounds the KL divergence.
    """
    sigmas, gap = checks.array(sigmas, "sigmas", 1), checks.array(gap, "gap", 1)
    if sigmas.shape != gap.shape or len(sigmas) < 2 or not (sigmas > 0).all():
        raise ValueError(f"sigmas must be two or more positive levels, one for each gap, got {sigmas} and {gap}")
    order = np.argsort(sigmas)
    sigmas, gap = sigmas[order], gap[order]
    return float(scipy.integrate.simpson(gap / sigmas**2, x=np.log(sigmas)))

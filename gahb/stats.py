"""Slopes, bands and bounds, each with its error."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import scipy.integrate
import scipy.stats

from gahb._util import checks


@dataclass(frozen=True)
class Slope:
    """A fitted line, output over input PSNR, that :func:`fit_slope` returns.

    Attributes
    ----------
    slope, error : float
        dB per dB, and its standard error.
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


def fit_slope(input_db, table, low, high, resamples=500, seed=0):
    """Slope of output against input PSNR over a stated range of noise.

    Least squares through the mean curve; the standard error is a bootstrap over the images,
    which share their noise between sigmas, so that the points of one curve are not independent; NaN
    for one image.

    Parameters
    ----------
    input_db : array (S,)
        Input PSNR, dB.
    table : array (S, B)
        PSNR of each image, dB.
    low, high : float
        Range of input PSNR, dB, ends included.
    resamples : int
        Number of bootstrap samples.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Slope

    Raises
    ------
    ValueError, TypeError
        If fewer than two noise levels lie in the range, the shapes do not match, or an array holds NaN.
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
    slopes = weights @ table  # least squares is linear, so the slope of the mean is the mean slope
    fits = resampled_means(slopes[None], resamples, seed)[0]
    slope = slopes.mean()
    return Slope(
        float(slope),
        float(fits.std(ddof=1)) if table.shape[1] > 1 else math.nan,
        float(table.mean() - slope * x.mean()),
        float(x.min()),
        float(x.max()),
    )


def resampled_means(table, resamples=1000, seed=0):
    """Bootstrap means over the last axis.

    Parameters
    ----------
    table : array (..., n)
    resamples : int
        Number of bootstrap samples.
    seed : int
        Of the bootstrap.

    Returns
    -------
    ndarray (..., resamples)
        In units of the table.

    Raises
    ------
    ValueError, TypeError
        If ``table`` is empty or holds NaN, or a number is not an integer in range.
    """
    table = checks.array(table, "table")
    shape = (checks.count(resamples, "resamples"), table.shape[-1])
    picks = checks.generator(seed).integers(0, table.shape[-1], shape)
    return np.stack([table[..., pick].mean(-1) for pick in picks], axis=-1)


def band(table, level=0.95, resamples=1000, seed=0):
    """Percentile-bootstrap band of the mean over the last axis.

    Parameters
    ----------
    table : array (..., n)
    level : float
        Confidence, between 0 and 1.
    resamples : int
        Number of bootstrap samples.
    seed : int
        Of the bootstrap.

    Returns
    -------
    ndarray (2, ...)
        Lower and upper end, in units of the table.

    Raises
    ------
    ValueError, TypeError
        If ``level`` is out of range, or as :func:`resampled_means`.
    """
    tail = (1 - _level(level)) / 2
    return np.quantile(resampled_means(table, resamples, seed), [tail, 1 - tail], axis=-1)


def interval(values, statistic=np.median, level=0.95, resamples=2000, seed=0):
    """Percentile-bootstrap confidence interval of a statistic of one sample.

    Parameters
    ----------
    values : array (n,)
    statistic : callable
        Of a sample, as ``scipy.stats.bootstrap`` takes it.
    level : float
        Confidence, between 0 and 1.
    resamples : int
        Number of bootstrap samples.
    seed : int
        Of the bootstrap.

    Returns
    -------
    tuple of float
        Lower and upper end, in units of the statistic; both are the statistic itself if all values are equal.

    Raises
    ------
    ValueError, TypeError
        If ``values`` is not of one dimension, is empty or holds NaN, or a number is out of range.
    """
    values = checks.array(values, "values", 1)
    checks.count(resamples, "resamples")
    if len(values) < 2 or np.all(values == values[0]):
        return float(statistic(values)), float(statistic(values))
    result = scipy.stats.bootstrap(
        (values,), statistic, confidence_level=_level(level), n_resamples=resamples, method="percentile",
        rng=checks.generator(seed),
    )  # fmt: skip
    return tuple(map(float, result.confidence_interval))


def _level(level):
    if not 0 < checks.number(level, "level") < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    return level


def steps(samples, paired):
    """Differences of consecutive means and their standard errors.

    Parameters
    ----------
    samples : sequence of array (n,)
        Values of one quantity for each of a rising sequence, such as PSNR by image for each N.
    paired : bool
        Whether the values of all belong to the same images.

    Returns
    -------
    differences, errors : ndarray (len(samples) - 1,)
        In units of the samples. A sample of one value adds nothing to an error: its spread is not known.

    Raises
    ------
    ValueError, TypeError
        If a sample is empty, holds NaN or numbers of another shape, or paired ones differ in length.
    """
    samples = [checks.array(sample, "samples", 1) for sample in samples]
    if paired and len({len(sample) for sample in samples}) > 1:
        raise ValueError(f"samples must have the same length if paired, got {[len(sample) for sample in samples]}")
    differences, errors = [], []
    for a, b in itertools.pairwise(samples):
        differences.append(b.mean() - a.mean())
        variances = [(b - a).var(ddof=1) / len(a)] if paired else [s.var(ddof=1) / len(s) for s in (a, b) if len(s) > 1]
        errors.append(np.sqrt(sum(variances)))
    return np.array(differences), np.array(errors)


def kl_integral(sigmas, gap):
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
        Over the range of ``sigmas``: a bound on the KL divergence for the whole half-line.

    Raises
    ------
    ValueError, TypeError
        If there are fewer than two noise levels, one is not positive, or their number is not that of the gaps.
    """
    sigmas, gap = checks.array(sigmas, "sigmas", 1), checks.array(gap, "gap", 1)
    if sigmas.shape != gap.shape or len(sigmas) < 2 or not (sigmas > 0).all():
        raise ValueError(f"sigmas must be two or more positive levels, one for each gap, got {sigmas} and {gap}")
    order = np.argsort(sigmas)
    sigmas, gap = sigmas[order], gap[order]
    return float(scipy.integrate.simpson(gap / sigmas**2, x=np.log(sigmas)))

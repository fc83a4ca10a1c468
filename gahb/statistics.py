"""Slopes, bands and bounds, each with its error."""

from dataclasses import dataclass

import numpy as np
import scipy.integrate
import scipy.stats


@dataclass(frozen=True)
class Slope:
    """A fitted line: ``slope`` and its standard ``error``, over ``low`` to ``high`` dB of input PSNR."""

    slope: float
    error: float
    intercept: float
    low: float
    high: float


def fit_slope(input_db, table, low, high, resamples=500, seed=0):
    """Slope of output against input PSNR over a stated range of noise.

    Least squares through the mean curve; the standard error is a bootstrap over the images,
    which share their noise between sigmas, so that the points of one curve are not independent.

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
    ValueError
        If fewer than two noise levels lie in the range.
    """
    x, table = np.asarray(input_db, dtype=float), np.asarray(table, dtype=float)
    inside = (x >= low - 1e-9) & (x <= high + 1e-9)
    if inside.sum() < 2:
        raise ValueError(f"a slope needs two noise levels between {low} and {high} dB, got {inside.sum()}")
    x, table = x[inside], table[inside]
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    slopes = weights @ table  # least squares is linear, so the slope of the mean is the mean slope
    fits = resampled_means(slopes[None], resamples, seed)[0]
    slope = slopes.mean()
    return Slope(
        float(slope), float(fits.std(ddof=1)), float(table.mean() - slope * x.mean()), float(x.min()), float(x.max())
    )


def resampled_means(table, resamples=1000, seed=0):
    """Bootstrap means over the last axis, array (..., resamples)."""
    table = np.asarray(table, dtype=float)
    picks = np.random.default_rng(seed).integers(0, table.shape[-1], (resamples, table.shape[-1]))
    return np.stack([table[..., pick].mean(-1) for pick in picks], axis=-1)


def band(table, level=0.95, resamples=1000, seed=0):
    """Percentile-bootstrap band of the mean over the last axis: arrays (low, high)."""
    tail = (1 - level) / 2
    return np.quantile(resampled_means(table, resamples, seed), [tail, 1 - tail], axis=-1)


def interval(values, statistic=np.median, level=0.95, resamples=2000, seed=0):
    """Percentile-bootstrap confidence interval of a statistic of one sample, (low, high)."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2 or np.all(values == values[0]):
        return float(statistic(values)), float(statistic(values))
    result = scipy.stats.bootstrap(
        (values,), statistic, confidence_level=level, n_resamples=resamples, method="percentile",
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    return tuple(map(float, result.confidence_interval))


def kl_integral(sigmas, gap):
    """Integral of (MSE(f, sigma^2) - MSE(f*, sigma^2)) sigma^-3 over sigma (Eq. 5), in nats.

    Simpson's rule over log sigma, where the integrand is gap * sigma^-2.

    Parameters
    ----------
    sigmas : array (S,)
        Noise levels, intensities, in any order.
    gap : array (S,)
        Difference of the squared errors (sums over pixels; divided by d for nats a dimension).

    Returns
    -------
    float
        Over the range of ``sigmas``: a bound on the KL divergence for the whole half-line.
    """
    sigmas, gap = np.asarray(sigmas, dtype=float), np.asarray(gap, dtype=float)
    if sigmas.ndim != 1 or sigmas.shape != gap.shape or len(sigmas) < 2 or not (sigmas > 0).all():
        raise ValueError(f"sigmas must be two or more positive levels, one for each gap, got {sigmas} and {gap}")
    order = np.argsort(sigmas)
    sigmas, gap = sigmas[order], gap[order]
    return float(scipy.integrate.simpson(gap / sigmas**2, x=np.log(sigmas)))

"""Numbers read off tables of squared errors, each with its error.

One estimator everywhere: PSNR is that of the squared error averaged over images and noise, and not a mean of the PSNR
of each image, which is infinite where one error is zero and gains up to 5 dB from the spread of the errors.
"""

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

    def at(self, input_db: float) -> float:
        """The output PSNR on the line at an input PSNR, dB."""
        return self.intercept + self.slope * input_db


def psnr(errors: ArrayLike, axis: int = -1) -> np.ndarray:
    """PSNR of the mean squared error.

    Parameters
    ----------
    errors : array (..., n)
        Squared errors per pixel, intensities squared.
    axis : int
        Axis of the images, over which the errors are averaged.

    Returns
    -------
    ndarray (...)
        -10 log10 of the mean, dB; infinite where all errors are 0.
    """
    with np.errstate(divide="ignore"):
        return -10 * np.log10(_squares(errors).mean(axis))


def psnr_contributions(errors: ArrayLike) -> np.ndarray:
    """What each image contributes to :func:`psnr`, to first order in its error (the delta method).

    Their mean over images is the PSNR of the mean squared error, and the standard error of that mean is the standard
    error of the PSNR. So whatever is linear in PSNR, such as a slope, is a mean over images too.

    Parameters
    ----------
    errors : array (..., n)
        Squared errors per pixel, with a mean above 0.

    Returns
    -------
    ndarray (..., n)
        dB.
    """
    errors = _squares(errors)
    mean = errors.mean(-1, keepdims=True)
    if not (mean > 0).all():
        raise ValueError("errors must have a mean above 0, got only zeros in a row, whose PSNR is infinite")
    return -10 * np.log10(mean) - 10 / math.log(10) * (errors / mean - 1)


def psnr_gain(
    errors: ArrayLike, other: ArrayLike, resamples: int = 1000, seed: int = 0, paired: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Difference in PSNR of two denoisers, and its 95 % bootstrap interval over images.

    Parameters
    ----------
    errors, other : array (..., n), array (..., m)
        Squared errors of the denoiser and of the one it is compared with.
    resamples, seed : int
        Of the bootstrap.
    paired : bool
        Whether both are on the same images and noise; then the same images are drawn for both.

    Returns
    -------
    gain : ndarray (...)
        PSNR of the first minus that of the second, dB.
    interval : ndarray (2, ...)
        Lower and upper end.
    """
    errors, other = _squares(errors), _squares(other, "other")
    if errors.shape[:-1] != other.shape[:-1] or (paired and errors.shape != other.shape):
        raise ValueError(
            "errors and other must have the same shape, but for the number of images if not paired, got "
            f"{errors.shape} and {other.shape}"
        )
    if not (errors.any(-1) | other.any(-1)).all():
        raise ValueError("errors or other must be above 0, got only zeros in both, whose PSNRs are infinite")
    means = [resampled_means(errors, resamples, seed), resampled_means(other, resamples, seed + (not paired))]
    with np.errstate(divide="ignore"):
        gains = 10 * np.log10(means[1] / means[0])
    return psnr(errors) - psnr(other), np.quantile(gains, [0.025, 0.975], axis=-1)


def ratio_interval(values: ArrayLike, other: ArrayLike, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """95 % bootstrap interval of the ratio of two means over the same images.

    Parameters
    ----------
    values, other : array (..., n)
    resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    ndarray (2, ...)
        Lower and upper end of mean(values) / mean(other).
    """
    values, other = checks.array(values, "values"), checks.array(other, "other")
    if values.shape != other.shape:
        raise ValueError(f"values and other must have the same shape, got {values.shape} and {other.shape}")
    if not (other > 0).all():
        raise ValueError(f"other must be above 0, got {other.min():g}")
    ratios = resampled_means(values, resamples, seed) / resampled_means(other, resamples, seed)
    return np.quantile(ratios, [0.025, 0.975], axis=-1)


def fit_slope(input_db: ArrayLike, errors: ArrayLike, low: float, high: float) -> Slope:
    """Slope of output against input PSNR over a range of noise levels.

    Least squares through the curve of :func:`psnr`. Images have the same noise at all levels, so that the points of a
    curve are not independent, but the slope is a mean over images (see :func:`psnr_contributions`), and its standard
    error is that of this mean.

    Parameters
    ----------
    input_db : array (S,)
        Input PSNR, dB.
    errors : array (S, B)
        Squared error of each image at each noise level.
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
    x, slopes, curve = _slopes(input_db, errors, low, high)
    error = math.sqrt(_variance_of_mean(slopes)) if len(slopes) > 1 else math.nan
    slope = slopes.mean()
    return Slope(float(slope), error, float(curve.mean() - slope * x.mean()), float(x.min()), float(x.max()))


def slope_difference(
    input_db: ArrayLike, errors: ArrayLike, other: ArrayLike, low: float, high: float
) -> tuple[float, np.ndarray]:
    """Slope of one denoiser minus that of another on the same images and noise, and its 95 % interval.

    Parameters
    ----------
    input_db, errors
        As for :func:`fit_slope`.
    other : array (S, B)
        Squared errors of the other denoiser.
    low, high
        As for :func:`fit_slope`.

    Returns
    -------
    difference : float
        dB per dB.
    interval : ndarray (2,)
        By bootstrap over images.
    """
    errors, other = _squares(errors, dims=2), _squares(other, "other", 2)
    if errors.shape != other.shape:
        raise ValueError(f"errors and other must have the same shape, got {errors.shape} and {other.shape}")
    difference = _slopes(input_db, errors, low, high)[1] - _slopes(input_db, other, low, high)[1]
    return float(difference.mean()), confidence_interval(difference)


def _squares(errors: ArrayLike, name: str = "errors", dims: int | None = None) -> np.ndarray:
    """Squared errors as an array."""
    errors = checks.array(errors, name, dims)
    if (errors < 0).any():
        raise ValueError(f"{name} must be squared errors, of at least 0, got {errors.min():g}")
    return errors


def _slopes(
    input_db: ArrayLike, errors: ArrayLike, low: float, high: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Input PSNR in a range (s,), what each image contributes to the slope there (B,), and the curve (s,)."""
    x, errors = checks.array(input_db, "input_db", 1), checks.array(errors, "errors", 2)
    if len(x) != len(errors):
        raise ValueError(f"errors must have a row for each of {len(x)} noise levels, got shape {errors.shape}")
    checks.number(low, "low")
    checks.number(high, "high")
    inside = (x >= low - 1e-9) & (x <= high + 1e-9)
    if inside.sum() < 2:
        raise ValueError(f"a slope needs two noise levels between {low} and {high} dB, got {inside.sum()}")
    x, contributions = x[inside], psnr_contributions(errors[inside])
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    return x, weights @ contributions, contributions.mean(1)


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


def share_interval(flags: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Exact binomial confidence interval of a share (Clopper & Pearson, 1934).

    Unlike a bootstrap interval, it has a width where none or all of the flags are set.

    Parameters
    ----------
    flags : array (n,), bool
        Whether each image is one of those that are counted.
    level : float
        Confidence, between 0 and 1.

    Returns
    -------
    low, high : float
        In [0, 1].
    """
    flags = checks.array(flags, "flags", 1)
    if not np.isin(flags, (0, 1)).all():
        raise ValueError(f"flags must be true or false, got {flags[~np.isin(flags, (0, 1))][0]:g}")
    if not 0 < checks.number(level, "level") < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    found = scipy.stats.binomtest(int(flags.sum()), len(flags)).proportion_ci(level, "exact")
    return float(found.low), float(found.high)


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
    arrays = [checks.array(sample, "samples", 1) for sample in samples]
    if paired and len({len(array) for array in arrays}) > 1:
        raise ValueError(f"samples must have the same length if paired, got {[len(array) for array in arrays]}")
    differences, errors = [], []
    for a, b in itertools.pairwise(arrays):
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

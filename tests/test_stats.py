"""PSNR, slopes, confidence intervals and integrals against exact values and repeated draws."""

import math

import numpy as np
import pytest
import scipy.stats

from gahb import stats

X = np.array([0.0, 5, 10, 15, 20, 25, 30])


def squares(psnr):
    """Squared errors of a PSNR."""
    return 10 ** (-np.asarray(psnr) / 10)


def draws(rng, n, slope=0.7):
    """Squared errors (7, n) whose expectation has the PSNR ``slope * X + 20``; skewed, and correlated over levels."""
    of_images, of_points = rng.gamma(2, 1 / 2, n), rng.gamma(20, 1 / 20, (7, n))
    return squares(slope * X + 20)[:, None] * of_images * of_points


def test_psnr_is_that_of_the_mean_error():
    assert stats.psnr([0.1, 0.3, 0.2, 0.0]) == pytest.approx(-10 * math.log10(0.15), rel=1e-14)
    table = np.random.default_rng(0).random((2, 3, 5))
    np.testing.assert_allclose(stats.psnr(table), -10 * np.log10(table.mean(2)), rtol=1e-14)
    np.testing.assert_allclose(stats.psnr(table, 0), -10 * np.log10(table.mean(0)), rtol=1e-14)
    np.testing.assert_array_equal(stats.psnr([[0.0, 0.0], [0.1, 0.1]]), [np.inf, 10])


def test_contributions_have_the_psnr_as_mean_and_its_error():
    """Over 2000 sets of 100 images: the standard error of their mean is the spread of the PSNR, within 10 %."""
    rng, repeats, n = np.random.default_rng(1), 2000, 100
    sets = rng.gamma(1.5, 1 / 1.5, (repeats, n))
    found, psnr = stats.psnr_contributions(sets), stats.psnr(sets)
    np.testing.assert_allclose(found.mean(1), psnr, atol=1e-12)
    np.testing.assert_allclose(psnr, -10 * np.log10(sets.mean(1)), atol=1e-12)
    errors = found.std(1, ddof=1) / n**0.5
    assert errors.mean() / psnr.std(ddof=1) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("paired", [True, False])
def test_interval_of_a_gain_covers_it(paired):
    """Two denoisers 3 dB apart whose errors vary together, or of other images: coverage within 4 standard errors."""
    rng, repeats, n = np.random.default_rng(2), 400, 100
    of_images = rng.gamma(2, 1 / 2, (repeats, n))
    other = squares(20) * of_images * rng.gamma(50, 1 / 50, (repeats, n))
    first = squares(23) * of_images * rng.gamma(50, 1 / 50, (repeats, n))
    if not paired:
        first = squares(23) * rng.gamma(2, 1 / 2, (repeats, 60))
    gain, (low, high) = stats.psnr_gain(first, other, 300, paired=paired)
    np.testing.assert_allclose(gain, 10 * np.log10(other.mean(1) / first.mean(1)), rtol=1e-12)
    error = math.sqrt(0.95 * 0.05 / repeats)
    # The percentile method lacks about 1 / n.
    assert np.mean((low <= 3) & (high >= 3)) == pytest.approx(0.95, abs=4 * error + 1 / first.shape[1])
    # Pairs share what varies between images: intervals are as wide as the delta method says for each design.
    parts = [10 / math.log(10) * errors / errors.mean(1, keepdims=True) for errors in (first, other)]
    of_mean = [part.var(1, ddof=1) / part.shape[1] for part in parts]
    variance = (parts[0] - parts[1]).var(1, ddof=1) / n if paired else of_mean[0] + of_mean[1]
    assert np.mean((high - low) / (2 * 1.96 * np.sqrt(variance))) == pytest.approx(1, abs=0.05)
    assert (np.mean(high - low) < 0.3 * 2 * 1.96 * np.sqrt(sum(of_mean)).mean()) == paired


def test_interval_of_a_ratio_covers_it_and_is_narrow_for_pairs():
    rng, repeats, n = np.random.default_rng(3), 400, 100
    other = rng.gamma(2, 1 / 2, (repeats, n))
    low, high = stats.ratio_interval(0.5 * other * rng.gamma(50, 1 / 50, (repeats, n)), other, 300)
    assert np.mean((low <= 0.5) & (high >= 0.5)) == pytest.approx(
        0.95, abs=4 * math.sqrt(0.95 * 0.05 / repeats) + 1 / n
    )
    np.testing.assert_allclose(stats.ratio_interval(3 * other[:2], other[:2]), 3, rtol=1e-12)


def test_slope_of_a_line_is_exact():
    """Errors of the images in fixed proportions: PSNR of their mean, no error of the slope."""
    proportions = np.array([1.0, 0.5, 4, 0.1])
    fit = stats.fit_slope(X, squares(0.6 * X + 12)[:, None] * proportions, 5, 20)
    assert fit.slope == pytest.approx(0.6, abs=1e-12)
    assert fit.intercept == pytest.approx(12 - 10 * math.log10(1.4), abs=1e-11)
    assert fit.error == pytest.approx(0, abs=1e-12)
    assert (fit.low, fit.high) == (5, 20)
    assert fit.at(7.5) == pytest.approx(0.6 * 7.5 + 12 - 10 * math.log10(1.4), abs=1e-11)


def test_slope_is_least_squares_within_the_range_only():
    """numpy's polyfit on the curve; what lies outside the range does not matter; any order of the points."""
    table = draws(np.random.default_rng(0), 9)
    inside = (X >= 5) & (X <= 25)
    slope, intercept = np.polyfit(X[inside], -10 * np.log10(table[inside].mean(1)), 1)
    wild = np.where(inside[:, None], table, 1e3 * X[:, None] ** 2)
    order = np.random.default_rng(1).permutation(7)
    for fit in (stats.fit_slope(X, wild, 5, 25), stats.fit_slope(X[order], wild[order], 5, 25)):
        assert fit.slope == pytest.approx(slope, abs=1e-12)
        assert fit.intercept == pytest.approx(intercept, abs=1e-10)
    with pytest.raises(ValueError, match="two noise levels"):
        stats.fit_slope(X, table, 11, 19)


def test_slope_error_is_the_spread_over_repeated_draws():
    """Skewed errors, correlated over noise levels: the slope, and the mean error is the spread, within 4 errors."""
    rng, repeats, n = np.random.default_rng(0), 300, 200
    fits = [stats.fit_slope(X, draws(rng, n), 0, 30) for _ in range(repeats)]
    slopes, errors = np.array([(fit.slope, fit.error) for fit in fits]).T
    # Independent points of relative variance E a^2 / 20 = 1.5 / 20; what an image has at all levels cancels.
    weights = (X - X.mean()) / ((X - X.mean()) ** 2).sum()
    truth = 10 / math.log(10) * math.sqrt((weights**2).sum() * 1.5 / 20 / n)
    assert slopes.mean() == pytest.approx(0.7, abs=4 * truth / repeats**0.5)
    assert slopes.std(ddof=1) / truth == pytest.approx(1, abs=4 / math.sqrt(2 * repeats))
    assert errors.mean() == pytest.approx(truth, abs=4 * errors.std() / repeats**0.5 + 0.01 * truth)
    assert errors.std() / repeats**0.5 < 0.02 * truth


def test_difference_of_slopes_and_its_interval():
    """Slopes 0.8 and 0.7 on the same images: polyfit's difference, coverage within 4 standard errors."""
    rng, repeats, n, inside = np.random.default_rng(4), 200, 80, []
    for _ in range(repeats):
        other = draws(rng, n)
        errors = other * squares(0.1 * X)[:, None] * rng.gamma(50, 1 / 50, (7, n))
        difference, (low, high) = stats.slope_difference(X, errors, other, 0, 30)
        inside.append(low <= 0.1 <= high)
    fits = [np.polyfit(X, -10 * np.log10(table.mean(1)), 1)[0] for table in (errors, other)]
    assert difference == pytest.approx(fits[0] - fits[1], abs=1e-12)
    coverage = 0.95 + np.array([-1, 1]) * (4 * math.sqrt(0.95 * 0.05 / repeats) + 1 / n)
    assert coverage[0] < np.mean(inside) < coverage[1]


def test_resampled_means_have_the_known_moments():
    values = np.random.default_rng(0).standard_normal((2, 30))
    means = stats.resampled_means(values, 20_000)
    assert means.shape == (2, 20_000)
    error = values.std(1) / 30**0.5
    np.testing.assert_array_less(np.abs(means.mean(-1) - values.mean(1)), 4 * error / 20_000**0.5)
    np.testing.assert_allclose(means.std(-1) / error, 1, atol=4 / math.sqrt(40_000))
    np.testing.assert_array_equal(stats.resampled_means(values, 10, seed=1), stats.resampled_means(values, 10, seed=1))


@pytest.mark.parametrize("level", [0.68, 0.95])
def test_interval_of_a_mean_covers_it_as_often_as_it_says(level):
    """250 tables of 80 images: coverage within 4 standard errors and the percentile method's known lack of 1/n."""
    rng, repeats, n = np.random.default_rng(1), 250, 80
    inside = []
    for _ in range(repeats):
        values = rng.normal([[1.0], [-2.0]], [[1.0], [3.0]], (2, n))
        low, high = stats.confidence_interval(values, level=level, resamples=200)
        inside.append([low[0] <= 1 <= high[0], low[1] <= -2 <= high[1]])
    coverage, error = np.mean(inside), math.sqrt(level * (1 - level) / (2 * repeats))
    assert error < 0.022
    assert coverage == pytest.approx(level, abs=4 * error + 1 / n)


def test_interval_is_the_quantiles_of_the_statistic_over_drawn_columns(monkeypatch):
    """In one batch or many; every row of a table has the same columns drawn."""
    table = np.random.default_rng(4).standard_normal((2, 3, 9))
    picks = np.random.default_rng(5).integers(0, 9, (50, 9))
    expected = np.quantile([np.median(table[..., pick], axis=-1) for pick in picks], [0.1, 0.9], axis=0)
    for batch in (1, 1000, 10**7):
        monkeypatch.setattr(stats, "BATCH", batch)
        found = stats.confidence_interval(table, np.median, 0.8, resamples=50, seed=5)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("statistic", [np.mean, np.median])
def test_interval_of_one_value_or_of_equal_ones_is_a_point(statistic):
    np.testing.assert_array_equal(stats.confidence_interval([2.0, 2.0, 2.0], statistic), [2, 2])
    np.testing.assert_array_equal(stats.confidence_interval([5.0], statistic), [5, 5])
    np.testing.assert_array_equal(stats.confidence_interval([[1.0], [2.0]], statistic), [[1, 2], [1, 2]])


def test_steps():
    rng = np.random.default_rng(5)
    samples = rng.normal([[0.0], [1.0], [1.5]], 1, (3, 50)) + rng.normal(0, 5, 50)
    differences, errors = stats.steps(samples, paired=True)
    np.testing.assert_allclose(differences, np.diff(samples.mean(1)), rtol=1e-12)
    np.testing.assert_allclose(errors, np.diff(samples, axis=0).std(1, ddof=1) / 50**0.5, rtol=1e-12)
    _, unpaired = stats.steps([samples[0], samples[1][:20], samples[2]], paired=False)
    variances = [samples[0].var(ddof=1) / 50, samples[1][:20].var(ddof=1) / 20, samples[2].var(ddof=1) / 50]
    np.testing.assert_allclose(
        unpaired, np.sqrt([variances[0] + variances[1], variances[1] + variances[2]]), rtol=1e-12
    )
    assert np.all(unpaired > 3 * errors)  # the images' common part cancels only in pairs


def test_steps_of_samples_of_one_value():
    """Its spread is unknown: it adds nothing to an error, and gives no warning (warnings are errors here)."""
    several = np.array([1.0, 3.0, 5.0, 7.0])
    for paired, samples in ((True, [[1.0], [3.0]]), (False, [[1.0], [3.0]])):
        assert [list(found) for found in stats.steps(samples, paired)] == [[2], [0]]
    differences, errors = stats.steps([[1.0], several, [2.0]], paired=False)
    np.testing.assert_allclose(differences, [3, -2])
    np.testing.assert_allclose(errors, [several.std(ddof=1) / 2] * 2)


def integral_of_a_power(power, low, high):
    return math.log(high / low) if power == 2 else (high ** (power - 2) - low ** (power - 2)) / (power - 2)


@pytest.mark.parametrize("power", [2.0, 3.0, 4.5, "saturating"])
def test_kl_integral_of_a_known_gap(power):
    """gap = sigma^p, and sigma^4 / (1 + sigma^2): integrals of gap / sigma^3, over uneven noise levels in any order."""
    uneven = np.exp(np.linspace(-3, 1, 81) + 0.01 * np.sin(np.arange(81)))
    sigmas = np.random.default_rng(6).permutation(uneven)
    if power == "saturating":
        gap, truth = sigmas**4 / (1 + sigmas**2), math.log((1 + uneven[-1] ** 2) / (1 + uneven[0] ** 2)) / 2
    else:
        gap, truth = sigmas**power, integral_of_a_power(power, uneven[0], uneven[-1])
    assert stats.kl_integral(sigmas, gap) == pytest.approx(truth, rel=1e-5)


def test_slope_of_one_image_has_no_error():
    fit = stats.fit_slope([0.0, 10, 20], squares([[1.0], [6], [11]]), 0, 20)
    assert fit.slope == pytest.approx(0.5)
    assert math.isnan(fit.error)


@pytest.mark.parametrize(("count", "n"), [(0, 20), (20, 20), (3, 20), (1, 1000)])
def test_share_interval_has_its_level_at_either_end(count, n):
    """At the lower end as many or more have probability 2.5 %, and at the upper end as many or fewer."""
    low, high = stats.share_interval(np.arange(n) < count)
    assert low == 0 if count == 0 else scipy.stats.binom.sf(count - 1, n, low) == pytest.approx(0.025, abs=1e-9)
    assert high == 1 if count == n else scipy.stats.binom.cdf(count, n, high) == pytest.approx(0.025, abs=1e-9)
    if count == 0:
        assert high == pytest.approx(1 - 0.025 ** (1 / n), abs=1e-12)

"""What the paper claims, and the rule that judges each claim.

Two kinds: ``evidence``, which could fail, and ``identity``, which holds for any bias-free denoiser or by algebra, so
that a failure is a bug. A rule reads only what the ledger records: a dict ``m`` of what was measured, with ``null``,
what the same code measured on something that should not pass (a linear denoiser, a fixed basis, another image, unseen
images, another noise), and ``interval``, on which the verdict rests (95 %, by bootstrap over images). A similarity is
recorded plain (the paper's) and with each image's mean removed (``_centered``), and its rule must hold for both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Measured = dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """One claim. ``holds(m, strict)`` is its rule; ``strict`` at the scales of the paper's size.

    ``null`` says what the null is: evidence is not tested before its null is measured too. ``alone(null)`` is what the
    null measured, in the form of ``m``, where the rule can judge the null by itself; None where the rule compares the
    two. ``changed`` marks the claims whose rule the second edition changed; their first measurement is kept beside the
    new one.
    """

    id: str
    figure: str
    statement: str
    rule: str
    holds: Callable[[Measured, bool], bool]
    null: str = ""
    kind: str = "evidence"
    changed: bool = False
    alone: Callable[[Measured], Measured] | None = None


def _falls(values: Sequence[float]) -> bool:
    """Whether values fall strictly."""
    return bool(np.all(np.diff(values) < 0))


def _rises(values: Sequence[float]) -> bool:
    """Whether values rise strictly."""
    return bool(np.all(np.diff(values) > 0))


def _lower_ends(m: Measured, key: str = "interval") -> np.ndarray:
    """Lower ends of the intervals recorded as rows (low, high), or as one pair."""
    return np.atleast_2d(np.asarray(m[key], dtype=float))[:, 0]


def _read(*keys: str) -> Callable[[Measured], Measured]:
    """Read what the null measured under the names that the rule reads."""
    return lambda null: {key: null[key] for key in keys}


def _read_interval(*keys: str) -> Callable[[Measured], Measured]:
    """Read what the null measured; its interval is the values of the last key, without spread."""
    return lambda null: _read(*keys)(null) | {"interval": np.stack([np.atleast_1d(null[keys[-1]])] * 2, axis=-1)}


def _both(m: Measured, *keys: str) -> list[list[Any]]:
    """The values of some keys, plain and with the means removed."""
    return [[m[key] for key in keys], [m[f"{key}_centered"] for key in keys]]


def _one_training_image(m: Measured, strict: bool) -> bool:
    return abs(m["slope"] - 1) <= 0.1 and np.min(m["below_optimum_db"]) > 0 and bool(np.all(_lower_ends(m) > 0))


def _poor_on_test_images(m: Measured, strict: bool) -> bool:
    worse = np.asarray(m["worse_db"])[np.asarray(m["sigma"]) <= 0.3]
    return m["range_db"] < 0.25 * m["null"]["range_db"] and bool(np.all(worse >= 3))


def _gap_vanishes(m: Measured, strict: bool) -> bool:
    gaps = [gap for n, gap in zip(m["N"], m["nats_per_dimension"], strict=True) if n >= 10]
    return _falls(gaps) and np.atleast_2d(m["interval"])[-1, 1] < 0.01 * gaps[0]


def _beats_linear(m: Measured, strict: bool) -> bool:
    nearest = int(np.argmin(np.abs(np.asarray(m["sigma"]) - 0.1)))
    return bool(np.all(_lower_ends(m) > 0)) and m["gain_db"][nearest] > 1


def _same_samples(m: Measured, strict: bool) -> bool:
    nulls = _both(m["null"], "pair_95")
    return all(
        pair > near and pair > null and (not strict or pair > 0.9)
        for (pair, near), (null,) in zip(_both(m, "pair", "nearest"), nulls, strict=True)
    )


def _samples_leave_training_set(m: Measured, strict: bool) -> bool:
    limits = (0.01, 0.03)
    return all(
        _rises(pair) and _falls(excess) and excess[-1] < limit
        for (pair, excess), limit in zip(_both(m, "pair", "excess"), limits, strict=True)
    )


def _variance_vanishes(m: Measured, strict: bool) -> bool:
    ratio = np.asarray(m["ratio"])[np.asarray(m["N"]) >= 10]  # (N, sigma)
    counted = np.asarray(m["sigma"]) >= 0.03
    last = np.maximum(ratio[-1], m["ratio_other_seed"])[counted]
    return bool(np.all(np.diff(ratio, axis=0) < 0)) and bool(np.all(last < 0.25))


def _nearer_to_faces(m: Measured, strict: bool) -> bool:
    low, high = m["interval"]
    midpoint = (m["kurtosis_test"] + m["null"]["kurtosis"]) / 2
    return bool(low > midpoint if m["kurtosis_test"] > m["null"]["kurtosis"] else high < midpoint)


def _no_worse_than_released(m: Measured, strict: bool) -> bool:
    return all(
        np.all(_lower_ends(m, f"{key}_interval") <= np.asarray(m["null"][key]))
        for key in ("asymmetry", "negative_fraction")
    )


def _sure_is_mse(m: Measured, strict: bool) -> bool:
    return bool(np.all(np.abs(np.subtract(m["sure"], m["mse"])) <= 3 * np.asarray(m["standard_error"])))


def _trace_is_mse(m: Measured, strict: bool) -> bool:
    ratio = np.asarray(m["ratio"])[np.asarray(m["sigma"]) >= 0.1]
    return bool(np.all(np.abs(ratio - 1) < 0.15))


def _expansion_is_f(m: Measured, strict: bool) -> bool:
    return bool(np.all(np.asarray(m["loss_db"])[np.asarray(m["sigma"]) <= 0.39] < 0.5))


def _all_above_zero(m: Measured, strict: bool) -> bool:
    return bool(np.all(_lower_ends(m) > 0))


def _slopes_match(m: Measured, strict: bool) -> bool:
    alpha = np.asarray(m["alpha"])
    return bool(np.all(np.abs(np.asarray(m["slope"]) - alpha / (alpha + 1)) < 0.05))


def _bandlets_and_network(m: Measured, strict: bool) -> bool:
    return _slopes_match(m, strict) and bool(np.min(m["gain_db"]) >= 0)  # slopes of bandlets, gains of the network


def _rank_grows(m: Measured, strict: bool) -> bool:
    order = np.argsort(m["sigma"])
    return _falls(np.asarray(m["rank"])[order]) and _falls(np.asarray(m["count"])[order])


def _shuffled_worse(m: Measured, strict: bool) -> bool:
    sigma, gain = np.asarray(m["sigma"]), np.asarray(m["gain_of_faces_db"])
    loss = np.asarray(m["difference_db"])[(sigma <= 0.3) & (gain > 3)]
    return len(loss) > 0 and bool(np.all(loss > 1)) and bool(loss.max() > 3)


WIENER = "Wiener filter of the same training set (its mean and covariance)"
FIXED = "DCT, PCA of the training set, wavelets"
CLAIMS = (
    Claim(
        "1.1", "1", "Performance on the training set falls as N grows.",
        "mean train PSNR strictly decreasing in N; steps within 2 standard errors are flagged",
        lambda m, strict: _falls(m["psnr"]), WIENER,
        alone=lambda null: {"psnr": null["psnr"][1:]},  # at N = 1 its error is 0
    ),
    Claim(
        "1.2", "1", "Performance on the test set rises as N grows.",
        "mean test PSNR strictly increasing in N; steps within 2 standard errors are flagged",
        lambda m, strict: _rises(m["psnr"]), WIENER, alone=_read("psnr"),
    ),
    Claim(
        "1.3", "1, 12", "With one training image the train PSNR has unit slope but stays below the optimum.",
        "slope 1.0 +- 0.1 over the mid range; below the line input + 10 log10(d) everywhere, and on average over the "
        "mid range by an interval above 0",
        _one_training_image, "projection on the image", changed=True, alone=_read_interval("slope", "below_optimum_db"),
    ),
    Claim(
        "1.4", "1", "With one training image the test PSNR is poor at every noise level.",
        "range of test PSNR < 25 % of the range of the largest N, and at least 3 dB worse at every sigma <= 0.3",
        _poor_on_test_images, "network of the largest N", changed=True,
    ),
    Claim(
        "1.5", "1", "N = 100 is the transition: test performance jumps at small noise.",
        "gain from N = 10 to N = 100 > 2 dB at the smallest sigma, and larger than at the largest",
        lambda m, strict: m["gain_db_smallest_sigma"] > 2
        and m["gain_db_smallest_sigma"] > m["gain_db_largest_sigma"], WIENER,
        alone=_read("gain_db_smallest_sigma", "gain_db_largest_sigma"),
    ),
    Claim(
        "1.6", "1", "At the largest N, train and test performance agree at every noise level.",
        "largest absolute difference < 0.3 dB at the paper's size, < 0.5 dB at laptop",
        lambda m, strict: m["largest_difference_db"] < (0.3 if strict else 0.5), WIENER, changed=True,
        alone=_read("largest_difference_db"),
    ),
    Claim(
        "1.7", "Eq. 5", "The generalization gap, as a bound on the KL divergence, vanishes as N grows.",
        "integral of (MSE_test - MSE_train) sigma^-3 per dimension decreasing from N = 10 on; at the largest N its "
        "upper end is below 1 % of the value at N = 10",
        _gap_vanishes, WIENER, changed=True, alone=_read_interval("nats_per_dimension"),
    ),
    Claim(
        "1.8", "1", "The network is more than a linear denoiser.",
        "test PSNR at the largest N minus that of the Wiener filter: interval above 0 at every sigma, and > 1 dB at "
        "sigma = 0.1",
        _beats_linear, WIENER, changed=True,
    ),
    Claim(
        "2.1", "2", "For N = 1 and 10 the samples are training images.",
        "median similarity of a sample to its nearest training image > 0.95 for both",
        lambda m, strict: all(min(pair) > 0.95 for pair in _both(m, "nearest_N1", "nearest_N10")),
        "samples of the network of the largest N against the same images",
        alone=_read("nearest_N1", "nearest_N10", "nearest_N1_centered", "nearest_N10_centered"),
    ),
    Claim(
        "2.2", "2", "At N = 100 the samples match no training image and are corrupted.",
        "the same median is below its value for N = 10, and the upper end of the fraction memorized is below 5 %",
        lambda m, strict: all(after < before for before, after in _both(m, "nearest_N10", "nearest_N100"))
        and m["interval"][1] < 0.05, "unseen faces in place of the training set", changed=True,
    ),
    Claim(
        "2.3", "2", "At the largest N two networks trained on disjoint sets generate nearly the same images.",
        "median similarity of a pair > that to the nearest training image, and > the 95th percentile of the null; "
        "> 0.9 at the paper's size",
        _same_samples, "two samples of one network from two noise images", changed=True,
    ),
    Claim(
        "2.4", "2", "As N grows the pairs become similar and the samples leave the training set.",
        "pair rising in N; excess (similarity to the nearest of N training images minus that to the nearest of N "
        "unseen images) falling in N, and below 0.01 (0.03 centered) at the largest N",
        _samples_leave_training_set, "unseen images", changed=True,
    ),
    Claim(
        "2.5", "7", "Generated pairs are closer than the closest pairs of images across S1 and S2.",
        "median similarity of the pairs > median of the closest pairs, at the largest N",
        lambda m, strict: all(pair > closest for pair, closest in _both(m, "pair", "closest")),
        "samples of Gaussian models of S1 and S2", alone=_read("pair", "pair_centered"),
    ),
    Claim("2.6", "8, 9", "The same holds for scenes.", "as 2.3", _same_samples,
          "two samples of one network from two noise images", changed=True),
    Claim(
        "2.7", "Sec. 2.2", "Model variance vanishes: the two networks are one function.",
        "E norm(f_S1 - f_S2)^2 / E norm(x - f)^2 falling in N at every sigma from N = 10 on; < 0.25 at the largest N "
        "for every sigma >= 0.03, also for S2 trained from another seed",
        _variance_vanishes, "the Wiener filters of S1 and S2", changed=True,
        alone=lambda null: {"ratio": null["ratio"], "ratio_other_seed": null["ratio"][-1]},
    ),
    Claim(
        "2.8", "Sec. 2.2", "What they agree on is a density of faces, not a Gaussian.",
        "excess kurtosis of the samples' principal components 20 to 300 nearer to the test images' than to the "
        "Gaussian's: interval clear of the midpoint",
        _nearer_to_faces, "samples of the Gaussian model of the same training set", changed=True,
    ),
    Claim(
        "3.1", "Eq. 6", "The denoiser is its Jacobian applied to the image: f(y) = grad f(y) y.",
        "relative error < 1e-4 in float32",
        lambda m, strict: m["relative_error"] < 1e-4, kind="identity",
    ),
    Claim(
        "3.2", "Sec. 3.1", "The Jacobian is approximately symmetric and non-negative.",
        "asymmetry and fraction of negative eigenvalues not above the released network's, within the bootstrap band",
        _no_worse_than_released, "a network that the authors released, on a photograph", changed=True,
    ),
    Claim(
        "3.3", "Eq. 7", "Stein's estimate equals the error.",
        "|SURE - MSE| within 3 standard errors at every sigma, for the largest N", _sure_is_mse, kind="identity",
    ),
    Claim(
        "3.4", "Eq. 10", "The error is sigma^2 tr grad f for a near-optimal denoiser.",
        "ratio of the two within 15 % of 1 for sigma >= 0.1", _trace_is_mse, WIENER, alone=_read("ratio"),
    ),
    Claim(
        "3.5", "3", "The image lies in the preserved subspace.",
        "effective rank < d / 5 at sigma = 0.15; fraction of the energy of x, its mean removed, in the leading vectors "
        "above that in as many of the DCT and of PCA, by an interval above 0",
        lambda m, strict: m["rank"] < m["d"] / 5 and _all_above_zero(m, strict), "DCT, PCA of the training set",
        changed=True,
    ),
    Claim(
        "3.6", "3", "Frequency rises as the shrinkage factor falls.",
        "Spearman correlation of k and the mean frequency of e_k: lower end > 0.5",
        lambda m, strict: bool(_lower_ends(m)[0] > 0.5), "eigenvectors of the Wiener filter", changed=True,
        alone=_read_interval("spearman"),
    ),
    Claim(
        "3.7", "3", "The basis adapts to the geometry of the image.",
        "anisotropy of the leading vectors along the contours of their own image above that along another face's, and "
        "above the DCT's, by an interval above 0",
        _all_above_zero, "contours of another face; DCT", changed=True,
    ),
    Claim(
        "3.8", "Eq. 6", "The denoiser is a shrinkage in one orthonormal basis.",
        "PSNR of the expansion in eigenvectors of the symmetric part less than 0.5 dB below that of f(y), at every "
        "sigma <= 0.39",
        _expansion_is_f, "a network that the authors released, on a photograph", changed=True,
    ),
    Claim(
        "3.9", "Eq. 11-12", "Adaptivity helps: a face is sparser in the adaptive basis than in any fixed one.",
        "oracle error, in the basis of another noisy copy, below that of the best fixed basis by an interval above 0, "
        "at every sigma",
        _all_above_zero, FIXED, changed=True,
    ),
    Claim(
        "4.1", "4", "Slopes on C-alpha images match the optimal alpha / (alpha + 1).",
        "each slope within 0.05 of alpha / (alpha + 1), for images of 64x64 or more",
        _slopes_match, "cycle-spun wavelet thresholding", changed=True, alone=_read("slope"),
    ),
    Claim(
        "4.2", "4", "Slopes rise with regularity.", "slopes strictly increasing in alpha",
        lambda m, strict: _rises(m["slope"]), "cycle-spun wavelet thresholding", alone=_read("slope"),
    ),
    Claim(
        "4.3", "Sec. 3.2", "The network beats thresholding in a fixed basis.",
        "PSNR higher than the best cycle-spun wavelet thresholding, chosen on training images, at every sigma and "
        "every alpha",
        lambda m, strict: bool(np.min(m["gain_db"]) > 0), "cycle-spun wavelet thresholding", changed=True,
    ),
    Claim(
        "4.4", "10", "Less regular contours give more localized harmonics and slower decay.",
        "participation ratio along the contour rises and effective rank falls as alpha_1 rises, each step with an "
        "interval above 0",
        _all_above_zero, "the class of the neighbouring alpha_1", changed=True,
    ),
    Claim(
        "4.5", "4", "The slope is the adaptive basis's, not any basis's.",
        "slope of the network minus the wavelets' > 0 by an interval above 0, for alpha = 2, 3, 4",
        _all_above_zero, "cycle-spun wavelet thresholding", changed=True,
    ),
    Claim(
        "4.6", "Sec. 3.2", "Best-basis bandlets attain the optimal slope, and the network does as well.",
        "slope of the bandlets within 0.05 of alpha / (alpha + 1) for alpha = 2, 3, 4; the network's PSNR not below "
        "theirs at any sigma",
        _bandlets_and_network, "cycle-spun wavelet thresholding", changed=True, alone=_read("slope"),
    ),
    Claim(
        "4.7", "Eq. 11-12", "Adaptivity helps on C-alpha images.", "as 3.9, for alpha = 2 and 4",
        _all_above_zero, "DCT, PCA of the class, wavelets", changed=True,
    ),
    Claim(
        "5.1", "5", "On disks the slope is about 0.9, below the optimal 1.",
        "slope 0.9 +- 0.05 at the paper's size; in (0.75, 0.99) at laptop",
        lambda m, strict: abs(m["slope"] - 0.9) <= 0.05 if strict else 0.75 < m["slope"] < 0.99,
        "projection on the tangent space", alone=_read("slope"),
    ),
    Claim(
        "5.2", "5", "The top five vectors span the tangent space.",
        "cosine of the largest principal angle > 0.9",
        lambda m, strict: m["cosine"] > 0.9, "tangent space of another disk", alone=_read("cosine"),
    ),
    Claim(
        "5.3", "5", "Further harmonic vectors have non-negligible shrinkage factors.",
        "more than 5 eigenvalues above 0.1; energy of e_6 ... e_15 in harmonics of this disk above that in harmonics "
        "of another, by an interval above 0",
        lambda m, strict: m["count"] > 5 and _all_above_zero(m, strict), "harmonics of another disk", changed=True,
    ),
    Claim(
        "5.4", "5", "Their number grows as sigma falls.",
        "effective rank and number of eigenvalues above 0.1 both decreasing in sigma",
        _rank_grows, "projection on the tangent space", changed=True, alone=_read("rank"),
    ),
    Claim(
        "5.5", "12", "One image times an intensity: e_1 is the image, the others are harmonics.",
        "cosine of e_1 and the image > 0.99, and effective rank > 1",
        lambda m, strict: m["cosine"] > 0.99 and m["rank"] > 1, "projection on the image", alone=_read("rank"),
    ),
    Claim(
        "5.6", "13", "Sinusoids: the top two vectors span the tangent plane, and more are kept than needed.",
        "cosine of the largest principal angle > 0.95; effective rank > 2",
        lambda m, strict: m["cosine"] > 0.95 and m["rank"] > 2, "projection on the tangent plane", changed=True,
        alone=_read("rank"),
    ),
    Claim(
        "6.1", "6", "Shuffled faces are denoised much worse.",
        "loss > 1 dB at every sigma <= 0.3 at which the network of faces gains more than 3 dB, and > 3 dB at one",
        _shuffled_worse, "the network of ordinary faces", changed=True,
    ),
    Claim(
        "6.2", "6", "The slope is much lower on shuffled faces.", "difference of the slopes > 0.1",
        lambda m, strict: m["null"]["slope"] - m["slope"] > 0.1, "the network of ordinary faces",
    ),
    Claim(
        "6.3", "6", "Eigenvalues decay more slowly on shuffled faces.", "ratio of the effective ranks > 1.5",
        lambda m, strict: m["rank"] / m["null"]["rank"] > 1.5, "the network of ordinary faces",
    ),
    Claim(
        "6.4", "Sec. 3.3", "The optimum is the same for shuffled and ordinary faces.",
        "errors of the empirical optimal denoiser on both equal to 1e-5 relative",
        lambda m, strict: abs(m["mse_shuffled"] / m["mse"] - 1) < 1e-5, kind="identity",
    ),
)  # fmt: skip


def find(id: str) -> Claim:
    """The claim of an id."""
    for claim in CLAIMS:
        if claim.id == id:
            return claim
    raise ValueError(f"there is no claim {id!r}; the ids are {', '.join(claim.id for claim in CLAIMS)}")

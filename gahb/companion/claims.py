"""What the paper claims, the rule that judges each claim, and the ledger of verdicts.

A rule reads only what the ledger records, so that every verdict can be recomputed from it. A
similarity is recorded plain (the paper's) and with each image's mean removed, and its rule must
hold for both. At ``smoke`` scale nothing is judged.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np

from gahb._util.files import read_json, write_text

VERDICTS = ("reproduced", "not reproduced", "not tested")


@dataclass(frozen=True)
class Claim:
    """One claim: ``holds(measured, scale)`` is its rule."""

    id: str
    figure: str
    statement: str
    rule: str
    holds: Callable


def _falls(values):
    return bool(np.all(np.diff(values) < 0))


def _rises(values):
    return bool(np.all(np.diff(values) > 0))


def _both(m, *keys):
    """The values of some keys, plain and with the means removed."""
    return [[m[key] for key in keys], [m[f"{key}_centered"] for key in keys]]


def _of_paper(scale):
    """Whether a scale has the paper's networks and images, and the stricter rules."""
    return scale.startswith("paper")


def _pair_beats_nearest(m, scale):
    return all(pair > close and (not _of_paper(scale) or pair > 0.9) for pair, close in _both(m, "pair", "nearest"))


def _curves_cross(m, scale):
    def crosses(pair, close):
        return _rises(pair) and _falls(close) and pair[0] < close[0] and pair[-1] > close[-1]

    return all(crosses(*curves) for curves in _both(m, "pair", "nearest"))


def _no_worse_than_released(m, scale):
    """The low end of our band is not above the released network's value, at each sigma."""
    ours = np.asarray(m["asymmetry_band"])[0], np.asarray(m["negative_share_band"])[0]
    return all(
        np.all(low <= np.asarray(m[f"released_{key}"]))
        for low, key in zip(ours, ("asymmetry", "negative_share"), strict=True)
    )


def _slopes_match(m, scale):
    alpha = np.asarray(m["alpha"])
    return bool(np.all(np.abs(np.asarray(m["slope"]) - alpha / (alpha + 1)) < 0.05))


def _near_optimal_trace(m, scale):
    ratio = np.asarray(m["ratio"])[np.asarray(m["sigma"]) >= 0.1]
    return bool(np.all(np.abs(ratio - 1) < 0.15))


def _shuffled_worse(m, scale):
    order = np.argsort(m["sigma"])[::-1]
    sigma, loss = np.asarray(m["sigma"])[order], np.asarray(m["difference_db"])[order]
    loss = loss[sigma <= 0.3]
    return bool(np.all(loss > 1)) and _rises(loss)


CLAIMS = (
    Claim(
        "1.1", "1", "Performance on the training set falls as N grows.",
        "mean train PSNR strictly decreasing in N; steps within 2 standard errors are flagged",
        lambda m, scale: _falls(m["psnr"]),
    ),
    Claim(
        "1.2", "1", "Performance on the test set rises as N grows.",
        "mean test PSNR strictly increasing in N; steps within 2 standard errors are flagged",
        lambda m, scale: _rises(m["psnr"]),
    ),
    Claim(
        "1.3", "1, 12", "With one training image the train PSNR has unit slope but stays below the optimum.",
        "slope 1.0 +- 0.1 over the mid range, and below the line input + 10 log10(d) everywhere",
        lambda m, scale: abs(m["slope"] - 1) <= 0.1 and min(m["below_optimum_db"]) > 0,
    ),
    Claim(
        "1.4", "1", "With one training image the test PSNR is poor at every noise level.",
        "range of test PSNR over the grid < 25 % of the range of the largest N",
        lambda m, scale: m["range_db"] < 0.25 * m["range_db_largest_N"],
    ),
    Claim(
        "1.5", "1", "N = 100 is the transition: test performance jumps at small noise.",
        "gain from N = 10 to N = 100 > 2 dB at the smallest sigma, and larger than at the largest",
        lambda m, scale: m["gain_db_smallest_sigma"] > 2
        and m["gain_db_smallest_sigma"] > m["gain_db_largest_sigma"],
    ),
    Claim(
        "1.6", "1", "At the largest N, train and test performance agree at every noise level.",
        "largest train - test PSNR < 0.3 dB at paper scale, < 0.5 dB at laptop",
        lambda m, scale: m["largest_gap_db"] < (0.3 if _of_paper(scale) else 0.5),
    ),
    Claim(
        "1.7", "Eq. 5", "The generalization gap, as a bound on the KL divergence, vanishes as N grows.",
        "integral of (MSE_test - MSE_train) sigma^-3 per dimension decreasing from N = 10 on",
        lambda m, scale: _falls([b for n, b in zip(m["N"], m["nats_per_dimension"], strict=True) if n >= 10]),
    ),
    Claim(
        "2.1", "2", "For N = 1 and 10 the samples are training images.",
        "median similarity of a sample to its nearest training image > 0.95 for both",
        lambda m, scale: all(min(pair) > 0.95 for pair in _both(m, "nearest_N1", "nearest_N10")),
    ),
    Claim(
        "2.2", "2", "At N = 100 the samples match no training image and are corrupted.",
        "the same median is below its value for N = 10; memorized share with its interval",
        lambda m, scale: all(after < before for before, after in _both(m, "nearest_N10", "nearest_N100")),
    ),
    Claim(
        "2.3", "2", "At the largest N two networks trained on disjoint sets generate nearly the same images.",
        "median similarity of a pair > that to the nearest training image; > 0.9 at paper scale",
        _pair_beats_nearest,
    ),
    Claim(
        "2.4", "2", "As N grows the pairs become similar and the samples leave the training set.",
        "both medians monotone in N, and the two curves cross",
        _curves_cross,
    ),
    Claim(
        "2.5", "7", "Generated pairs are closer than the closest pairs of images across S1 and S2.",
        "median similarity of the pairs > median of the closest pairs, at the largest N",
        lambda m, scale: all(pair > closest for pair, closest in _both(m, "pair", "closest")),
    ),
    Claim("2.6", "8, 9", "The same holds for scenes.", "as 2.3", _pair_beats_nearest),
    Claim(
        "3.1", "Eq. 6", "The denoiser is its Jacobian applied to the image: f(y) = grad f(y) y.",
        "relative error < 1e-4 in float32",
        lambda m, scale: m["relative_error"] < 1e-4,
    ),
    Claim(
        "3.2", "Sec. 3.1", "The Jacobian is approximately symmetric and non-negative.",
        "asymmetry and share of negative eigenvalues not above the released network's, within the bootstrap band",
        _no_worse_than_released,
    ),
    Claim(
        "3.3", "Eq. 7", "Stein's estimate equals the error.",
        "|SURE - MSE| within 3 standard errors at every sigma, for the largest N",
        lambda m, scale: bool(
            np.all(np.abs(np.subtract(m["sure"], m["mse"])) <= 3 * np.asarray(m["standard_error"]))
        ),
    ),
    Claim(
        "3.4", "Eq. 10", "The error is sigma^2 tr grad f for a near-optimal denoiser.",
        "ratio of the two within 15 % of 1 for sigma >= 0.1",
        _near_optimal_trace,
    ),
    Claim(
        "3.5", "3", "The image lies in the preserved subspace.",
        "effective rank < d / 5 at sigma = 0.15, and share of norm(x)^2 preserved > 0.98",
        lambda m, scale: m["rank"] < m["d"] / 5 and m["share"] > 0.98,
    ),
    Claim(
        "3.6", "3", "Frequency rises as the shrinkage factor falls.",
        "Spearman correlation of k and the mean frequency of e_k > 0.5",
        lambda m, scale: m["spearman"] > 0.5,
    ),
    Claim(
        "3.7", "3", "The basis adapts to the geometry of the image.",
        "variation across over along the contours larger than for a DCT basis of equal rank",
        lambda m, scale: m["anisotropy"] > m["anisotropy_dct"],
    ),
    Claim(
        "4.1", "4", "Slopes on C-alpha images match the optimal alpha / (alpha + 1).",
        "each slope within 0.05 of alpha / (alpha + 1)",
        _slopes_match,
    ),
    Claim(
        "4.2", "4", "Slopes rise with regularity.", "slopes strictly increasing in alpha",
        lambda m, scale: _rises(m["slope"]),
    ),
    Claim(
        "4.3", "Sec. 3.2", "The network beats thresholding in a fixed basis.",
        "PSNR higher than the best wavelet soft thresholding at every sigma",
        lambda m, scale: min(m["gain_db"]) > 0,
    ),
    Claim(
        "4.4", "10", "Less regular contours give more localized harmonics and slower decay.",
        "participation ratio along the contour rises and effective rank falls as alpha_1 rises",
        lambda m, scale: _rises(m["participation"]) and _falls(m["rank"]),
    ),
    Claim(
        "5.1", "5", "On disks the slope is about 0.9, below the optimal 1.",
        "slope 0.9 +- 0.05 at paper scale; in (0.75, 0.99) at laptop",
        lambda m, scale: abs(m["slope"] - 0.9) <= 0.05 if _of_paper(scale) else 0.75 < m["slope"] < 0.99,
    ),
    Claim(
        "5.2", "5", "The top five vectors span the tangent space.",
        "cosine of the largest principal angle > 0.9",
        lambda m, scale: m["cosine"] > 0.9,
    ),
    Claim(
        "5.3", "5", "Further harmonic vectors have non-negligible shrinkage factors.",
        "number of eigenvalues > 0.1 above 5, and their sum above 5",
        lambda m, scale: m["count"] > 5 and m["rank"] > 5,
    ),
    Claim(
        "5.4", "5", "Their number grows as sigma falls.", "effective rank decreasing in sigma",
        lambda m, scale: _falls(np.asarray(m["rank"])[np.argsort(m["sigma"])]),
    ),
    Claim(
        "5.5", "12", "One image times an intensity: e_1 is the image, the others are harmonics.",
        "cosine of e_1 and the image > 0.99, and effective rank > 1",
        lambda m, scale: m["cosine"] > 0.99 and m["rank"] > 1,
    ),
    Claim(
        "5.6", "13", "Sinusoids: the top two vectors span the tangent plane.",
        "cosine of the largest principal angle > 0.95",
        lambda m, scale: m["cosine"] > 0.95,
    ),
    Claim(
        "6.1", "6", "Shuffled faces are denoised much worse.",
        "loss > 1 dB at every sigma <= 0.3, growing as sigma falls",
        _shuffled_worse,
    ),
    Claim(
        "6.2", "6", "The slope is much lower on shuffled faces.", "difference of the slopes > 0.1",
        lambda m, scale: m["slope"] - m["slope_shuffled"] > 0.1,
    ),
    Claim(
        "6.3", "6", "Eigenvalues decay more slowly on shuffled faces.", "ratio of the effective ranks > 1.5",
        lambda m, scale: m["rank_shuffled"] / m["rank"] > 1.5,
    ),
    Claim(
        "6.4", "Sec. 3.3", "The optimum is the same for shuffled and ordinary faces.",
        "errors of the empirical optimal denoiser on both equal to 1e-5 relative",
        lambda m, scale: abs(m["mse_shuffled"] / m["mse"] - 1) < 1e-5,
    ),
)  # fmt: skip


def verdict(claim, measured, scale):
    """``"reproduced"``, ``"not reproduced"``, or ``"not tested"`` (at smoke scale, or with nothing measured)."""
    if scale == "smoke" or not measured or measured.get("not_tested"):
        return "not tested"
    try:
        holds = claim.holds(_numbers(measured), scale)
    except KeyError as error:
        raise ValueError(f"the ledger records nothing named {error} for claim {claim.id}; measure it again") from None
    except (TypeError, ValueError, IndexError, ArithmeticError) as error:
        raise ValueError(f"the record of claim {claim.id} is damaged ({error}); measure it again") from None
    return "reproduced" if holds else "not reproduced"


def _numbers(value):
    """Null, which JSON holds for NaN, is NaN again: no rule holds for it."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float("nan") if value is None else value


def find(id):
    """The claim of an id."""
    for claim in CLAIMS:
        if claim.id == id:
            return claim
    raise ValueError(f"there is no claim {id!r}; the ids are {', '.join(claim.id for claim in CLAIMS)}")


def entry(claim, measured, scale):
    """One row of the ledger."""
    return {
        "id": claim.id,
        "figure": claim.figure,
        "statement": claim.statement,
        "measured": measured,
        "rule": claim.rule,
        "verdict": verdict(claim, measured, scale),
    }


def ledger_path(figures):
    """Where the ledger of a folder of figures is."""
    return Path(figures) / "claims.json"


def read(figures):
    """The measurements of a ledger by id; empty if there is none yet.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    return read_json(ledger_path(figures), _measurements) or {}


def _measurements(rows):
    measured = {row["id"]: row["measured"] for row in rows}
    if not measured or not all(isinstance(each, dict | None) for each in measured.values()):
        raise TypeError("it holds no measurements by name")
    return measured


def record(id, measured, scale, figures):
    """Write what was measured for a claim into the ledger, which always lists every claim.

    Parameters
    ----------
    id : str
    measured : dict
        Numbers, arrays and strings.
    scale : str
        Name of the scale.
    figures : str or Path
        Folder of the figures of that scale.

    Returns
    -------
    dict
        The row of the ledger.
    """
    claim, measured = find(id), _plain(measured)
    path = ledger_path(figures)
    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.with_name(".claims.lock")):
        known = read(figures) | {id: measured}
        rows = [entry(claim, known.get(claim.id), scale) for claim in CLAIMS]
        write_text(path, json.dumps(rows, indent=1) + "\n")
    return entry(claim, measured, scale)


def _plain(value):
    """What JSON holds, of numbers, arrays and tensors; eight digits are kept, NaN is null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str | bool | int) or value is None:
        return value
    return float(f"{float(value):.8g}") if np.isfinite(value) else None

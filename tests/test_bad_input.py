"""Every public function refuses bad input, and says which argument, what came and what is expected."""

import re

import numpy as np
import pytest
import torch

import gahb
from gahb import assess, bases, datasets, locality, metrics, optimal, oracle, rivals, stats
from gahb.datasets import Photographs, photographs

IMAGES = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
ONE, WIDE, FLAT, STRONG = IMAGES[:1], torch.rand(3, 1, 6, 7), IMAGES[:, 0], IMAGES * 255
PIXELS = STRONG.to(torch.uint8)
NAN = IMAGES.clone()
NAN[1, 0, 2, 3] = torch.nan
NET = gahb.BFCNN(depth=3, channels=4)
EYE, SKEW = torch.eye(36), torch.eye(36)
SKEW[0, 1] = 1
TABLE = torch.rand(4, 5).numpy()
DB = [0.0, 10.0, 20.0, 30.0]
HOLE = np.where(np.eye(4, 5) > 0, np.nan, TABLE)
PHOTOGRAPHS = Photographs(torch.zeros(5, 1, 6, 6, dtype=torch.uint8), 2, 1, {})
BASES = oracle.fixed_transforms(IMAGES)
DISK = [9.0, 9, 5, 1, 0]


def half(y):
    return y / 2


def shrinking(y, sigma):
    return y / (1 + sigma)


# Kinds of arguments: a good value, and bad ones, each with what the error says came and what it says is expected.


def batch(good=IMAGES, *more):
    return good, [
        ([1.0], "list", "torch.Tensor"),
        (None, "NoneType", "torch.Tensor"),
        (FLAT, "(3, 6, 6)", "(B, C, H, W)"),
        (PIXELS.long(), "int64", "floating-point"),
        (NAN, "NaN", "finite"),
        (IMAGES[:0], "(0, 1, 6, 6)", "not be empty"),
        *more,
    ]


def clean():
    return batch(IMAGES, (STRONG, "255", "divide"))


def one(good=IMAGES[0]):
    return good, [
        ([1.0], "list", "torch.Tensor"),
        (IMAGES[0, 0], "(6, 6)", "(C, H, W)"),
        (PIXELS[0].long(), "int64", "floating-point"),
        (NAN[1], "NaN", "finite"),
        (IMAGES, "3", "(C, H, W)"),
    ]


def count(good, low=1):
    return good, [
        (low - 1, str(low - 1), f"at least {low}"),
        (-3, "-3", f"at least {low}"),
        (2.5, "2.5", "integer"),
        (True, "True", "integer"),
        ("many", "'many'", "integer"),
    ]


def positive(good=0.1):
    return good, [(bad, str(bad), "positive") for bad in (0.0, -1.5, float("nan"), float("inf"), "low")]


def levels(good=0.1):
    return good, [
        ([], "(0,)", "at least one"),
        ([0.1, 0.0], "0.0", "positive"),
        (-0.1, "-0.1", "positive"),
        ([0.1, float("nan")], "NaN", "number"),
        ("low", "low", "number"),
    ]


def array(good, dims=None):
    """Numbers, in an array of ``dims`` dimensions if given."""
    some = np.ones((2,) * (dims or 2))
    bad = [("many", "'many'", "number"), (some * np.nan, "NaN", "number"), (some[:0], "(0,", "number")]
    return good, bad + ([(some[None], "(1, 2", f"{dims} dimensions")] if dims else [])


def errors(dims=None):
    """Squared errors; a table of dB is none."""
    values, bad = array(TABLE, dims)
    return values, [*bad, (TABLE - 5, "-", "at least 0")]


def orthogonal(good="haar"):
    return good, [(bad, repr(bad), "orthogonal") for bad in ("bior2.2", "db99", 2)]


def choice(good, *allowed):
    return good, [("any", "'any'", word) for word in (good, *allowed)]


def denoiser(good=half):
    return good, [(None, "NoneType", "function")]


SEED = count(0, 0)


CALLS = [  # a public function, and each of its arguments
    ("BFCNN", gahb.BFCNN, {"depth": count(3, 2), "channels": count(4), "kernel_sizes": count(3)}),
    ("UNet", gahb.UNet, {"channels": count(4), "blocks": count(1), "in_channels": count(1)}),
    ("ResUNet", gahb.ResUNet, {"channels": count(4), "blocks": count(1), "in_channels": count(1)}),
    ("jacobian", gahb.jacobian, {"denoiser": denoiser(NET), "y": one()}),
    ("adaptive_basis", gahb.adaptive_basis,
     {"denoiser": denoiser(NET), "y": one(), "k": count(2), "probes": count(2),
      "kind": choice("symmetric", "singular")}),
    ("partial_sums", lambda y: gahb.adaptive_basis(NET, ONE).partial_sums(y), {"y": one()}),
    ("sample", gahb.sample,
     {"denoiser": denoiser(), "noise": batch(), "step_size": positive(0.5), "sigma_end": positive(),
      "max_steps": count(99)}),
    ("probability_flow", lambda **how: gahb.probability_flow(gahb.adapt.edm(lambda x, sigma: x / 2), **how),
     {"noise": batch(), "sigmas": levels([1.0, 0.1])}),
    ("karras_sigmas", gahb.karras_sigmas, {"first": positive(1.0), "last": positive(), "steps": count(3, 2)}),
    ("gaussian_noise", gahb.gaussian_noise, {"n": count(2), "shape": ((1, 4, 4), []), "seed": SEED}),
    # metrics
    ("psnr", gahb.psnr, {"clean": clean(), "denoised": batch()}),
    ("cosine_similarity", gahb.cosine_similarity, {"a": batch(), "b": batch()}),
    ("nearest", gahb.nearest, {"images": batch(), "train": batch(), "block": count(2)}),
    *[(f.__name__, f, {"denoiser": denoiser(), "images": clean(), "sigmas": levels(), "seed": SEED})
      for f in (metrics.squared_errors, metrics.inferred_sigmas, gahb.psnr_curve)],
    ("squared_differences", metrics.squared_differences,
     {"first": denoiser(), "second": denoiser(), "images": clean(), "sigmas": levels(), "seed": SEED}),
    ("denoised", metrics.denoised, {"denoiser": denoiser(), "y": batch()}),
    ("component_kurtosis", metrics.component_kurtosis,
     {"images": batch(), "train": batch(), "first": count(0, 0), "last": count(2)}),
    ("stein_risk", gahb.stein_risk,
     {"denoiser": denoiser(), "images": clean(), "sigma": positive(), "probes": count(2), "seed": SEED}),
    # assess
    ("assess", assess.assess,
     {"samples": clean(), "train": clean(), "unseen": (IMAGES, clean()[1][2:]), "twin": (IMAGES, clean()[1][2:]),
      "progress": (False, [])}),
    ("memorized", assess.memorized, {"found": (gahb.nearest(IMAGES, IMAGES), []), "threshold": positive()}),
    ("similarities", assess.similarities, {"samples": (IMAGES, []), "train": batch()}),
    ("evenly_spaced", assess.evenly_spaced, {"n": count(5), "count": count(2)}),
    # optimal denoisers
    ("empirical", lambda y, **how: optimal.empirical(**how)(y),
     {"train": batch(), "sigma": positive(), "block": count(2), "y": batch(ONE, (WIDE, "6, 7)", "36 pixels"))}),
    ("local", lambda y, **how: optimal.local(**how)(y),
     {"train": batch(), "sigma": positive(), "patch": (3, [*count(3)[1], (4, "4", "odd")]), "block": count(2),
      "y": batch(ONE, (WIDE, "6, 7)", "1, 6, 6)"), (IMAGES.reshape(3, 1, 4, 9), "4, 9)", "1, 6, 6)"))}),
    ("gaussian", optimal.gaussian,
     {"mean": one(), "sigma": positive(),
      "cov": (EYE, [(EYE[:5], "(5, 36)", "(36, 36)"), (None, "NoneType", "torch.Tensor"),
                    (EYE * torch.nan, "NaN", "finite"), (-EYE, "-1", "non-negative"),
                    (SKEW, "transpose", "symmetric")])}),
    ("moments", optimal.moments, {"train": batch()}),
    ("wiener", lambda train, sigma, y: optimal.wiener(train)(sigma)(y),
     {"train": batch(), "sigma": positive(), "y": batch(ONE, (WIDE, "6, 7)", "36 pixels"))}),
    ("gaussian_samples", optimal.gaussian_samples,
     {"train": batch(), "noise": batch(ONE, (WIDE, "6, 7)", "36 pixels"))}),
    ("mixture", optimal.mixture,
     {"means": batch(), "sigma": positive(), "covs": (EYE.repeat(3, 1, 1), [(EYE, "(36, 36)", "(3, 36, 36)")]),
      "weights": (torch.ones(3), [(torch.ones(2), "(2,)", "(3,)"), (torch.tensor([1.0, -1, 1]), "-1.0", "positive"),
                                  (torch.tensor([1.0, torch.nan, 1]), "NaN", "finite"),
                                  ([1, 1, 1], "list", "torch.Tensor")])}),
    ("subspace", optimal.subspace, {"vectors": batch()}),
    ("ray", optimal.ray, {"image": one(), "sigma": positive()}),
    # stats
    ("psnr", stats.psnr, {"errors": errors()}),
    ("psnr_contributions", stats.psnr_contributions, {"errors": errors()}),
    ("psnr_gain", stats.psnr_gain, {"errors": errors(), "other": errors(), "resamples": count(2), "seed": SEED}),
    ("ratio_interval", stats.ratio_interval,
     {"values": array(TABLE), "other": array(TABLE), "resamples": count(2), "seed": SEED}),
    ("fit_slope", stats.fit_slope,
     {"input_db": array(DB, 1), "errors": errors(2), "low": (0, [("low", "'low'", "number")]), "high": (30, [])}),
    ("slope_difference", stats.slope_difference,
     {"input_db": array(DB, 1), "errors": errors(2), "other": errors(2), "low": (0, []), "high": (30, [])}),
    ("resampled_means", stats.resampled_means, {"table": array(TABLE), "resamples": count(2), "seed": SEED}),
    ("share_interval", stats.share_interval,
     {"flags": ([0, 1, 1], [*array([], 1)[1], ([0, 0.5], "0.5", "true or false")]),
      "level": (0.9, [(95, "95", "between 0 and 1")])}),
    ("confidence_interval", stats.confidence_interval,
     {"values": array(TABLE), "resamples": count(2, 2), "seed": SEED,
      "level": (0.9, [(95, "95", "between 0 and 1"), (0.0, "0.0", "between 0 and 1")])}),
    # image classes
    *[(f.__name__, f, {"n": count(2), "size": count(12, 12 if "disk" in f.__name__ else 4), "seed": SEED})
      for f in (datasets.disks, datasets.disk_tangents, datasets.disk_parameters, datasets.ray, datasets.sinusoids,
                datasets.sinusoid_tangents)],
    ("c_alpha", datasets.c_alpha,
     {"n": count(2), "size": count(8, 4), "alpha": positive(2.0), "beta": positive(2.0), "seed": SEED}),
    ("contours", datasets.contours, {"n": count(2), "size": count(8, 4), "alpha": positive(2.0), "seed": SEED}),
    ("backgrounds", datasets.backgrounds, {"n": count(2), "size": count(8, 4), "beta": positive(2.0), "seed": SEED}),
    ("disk_at", datasets.disk_at, {"parameters": ([DISK], []), "size": count(20)}),
    ("disk_harmonics", datasets.disk_harmonics,
     {"parameters": array(DISK, 1), "size": count(20), "waves": count(2, 0), "background": count(2, 0),
      "inside": count(2, 0)}),
    ("ray_image", datasets.ray_image, {"size": count(8, 4)}),
    ("scaled_image", datasets.scaled_image, {"image": one(), "n": count(2), "seed": SEED}),
    ("permutation", datasets.permutation, {"d": count(9), "seed": SEED}),
    ("shuffled", datasets.shuffled, {"images": batch(), "seed": SEED}),
    ("unshuffled", datasets.unshuffled, {"images": batch()}),
    *[(f.__name__, f, {"source": (None, [(IMAGES, "Tensor", "path")]), "size": count(20, 4), "N": count(2, 0),
                       "test_size": count(2)})
      for f in (datasets.faces, datasets.scenes)],
    ("as_float", datasets.as_float, {"pixels": (PIXELS, [(IMAGES, "float32", "uint8"), ([1], "list", "uint8")])}),
    ("first_of_duplicates", photographs.first_of_duplicates,
     {"pixels": (PIXELS, [(IMAGES, "float32", "uint8")]), "threshold": positive(0.9)}),
    ("near_duplicates", datasets.near_duplicates,
     {"pixels": (PIXELS, [(IMAGES, "float32", "uint8"), (PIXELS[0], "(1, 6, 6)", "(n, 1, H, W)")]),
      "threshold": positive(0.9)}),
    ("first_of_duplicates", photographs.first_of_duplicates,
     {"pixels": (PIXELS, [(IMAGES, "float32", "uint8")]), "threshold": positive(0.9)}),
    ("Photographs", lambda part, n: PHOTOGRAPHS.part(part, n),
     {"part": ("S1", [("S3", "'S3'", "S1, S2, test")]), "n": count(1)}),
    # bases
    ("analyse", bases.analyse,
     {"denoiser": denoiser(), "image": (ONE, [*one()[1], (STRONG[0], "255", "divide")]), "sigma": positive()}),
    ("effective_rank", bases.effective_rank, {"shrinkage": array([1.0], 1)}),
    ("preserved_fraction", bases.preserved_fraction,
     {"image": (IMAGES[0], [(WIDE[0], "36", "pixels")]), "vectors": array(FLAT),
      "rank": (2, [(float("nan"), "nan", "finite")])}),
    ("mean_frequency", bases.mean_frequency, {"vectors": array(FLAT, 3)}),
    ("contour_anisotropy", bases.contour_anisotropy, {"vectors": (FLAT, []), "image": array(FLAT[0], 2)}),
    ("contour_mask", bases.contour_mask,
     {"image": array(FLAT[0], 2), "fraction": (0.5, [(1.5, "1.5", "[0, 1]")])}),
    ("participation_ratio", bases.participation_ratio, {"vectors": array(FLAT, 3), "mask": (FLAT[0] > 0.5, [])}),
    ("energy_in_span", bases.energy_in_span, {"vectors": array(FLAT), "span": array(FLAT)}),
    ("subspace_cosine", bases.subspace_cosine, {"vectors": array(FLAT), "tangents": (FLAT, [])}),
    # rivals
    ("dct_basis", rivals.dct_basis, {"size": count(4), "k": (2, [*count(2)[1], (17, "17", "at most")])}),
    ("pca_basis", rivals.pca_basis, {"train": batch(), "k": (2, [*count(2)[1], (37, "37", "at most")])}),
    ("basis_denoise", rivals.basis_denoise,
     {"noisy": batch(), "sigma": positive(), "basis": array(FLAT, 3), "threshold": (3.0, [(-2, "-2", "at least 0")])}),
    ("wavelet_denoise", rivals.wavelet_denoise,
     {"noisy": batch(), "sigma": positive(), "wavelet": orthogonal(), "levels": count(1),
      "threshold": (3.0, [(-2, "-2", "at least 0")])}),
    ("best_option", rivals.best_option,
     {"denoise": (shrinking, []), "options": ([{}], [([], "none", "at least one")]), "train": clean(),
      "sigma": positive(), "seed": SEED}),
    ("chosen_errors", rivals.chosen_errors,
     {"denoise": (shrinking, []), "options": ([{}], [([], "none", "at least one")]), "train": clean(),
      "images": clean(), "sigmas": levels(), "seed": SEED}),
    ("fraction_above", rivals.fraction_above, {"images": batch(), "sigma": positive(), "wavelet": orthogonal()}),
    # oracle
    ("oracle_error", oracle.oracle_error, {"coefficients": array([1.0], 1), "sigma": positive()}),
    ("fixed_transforms", oracle.fixed_transforms, {"train": batch()}),
    ("oracle_errors", oracle.oracle_errors,
     {"denoiser": denoiser(), "images": batch(), "sigma": positive(), "fixed": (BASES, []), "seed": SEED,
      "k": count(2)}),
    ("bandlet_oracle_errors", oracle.bandlet_oracle_errors,
     {"images": batch(), "sigma": positive(), "seed": SEED, "threshold": (3.0, [(-2, "-2", "at least 0")])}),
    # training
    ("train", gahb.train,
     {"images": clean(), "batch_size": count(2), "images_seen": count(2), "progress": (False, []),
      "network_kwargs": ({"depth": 2, "channels": 2}, [(20, "20", "dict")])}),
    ("Recipe", gahb.Recipe,
     {"name": ("x", [(None, "None", "text")]), "data": ({}, []), "images_seen": count(8), "sigma_max": positive(),
      "learning_rate": positive(), "loss_weighting": (0.0, [(float("inf"), "inf", "finite")]), "seed": SEED,
      "network": choice("BFCNN", "UNet", "ResUNet"), "lr_schedule": choice("halving", "one-cycle"),
      "noise_distribution": choice("uniform", "sqrt-uniform"), "precision": choice("float32", "bfloat16"),
      "compile": (False, [("yes", "'yes'", "True, False, auto")])}),
]  # fmt: skip

SPECIAL = [  # what two arguments together, or a value of the right kind, get wrong
    ("BFCNN", lambda: gahb.BFCNN(3, 4, kernel_sizes=2), "kernel_sizes", "[2, 2, 2]", "odd"),
    ("BFCNN", lambda: gahb.BFCNN(3, 4, kernel_sizes=[3, 1]), "kernel_sizes", "[3, 1]", "each of 3 convolutions"),
    *[(name, lambda net=net: net(IMAGES.expand(3, 2, 6, 6)), "y", "(3, 2, 6, 6)", "(B, 1, H, W)")
      for name, net in (("BFCNN", NET), ("UNet", gahb.UNet(4, 1)), ("ResUNet", gahb.ResUNet(4, 1)))],
    ("BFCNN", lambda: NET(None), "y", "NoneType", "torch.Tensor"),
    ("BFCNN", lambda: NET(PIXELS), "y", "uint8", "floating-point"),
    ("BFCNN", lambda: NET(FLAT), "y", "(3, 6, 6)", "(B, 1, H, W)"),
    ("BFCNN", lambda: NET(IMAGES[:0]), "y", "(0, 1, 6, 6)", "(B, 1, H, W)"),
    ("adaptive_basis", lambda: gahb.adaptive_basis(NET, ONE, 37), "k", "37", "d = 36"),
    ("partial_sums", lambda: gahb.adaptive_basis(NET, ONE).partial_sums(WIDE[:1]), "y", "(1, 1, 6, 7)", "36 pixels"),
    ("sample", lambda: gahb.sample(half, ONE, step_size=1.5), "step_size", "1.5", "(0, 1]"),
    ("sample", lambda: gahb.sample(half, ONE, mean="half"), "mean", "'half'", "number"),
    ("gaussian_noise", lambda: gahb.gaussian_noise(2, 4), "shape", "4", "(C, H, W)"),
    ("gaussian_noise", lambda: gahb.gaussian_noise(2, (1, 0, 4)), "shape", "0", "at least 1"),
    ("psnr", lambda: gahb.psnr(IMAGES, WIDE), "clean and denoised", "(3, 1, 6, 7)", "same"),
    ("cosine_similarity", lambda: gahb.cosine_similarity(IMAGES, WIDE), "a and b", "(3, 1, 6, 7)", "same"),
    ("assess", lambda: assess.assess(IMAGES, WIDE), "train", "(1, 6, 7)", "size of the samples"),
    ("excess", lambda: assess.excess({"nearest": TABLE[0]}), "excess", "not called", "unseen images"),
    ("nearest", lambda: gahb.nearest(IMAGES, WIDE), "images and train", "(3, 1, 6, 7)", "same"),
    *[("component_kurtosis", lambda rest=rest: metrics.component_kurtosis(*rest), *words) for rest, *words in (
        ((IMAGES, WIDE, 0, 2), "images and train", "6, 7)", "same"),
        ((ONE, IMAGES, 0, 2), "images", "got 1", "at least 2"),
        ((IMAGES, IMAGES, 2, 2), "first", "2 and 2", "below last"),
        ((IMAGES, IMAGES, 2, 9), "training images", "3", "no principal"))],
    ("ray", lambda: optimal.ray(IMAGES[0], 0.1, 1.0, 0.5), "low", "1.0 and 0.5", "below high"),
    ("ray", lambda: optimal.ray(IMAGES[0], 0.1, 0.0, float("nan")), "high", "nan", "finite"),
    ("ray", lambda: optimal.ray(0 * IMAGES[0], 0.1), "image", "zero", "must not"),
    ("psnr_contributions", lambda: stats.psnr_contributions([[0.0, 0], [1, 2]]), "errors", "only zeros", "above 0"),
    ("psnr_gain", lambda: stats.psnr_gain(TABLE, TABLE[:, :3]), "errors and other", "(4, 3)", "same shape"),
    ("psnr_gain", lambda: stats.psnr_gain(TABLE, TABLE[:3], paired=False), "errors and other", "(3, 5)", "same shape"),
    ("psnr_gain", lambda: stats.psnr_gain(0 * TABLE, 0 * TABLE), "errors or other", "only zeros", "above 0"),
    ("ratio_interval", lambda: stats.ratio_interval(TABLE, TABLE[:, :3]), "values and other", "(4, 3)", "same shape"),
    ("ratio_interval", lambda: stats.ratio_interval(TABLE, 0 * TABLE), "other", "0", "above 0"),
    *[("slope_difference", lambda rest=rest: stats.slope_difference(DB, *rest), *words) for rest, *words in (
        ((TABLE, TABLE[:, :3], 0, 30), "other", "(4, 3)", "same shape"),
        ((TABLE[:3], TABLE[:3], 0, 30), "errors", "(3, 5)", "each of 4"),
        ((TABLE, TABLE, 12, 18), "12 and 18", "got 0", "two noise"))],
    *[("fit_slope", lambda rest=rest: stats.fit_slope(DB, *rest), *words) for rest, *words in (
        ((0 * TABLE, 0, 30), "errors", "only zeros", "above 0"), ((HOLE, 0, 30), "errors", "NaN", "number"),
        ((TABLE[:3], 0, 30), "errors", "(3, 5)", "a row for each of 4"),
        ((TABLE, 12, 18), "12 and 18", "got 0", "two noise levels"))],
    ("steps", lambda: stats.steps([TABLE[0], HOLE[0]], True), "samples", "NaN", "number"),
    ("steps", lambda: stats.steps([TABLE[0], TABLE[0, :3]], True), "samples", "[5, 3]", "same"),
    ("steps", lambda: stats.steps([TABLE[0], []], False), "samples", "(0,)", "at least one"),
    *[("kl_integral", lambda rest=rest: stats.kl_integral(*rest), *words) for rest, *words in (
        (([0.1, 0.2], [1.0]), "sigmas", "[1.]", "one for each gap"),
        (([0.1, -0.2], [1.0, 2.0]), "sigmas", "-0.2", "positive"),
        (([0.1], [1.0]), "sigmas", "[0.1]", "two or more"), (([0.1, 0.2], [1.0, np.nan]), "gap", "NaN", "number"))],
    *[("disk_at", lambda p=p: datasets.disk_at(p, 12), *words) for p, *words in (
        ([1.0, 2], "parameters", "(2,)", "(n, 5)"), ([[6.0, 6, 4, 1, torch.nan]], "parameters", "(1, 5)", "finite"),
        ([[6.0, 6, 0.1, 1, 0]], "radius", "0.1", "above"))],
    ("disk_harmonics", lambda: datasets.disk_harmonics([9.0, 9, 5], 20), "parameters", "(3,)", "(5,)"),
    ("disk_harmonics", lambda: datasets.disk_harmonics([9.0, 9, -1.5, 1, 0], 20), "radius", "-1.5", "positive"),
    ("disk_harmonics", lambda: datasets.disk_harmonics(DISK, 20, inside=90), "inside", "90", "below the number of"),
    ("Photographs", lambda: PHOTOGRAPHS.part("S1", 3), "S1", "3", "holds 2"),
    ("contour_anisotropy", lambda: bases.contour_anisotropy(FLAT, WIDE[0, 0]), "vectors", "(6, 6)", "shape of image"),
    ("participation_ratio", lambda: bases.participation_ratio(FLAT, WIDE[0, 0] > 0), "vectors", "(6, 6)", "of mask"),
    ("energy_in_span", lambda: bases.energy_in_span(FLAT, WIDE[:, 0]), "vectors and span", "42", "as many pixels"),
    ("subspace_cosine", lambda: bases.subspace_cosine(FLAT, FLAT[:2]), "vectors and tangents", "(2, 36)", "number"),
    ("pca_basis", lambda: rivals.pca_basis(WIDE, 2), "train", "(3, 1, 6, 7)", "(B, 1, size, size)"),
    ("basis_denoise", lambda: rivals.basis_denoise(WIDE, 0.1, FLAT), "basis", "(6, 6)", "size of noisy, (6, 7)"),
    ("fixed_transforms", lambda: oracle.fixed_transforms(WIDE), "train", "(3, 1, 6, 7)", "(B, 1, size, size)"),
    ("oracle_errors", lambda: oracle.oracle_errors(half, WIDE, 0.1, BASES), "images", "6, 7)", "(B, 1, size, size)"),
    ("oracle_errors", lambda: oracle.oracle_errors(half, IMAGES[..., :4, :4], 0.1, BASES), "images", "4)", "6x6"),
    ("adaptive_gain", lambda: oracle.adaptive_gain({"adaptive": TABLE[0]}), "rows", "got adaptive", "a fixed basis"),
    ("adaptive_gain", lambda: oracle.adaptive_gain({"DCT": TABLE[0]}), "rows", "DCT", "hold adaptive"),
    ("wavelet_denoise", lambda: rivals.wavelet_denoise(IMAGES, 0.1, levels=4), "levels", "6, 6)", "fewer than 4"),
    ("train", lambda: gahb.train(PIXELS[0], progress=False), "images", "(1, 6, 6)", "C, H, W)"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "function", "arguments"), CALLS)
def test_good_input_passes(name, function, arguments):
    function(**{argument: good for argument, (good, _) in arguments.items()})


def refusals():
    """Of each call of the table, and with each bad value in place of its good one: what the error must say."""
    for name, function, arguments in CALLS:
        good = {argument: value for argument, (value, _) in arguments.items()}
        for argument, (_, wrong) in arguments.items():
            for bad, came, expected in wrong:
                yield name, lambda f=function, a=good | {argument: bad}: f(**a), argument, came, expected
    yield from SPECIAL


@pytest.mark.parametrize(
    ("call", "argument", "came", "expected"),
    [pytest.param(*case, id=f"{name}-{case[1]}-{case[2]}-{i}") for i, (name, *case) in enumerate(refusals())],
)
def test_the_error_names_the_argument_what_came_and_what_is_expected(call, argument, came, expected):
    with pytest.raises((ValueError, TypeError)) as error:
        call()
    named = "denoiser" if expected == "function" else re.escape(argument)
    assert re.search(rf"\b{named}\b", str(error.value))
    assert came in str(error.value) and expected in str(error.value)


RESULTS = {
    "Analysis",
    "Assessment",
    "Basis",
    "Samples",
    "Nearest",
    "Slope",
}  # returned by functions, not built by users
FILES = {"load_released", "load_or_train"}  # tested with the files that they read


def public_names():
    for module in (gahb, assess, datasets, optimal, locality, stats, metrics, bases, rivals, oracle):
        for name in getattr(module, "__all__", vars(module)):
            value = getattr(module, name)
            own = getattr(value, "__module__", "").startswith(module.__name__) and not name.startswith("_")
            if own and callable(value):
                yield name


def test_the_table_holds_every_public_function():
    methods = {"partial_sums", "first_of_duplicates"}  # of results, and what is in no public list
    assert set(public_names()) - RESULTS - FILES == {name for name, *_ in refusals()} - methods

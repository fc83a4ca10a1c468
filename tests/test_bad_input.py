"""Every public function refuses bad input, and says which argument, what came and what is expected."""

import inspect
import re
import types

import numpy as np
import pytest
import torch

import gahb
from gahb import bases, metrics, optimal, oracle, rivals, stats
from gahb.datasets import Photographs

IMAGES = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
ONE, PIXELS = IMAGES[:1], (IMAGES * 255).to(torch.uint8)
NAN = IMAGES.clone()
NAN[1, 0, 2, 3] = torch.nan
EMPTY, INTEGERS, FLAT, WIDE = IMAGES[:0], PIXELS.long(), IMAGES[:, 0], torch.rand(3, 1, 6, 7)
NET = gahb.BFCNN(depth=3, channels=4)
EYE, D = torch.eye(36), 36
TABLE = torch.rand(4, 5).numpy()
DB = [0.0, 10.0, 20.0, 30.0]
HOLE = np.where(np.eye(4, 5) > 0, np.nan, TABLE)
PHOTOGRAPHS = Photographs(torch.zeros(5, 1, 6, 6, dtype=torch.uint8), 2, 1, {})
d, o, s, m, b, r, c = gahb.datasets, optimal, stats, metrics, bases, rivals, oracle
STRONG = IMAGES * 255
BASES = oracle.fixed_transforms(IMAGES)
DISK = [9.0, 9, 5, 1, 0]


def identity(y):
    return y


def shrinking(y, sigma):
    return y / (1 + sigma)


def images_cases(name, call, argument, ndim="(B, C, H, W)"):
    """What every function that takes a batch of images refuses."""
    return [
        (name, lambda: call([1.0]), argument, "list", "torch.Tensor"),
        (name, lambda: call(None), argument, "NoneType", "torch.Tensor"),
        (name, lambda: call(FLAT), argument, "(3, 6, 6)", ndim),
        (name, lambda: call(INTEGERS), argument, "int64", "floating-point"),
        (name, lambda: call(NAN), argument, "NaN", "finite"),
        (name, lambda: call(EMPTY), argument, "(0, 1, 6, 6)", "not be empty"),
    ]


def image_cases(name, call, argument):
    """What every function that takes one image refuses."""
    return [
        (name, lambda: call([1.0]), argument, "list", "torch.Tensor"),
        (name, lambda: call(IMAGES[0, 0]), argument, "(6, 6)", "(C, H, W)"),
        (name, lambda: call(INTEGERS[0]), argument, "int64", "floating-point"),
        (name, lambda: call(NAN[1]), argument, "NaN", "finite"),
        (name, lambda: call(IMAGES), argument, "3", "(C, H, W)"),
    ]


def count_cases(name, call, argument, low=1):
    return [
        (name, lambda: call(low - 1), argument, str(low - 1), f"at least {low}"),
        (name, lambda: call(-3), argument, "-3", f"at least {low}"),
        (name, lambda: call(2.5), argument, "2.5", "integer"),
        (name, lambda: call(True), argument, "True", "integer"),
        (name, lambda: call("many"), argument, "'many'", "integer"),
    ]


def positive_cases(name, call, argument):
    return [
        (name, lambda: call(0.0), argument, "0.0", "positive"),
        (name, lambda: call(-1.5), argument, "-1.5", "positive"),
        (name, lambda: call(float("nan")), argument, "nan", "positive"),
        (name, lambda: call(float("inf")), argument, "inf", "positive"),
        (name, lambda: call("low"), argument, "low", "positive"),
    ]


def array_cases(name, call, argument, dims=None):
    """What every function that takes an array of numbers refuses; of ``dims`` dimensions if given."""
    hole = np.full((2,) * (dims or 2), np.nan)
    wrong = [(name, lambda: call(np.ones((2,) * (dims + 1))), argument, "(2, 2", f"{dims} dimensions")] if dims else []
    return [
        *wrong,
        (name, lambda: call("many"), argument, "'many'", "number"),
        (name, lambda: call(hole), argument, "NaN", "number"),
        (name, lambda: call(np.ones((0,) * (dims or 2))), argument, "(0,", "number"),
    ]


def errors_cases(name, call, argument, dims=None):
    """What every function that takes squared errors refuses, such as a table of dB."""
    return [*array_cases(name, call, argument, dims), (name, lambda: call(TABLE - 5), argument, "-", "at least 0")]


def sigmas_cases(name, call):
    return [
        (name, lambda: call([]), "sigmas", "(0,)", "at least one"),
        (name, lambda: call([0.1, 0.0]), "sigmas", "0.0", "positive"),
        (name, lambda: call(-0.1), "sigmas", "-0.1", "positive"),
        (name, lambda: call([0.1, float("nan")]), "sigmas", "NaN", "number"),
        (name, lambda: call("low"), "sigmas", "low", "number"),
    ]


def pair_cases(name, call, first, second):
    return [
        *images_cases(name, lambda x: call(x, IMAGES), first),
        *images_cases(name, lambda x: call(IMAGES, x), second),
        (name, lambda: call(IMAGES, WIDE), f"{first} and {second}", "(3, 1, 6, 7)", "same"),
    ]


def wavelet_cases(name, call):
    return [
        (name, lambda: call("bior2.2"), "wavelet", "'bior2.2'", "orthogonal"),
        (name, lambda: call("db99"), "wavelet", "'db99'", "orthogonal"),
        (name, lambda: call(2), "wavelet", "2", "orthogonal"),
    ]


def denoiser_cases(name, call):
    return [(name, lambda: call(None), "denoiser", "NoneType", "function")]


GENERATORS = {
    "c_alpha": lambda n=2, size=8, seed=0: d.c_alpha(n, size, 2.0, seed=seed),
    "contours": lambda n=2, size=8, seed=0: d.contours(n, size, 2.0, seed),
    "backgrounds": lambda n=2, size=8, seed=0: d.backgrounds(n, size, 2.0, seed),
    "disks": lambda n=2, size=12, seed=0: d.disks(n, size, seed),
    "disk_tangents": lambda n=2, size=12, seed=0: d.disk_tangents(n, size, seed),
    "disk_parameters": lambda n=2, size=12, seed=0: d.disk_parameters(n, size, seed),
    "ray": lambda n=2, size=8, seed=0: d.ray(n, size, seed),
    "sinusoids": lambda n=2, size=8, seed=0: d.sinusoids(n, size, seed),
    "sinusoid_tangents": lambda n=2, size=8, seed=0: d.sinusoid_tangents(n, size, seed),
}


def generator_cases():
    for name, draw in GENERATORS.items():
        yield from count_cases(name, lambda n, draw=draw: draw(n=n), "n")
        yield from count_cases(name, lambda v, draw=draw: draw(size=v), "size", 12 if name.startswith("disk") else 4)
        yield from count_cases(name, lambda v, draw=draw: draw(seed=v), "seed", 0)


def mixture(means=IMAGES, covs=None, weights=None, sigma=0.1):
    covs = EYE.repeat(3, 1, 1) if covs is None else covs
    return o.mixture(means, covs, torch.ones(3) if weights is None else weights, sigma)


SKEW = EYE.clone()
SKEW[0, 1] = 1
CASES = [
    # denoisers
    *count_cases("BFCNN", lambda v: gahb.BFCNN(depth=v), "depth", 2),
    *count_cases("BFCNN", lambda v: gahb.BFCNN(channels=v), "channels"),
    *count_cases("BFCNN", lambda v: gahb.BFCNN(3, 4, kernel_sizes=v), "kernel_sizes"),
    ("BFCNN", lambda: gahb.BFCNN(3, 4, kernel_sizes=2), "kernel_sizes", "[2, 2, 2]", "odd"),
    ("BFCNN", lambda: gahb.BFCNN(3, 4, kernel_sizes=[3, 1]), "kernel_sizes", "[3, 1]", "each of 3 convolutions"),
    *count_cases("UNet", lambda v: gahb.UNet(blocks=v), "blocks"),
    *count_cases("UNet", lambda v: gahb.UNet(in_channels=v), "in_channels"),
    *count_cases("ResUNet", lambda v: gahb.ResUNet(channels=v), "channels"),
    *count_cases("ResUNet", lambda v: gahb.ResUNet(blocks=v), "blocks"),
    *count_cases("ResUNet", lambda v: gahb.ResUNet(in_channels=v), "in_channels"),
    ("BFCNN", lambda: NET(None), "y", "NoneType", "torch.Tensor"),
    ("BFCNN", lambda: NET(INTEGERS), "y", "int64", "floating-point"),
    ("BFCNN", lambda: NET(FLAT), "y", "(3, 6, 6)", "(B, 1, H, W)"),
    ("BFCNN", lambda: NET(EMPTY), "y", "(0, 1, 6, 6)", "(B, 1, H, W)"),
    ("UNet", lambda: gahb.UNet(4, 1)(IMAGES.expand(3, 2, 6, 6)), "y", "(3, 2, 6, 6)", "(B, 1, H, W)"),
    ("ResUNet", lambda: gahb.ResUNet(4, 1)(IMAGES.expand(3, 2, 6, 6)), "y", "(3, 2, 6, 6)", "(B, 1, H, W)"),
    # Jacobian and sampling
    *image_cases("jacobian", lambda y: gahb.jacobian(NET, y), "y"),
    *denoiser_cases("jacobian", lambda f: gahb.jacobian(f, ONE)),
    *image_cases("adaptive_basis", lambda y: gahb.adaptive_basis(NET, y), "y"),
    *count_cases("adaptive_basis", lambda k: gahb.adaptive_basis(NET, ONE, k), "k"),
    *count_cases("adaptive_basis", lambda v: gahb.adaptive_basis(NET, ONE, 2, probes=v), "probes"),
    *denoiser_cases("adaptive_basis", lambda f: gahb.adaptive_basis(f, ONE)),
    ("adaptive_basis", lambda: gahb.adaptive_basis(NET, ONE, D + 1), "k", "37", "d = 36"),
    ("adaptive_basis", lambda: gahb.adaptive_basis(NET, ONE, kind="left"), "kind", "'left'", "symmetric, singular"),
    *image_cases("partial_sums", lambda y: gahb.adaptive_basis(NET, ONE).partial_sums(y), "y"),
    ("partial_sums", lambda: gahb.adaptive_basis(NET, ONE).partial_sums(WIDE[:1]), "y", "(1, 1, 6, 7)", "36 pixels"),
    *images_cases("sample", lambda x: gahb.sample(identity, x), "noise"),
    *positive_cases("sample", lambda v: gahb.sample(identity, ONE, step_size=v), "step_size"),
    *positive_cases("sample", lambda v: gahb.sample(identity, ONE, sigma_end=v), "sigma_end"),
    *count_cases("sample", lambda v: gahb.sample(identity, ONE, max_steps=v), "max_steps"),
    *denoiser_cases("sample", lambda f: gahb.sample(f, ONE)),
    ("sample", lambda: gahb.sample(identity, ONE, step_size=1.5), "step_size", "1.5", "(0, 1]"),
    ("sample", lambda: gahb.sample(identity, ONE, mean="half"), "mean", "'half'", "number"),
    *count_cases("gaussian_noise", lambda n: gahb.gaussian_noise(n, (1, 4, 4)), "n"),
    *count_cases("gaussian_noise", lambda v: gahb.gaussian_noise(2, (1, v, 4)), "shape"),
    *count_cases("gaussian_noise", lambda v: gahb.gaussian_noise(2, (1, 4, 4), v), "seed", 0),
    ("gaussian_noise", lambda: gahb.gaussian_noise(2, 4), "shape", "4", "(C, H, W)"),
    # metrics
    *pair_cases("psnr", gahb.psnr, "clean", "denoised"),
    *pair_cases("cosine_similarity", gahb.cosine_similarity, "a", "b"),
    *pair_cases("nearest", gahb.nearest, "images", "train"),
    *count_cases("nearest", lambda v: gahb.nearest(IMAGES, IMAGES, block=v), "block"),
    *[case for name in ("squared_errors", "inferred_sigmas", "psnr_curve")
      for f in [getattr(m, name)]
      for case in (*images_cases(name, lambda x, f=f: f(identity, x, 0.1), "images"),
                   *sigmas_cases(name, lambda v, f=f: f(identity, IMAGES, v)),
                   *count_cases(name, lambda v, f=f: f(identity, IMAGES, 0.1, v), "seed", 0),
                   *denoiser_cases(name, lambda v, f=f: f(v, IMAGES, 0.1)))],
    *images_cases("squared_differences", lambda x: m.squared_differences(identity, identity, x, 0.1), "images"),
    *sigmas_cases("squared_differences", lambda v: m.squared_differences(identity, identity, IMAGES, v)),
    *count_cases("squared_differences", lambda v: m.squared_differences(identity, identity, IMAGES, 0.1, v), "seed", 0),
    *denoiser_cases("squared_differences", lambda f: m.squared_differences(f, identity, IMAGES, 0.1)),
    *denoiser_cases("squared_differences", lambda f: m.squared_differences(identity, f, IMAGES, 0.1)),
    *images_cases("denoised", lambda x: m.denoised(identity, x), "y"),
    *denoiser_cases("denoised", lambda f: m.denoised(f, IMAGES)),
    *images_cases("component_kurtosis", lambda x: m.component_kurtosis(x, IMAGES, 0, 2), "images"),
    *images_cases("component_kurtosis", lambda x: m.component_kurtosis(IMAGES, x, 0, 2), "train"),
    *count_cases("component_kurtosis", lambda v: m.component_kurtosis(IMAGES, IMAGES, v, 2), "first", 0),
    *count_cases("component_kurtosis", lambda v: m.component_kurtosis(IMAGES, IMAGES, 0, v), "last"),
    ("component_kurtosis", lambda: m.component_kurtosis(IMAGES, WIDE, 0, 2), "images and train", "6, 7)", "same"),
    ("component_kurtosis", lambda: m.component_kurtosis(ONE, IMAGES, 0, 2), "images", "got 1", "at least 2"),
    ("component_kurtosis", lambda: m.component_kurtosis(IMAGES, IMAGES, 2, 2), "first", "2 and 2", "below last"),
    ("component_kurtosis", lambda: m.component_kurtosis(IMAGES, IMAGES, 2, 9), "training images", "3", "no principal"),
    *images_cases("stein_risk", lambda x: m.stein_risk(identity, x, 0.1), "images"),
    *positive_cases("stein_risk", lambda v: m.stein_risk(identity, IMAGES, v), "sigma"),
    *count_cases("stein_risk", lambda v: m.stein_risk(identity, IMAGES, 0.1, v), "probes"),
    *denoiser_cases("stein_risk", lambda f: m.stein_risk(f, IMAGES, 0.1)),
    # optimal denoisers
    *images_cases("empirical", lambda x: o.empirical(x, 0.1), "train"),
    *positive_cases("empirical", lambda v: o.empirical(IMAGES, v), "sigma"),
    *count_cases("empirical", lambda v: o.empirical(IMAGES, 0.1, v), "block"),
    *images_cases("empirical", lambda y: o.empirical(IMAGES, 0.1)(y), "y"),
    ("empirical", lambda: o.empirical(IMAGES, 0.1)(WIDE), "y", "(3, 1, 6, 7)", "36 pixels"),
    *image_cases("gaussian", lambda x: o.gaussian(x, EYE, 0.1), "mean"),
    *positive_cases("gaussian", lambda v: o.gaussian(IMAGES[0], EYE, v), "sigma"),
    ("gaussian", lambda: o.gaussian(IMAGES[0], EYE[:5], 0.1), "cov", "(5, 36)", "(36, 36)"),
    ("gaussian", lambda: o.gaussian(IMAGES[0], None, 0.1), "cov", "NoneType", "torch.Tensor"),
    ("gaussian", lambda: o.gaussian(IMAGES[0], EYE * torch.nan, 0.1), "cov", "NaN", "finite"),
    ("gaussian", lambda: o.gaussian(IMAGES[0], -EYE, 0.1), "cov", "-1", "non-negative"),
    ("gaussian", lambda: o.gaussian(IMAGES[0], SKEW, 0.1), "cov", "transpose", "symmetric"),
    *images_cases("moments", o.moments, "train"),
    *images_cases("wiener", o.wiener, "train"),
    *positive_cases("wiener", lambda v: o.wiener(IMAGES)(v), "sigma"),
    *images_cases("wiener", lambda y: o.wiener(IMAGES)(0.1)(y), "y"),
    ("wiener", lambda: o.wiener(IMAGES)(0.1)(WIDE), "y", "(3, 1, 6, 7)", "36 pixels"),
    *images_cases("gaussian_samples", lambda x: o.gaussian_samples(x, IMAGES), "train"),
    *images_cases("gaussian_samples", lambda x: o.gaussian_samples(IMAGES, x), "noise"),
    ("gaussian_samples", lambda: o.gaussian_samples(IMAGES, WIDE), "noise", "(3, 1, 6, 7)", "36 pixels"),
    *images_cases("mixture", lambda x: mixture(means=x), "means"),
    *positive_cases("mixture", lambda v: mixture(sigma=v), "sigma"),
    ("mixture", lambda: mixture(covs=EYE), "covs", "(36, 36)", "(3, 36, 36)"),
    ("mixture", lambda: mixture(weights=torch.ones(2)), "weights", "(2,)", "(3,)"),
    ("mixture", lambda: mixture(weights=torch.tensor([1.0, -1, 1])), "weights", "-1.0", "positive"),
    ("mixture", lambda: mixture(weights=torch.tensor([1.0, torch.nan, 1])), "weights", "NaN", "finite"),
    ("mixture", lambda: mixture(weights=[1, 1, 1]), "weights", "list", "torch.Tensor"),
    *images_cases("subspace", o.subspace, "vectors"),
    *image_cases("ray", lambda x: o.ray(x, 0.1), "image"),
    *positive_cases("ray", lambda v: o.ray(IMAGES[0], v), "sigma"),
    ("ray", lambda: o.ray(IMAGES[0], 0.1, 1.0, 0.5), "low", "1.0 and 0.5", "below high"),
    ("ray", lambda: o.ray(IMAGES[0], 0.1, 0.0, float("nan")), "high", "nan", "finite"),
    ("ray", lambda: o.ray(0 * IMAGES[0], 0.1), "image", "zero", "must not"),
    # stats
    *errors_cases("psnr_contributions", s.psnr_contributions, "errors"),
    ("psnr_contributions", lambda: s.psnr_contributions([[0.0, 0], [1, 2]]), "errors", "only zeros", "above 0"),
    *errors_cases("psnr_gain", lambda v: s.psnr_gain(v, TABLE), "errors"),
    *errors_cases("psnr_gain", lambda v: s.psnr_gain(TABLE, v), "other"),
    *count_cases("psnr_gain", lambda v: s.psnr_gain(TABLE, TABLE, v), "resamples"),
    *count_cases("psnr_gain", lambda v: s.psnr_gain(TABLE, TABLE, seed=v), "seed", 0),
    ("psnr_gain", lambda: s.psnr_gain(TABLE, TABLE[:, :3]), "errors and other", "(4, 3)", "same shape"),
    ("psnr_gain", lambda: s.psnr_gain(TABLE, TABLE[:3], paired=False), "errors and other", "(3, 5)", "same shape"),
    ("psnr_gain", lambda: s.psnr_gain(0 * TABLE, 0 * TABLE), "errors or other", "only zeros", "above 0"),
    *array_cases("ratio_interval", lambda v: s.ratio_interval(v, TABLE), "values"),
    *array_cases("ratio_interval", lambda v: s.ratio_interval(TABLE, v), "other"),
    *count_cases("ratio_interval", lambda v: s.ratio_interval(TABLE, TABLE, v), "resamples"),
    *count_cases("ratio_interval", lambda v: s.ratio_interval(TABLE, TABLE, seed=v), "seed", 0),
    ("ratio_interval", lambda: s.ratio_interval(TABLE, TABLE[:, :3]), "values and other", "(4, 3)", "same shape"),
    ("ratio_interval", lambda: s.ratio_interval(TABLE, 0 * TABLE), "other", "0", "above 0"),
    *errors_cases("slope_difference", lambda v: s.slope_difference(DB, v, TABLE, 0, 30), "errors", 2),
    *errors_cases("slope_difference", lambda v: s.slope_difference(DB, TABLE, v, 0, 30), "other", 2),
    ("slope_difference", lambda: s.slope_difference(DB, TABLE, TABLE[:, :3], 0, 30), "other", "(4, 3)", "same shape"),
    ("slope_difference", lambda: s.slope_difference(DB, TABLE[:3], TABLE[:3], 0, 30), "errors", "(3, 5)", "each of 4"),
    ("slope_difference", lambda: s.slope_difference(DB, TABLE, TABLE, 12, 18), "12 and 18", "got 0", "two noise"),
    *errors_cases("fit_slope", lambda v: s.fit_slope(DB, v, 0, 30), "errors", 2),
    ("fit_slope", lambda: s.fit_slope(DB, 0 * TABLE, 0, 30), "errors", "only zeros", "above 0"),
    ("fit_slope", lambda: s.fit_slope(DB, HOLE, 0, 30), "errors", "NaN", "number"),
    ("fit_slope", lambda: s.fit_slope(DB, TABLE[:3], 0, 30), "errors", "(3, 5)", "a row for each of 4"),
    ("fit_slope", lambda: s.fit_slope(DB, TABLE[0], 0, 30), "errors", "(5,)", "2 dimensions"),
    ("fit_slope", lambda: s.fit_slope([], TABLE, 0, 30), "input_db", "(0,)", "at least one"),
    ("fit_slope", lambda: s.fit_slope("db", TABLE, 0, 30), "input_db", "'db'", "array of numbers"),
    ("fit_slope", lambda: s.fit_slope(DB, TABLE, 12, 18), "12 and 18", "got 0", "two noise levels"),
    ("fit_slope", lambda: s.fit_slope(DB, TABLE, "low", 18), "low", "'low'", "number"),
    *[case for name, argument, low in (("resampled_means", "table", 1), ("confidence_interval", "values", 2))
      for f in [getattr(s, name)]
      for case in (*array_cases(name, f, argument),
                   *count_cases(name, lambda v, f=f: f(TABLE, resamples=v), "resamples", low),
                   *count_cases(name, lambda v, f=f: f(TABLE, seed=v), "seed", 0))],
    ("confidence_interval", lambda: s.confidence_interval(TABLE, level=95), "level", "95", "between 0 and 1"),
    ("confidence_interval", lambda: s.confidence_interval(TABLE, level=0.0), "level", "0.0", "between 0 and 1"),
    ("steps", lambda: s.steps([TABLE[0], HOLE[0]], True), "samples", "NaN", "number"),
    ("steps", lambda: s.steps([TABLE[0], TABLE[0, :3]], True), "samples", "[5, 3]", "same"),
    ("steps", lambda: s.steps([TABLE[0], []], False), "samples", "(0,)", "at least one"),
    ("kl_integral", lambda: s.kl_integral([0.1, 0.2], [1.0]), "sigmas", "[1.]", "one for each gap"),
    ("kl_integral", lambda: s.kl_integral([0.1, -0.2], [1.0, 2.0]), "sigmas", "-0.2", "positive"),
    ("kl_integral", lambda: s.kl_integral([0.1], [1.0]), "sigmas", "[0.1]", "two or more"),
    ("kl_integral", lambda: s.kl_integral([0.1, 0.2], [1.0, np.nan]), "gap", "NaN", "number"),
    # image classes
    *generator_cases(),
    ("disk_at", lambda: d.disk_at([1.0, 2], 12), "parameters", "(2,)", "(n, 5)"),
    ("disk_at", lambda: d.disk_at([[6.0, 6, 4, 1, torch.nan]], 12), "parameters", "(1, 5)", "finite"),
    ("disk_at", lambda: d.disk_at([[6.0, 6, 0.1, 1, 0]], 12), "radius", "0.1", "above"),
    *count_cases("disk_at", lambda v: d.disk_at([[6.0, 6, 4, 1, 0]], v), "size"),
    *array_cases("disk_harmonics", lambda v: d.disk_harmonics(v, 20), "parameters", 1),
    ("disk_harmonics", lambda: d.disk_harmonics([9.0, 9, 5], 20), "parameters", "(3,)", "(5,)"),
    *positive_cases("disk_harmonics", lambda v: d.disk_harmonics(np.array([9, 9, v, 1, 0], float), 20), "radius")[:2],
    *count_cases("disk_harmonics", lambda v: d.disk_harmonics(DISK, v), "size"),
    *count_cases("disk_harmonics", lambda v: d.disk_harmonics(DISK, 20, waves=v), "waves", 0),
    *count_cases("disk_harmonics", lambda v: d.disk_harmonics(DISK, 20, background=v), "background", 0),
    *count_cases("disk_harmonics", lambda v: d.disk_harmonics(DISK, 20, inside=v), "inside", 0),
    ("disk_harmonics", lambda: d.disk_harmonics(DISK, 20, inside=90), "inside", "90", "below the number of pixels"),
    *positive_cases("c_alpha", lambda v: d.c_alpha(2, 8, v), "alpha"),
    *positive_cases("c_alpha", lambda v: d.c_alpha(2, 8, 1.0, v), "beta"),
    *positive_cases("contours", lambda v: d.contours(2, 8, v), "alpha"),
    *positive_cases("backgrounds", lambda v: d.backgrounds(2, 8, v), "beta"),
    *count_cases("ray_image", d.ray_image, "size", 4),
    *image_cases("scaled_image", lambda x: d.scaled_image(x, 2), "image"),
    *count_cases("scaled_image", lambda v: d.scaled_image(ONE, v), "n"),
    *count_cases("scaled_image", lambda v: d.scaled_image(ONE, 2, v), "seed", 0),
    *count_cases("permutation", d.permutation, "d"),
    *count_cases("permutation", lambda v: d.permutation(9, v), "seed", 0),
    *images_cases("shuffled", d.shuffled, "images"),
    *images_cases("unshuffled", d.unshuffled, "images"),
    *count_cases("shuffled", lambda v: d.shuffled(IMAGES, v), "seed", 0),
    *[case for name in ("faces", "scenes")
      for f in [getattr(d, name)]
      for case in (*count_cases(name, lambda v, f=f: f(size=v), "size", 4),
                   *count_cases(name, lambda v, f=f: f(N=v), "N", 0),
                   *count_cases(name, lambda v, f=f: f(test_size=v), "test_size"),
                   (name, lambda f=f: f(IMAGES), "source", "Tensor", "path"))],
    ("as_float", lambda: d.as_float(IMAGES), "pixels", "float32", "uint8"),
    ("as_float", lambda: d.as_float([1]), "pixels", "list", "uint8"),
    ("near_duplicates", lambda: d.near_duplicates(IMAGES), "pixels", "float32", "uint8"),
    ("near_duplicates", lambda: d.near_duplicates(PIXELS[0]), "pixels", "(1, 6, 6)", "(n, 1, H, W)"),
    *positive_cases("near_duplicates", lambda v: d.near_duplicates(PIXELS, v), "threshold"),
    ("Photographs", lambda: PHOTOGRAPHS.part("S3"), "part", "'S3'", "S1, S2, test"),
    ("Photographs", lambda: PHOTOGRAPHS.part("S1", 3), "S1", "3", "holds 2"),
    *count_cases("Photographs", lambda v: PHOTOGRAPHS.part("S1", v), "n"),
    # bases
    *[case for name, call in (("analyse", b.analyse), ("denoise", b.denoise))
      for case in (
          *image_cases(name, lambda x, call=call: call(identity, x, 0.1), "image"),
          *positive_cases(name, lambda v, call=call: call(identity, IMAGES[0], v), "sigma"),
          *denoiser_cases(name, lambda f, call=call: call(f, IMAGES[0], 0.1)),
          (name, lambda call=call: call(identity, STRONG[0], 0.1), "image", "255", "divide"),
      )],
    *array_cases("effective_rank", b.effective_rank, "shrinkage", 1),
    *array_cases("preserved_fraction", lambda v: b.preserved_fraction(IMAGES[0], v, 2), "vectors"),
    ("preserved_fraction", lambda: b.preserved_fraction(WIDE[0], FLAT, 2), "vectors", "36", "pixels"),
    ("preserved_fraction", lambda: b.preserved_fraction(IMAGES[0], FLAT, float("nan")), "rank", "nan", "finite"),
    *array_cases("mean_frequency", b.mean_frequency, "vectors", 3),
    *array_cases("contour_anisotropy", lambda v: b.contour_anisotropy(FLAT, v), "image", 2),
    ("contour_anisotropy", lambda: b.contour_anisotropy(FLAT, WIDE[0, 0]), "vectors", "(6, 6)", "shape of image"),
    *array_cases("contour_mask", b.contour_mask, "image", 2),
    ("contour_mask", lambda: b.contour_mask(FLAT[0], 1.5), "fraction", "1.5", "[0, 1]"),
    *array_cases("participation_ratio", lambda v: b.participation_ratio(v, FLAT[0] > 0.5), "vectors", 3),
    ("participation_ratio", lambda: b.participation_ratio(FLAT, WIDE[0, 0] > 0), "vectors", "(6, 6)", "shape of mask"),
    *array_cases("energy_in_span", lambda v: b.energy_in_span(v, FLAT), "vectors"),
    *array_cases("energy_in_span", lambda v: b.energy_in_span(FLAT, v), "span"),
    ("energy_in_span", lambda: b.energy_in_span(FLAT, WIDE[:, 0]), "vectors and span", "42", "as many pixels"),
    *array_cases("subspace_cosine", lambda v: b.subspace_cosine(v, FLAT), "vectors"),
    ("subspace_cosine", lambda: b.subspace_cosine(FLAT, FLAT[:2]), "vectors and tangents", "(2, 36)", "same number"),
    # rivals
    *count_cases("dct_basis", lambda v: r.dct_basis(v, 1), "size"),
    *count_cases("dct_basis", lambda v: r.dct_basis(4, v), "k"),
    ("dct_basis", lambda: r.dct_basis(4, 17), "k", "17", "at most"),
    *images_cases("pca_basis", lambda x: r.pca_basis(x, 2), "train"),
    *count_cases("pca_basis", lambda v: r.pca_basis(IMAGES, v), "k"),
    ("pca_basis", lambda: r.pca_basis(IMAGES, 37), "k", "37", "at most"),
    ("pca_basis", lambda: r.pca_basis(WIDE, 2), "train", "(3, 1, 6, 7)", "(B, 1, size, size)"),
    *images_cases("basis_denoise", lambda x: r.basis_denoise(x, 0.1, FLAT), "noisy"),
    *positive_cases("basis_denoise", lambda v: r.basis_denoise(IMAGES, v, FLAT), "sigma"),
    *array_cases("basis_denoise", lambda v: r.basis_denoise(IMAGES, 0.1, v), "basis", 3),
    ("basis_denoise", lambda: r.basis_denoise(IMAGES, 0.1, FLAT, -1), "threshold", "-1", "at least 0"),
    ("basis_denoise", lambda: r.basis_denoise(WIDE, 0.1, FLAT), "basis", "(6, 6)", "size of noisy, (6, 7)"),
    *count_cases("wavelet_denoise", lambda v: r.wavelet_denoise(IMAGES, 0.1, levels=v), "levels"),
    ("wavelet_denoise", lambda: r.wavelet_denoise(IMAGES, 0.1, levels=4), "levels", "(3, 1, 6, 6)", "fewer than 4"),
    *images_cases("wavelet_denoise", lambda x: r.wavelet_denoise(x, 0.1), "noisy"),
    *positive_cases("wavelet_denoise", lambda v: r.wavelet_denoise(IMAGES, v), "sigma"),
    ("wavelet_denoise", lambda: r.wavelet_denoise(IMAGES, 0.1, -2), "threshold", "-2", "at least 0"),
    *wavelet_cases("wavelet_denoise", lambda v: r.wavelet_denoise(IMAGES, 0.1, wavelet=v)),
    *images_cases("best_option", lambda x: r.best_option(shrinking, [{}], x, 0.1), "train"),
    *positive_cases("best_option", lambda v: r.best_option(shrinking, [{}], IMAGES, v), "sigma"),
    *count_cases("best_option", lambda v: r.best_option(shrinking, [{}], IMAGES, 0.1, v), "seed", 0),
    ("best_option", lambda: r.best_option(shrinking, [{}], STRONG, 0.1), "train", "255", "divide"),
    ("best_option", lambda: r.best_option(shrinking, [], IMAGES, 0.1), "options", "got none", "at least one"),
    *images_cases("chosen_errors", lambda x: r.chosen_errors(shrinking, [{}], x, IMAGES, 0.1), "train"),
    *images_cases("chosen_errors", lambda x: r.chosen_errors(shrinking, [{}], IMAGES, x, 0.1), "images"),
    *sigmas_cases("chosen_errors", lambda v: r.chosen_errors(shrinking, [{}], IMAGES, IMAGES, v)),
    *count_cases("chosen_errors", lambda v: r.chosen_errors(shrinking, [{}], IMAGES, IMAGES, 0.1, v), "seed", 0),
    *wavelet_cases("fraction_above", lambda v: r.fraction_above(IMAGES, 0.1, v)),
    *images_cases("fraction_above", lambda x: r.fraction_above(x, 0.1), "images"),
    *positive_cases("fraction_above", lambda v: r.fraction_above(IMAGES, v), "sigma"),
    # oracle
    *array_cases("oracle_error", lambda v: c.oracle_error(v, 0.1), "coefficients", 1),
    *positive_cases("oracle_error", lambda v: c.oracle_error([1.0], v), "sigma"),
    *images_cases("fixed_transforms", lambda x: c.fixed_transforms(x), "train"),
    ("fixed_transforms", lambda: c.fixed_transforms(WIDE), "train", "(3, 1, 6, 7)", "(B, 1, size, size)"),
    *images_cases("oracle_errors", lambda x: c.oracle_errors(identity, x, 0.1, BASES), "images"),
    *positive_cases("oracle_errors", lambda v: c.oracle_errors(identity, IMAGES, v, BASES), "sigma"),
    *count_cases("oracle_errors", lambda v: c.oracle_errors(identity, IMAGES, 0.1, BASES, v), "seed", 0),
    *count_cases("oracle_errors", lambda v: c.oracle_errors(identity, IMAGES, 0.1, BASES, 0, v), "k"),
    *denoiser_cases("oracle_errors", lambda f: c.oracle_errors(f, IMAGES, 0.1, BASES)),
    ("oracle_errors", lambda: c.oracle_errors(identity, WIDE, 0.1, BASES), "images", "6, 7)", "(B, 1, size, size)"),
    ("oracle_errors", lambda: c.oracle_errors(identity, IMAGES[..., :4, :4], 0.1, BASES), "images", "4)", "train, 6x6"),
    *images_cases("bandlet_oracle_errors", lambda x: c.bandlet_oracle_errors(x, 0.1), "images"),
    *positive_cases("bandlet_oracle_errors", lambda v: c.bandlet_oracle_errors(IMAGES, v), "sigma"),
    *count_cases("bandlet_oracle_errors", lambda v: c.bandlet_oracle_errors(IMAGES, 0.1, v), "seed", 0),
    ("bandlet_oracle_errors", lambda: c.bandlet_oracle_errors(IMAGES, 0.1, 0, -1), "threshold", "-", "at least 0"),
    ("adaptive_gain", lambda: c.adaptive_gain({"adaptive": TABLE[0]}), "rows", "got adaptive", "a fixed basis"),
    ("adaptive_gain", lambda: c.adaptive_gain({"DCT": TABLE[0], "PCA": TABLE[0]}), "rows", "DCT, PCA", "hold adaptive"),
    # training
    *images_cases("train", lambda x: gahb.train(x, images_seen=4, progress=False), "images"),
    ("train", lambda: gahb.train(STRONG, progress=False), "images", "255", "divide"),
    *errors_cases("psnr", s.psnr, "errors"),
    ("psnr", lambda: gahb.psnr(STRONG, STRONG), "clean", "255", "divide"),
    ("psnr_curve", lambda: gahb.psnr_curve(identity, STRONG, 0.1), "images", "255", "divide"),
    ("stein_risk", lambda: m.stein_risk(identity, STRONG, 0.1), "images", "255", "divide"),
    *count_cases("train", lambda v: gahb.train(IMAGES, batch_size=v, progress=False), "batch_size"),
    ("train", lambda: gahb.train(PIXELS[0], progress=False), "images", "(1, 6, 6)", "C, H, W)"),
    *count_cases("Recipe", lambda v: gahb.Recipe("x", {}, images_seen=v), "images_seen"),
    *positive_cases("Recipe", lambda v: gahb.Recipe("x", {}, sigma_max=v), "sigma_max"),
    *positive_cases("Recipe", lambda v: gahb.Recipe("x", {}, learning_rate=v), "learning_rate"),
    ("Recipe", lambda: gahb.Recipe("x", {}, noise_distribution="normal"), "noise_distribution", "'normal'", "uniform"),
    ("Recipe", lambda: gahb.Recipe("x", {}, network="VGG"), "network", "'VGG'", "BFCNN"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "argument", "came", "expected"),
    [pytest.param(*case, id=f"{name}-{case[1]}-{case[2]}-{i}") for i, (name, *case) in enumerate(CASES)],
)
def test_the_error_names_the_argument_what_came_and_what_is_expected(call, argument, came, expected):
    with pytest.raises((ValueError, TypeError)) as error:
        call()
    assert re.search(rf"\b{re.escape(argument)}\b", str(error.value))
    assert came in str(error.value) and expected in str(error.value)


RESULTS = {"Analysis", "Basis", "Samples", "Nearest", "Slope"}  # returned by functions, not built by users
FILES = {"load_released", "load_or_train"}  # tested with the files that they read


def public_names():
    for module in (gahb, gahb.datasets, optimal, stats, metrics, bases, rivals, oracle):
        for name in getattr(module, "__all__", vars(module)):
            value = getattr(module, name)
            own = getattr(value, "__module__", "").startswith(module.__name__) and not name.startswith("_")
            if own and callable(value) and not isinstance(value, types.ModuleType):
                assert inspect.isfunction(value) or inspect.isclass(value)
                yield name


def test_the_table_holds_every_public_function():
    methods = {"partial_sums"}  # of results
    assert set(public_names()) - RESULTS - FILES == {name for name, *_ in CASES} - methods

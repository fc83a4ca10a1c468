"""Kinds of arguments: a good value, and bad ones, each with what the error says came and what it says is expected."""

import numpy as np
import torch

IMAGES = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
ONE, WIDE, FLAT, STRONG = IMAGES[:1], torch.rand(3, 1, 6, 7), IMAGES[:, 0], IMAGES * 255
PIXELS = STRONG.to(torch.uint8)
NAN = IMAGES.clone()
NAN[1, 0, 2, 3] = torch.nan
TABLE = torch.rand(4, 5).numpy()


def half(y):
    return y / 2


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

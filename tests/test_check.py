"""The table of ``gahb check``: all ok as it is, and a broken routine is reported."""

import itertools
import math
import runpy
import sys

import pytest
import torch

import gahb
from gahb import bases, check, datasets, metrics, optimal, statistics, thresholding


def row(what):
    return next(entry for entry in check.ROWS if entry[0].startswith(what))


def test_all_rows_are_ok(capsys):
    assert check.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(check.ROWS) + 2
    assert len(check.ROWS) >= 20
    assert all(line.endswith("yes") for line in lines[1:-1])
    assert "all ok" in lines[-1]


def scaled(function, factor):
    """A routine whose denoiser is off by a factor."""
    return lambda *args, **kwargs: lambda y: factor * function(*args, **kwargs)(y)


def times(function, factor):
    return lambda *args, **kwargs: factor * function(*args, **kwargs)


SEEDS = itertools.count()
BROKEN = [
    ("parameters", check, "BFCNN", lambda: gahb.BFCNN(depth=21)),
    ("f(y) = J(y) y", check, "jacobian", times(gahb.jacobian, 1.001)),
    ("Jacobian, BFCNN", check, "jacobian", lambda f, y: gahb.jacobian(f, y).T),
    ("top 5", check, "adaptive_basis", lambda f, y, k: gahb.adaptive_basis(lambda x: 1.01 * f(x), y, k)),
    (
        "optimal.gaussian",
        optimal,
        "gaussian",
        lambda m, c, s: optimal.mixture(m[None], c[None], torch.ones(1), s * 1.01),
    ),
    ("optimal.empirical", optimal, "empirical", scaled(optimal.empirical, 1 + 1e-6)),
    ("optimal.subspace", optimal, "subspace", scaled(optimal.subspace, 1.001)),
    ("optimal.ray", optimal, "ray", scaled(optimal.ray, 1.001)),
    ("optimal.mixture", optimal, "mixture", scaled(optimal.mixture, 1.001)),
    ("Jacobian of optimal.empirical", check, "jacobian", times(gahb.jacobian, check.SIGMA**2)),
    ("MSE and SURE", metrics, "stein_risk", lambda f, x, sigma, real=metrics.stein_risk: real(f, x, 1.1 * sigma)),
    ("sigma^2 sum", bases, "effective_rank", times(bases.effective_rank, 1.001)),
    ("oracle_error", thresholding, "oracle_error", times(thresholding.oracle_error, 2)),
    ("kl_integral", statistics, "kl_integral", times(statistics.kl_integral, 2)),
    ("sample", check, "sample", lambda f, z, step_size: gahb.sample(f, z, step_size=step_size * 0.99)),
    ("PSNR", metrics, "psnr_table", times(metrics.psnr_table, 1.01)),
    ("fit_slope", statistics, "fit_slope", lambda x, t, *r, real=statistics.fit_slope: real(x + x**2 / 999, t, *r)),
    ("disks", datasets, "disks", times(datasets.disks, 0.99)),
    ("disk_tangents", datasets, "disk_tangents", lambda n, size: datasets.disks(n, size)[:, [0] * 5]),
    ("sinusoids", datasets, "sinusoids", lambda n, size: datasets.disks(n, size)),
    ("C-alpha", datasets, "contours", lambda n, size, alpha: gahb.datasets.geometric.contours(n, size, alpha + 0.1)),
    ("unshuffled", datasets, "unshuffled", lambda images, seed: images),
    ("two trainings", check, "train", lambda x, **s: gahb.train(x, **s, seed=next(SEEDS))),
]


@pytest.mark.parametrize(("what", "place", "name", "broken"), BROKEN, ids=[entry[0] for entry in BROKEN])
def test_a_broken_routine_is_reported(monkeypatch, capsys, what, place, name, broken):
    monkeypatch.setattr(check, "ROWS", [row(what)])
    monkeypatch.setattr(place, name, broken)
    assert check.main() == 1
    out = capsys.readouterr().out
    assert "  NO" in out
    assert "1 not ok" in out
    assert math.isfinite(next(check.check()).measured)  # by its value, not by an error of the replacement


def test_each_row_is_broken_above():
    assert {row(entry[0])[0] for entry in BROKEN} == {entry[0] for entry in check.ROWS}


def test_a_routine_that_raises_is_a_row_and_not_the_end(monkeypatch, capsys):
    def refuses(*args, **kwargs):
        raise RuntimeError("no slope today")

    monkeypatch.setattr(check, "ROWS", [row("fit_slope"), row("unshuffled")])
    monkeypatch.setattr(statistics, "fit_slope", refuses)
    rows = list(check.check())
    assert [r.ok for r in rows] == [False, True]
    assert check.main() == 1
    assert "RuntimeError: no slope today" in capsys.readouterr().out


def test_nan_is_not_ok():
    assert not check.Row("a", "b", 1.0, float("nan")).ok


def test_module_exits_1(monkeypatch, capsys):
    """``python -m gahb.check`` runs a fresh copy of the module: the broken routine is one that it imports."""
    monkeypatch.setattr(datasets, "unshuffled", lambda images, seed: images)
    monkeypatch.delitem(sys.modules, "gahb.check")
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("gahb.check", run_name="__main__")
    assert caught.value.code == 1
    assert "1 not ok" in capsys.readouterr().out

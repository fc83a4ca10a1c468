"""Figures: fixed scales, diverging maps centred on zero, and what made them; reports of a ledger."""

import json

import matplotlib
import numpy as np
import pytest
import torch

from gahb import bases
from gahb.companion import ledger, plotting, report, scales

matplotlib.use("agg")


def test_images_share_one_gray_scale():
    fig = plotting.new()
    axes = plotting.image_row(fig, [torch.zeros(1, 4, 4), torch.full((4, 4), 0.5)], ["a", "b"])
    assert [ax.images[0].get_clim() for ax in axes] == [(0, 1), (0, 1)]


def test_vectors_are_centred_on_zero():
    fig = plotting.new()
    axes = plotting.vector_grid(fig, torch.tensor([[[-3.0, 3.0]], [[0.0, 0.0]]]), ["a", "b"], 5)
    assert axes[0].images[0].get_clim() == (-3, 3)
    assert axes[1].images[0].get_clim() == (-1, 1)
    assert len(axes) == 5


def test_one_pixel_does_not_set_the_colours_of_a_vector():
    vector = torch.full((1, 20, 20), 0.1)
    vector[0, 0, 0] = -5.0
    one = torch.zeros(1, 20, 20)
    one[0, 3, 3] = 2.0
    axes = plotting.vector_grid(plotting.new(), torch.cat([vector, one]), ["a", "b"], 2)
    assert axes[0].images[0].get_clim() == pytest.approx((-0.1, 0.1))
    assert axes[1].images[0].get_clim() == (-2, 2)


def test_same_gray_stretches_to_the_quantiles():
    limits = plotting.same_gray(np.linspace(0, 1, 101))
    assert limits == {"vmin": pytest.approx(0.01), "vmax": pytest.approx(0.99)}
    flat = plotting.same_gray(np.zeros(4))
    assert flat["vmax"] > flat["vmin"]


def test_saved_figure_says_what_made_it(tmp_path):
    plotting.style()
    made_by = {"notebook": "03_x", "scale": "smoke", "seed": 5}
    for _ in range(2):
        fig = plotting.new(4, 3)
        fig.subplots().plot([1, 2])
        plotting.save(fig, "fig03_x", tmp_path, made_by)
        files = [(tmp_path / f"fig03_x.{suffix}").read_bytes() for suffix in ("png", "pdf")]
    assert all(b"03_x" in data for data in files)
    assert json.loads((tmp_path / "provenance.json").read_text())["figures"] == {"fig03_x": made_by}


def test_report_of_a_ledger(tmp_path):
    """Evidence and identities apart, each row beside its null; captions with the verdicts of their claims."""
    null = {"name": "tangent space of another disk", "cosine": 0.1}
    ledger.record("5.2", {"cosine": 0.97}, "laptop", tmp_path, null, [0.96, 0.98], "the number of disks")
    ledger.record("6.4", {"mse": 0.1, "mse_shuffled": 0.2}, "laptop", tmp_path)
    about = {
        "notebook": "05_manifolds",
        "title": "Figure 5: disks",
        "caption": "Five vectors.",
        "claims": ["5.2", "5.3"],
    }
    figures = {"fig05_disks": about, "fig05_deleted": about}
    plotting.note(tmp_path, lambda record: record.update(scale={"name": "laptop"}, figures=figures))
    (tmp_path / "fig05_disks.png").touch()
    (tmp_path / "notes.md").write_text("## What did not hold\n")
    text = report.report(tmp_path)
    places = ["### Evidence", "| 5.2 |", "### Identities", "| 6.4 |", "## What did not hold", "## Figures"]
    assert sorted(places, key=text.index) == places
    assert "Of 39 claims that could fail: 1 reproduced, 38 not tested." in text
    assert "Of 3 identities: 1 not reproduced, 2 not tested." in text
    row = next(line for line in text.splitlines() if line.startswith("| 5.2 |"))
    for cell in (
        "cosine 0.97",
        "name tangent space of another disk; cosine 0.1",
        "(0.96, 0.98)",
        "reproduced; chosen after",
    ):
        assert f"| {cell}" in row
    assert "chosen after looking: the number of disks" in row
    row = next(line for line in text.splitlines() if line.startswith("| 3.3 |"))
    assert r"\|SURE - MSE\|" in row
    figure = text.split("## Figures\n")[1]
    assert "fig05_deleted" not in figure
    assert figure.startswith("\n### Figure 5: disks\n\n![Figure 5: disks](fig05_disks.png)\n\nFive vectors. Made by")
    assert (
        "tangent space. (claim 5.2) Here: **reproduced**." in figure and "(claim 5.3) Here: **not tested**." in figure
    )


def test_report_states_each_deviation_from_the_paper_with_its_reason(tmp_path):
    for name in scales.SCALES:
        folder = tmp_path / name
        plotting.note(folder, lambda record, name=name: record.update(scale=scales.settings(scales.get(name))))
    laptop, paper = (
        report.report(tmp_path / name).split("## Deviations")[1].splitlines() for name in ("laptop", "paper")
    )
    stated = {line.split(" | ")[0].strip("| ") for line in laptop if line.startswith("|")}
    ours, theirs = (scales.settings(scales.get(name)) for name in ("laptop", "paper"))
    differ = {key.replace("_", " ") for key in theirs if ours[key] != theirs[key]}
    differ |= {
        key.replace("_", " ") for key in ours["training"] if ours["training"][key] != theirs["training"].get(key)
    }
    silent = {"name", "training", "synthetic training", "disks training", "parallel", "cell timeout"}  # not the science
    assert differ - silent <= stated
    why = "more small noise; the authors' code draws sqrt-uniform"
    theirs = "not stated (authors' code: sqrt-uniform)"
    assert f"| noise distribution, synthetic | {theirs} | log-uniform | {why} |" in laptop
    assert "| sigma max, synthetic | 1 | 1 | as in the paper |" in laptop  # not so for photographs
    assert "| images seen, disks | not stated (10,000,000 at paper scale) | 960,000 | time |" in laptop
    assert f"| noise distribution, disks | {theirs} | sqrt-uniform | {why} |" in laptop
    assert not any(line.startswith("| optimizer") for line in paper)
    layers = "| layers of BF-CNN | 21 in its text"
    assert any(line.startswith(layers) for line in paper) and not any(line.startswith(layers) for line in laptop)


def test_report_lists_the_networks_and_what_their_training_took(tmp_path):
    made = {"images_seen": 48_000, "seconds": 1_800.4, "device": "cpu", "threads": 1, "torch": "2", "pretrained": True}
    rows = {"disks-N10": made, "sinusoids-N10": made | {"pretrained": False}, "disks-N9": made}
    about = {"seconds": 1, "seed": 0, "device": "cpu", "threads": 1, "machine": "", "torch": "2"}
    notebooks = {"05": about | {"networks": ["disks-N10", "sinusoids-N10"]}}  # disks-N9 is of an earlier run
    plotting.note(tmp_path, lambda record: record.update(networks=rows, notebooks=notebooks))
    lines = report.report(tmp_path).splitlines()
    assert "| disks-N10 | 48,000 | 1,800 s, comes with gahb | cpu (1 thread), torch 2 |" in lines
    assert "| sinusoids-N10 | 48,000 | 1,800 s | cpu (1 thread), torch 2 |" in lines
    assert "| total | | 1.0 hours | |" in lines
    assert not any("disks-N9" in line for line in lines)


def test_long_measurements_are_shown_by_their_range():
    row = dict.fromkeys(("null", "interval", "chosen_after", "first_rule", "reason", "null_passes"))
    row |= {"id": "1", "figure": "1", "statement": "s", "rule": "r", "verdict": "v"}
    row["measured"] = {"few": [0.5, 2], "many": [3.0, -1.25, *range(10)], "bands": [[1, 2]] * 9}
    row["first_rule"] = {"verdict": "reproduced", "rule": "above 1"}
    (line,) = report.claims_table([row]).splitlines()[2:]
    bands = ", ".join(["(1, 2)"] * 9)
    assert f"| few (0.5, 2); many 12 values, -1.25 to 9; bands ({bands}) | - | - |" in line
    assert line.endswith("| v; first edition: reproduced (above 1) |")


def test_bands_hold_the_psnr_of_the_mean_error(tmp_path):
    """A curve of stats' estimator; a band of two standard errors by the delta method; minus the input PSNR."""
    input_db, errors = np.array([10.0, 20]), np.random.default_rng(0).gamma(2, 1, (2, 400)) * [[0.05], [0.01]]
    for minus_input, baseline in ((False, 0), (True, input_db)):
        ax = plotting.new().subplots()
        plotting.banded(ax, input_db, errors, "black", minus_input=minus_input)
        curve = -10 * np.log10(errors.mean(1)) - baseline
        np.testing.assert_allclose(ax.lines[0].get_ydata(), curve, rtol=1e-12)
        band = ax.collections[0].get_paths()[0].vertices
        for x, y in zip(input_db, curve, strict=True):
            low, high = np.sort(np.unique(band[band[:, 0] == x, 1]))
            expected = 2 * 1.96 * 10 / np.log(10) / (2 * 400) ** 0.5  # relative variance 1/2 of a gamma distribution
            assert low < y < high and high - low == pytest.approx(expected, rel=0.15)


def test_bars_reach_from_the_lower_to_the_upper_end():
    ax = plotting.new().subplots()
    plotting.error_bars(ax, [1, 2], [5.0, 7], [[4, 6.5], [5.5, 9]], "black")
    segments = ax.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose(segments, [[[1, 4], [1, 5.5]], [[2, 6.5], [2, 9]]])


def test_gains_of_bases_are_drawn_over_the_dct():
    errors = np.random.default_rng(0).gamma(2, 1, 50)
    rows = {"adaptive": errors / 4, "DCT": errors, "PCA": errors / 2, "wavelets": errors * 2}
    ax = plotting.new().subplots()
    plotting.oracle_gains(ax, {0.1: rows, 0.2: rows})
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines[:3]}
    for name, gain in (("adaptive", 4), ("PCA", 2), ("wavelets", 0.5)):
        np.testing.assert_allclose(drawn[name], 10 * np.log10(gain), rtol=1e-12)


def test_vectors_of_a_basis_figure_are_distinct_and_end_at_twice_the_rank():
    """Of the identity on 36 pixels, rank 36: from the first to the last; of a shrunken one, up to twice 18."""
    image = torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(0))
    for gain in (1.0, 0.25):
        fig = plotting.new()
        plotting.basis_figure(fig, bases.analyse(lambda y, gain=gain: gain * y, image, 0.1), 0.1)
        titles = [ax.get_title() for ax in fig.axes if ax.get_title().startswith("$\\lambda")]
        numbers = [int(title.split("{")[1].split("}")[0]) for title in titles]
        assert numbers == sorted(set(numbers)) and numbers[0] == 1
        assert numbers[-1] == {1.0: 36, 0.25: 20}[gain]
        assert titles[-1].endswith(f"= {gain:.2f}")


def test_images_and_vectors_in_colour_keep_their_channels_and_zero_is_gray():
    image = np.random.default_rng(0).random((3, 4, 5))
    ax = plotting.new().subplots()
    plotting.show_image(ax, image)
    np.testing.assert_allclose(ax.images[-1].get_array(), image.transpose(1, 2, 0))
    vector = image - 0.5
    vector[:, 0, 0] = 0
    plotting.show_vector(ax, vector)
    shown = ax.images[-1].get_array()
    np.testing.assert_allclose(shown[0, 0], 0.5)
    limit = np.quantile(np.abs(vector), 0.99)
    np.testing.assert_allclose(shown, (0.5 + vector.transpose(1, 2, 0) / (2 * limit)).clip(0, 1))

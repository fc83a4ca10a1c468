"""Figures: fixed scales, diverging maps centred on zero, and what made them; reports of a ledger."""

import json

import matplotlib
import numpy as np
import pytest
import torch

from gahb.companion import claims, plotting, report, scales

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
    """Counts, escaped bars, and only the figures that are there."""
    claims.record("5.2", {"cosine": 0.95}, "laptop", tmp_path)
    plotting.note(tmp_path, lambda record: record.update(scale={"name": "laptop"}))
    (tmp_path / "fig05_disks.png").write_bytes(b"")
    (tmp_path / "notes.md").write_text("## What did not hold\n")
    text = report.report(tmp_path)
    assert text.index("| 6.4 |") < text.index("## What did not hold") < text.index("## Figures")
    assert "Of 34 claims: 1 reproduced, 0 not reproduced, 33 not tested." in text
    assert "(fig05_disks.png)" in text
    assert "(fig01" not in text
    row = next(line for line in text.splitlines() if line.startswith("| 3.3 |"))
    assert r"\|SURE - MSE\|" in row


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
    assert f"| noise distribution, synthetic | uniform | log-uniform | {why} |" in laptop
    assert "| sigma max, synthetic | 1 | 1 | as in the paper |" in laptop  # not so for photographs
    assert "| images seen, disks | not stated (10,000,000 at paper scale) | 960,000 | time |" in laptop
    assert f"| noise distribution, disks | uniform | sqrt-uniform | {why} |" in laptop
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


def test_captions_cover_figures_1_to_13():
    assert {name[:5] for name in report.CAPTIONS} == {f"fig{n:02d}" for n in range(1, 14)}


def test_long_measurements_are_shown_by_their_range():
    rows = [{"id": "1", "figure": "1", "statement": "s", "rule": "r", "verdict": "v"}]
    rows[0]["measured"] = {"few": [0.5, 2], "many": [3.0, -1.25, *range(10)], "bands": [[1, 2]] * 9}
    (line,) = report.claims_table(rows).splitlines()[2:]
    bands = ", ".join(["(1, 2)"] * 9)
    assert f"| few (0.5, 2); many 12 values, -1.25 to 9; bands ({bands}) |" in line

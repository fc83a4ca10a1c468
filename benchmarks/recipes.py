"""What a minute of training buys: recipes compared at equal time, on one thread.

``python benchmarks/recipes.py FACES [SECONDS]`` trains each of ``VARIANTS`` for SECONDS of one core on
10,000 faces of 20x20 and writes ``benchmarks/recipes.md``: test PSNR over noise levels, and how far the
Jacobian is from symmetric and non-negative. Each row differs from the laptop scale's recipe by what it says.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import gahb
from gahb import bases, datasets, metrics
from gahb.scales import LAPTOP_TRAINING

INPUT_DB = (40, 32, 24, 20, 12, 4, 0)
SIGMA = 0.15  # of the Jacobians
ANALYSED = 4  # images
PLAIN = {"sigma_law": "uniform", "weight_power": 0.0}
CNN = {"network": "BFCNN", "size": {"depth": 12, "channels": 32}}
UNET = {"network": "UNet", "size": {"channels": 32, "blocks": 2}}
VARIANTS = {
    "the paper's: BF-CNN (12 layers, 32 channels), uniform sigma, squared error, batch 128, Adam at 1e-3": (
        CNN | PLAIN | {"batch_size": 128, "optimizer": "adam", "learning_rate": 1e-3}
    ),
    "BF-CNN, Adam at 2e-3": CNN | {"optimizer": "adam", "learning_rate": 2e-3},
    "BF-CNN": CNN,
    "UNet (32 channels), Adam at 3e-3": UNET | {"optimizer": "adam", "learning_rate": 3e-3},
    "UNet (32 channels)": UNET,
    "Adam at 3e-3": {"optimizer": "adam", "learning_rate": 3e-3},
    "**laptop**: ResUNet (16 channels), sqrt(sigma) uniform, error / sigma^0.75, batch 16, Muon at 5e-3": {},
    "uniform sigma, squared error": PLAIN,
    "squared error": {"weight_power": 0.0},
    "error / sigma^0.5": {"weight_power": 0.5},
    "error / sigma": {"weight_power": 1.0},
    "batch 8": {"batch_size": 8},
    "batch 32": {"batch_size": 32},
    "Muon at 2.5e-3": {"learning_rate": 2.5e-3},
    "Muon at 1e-2": {"learning_rate": 1e-2},
    "24 channels": {"size": {"channels": 24, "blocks": 2}},
    "3 halvings": {"size": {"channels": 16, "blocks": 3}},
}


def recipe_for(images, changes, seconds):
    """The laptop recipe with some changes, of as many images as take so many seconds here."""
    how = LAPTOP_TRAINING | {"precision": "float32"} | changes
    trial = gahb.Recipe("trial", {"class": "faces"}, images, **how | {"images_seen": 10 * how["batch_size"]})
    gahb.train(images, trial, progress=False)  # compiles, fills caches
    begun = time.process_time()
    gahb.train(images, trial, progress=False)
    rate = trial.images_seen / (time.process_time() - begun)
    return replace(trial, images_seen=max(how["batch_size"], int(rate * seconds)))


def measured(net, test):
    """Mean test PSNR at each noise level; asymmetry, lowest eigenvalue and negative share of the Jacobian."""
    levels = [10 ** (-db / 20) for db in INPUT_DB]
    psnr = metrics.psnr_table(net, test, levels, 0).mean(1).tolist()
    rows = []
    for image in test[:ANALYSED]:
        basis = bases.analyse(net, image, SIGMA, 0).basis
        values = basis.shrinkage.double().numpy()
        rows.append([basis.asymmetry, values.min(), -values[values < 0].sum() / values[values > 0].sum()])
    return psnr, np.mean(rows, axis=0)


def main(faces, seconds=100.0):
    torch.set_num_threads(1)
    photographs = datasets.faces(faces, 20, 10_000, 500)
    images, test = photographs.part("S1"), photographs.test
    lines = [
        "# Recipes at equal time",
        (__doc__ or "").split("\n\n", 1)[1].strip().replace("``", "`"),
        f"{seconds:g} seconds of one core each, torch {torch.__version__}, float32. PSNR (dB) of {len(test)} test "
        f"faces at each input PSNR; Jacobians of {ANALYSED} of them at sigma = {SIGMA}.",
    ]
    columns = [
        "recipe",
        "parameters",
        "images",
        *(f"{db} dB" for db in INPUT_DB),
        "asymmetry",
        "lowest",
        "negative share",
    ]
    table = ["| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]
    for name, changes in VARIANTS.items():
        recipe = recipe_for(images, changes, seconds)
        net = gahb.train(images, recipe, progress=False)
        psnr, jacobian = measured(net, test)
        parameters = sum(p.numel() for p in net.parameters())
        cells = [
            name,
            f"{parameters:,}",
            f"{recipe.images_seen:,}",
            *(f"{v:.1f}" for v in psnr),
            *(f"{v:.2f}" for v in jacobian),
        ]
        table.append("| " + " | ".join(cells) + " |")
        print(table[-1], flush=True)
    text = "\n\n".join([*lines, "\n".join(table)])
    Path(__file__).with_suffix(".md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], *(float(value) for value in sys.argv[2:3]))

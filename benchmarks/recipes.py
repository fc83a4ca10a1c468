"""What a minute of training buys: recipes compared at equal time, on one thread.

``python benchmarks/recipes.py FACES [SECONDS]`` trains each variant for SECONDS of one core on 10,000 faces of 20x20,
and on disks, and writes ``benchmarks/recipes.md``: test PSNR over noise levels, and how far the Jacobian is from
symmetric and non-negative. Each row differs from the laptop scale's recipe as its name says.
"""

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import gahb
from gahb import bases, datasets, metrics
from gahb.companion.scales import LAPTOP_TRAINING, SMALL_NOISE

INPUT_DB = (40, 32, 24, 20, 12, 4, 0)
SIGMA = 0.15  # of the Jacobians
ANALYSED = 4  # images
PLAIN = {"sigma_max": 1.0, "noise_distribution": "uniform", "loss_weighting": 0.0}
CNN = {"network": "BFCNN", "network_kwargs": {"depth": 12, "channels": 32}}
SQRT = {"noise_distribution": "sqrt-uniform"}
UNET = {"network": "UNet", "network_kwargs": {"channels": 32, "blocks": 2}}
LAPTOP = "**laptop**: ResUNet (16 channels), sqrt(sigma) uniform up to 1.5, balanced loss, batch 16, Muon at 5e-3"
FACES = {
    "the paper's: BF-CNN (12 layers, 32 channels), uniform sigma, squared error, batch 128, Adam at 1e-3": (
        CNN | PLAIN | {"batch_size": 128, "optimizer": "adam", "learning_rate": 1e-3}
    ),
    "BF-CNN, Adam at 2e-3": CNN | {"optimizer": "adam", "learning_rate": 2e-3},
    "BF-CNN": CNN,
    "UNet (32 channels), Adam at 3e-3": UNET | {"optimizer": "adam", "learning_rate": 3e-3},
    "UNet (32 channels)": UNET,
    "Adam at 3e-3": {"optimizer": "adam", "learning_rate": 3e-3},
    LAPTOP: {},
    "uniform sigma up to 1, squared error": PLAIN,
    "sigma up to 1": {"sigma_max": 1.0},
    "squared error": {"loss_weighting": 0.0},
    "error / sigma^0.75": {"loss_weighting": 0.75},
    "error / sigma^1.5": {"loss_weighting": 1.5},
    "log(sigma) uniform": {"noise_distribution": "log-uniform"},
    "batch 32": {"batch_size": 32},
    "Muon at 2.5e-3": {"learning_rate": 2.5e-3},
    "Muon at 1e-2": {"learning_rate": 1e-2},
    "24 channels": {"network_kwargs": {"channels": 24, "blocks": 2}},
    "3 halvings": {"network_kwargs": {"channels": 16, "blocks": 3}},
}
DISKS = {
    "sqrt(sigma) uniform, error / sigma^0.75": SQRT | {"loss_weighting": 0.75},
    "sqrt(sigma) uniform, error / sigma^1.5": SQRT | {"loss_weighting": 1.5},
    "**laptop**, disks: sqrt(sigma) uniform up to 1, balanced loss": SQRT,
    "log(sigma) uniform, error / sigma": {"loss_weighting": 1.0},
    "**laptop**, other synthetic images: log(sigma) uniform up to 1, balanced loss": {},
}


def recipe_for(images, how, seconds):
    """A training in float32, not compiled, of as many images as take so many seconds here."""
    how = how | {"precision": "float32", "compile": False, "images_seen": 60 * how["batch_size"]}
    trial = gahb.Recipe("trial", {"class": "faces"}, **how)
    times = []
    for _ in range(4):  # the first fills caches; the least is that of a machine that does nothing else
        begun = time.process_time()
        gahb.train(images, trial, progress=False)
        times.append(time.process_time() - begun)
    rate = trial.images_seen / min(times)
    return replace(trial, images_seen=max(how["batch_size"], int(rate * seconds)))


def measured(net, test):
    """Test PSNR at each noise level; asymmetry, lowest eigenvalue and negative fraction of the Jacobian."""
    levels = [10 ** (-db / 20) for db in INPUT_DB]
    psnr = metrics.psnr_curve(net, test, levels).tolist()
    rows = []
    for image in test[:ANALYSED]:
        basis = bases.analyse(net, image, SIGMA, 0).basis
        values = basis.shrinkage.double().numpy()
        rows.append([basis.asymmetry, values.min(), -values[values < 0].sum() / values[values > 0].sum()])
    return psnr, np.mean(rows, axis=0)


def compared(laptop, variants, images, test, seconds):
    """A Markdown table with one row for each variant of the laptop scale's recipe."""
    columns = ["recipe", "parameters", "images", *(f"{db} dB" for db in INPUT_DB)]
    columns += ["asymmetry", "lowest", "negative fraction"]
    table = ["| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]
    for name, changes in variants.items():
        recipe = recipe_for(images, laptop | changes, seconds)
        net = gahb.train(images, recipe, progress=False)
        psnr, jacobian = measured(net, test)
        cells = [name, f"{sum(p.numel() for p in net.parameters()):,}", f"{recipe.images_seen:,}"]
        cells += [*(f"{v:.1f}" for v in psnr), *(f"{v:.2f}" for v in jacobian)]
        table.append("| " + " | ".join(cells) + " |")
        print(table[-1], flush=True)
    return "\n".join(table)


def main(faces, seconds=100.0):
    photographs = datasets.faces(faces, 20, 10_000, 500)
    with ProcessPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:  # one core each
        on_faces = pool.submit(compared, LAPTOP_TRAINING, FACES, photographs.part("S1"), photographs.test, seconds)
        disks, test = datasets.disks(10_000, 32), datasets.disks(128, 32, seed=1)
        on_disks = pool.submit(compared, LAPTOP_TRAINING | SMALL_NOISE, DISKS, disks, test, 2 * seconds)
        tables = on_faces.result(), on_disks.result()
    parts = [
        "# Recipes at equal time",
        (__doc__ or "").split("\n\n", 1)[1].strip().replace("``", "`"),
        f"{seconds:g} seconds of one core each for faces, twice that for disks; torch {torch.__version__}, float32. "
        f"PSNR (dB) of test images at each input PSNR; Jacobians of {ANALYSED} of them at sigma = {SIGMA}.",
        f"## Faces, 20x20\n\n{tables[0]}",
        f"## Disks, 32x32\n\n{tables[1]}",
    ]
    Path(__file__).with_suffix(".md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], *(float(value) for value in sys.argv[2:3]))

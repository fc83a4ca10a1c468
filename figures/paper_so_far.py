"""The paper scale so far: one denoiser of the paper's size and N, after a part of its training.

Run with ``python figures/paper_so_far.py FACES [IMAGES_SEEN]``. The network, the images and their number are those
of the paper scale; the training is the laptop scale's, which gets further in few images, and stops at IMAGES_SEEN
(48,000: an hour of one core) of the paper's 10,000,000. Stopped with Ctrl-C, it goes on where it was. Writes
``figures/paper/so_far.png`` and ``so_far.md``.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from skimage import data, transform

import gahb
from gahb import bases, scales
from gahb import figures as look

FOLDER, SIGMA, SHOWN = Path(__file__).parent / "paper", 0.15, 500

paper = scales.get("paper")
training = scales.LAPTOP_TRAINING | {key: paper.training[key] for key in ("network", "size", "sigma_max")}
training["images_seen"] = int(sys.argv[2]) if len(sys.argv) > 2 else 48_000
photographs = scales.faces(paper, sys.argv[1])
recipe = scales.photograph_recipe(replace(paper, training=training), photographs, "S1")
denoiser = gahb.trained(recipe, device="cpu")

test, train = photographs.test[:SHOWN], photographs.S1[:SHOWN]
curves = {name: gahb.psnr_curve(denoiser, images, paper.sigmas) for name, images in (("test", test), ("train", train))}
# A face of the public domain, cropped as CelebA's are: no picture of the data set goes into the figure.
face = transform.resize(data.astronaut()[40:220, 135:315].mean(2) / 255, (40, 40), anti_aliasing=True)
at = bases.analyse(denoiser, torch.from_numpy(face).float()[None], SIGMA)
shrinkage = at.basis.shrinkage
rank = bases.effective_rank(shrinkage)

look.style()
fig = look.new(11, 4.6)
left, middle, right = fig.subfigures(1, 3, width_ratios=[1.5, 0.6, 2])
ax = left.subplots()
look.psnr_axes(ax, f"N = 10,000, after {training['images_seen']:,} images, laptop training")
for name, curve in curves.items():
    style = {"mfc": "none", "zorder": 3} if name == "test" else {}  # the two curves all but coincide
    ax.plot(paper.input_db, curve, "o-", markersize=5, color=look.COLOURS[name], label=f"{name} images", **style)
ax.plot(paper.input_db, paper.input_db, "-", color="0.85", label="no denoising", zorder=0)
ax.legend()
for panel, image, title in zip(middle.subplots(3, 1), at.images, ("clean", "noisy", "denoised"), strict=True):
    look.show_image(panel, image, title)
chosen = np.unique(np.geomspace(1, min(2 * rank, len(shrinkage)), 15).round().astype(int) - 1)
look.vector_grid(right, at.basis.vectors[chosen], look.shrinkage_titles(shrinkage, chosen))
look.save(fig, "so_far", FOLDER, {"script": "figures/paper_so_far.py"})

row = "| {} | " + " | ".join(["{:.2f}"] * len(paper.input_db)) + " |"
lines = [
    "# The paper scale so far",
    "",
    f"Partial: one denoiser of the paper's size (BF-CNN, {sum(p.numel() for p in denoiser.parameters()):,} parameters)"
    f" trained on {len(photographs.S1):,} faces of 40x40, by the laptop scale's training, for "
    f"{training['images_seen']:,} images in place of 10,000,000. No claim is judged by it.",
    "",
    "![test and train PSNR, and vectors of the basis](so_far.png)",
    "",
    f"At sigma = {SIGMA}, for the face shown (scikit-image's astronaut, NASA): effective rank {rank:.1f} of "
    f"{len(shrinkage):,}, asymmetry {at.basis.asymmetry:.2f}, lowest eigenvalue "
    f"{float(shrinkage.min()):.2f}. PSNR in dB over {SHOWN} images:",
    "",
    "| input | " + " | ".join(map(str, paper.input_db)) + " |",
    "|---" * (1 + len(paper.input_db)) + "|",
    *(row.format(name, *map(float, curve)) for name, curve in curves.items()),
    "",
]
(FOLDER / "so_far.md").write_text("\n".join(lines))

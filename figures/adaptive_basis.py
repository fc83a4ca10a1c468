"""The picture of the README: a geometric image, and the vectors in which a denoiser shrinks it.

Run with ``python figures/adaptive_basis.py``; it first trains a small network, which takes a quarter of an hour.
"""

from pathlib import Path

import gahb
from gahb import bases, datasets
from gahb.companion import plotting

SIZE, ALPHA, SIGMA = 32, 3.0, 0.2

recipe = gahb.Recipe(
    "readme",
    {"class": "c_alpha", "n": 10_000, "size": SIZE, "alpha": ALPHA, "seed": 0},
    network="UNet",
    network_kwargs={"channels": 16, "blocks": 2},
    noise_distribution="sqrt-uniform",
    loss_weighting=1.0,
    batch_size=16,
    images_seen=64_000,
    learning_rate=6e-3,
    lr_schedule="one-cycle",
)
denoiser = gahb.load_or_train(recipe)
image = datasets.c_alpha(1, SIZE, ALPHA, seed=1000)[0]
at = bases.analyse(denoiser, image, SIGMA)
chosen = [0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 16, 20, 25]

plotting.style()
fig = plotting.new(11, 3.3)
left, right = fig.subfigures(1, 2, width_ratios=[1.2, 7])
for ax, picture, title in zip(left.subplots(3, 1), at.images, ("clean", "noisy", "denoised"), strict=True):
    plotting.show_image(ax, picture, title)
plotting.vector_grid(right, at.basis.vectors[chosen], plotting.shrinkage_titles(at.basis.shrinkage, chosen), 7)
plotting.save(fig, "adaptive_basis", Path(__file__).parent, {"script": "figures/adaptive_basis.py"})

"""What the networks of the paper's size do, without a picture of the data set: a public face, and samples.

Figures 2, 3 and 6 of the report show faces of the data set. At 40x40 those are the data themselves, which may not be
redistributed. So this draws the adaptive basis at a face in the public domain (scikit-image's astronaut, NASA), and
samples of two networks from the same noise. Run with ``python figures/paper_short.py FACES``; writes
``figures/paper-short/public_face.png`` and ``samples.png``.
"""

import sys
from pathlib import Path

import torch
from skimage import data, transform

import gahb
from gahb import bases
from gahb.companion import plotting, scales

FOLDER, SIGMA, SAMPLES = Path(__file__).parent / "paper-short", 0.15, 10
SIGMA_END = 0.002  # samples from mean 0 are dark: noise of the scale's 0.01 would be visible in them

scale = scales.get("paper-short")
photographs = scales.faces(scale, sys.argv[1])
recipes = {part: scales.photograph_recipe(scale, photographs, part) for part in ("S1", "S2")}
networks = {
    part: gahb.load_or_train(recipe, scales.training_images(recipe, photographs)) for part, recipe in recipes.items()
}
made_by = {"script": "figures/paper_short.py"}
plotting.style()

# Cropped as CelebA's are.
face = transform.resize(data.astronaut()[40:220, 135:315].mean(2) / 255, (40, 40), anti_aliasing=True)
at = bases.analyse(networks["S1"], torch.from_numpy(face).float()[None], SIGMA)
shrinkage = at.basis.shrinkage
rank = bases.effective_rank(shrinkage)
print(
    f"effective rank {rank:.0f} of {len(shrinkage):,}, asymmetry {at.basis.asymmetry:.2f}, "
    f"lowest eigenvalue {float(shrinkage.min()):.2f}"
)
fig = plotting.new(plotting.WIDTH, 4.6)
plotting.basis_figure(fig, at, SIGMA)
plotting.save(
    fig, "public_face", FOLDER,
    made_by | {
        "title": "Figure 3, a public face",
        "caption": "The analysis of Figure 3 on a face of the public domain (scikit-image's astronaut, NASA): faces of "
        "the data set are not shown at this size.",
    },
)  # fmt: skip

noise = gahb.gaussian_noise(SAMPLES, (1, 40, 40), seed=2)
samples = {part: gahb.sample(net, noise, scale.step_size, SIGMA_END).images for part, net in networks.items()}
print(
    "similarity:", gahb.cosine_similarity(*samples.values()), gahb.cosine_similarity(*samples.values(), centered=True)
)
fig = plotting.new(plotting.WIDTH, 2.2)
for row, part in zip(fig.subfigures(2, 1), samples, strict=True):
    axes = row.subplots(1, SAMPLES)
    for ax, image, twin in zip(axes, samples[part], samples["S1"], strict=True):
        plotting.show_image(ax, image, **plotting.same_gray(twin))
    axes[0].set_ylabel(part, rotation=0, ha="right", va="center")
plotting.save(
    fig, "samples", FOLDER,
    made_by | {
        "title": "Figure 2, samples",
        "caption": "Samples of the networks of 10,000 faces, S1 above and S2 below, from the same noise; each pair is "
        "stretched to one gray scale.",
    },
)  # fmt: skip

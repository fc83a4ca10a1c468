# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,-all
#     notebook_metadata_filter: kernelspec,-jupytext.text_representation.jupytext_version,-language_info,-widgets
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 5. Where they are not: low-dimensional manifolds
#
# *Section 3.3, Figures 5, 12 and 13.*
#
# Disks of any centre, radius, foreground and background form a five-dimensional manifold. For small noise the optimal
# denoiser projects on its tangent space: five factors $\lambda_k = 1$, all others 0, an error of $5 \sigma^2$ and a
# PSNR of slope 1. The network finds the tangent space, and keeps more than it should: harmonics along the disk and
# in the background.

# %% tags=["parameters"]
scale = "smoke"  # smoke, laptop, paper-short or paper
faces = None  # folder or file of photographs
scenes = None  # folder or file of photographs
store = None  # folder of trained denoisers
figures = None  # folder of the figures
device = "auto"  # auto, cuda, mps or cpu
seed = 0

# %%
import numpy as np
import torch

import gahb
from gahb import bases, datasets, metrics, optimal, stats
from gahb.companion import notebook, plotting, scales

run = notebook.start(
    "05_manifolds",
    scale=scale, faces=faces, scenes=scenes, store=store, figures=figures, device=device, seed=seed,
)  # fmt: skip
size, d = run.scale.class_size, run.scale.class_size**2
sigmas, input_db = run.scale.sigmas, np.array(run.scale.input_db)

# %% [markdown]
# ## Disks
#
# The tangent vectors are derivatives of the generator by its parameters.

# %%
net = run.network(scales.disks_recipe(run.scale, run.seed))
test = run.to(datasets.disks(run.scale.class_test, size, run.seed + 1000))
tangents = datasets.disk_tangents(run.scale.class_test, size, run.seed + 1000)
table = metrics.psnr_table(net, test, sigmas, run.seed).numpy()
slope = stats.fit_slope(input_db, table, *run.scale.slope_db)

# %% [markdown]
# One test disk is shown: the one of largest contrast among the first few.

# %%
contrast = [float(x.max() - x.min()) for x in test]
chosen, sigma = int(np.argmax(contrast[:16])), 0.04
disk = bases.analyse(net, test[chosen], sigma, run.seed)
noise = gahb.gaussian_noise(len(test), test.shape[1:], run.seed).flatten(1).double()  # of the curve
spaces = torch.linalg.qr(tangents.flatten(2).double().mT).Q.cpu()  # (B, d, 5)
kept = torch.einsum("bd,bdk->bk", noise, spaces).square().sum(1).numpy()  # what a projection on it leaves of the noise
optimum = input_db - 10 * np.log10(kept / d).mean()

# %% [markdown]
# ## Figure 5

# %%
fig = plotting.new(plotting.WIDTH, 6.0)
top, middle, bottom = fig.subfigures(3, 1, height_ratios=[1.5, 0.8, 1.5])
a, b, c = top.subfigures(1, 3, width_ratios=[1.2, 1, 1])
plotting.image_row(a, disk.images, ["clean", rf"noisy, $\sigma$ = {sigma}", "denoised"])
plotting.decay(b.subplots(), disk.basis.shrinkage.cpu(), disk.coefficients.cpu())
ax = c.subplots()
plotting.banded(ax, input_db, table, plotting.COLOURS["network"], f"network, slope {slope.slope:.2f}")
ax.plot(input_db, optimum, label="tangent projection, slope 1", **plotting.OPTIMAL)
plotting.psnr_axes(ax)
ax.set_ylim(top=1.3 * optimum.max())  # room for the legend
ax.legend(fontsize=8, loc="upper left")
names = ["row", "column", "radius", "foreground", "background"]
plotting.vector_grid(middle, tangents[chosen], [f"tangent: {name}" for name in names])
plotting.vector_grid(bottom, disk.basis.vectors[:10].cpu(), plotting.shrinkage_titles(disk.basis.shrinkage[:10]))
run.save(fig, "fig05_disks")

# %% [markdown]
# ## Claims 5.1 to 5.4
#
# The tangent space is compared over all test disks, and the claim is judged by the median; a closed-form projection on
# it goes through the same code and would have slope 1 and rank 5.

# %%
run.claim("5.1", slope=slope.slope, standard_error=slope.error, low_db=slope.low, high_db=slope.high)
disks = [bases.analyse(net, x, sigma, run.seed) for x in test]
cosines = [bases.subspace_cosine(a.basis.vectors[:5], t) for a, t in zip(disks, tangents, strict=True)]
visible = [c for c, x in zip(cosines, contrast, strict=True) if x > sigma]  # the noise is small for these
projection = optimal.subspace(tangents[chosen][:, None])
ideal = bases.analyse(projection, test[chosen].cpu(), sigma, run.seed).basis.shrinkage
run.claim(
    "5.2", cosine=np.median(cosines), interval=stats.confidence_interval(cosines, np.median),
    cosines=cosines, sigma=sigma,
    cosine_shown=bases.subspace_cosine(disk.basis.vectors[:5], tangents[chosen]),
    cosine_visible=np.median(visible) if visible else None, visible=len(visible),
)  # fmt: skip
ranks = [bases.effective_rank(a.basis.shrinkage) for a in disks]
counts = [int((a.basis.shrinkage > 0.1).sum()) for a in disks]
run.claim(
    "5.3", count=np.median(counts), rank=np.median(ranks), rank_of_projection=bases.effective_rank(ideal), sigma=sigma
)

# %% [markdown]
# The effective rank is the trace of the Jacobian, which random signs estimate without its matrix (as in Eq. 7).

# %%
levels = [0.3, 0.1, 0.03, 0.01]
several = test[: run.scale.analysed]
risks = [metrics.stein_risk(net, several, s, probes=64, seed=run.seed) for s in levels]
rank_at = np.array([risk["trace"].cpu().numpy() * d / s**2 for s, risk in zip(levels, risks, strict=True)])
run.claim("5.4", sigma=levels, rank=rank_at.mean(1), band=stats.confidence_interval(rank_at), images=len(several))
fig = plotting.new(4.8, 3.2)
ax = fig.subplots()
plotting.banded(ax, levels, rank_at, plotting.COLOURS["network"], "network")
ax.axhline(5, label="optimal for small noise", **plotting.OPTIMAL)
ax.set(
    xscale="log",
    ylim=(0, None),
    xlabel=r"noise level $\sigma$",
    ylabel=r"effective rank $\sum_k \lambda_k$",
    title="disks",
)
ax.invert_xaxis()
ax.legend(fontsize=8)
run.save(fig, "fig05b_disks_rank")

# %% [markdown]
# ## Figure 12: one image times an intensity
#
# The class is a ray. The optimal denoiser projects on it: $e_1 = x / \lVert x \rVert$ with $\lambda_1 = 1$, all else 0.
# The paper's image is a face. Here it is a geometric image, so that the trained network can be passed on: the weights
# of a network that has seen one face hold that face.

# %%
image = run.to(datasets.ray_image(run.scale.class_size))
ray_net = run.network(scales.ray_recipe(run.scale, run.seed))
ray = bases.analyse(ray_net, image * 0.7, 0.04, run.seed)
vectors = ray.basis.vectors.cpu()
unit = image[0, 0].cpu() / image.norm().cpu()
cosine = abs(float((vectors[0] * unit).sum()))

# %%
ray_images = image * torch.linspace(0.3, 1, run.scale.class_test, device=run.device)[:, None, None, None]
ray_table = metrics.psnr_table(ray_net, ray_images, sigmas, run.seed).numpy()
ray_best = [float(gahb.psnr_curve(optimal.ray(image[0], s), ray_images, s, run.seed)[0]) for s in sigmas]
fig = plotting.new(plotting.WIDTH, 4.4)
top, bottom = fig.subfigures(2, 1, height_ratios=[1.5, 1])
a, b, c = top.subfigures(1, 3, width_ratios=[1.2, 1, 1])
plotting.image_row(a, ray.images, ["clean", r"noisy, $\sigma$ = 0.04", "denoised"])
plotting.decay(b.subplots(), ray.basis.shrinkage.cpu(), ray.coefficients.cpu())
ax = c.subplots()
plotting.banded(ax, input_db, ray_table, plotting.COLOURS["network"], "network")
ax.plot(input_db, ray_best, label="optimal", **plotting.OPTIMAL)
plotting.psnr_axes(ax)
ax.legend(fontsize=8)
titles = ["the image", *plotting.shrinkage_titles(ray.basis.shrinkage[:5])]
plotting.vector_grid(bottom, [unit, *vectors[:5]], titles, 6)
run.save(fig, "fig12_one_image")
run.claim("5.5", cosine=cosine, rank=bases.effective_rank(ray.basis.shrinkage), sigma=0.04)

# %% [markdown]
# ## Figure 13: sinusoids
#
# Plane waves of one frequency, any phase and amplitude: a cone in the plane that a sine and a cosine span. The tangent
# space at each image is that plane.

# %%
wave_net = run.network(scales.sinusoids_recipe(run.scale, run.seed))
waves = run.to(datasets.sinusoids(16, size, run.seed + 1000))
plane = datasets.sinusoid_tangents(16, size, run.seed + 1000)
chosen = int(waves.abs().amax((1, 2, 3)).argmax())
wave = bases.analyse(wave_net, waves[chosen], 0.08, run.seed)
cosine = bases.subspace_cosine(wave.basis.vectors[:2], plane[chosen])
run.claim("5.6", cosine=cosine, rank=bases.effective_rank(wave.basis.shrinkage), sigma=0.08)

# %%
fig = plotting.new(plotting.WIDTH, 4.6)
top, bottom = fig.subfigures(2, 1, height_ratios=[1.5, 1])
a, b, c = top.subfigures(1, 3, width_ratios=[1.2, 0.8, 1])
plotting.image_row(a, wave.images, ["clean", r"noisy, $\sigma$ = 0.08", "denoised"], vmin=-1, vmax=1)
plotting.vector_grid(b, plane[chosen], ["tangent: amplitude", "tangent: phase"], 2)
plotting.decay(c.subplots(), wave.basis.shrinkage.cpu(), wave.coefficients.cpu())
plotting.vector_grid(bottom, wave.basis.vectors[:6].cpu(), plotting.shrinkage_titles(wave.basis.shrinkage[:6]), 6)
run.save(fig, "fig13_sinusoids")

# %% [markdown]
# ## Explore
#
# Move a disk, and watch its tangent space and the vectors that the network keeps. Past the frame, or with the
# foreground equal to the background, the disk leaves what the network was trained on. (The sliders live in JupyterLab,
# with a running kernel; elsewhere the first picture stands here.)

# %%
from gahb.companion import explorers

explorers.disk(net, size, sigma, run.seed)

# %%
run.finish()

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
# # 5. Where harmonic bases are not needed: low-dimensional manifolds
#
# *Section 3.3, Figures 5, 12 and 13, Appendix B.4.*
#
# Images on a manifold of few dimensions call for a projection on its tangent space, of unit slope. The other directions
# are free: an optimal denoiser keeps nothing along them. A network keeps harmonics there that nobody asked for.

# %% tags=["parameters"]
scale = "smoke"  # smoke, laptop, paper-short or paper
faces = None  # folder or file of photographs
scenes = None  # folder or file of photographs
store = None  # folder of trained networks
figures = None  # folder of the figures
device = "auto"  # auto, cuda, mps or cpu
seed = 0

# %%
import numpy as np
import torch

import gahb
from gahb import bases, datasets, metrics, optimal, stats
from gahb.companion import explorers, notebook, plotting, scales

run = notebook.start(
    "05_manifolds",
    scale=scale, faces=faces, scenes=scenes, store=store, figures=figures, device=device, seed=seed,
)  # fmt: skip
size, d, n = run.scale.class_size, run.scale.class_size**2, run.scale.class_test
sigmas, input_db = run.scale.sigmas, np.array(run.scale.input_db)

# %% [markdown]
# ## Disks
#
# Five parameters: centre, radius, foreground, background. The tangent vectors are derivatives of the generator.

# %%
network = run.network(scales.class_recipe(run.scale, "disks", run.seed))
test = run.to(datasets.disks(n, size, run.seed + 1000))
tangents = datasets.disk_tangents(n, size, run.seed + 1000)
errors = metrics.squared_errors(network, test, sigmas, run.seed).numpy()
noise = gahb.gaussian_noise(n, test.shape[1:], run.seed).flatten(1).double()
spaces = torch.linalg.qr(tangents.flatten(2).double().mT).Q  # (n, d, 5)
kept = torch.einsum("bd,bdk->bk", noise, spaces).square().sum(1).numpy() / d  # what a projection keeps of the noise
of_projection = np.square(sigmas)[:, None] * kept
slope = stats.fit_slope(input_db, errors, *run.scale.slope_db)
projection_slope = stats.fit_slope(input_db, of_projection, *run.scale.slope_db).slope
run.claim(
    "5.1", slope=slope.slope, standard_error=slope.error, low_db=slope.low, high_db=slope.high,
    null={"name": "projection on the tangent space", "slope": projection_slope},
)  # fmt: skip

# %% [markdown]
# ## Claims 5.2 and 5.3: the tangent space, and what else is kept
#
# Every disk has noise of its own. *Harmonics of a disk*: waves $\cos m\theta$, $\sin m\theta$ ($m = 2 \ldots 8$) on
# its edge, and the lowest Neumann modes of the background and of the disk. The null: harmonics and tangents of another
# disk.

# %%
sigma = 0.04
disks = [gahb.analyse(network, x, sigma, run.seed + i) for i, x in enumerate(test)]
parameters = datasets.disk_parameters(n, size, run.seed + 1000)
harmonics = [datasets.disk_harmonics(row, size) for row in parameters]
others = [*range(1, n), 0]
cosines = [bases.subspace_cosine(a.basis.vectors[:5], t) for a, t in zip(disks, tangents, strict=True)]
cosines_other = [bases.subspace_cosine(disks[i].basis.vectors[:5], tangents[j]) for i, j in enumerate(others)]
contrast = np.array([float(x.max() - x.min()) for x in test])
run.claim(
    "5.2", cosine=np.median(cosines), interval=stats.confidence_interval(cosines, np.median), sigma=sigma, disks=n,
    cosine_visible=np.median(np.array(cosines)[contrast > sigma]), visible=int((contrast > sigma).sum()),
    null={"name": "tangent space of another disk", "cosine": np.median(cosines_other)},
    chosen_after="noise distribution in training (sqrt-uniform), and 128 disks in place of 32 (laptop)",
)  # fmt: skip
ranks = [bases.effective_rank(a.basis.shrinkage) for a in disks]
counts = [int((a.basis.shrinkage > 0.1).sum()) for a in disks]
further = [a.basis.vectors[5:15] for a in disks]
energy = np.array([bases.energy_in_span(v, h) for v, h in zip(further, harmonics, strict=True)])
energy_other = np.array([bases.energy_in_span(further[i], harmonics[j]) for i, j in enumerate(others)])
run.claim(
    "5.3", count=np.median(counts), rank=np.median(ranks), energy=energy.mean(), sigma=sigma,
    interval=stats.confidence_interval(energy - energy_other), dimensions=len(harmonics[0]),
    null={"name": "harmonics of another disk", "energy": energy_other.mean()},
)  # fmt: skip

# %% [markdown]
# ## Figure 5
#
# The disk of largest contrast among the first few. The curves are relative to the input.

# %%
chosen = int(np.argmax(contrast[:16]))
disk = disks[chosen]
names = [f"tangent: {name}" for name in ("row", "column", "radius", "foreground", "background")]
waves = [rf"edge, $\{wave} {m}\theta$" for m in (2, 3) for wave in ("cos", "sin")]
some_harmonics = torch.cat([harmonics[chosen][:4], harmonics[chosen][14:15]])


def draw_gain(ax):
    """PSNR relative to the input, of the network and of the projection."""
    for table, key, label in (
        (errors, "network", f"network, slope {slope.slope:.2f}"),
        (of_projection, "optimal", "tangent projection, slope 1"),
    ):
        plotting.banded(ax, input_db, table, plotting.COLOURS[key], label, minus_input=True)
    ax.set(xlabel=plotting.INPUT_PSNR, ylabel="output minus input PSNR (dB)")
    ax.legend(fontsize=8)


# %%
fig = plotting.new(plotting.WIDTH, 7.4)
top, middle, bottom, last = fig.subfigures(4, 1, height_ratios=[1.7, 0.8, 1.5, 0.8])
a, b, c = top.subfigures(1, 3, width_ratios=[1.2, 1, 1])
plotting.image_row(a, disk.images, ["clean", rf"noisy, $\sigma$ = {sigma}", "denoised"])
plotting.decay(b.subplots(), disk.basis.shrinkage.cpu(), disk.coefficients.cpu())
draw_gain(c.subplots())
plotting.vector_grid(middle, tangents[chosen], names)
plotting.vector_grid(bottom, disk.basis.vectors[:10].cpu(), plotting.shrinkage_titles(disk.basis.shrinkage[:10]))
plotting.vector_grid(last, some_harmonics, [*waves, "background"])
run.save(
    fig, "fig05_disks", "Figure 5",
    "A disk, noisy and denoised; shrinkage factors and coefficients; PSNR relative to the input, for the "
    "network and for a projection on the tangent space; the five tangent vectors; the leading ten "
    "eigenvectors; harmonics of this disk, computed from its shape alone.",
    claims=("5.1", "5.2", "5.3"),
    networks=[network],
)  # fmt: skip

# %% [markdown]
# ## Claim 5.4: more directions at less noise
#
# The effective rank is the trace of the Jacobian, estimated by random signs (as in Eq. 7); the number of factors above
# 0.1 comes from the leading eigenvalues.

# %%
levels, several, k = [0.3, 0.1, 0.03, 0.01], test[: run.scale.analysed], min(80, d // 3)
risks = [gahb.stein_risk(network, several, s, probes=64, seed=run.seed) for s in levels]
rank_at = np.array([risk["trace"].cpu().numpy() * d / s**2 for s, risk in zip(levels, risks, strict=True)])
count_at = np.array(
    [[int((gahb.analyse(network, x, s, run.seed + i, k=k).basis.shrinkage > 0.1).sum()) for i, x in enumerate(several)]
     for s in levels]
)  # fmt: skip
run.claim(
    "5.4", sigma=levels, rank=rank_at.mean(1), count=count_at.mean(1), images=len(several), at_most=k,
    interval=stats.confidence_interval(rank_at).T,
    null={"name": "projection on the tangent space", "rank": [5.0] * len(levels)},
)  # fmt: skip

# %%
fig = plotting.new(5.4, 3.2)
ax = fig.subplots()
for values, key, label in ((rank_at, "shrinkage", "effective rank"), (count_at, "network", r"factors above 0.1")):
    plotting.with_interval(ax, levels, values.mean(1), stats.confidence_interval(values), plotting.COLOURS[key], label)
ax.axhline(5, **plotting.OPTIMAL | {"label": "optimal for small noise"})
ax.set(xscale="log", ylim=(0, None), xlabel=r"noise level $\sigma$", ylabel="directions kept", title="disks")
ax.invert_xaxis()
ax.legend(fontsize=8)
run.save(
    fig, "fig05b_disks_rank", "Figure 5, rank",
    "Effective rank and number of shrinkage factors above 0.1 against the noise level, with 95 % bootstrap "
    "bands over disks; dashed: the dimension of the manifold.",
    claims=("5.4",),
    networks=[network],
)  # fmt: skip

# %% [markdown]
# ## Figure 12: one image times an intensity
#
# The class is a ray. The optimal denoiser projects on it: $e_1 = x / \lVert x \rVert$ with $\lambda_1 = 1$, all else 0.
# The paper's image is a face. Here it is a geometric image, so that the trained network can be published: the weights
# of a network that has seen one face hold that face.

# %%
image = run.to(datasets.ray_image(size))
ray_network = run.network(scales.class_recipe(run.scale, "ray", run.seed))
ray = gahb.analyse(ray_network, image * 0.7, 0.04, run.seed)
vectors, unit = ray.basis.vectors.cpu(), image[0, 0].cpu() / image.norm().cpu()
ray_images = image * torch.linspace(0.3, 1, n, device=run.device)[:, None, None, None]
ray_errors = metrics.squared_errors(ray_network, ray_images, sigmas, run.seed).numpy()
line = input_db + 10 * np.log10(d)  # an error of sigma^2 in all
projection = gahb.analyse(optimal.subspace(image), image * 0.7, 0.04, run.seed).basis
run.claim(
    "5.5", cosine=abs(float((vectors[0] * unit).sum())), rank=bases.effective_rank(ray.basis.shrinkage), sigma=0.04,
    null={"name": "projection on the image", "rank": bases.effective_rank(projection.shrinkage)},
)  # fmt: skip

# %%
fig = plotting.new(plotting.WIDTH, 4.4)
top, bottom = fig.subfigures(2, 1, height_ratios=[1.5, 1])
a, b, c = top.subfigures(1, 3, width_ratios=[1.2, 1, 1])
plotting.image_row(a, ray.images, ["clean", r"noisy, $\sigma$ = 0.04", "denoised"])
plotting.decay(b.subplots(), ray.basis.shrinkage.cpu(), ray.coefficients.cpu())
ax = c.subplots()
plotting.banded(ax, input_db, ray_errors, plotting.COLOURS["network"], "network", minus_input=True)
ax.plot(input_db, line - input_db, label=r"optimal, $10 \log_{10} d$", **plotting.OPTIMAL)
ax.set(xlabel=plotting.INPUT_PSNR, ylabel="output minus input PSNR (dB)")
ax.legend(fontsize=8)
left, right = bottom.subfigures(1, 2, width_ratios=[1, 5])
plotting.image_row(left, [image[0].cpu()], ["the image"])
plotting.vector_grid(right, vectors[:5], plotting.shrinkage_titles(ray.basis.shrinkage[:5]), 5)
run.save(
    fig, "fig12_one_image", "Figure 12",
    "One image (here a geometric one, not a face) times an intensity: shrinkage factors and coefficients, "
    "PSNR relative to the input, and the leading eigenvectors.",
    claims=("5.5",),
    networks=[ray_network],
)  # fmt: skip

# %% [markdown]
# ## Figure 13: sinusoids
#
# Plane waves of one frequency, any phase and amplitude: a cone in the plane that a sine and a cosine span. The tangent
# space at each image is that plane.

# %%
wave_network = run.network(scales.class_recipe(run.scale, "sinusoids", run.seed))
waves = run.to(datasets.sinusoids(16, size, run.seed + 1000))
plane = datasets.sinusoid_tangents(16, size, run.seed + 1000)
chosen = int(waves.abs().amax((1, 2, 3)).argmax())
wave = gahb.analyse(wave_network, waves[chosen], 0.08, run.seed)
flat = gahb.analyse(optimal.subspace(plane[chosen][:, None]), waves[chosen].cpu(), 0.08, run.seed).basis
run.claim(
    "5.6", cosine=bases.subspace_cosine(wave.basis.vectors[:2], plane[chosen]), sigma=0.08,
    rank=bases.effective_rank(wave.basis.shrinkage),
    null={"name": "projection on the tangent plane", "rank": bases.effective_rank(flat.shrinkage)},
)  # fmt: skip

# %%
fig = plotting.new(plotting.WIDTH, 4.6)
top, bottom = fig.subfigures(2, 1, height_ratios=[1.5, 1])
a, b, c = top.subfigures(1, 3, width_ratios=[1.3, 0.8, 1])
plotting.image_row(a, wave.images, ["clean", r"$\sigma$ = 0.08", "denoised"], vmin=-1, vmax=1)
plotting.vector_grid(b, plane[chosen], ["amplitude", "phase"], 2)
plotting.decay(c.subplots(), wave.basis.shrinkage.cpu(), wave.coefficients.cpu())
plotting.vector_grid(bottom, wave.basis.vectors[:6].cpu(), plotting.shrinkage_titles(wave.basis.shrinkage[:6]), 6)
run.save(
    fig, "fig13_sinusoids", "Figure 13",
    "Sinusoids of one frequency: the two tangent vectors, shrinkage factors and coefficients, and the leading "
    "eigenvectors.",
    claims=("5.6",),
    networks=[wave_network],
)  # fmt: skip

# %% [markdown]
# ## Explore
#
# Move a disk, and watch its tangent space and the vectors that the network keeps. Past the frame, or with the
# foreground equal to the background, the disk leaves the class that the network was trained on. (The sliders need
# JupyterLab and a running kernel; elsewhere the first picture is shown.)

# %%
explorers.disk(network, size, sigma, run.seed)

# %%
run.finish()

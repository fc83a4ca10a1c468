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
# # 4. Where harmonic bases are optimal: geometric images
#
# *Section 3.2, Figures 4, 10 and 11, Appendix D.*
#
# A geometric $C^\alpha$ image is regular, of order $\alpha$, except along a contour that is regular too. For such
# images the best possible denoiser is known as noise vanishes: its PSNR rises with slope $\alpha / (\alpha + 1)$.
# Bandlet bases, harmonics that follow the contour, reach it. Does a network?

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

import gahb
from gahb import bases, datasets, metrics, rivals, stats
from gahb.companion import notebook, plotting, scales

run = notebook.start(
    "04_c_alpha_optimality",
    scale=scale, faces=faces, scenes=scenes, store=store, figures=figures, device=device, seed=seed,
)  # fmt: skip

# %% [markdown]
# ## The class
#
# White noise is integrated in the Fourier domain: a contour with $|k|^{-\alpha}$, two backgrounds with
# $(k_1^2 + k_2^2)^{-\alpha/2}$ (Algorithm 2).

# %%
size, alphas = run.scale.class_size, run.scale.alphas
test = {alpha: run.to(datasets.c_alpha(run.scale.class_test, size, alpha, seed=run.seed + 1000)) for alpha in alphas}
fig = plotting.new(plotting.WIDTH, 1.6 * len(alphas) ** 0.5)
for row, alpha in zip(fig.subfigures(len(alphas), 1), alphas, strict=True):
    plotting.image_row(row, test[alpha][:8].cpu(), [rf"$\alpha$ = {alpha:g}"] + [""] * 7)
fig.set_figheight(1.25 * len(alphas))
run.save(fig, "fig04b_c_alpha_images")

# %%
denoisers = {alpha: run.network(scales.c_alpha_recipe(run.scale, alpha, seed=run.seed)) for alpha in alphas}
sigmas, input_db = run.scale.sigmas, np.array(run.scale.input_db)
tables = {a: metrics.psnr_table(denoisers[a], test[a], sigmas, run.seed).numpy() for a in alphas}

# %% [markdown]
# ## Figure 4
#
# The theory is of images with details at all scales; these have pixels. A slope is fitted over the smallest noise
# above which at most a third of the wavelet coefficients of the class stand out: below that a contour of
# $\alpha = 1$ is as rough as the pixels, and every denoiser nears the identity, of slope 1.
#
# Algorithm 2 is rougher than $C^\alpha$: of fields of amplitudes $|k|^{-\alpha}$ in two dimensions, the slope of the
# best linear denoiser tends to $(\alpha - 1) / \alpha$, and random contours of $|k|^{-\alpha}$ have half an order less
# than $\alpha$. Over a finite range the slope of the whole lies between those of its parts, and pixels raise it.

# %%
low, high = run.scale.slope_db
resolved = {a: [db for db in input_db if rivals.fraction_above(test[a], 10 ** (-db / 20)) < 1 / 3] for a in alphas}
tops = {a: min(high, max(resolved[a])) for a in alphas}
ranges = {a: (max(0, tops[a] - (high - low)), tops[a]) for a in alphas}
slopes = {a: stats.fit_slope(input_db, tables[a], *ranges[a]) for a in alphas}
slope, error = ([getattr(s, name) for s in slopes.values()] for name in ("slope", "error"))
smallest = [stats.fit_slope(input_db, tables[a], low, high).slope for a in alphas]

# %%
fig = plotting.new(plotting.WIDTH, 6.4)
top, bottom = fig.subfigures(2, 1, height_ratios=[1.2, 1])
left, right = top.subplots(1, 2)
colours = plotting.ladder(alphas, "plasma")
for alpha in alphas:
    plotting.banded(left, input_db, tables[alpha], colours[alpha], rf"$\alpha$ = {alpha:g}")
    middle = np.mean(ranges[alpha])
    fitted = slopes[alpha].intercept + slopes[alpha].slope * middle
    plotting.optimal_line(left, ranges[alpha], alpha / (alpha + 1), (middle, fitted + 2), colours[alpha])
plotting.psnr_axes(left, "dashed: optimal slopes, 2 dB higher")
left.legend(fontsize=8)
right.errorbar(alphas, slope, error, fmt="o", color=plotting.COLOURS["network"], label="network")
grid = np.linspace(min(alphas), max(alphas), 50)
right.plot(grid, grid / (grid + 1), label=r"$\alpha / (\alpha + 1)$", **plotting.OPTIMAL)
right.set(xlabel=r"regularity $\alpha$", ylabel="slope", title="empirical slopes")
right.legend(fontsize=8)
shown = [a for a in (4.0, 2.0) if a in alphas]
for half, alpha in zip(bottom.subfigures(1, len(shown)), shown, strict=True):
    at = bases.analyse(denoisers[alpha], test[alpha][0], 0.15, run.seed)
    image, vectors = half.subfigures(1, 2, width_ratios=[1, 5])
    plotting.image_row(image, at.images[:1], ["clean"])
    plotting.vector_grid(vectors, at.basis.vectors[:10].cpu(), plotting.shrinkage_titles(at.basis.shrinkage[:10]))
    half.suptitle(rf"top vectors, $\alpha$ = {alpha:g}, $\sigma$ = 0.15", fontsize=9)
run.save(fig, "fig04_c_alpha_optimality")

# %%
optimal = [a / (a + 1) for a in alphas]
about = {"range_db": [ranges[a] for a in alphas], "slope_smallest_noise": smallest}
run.claim("4.1", alpha=alphas, slope=slope, standard_error=error, optimal=optimal, **about)
run.claim("4.2", alpha=alphas, slope=slope)

# %% [markdown]
# ## The rival: thresholding in a fixed basis
#
# Soft thresholding of wavelet coefficients is nearly optimal among denoisers that use one basis for all images. It is
# given every advantage here: the best of several wavelets and thresholds, chosen on the test images themselves.

# %%
alpha = 2.0
images = test[alpha][:64]
unit_noise = run.to(gahb.gaussian_noise(len(images), images.shape[1:], run.seed))
options = [(w, t) for w in ("haar", "db2", "db4", "sym4", "coif1") for t in (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0)]
wavelet_table = []
for sigma in sigmas:
    noisy = images + sigma * unit_noise
    found = [gahb.psnr(images, rivals.wavelet_denoise(noisy, sigma, w, t)) for w, t in options]
    wavelet_table.append(max(found, key=lambda psnr: psnr.mean()).cpu().numpy())
network_table = metrics.psnr_table(denoisers[alpha], images, sigmas, run.seed).numpy()
gain = network_table - np.array(wavelet_table)
run.claim(
    "4.3", alpha=alpha, input_db=input_db, network=network_table.mean(1), wavelet=np.mean(wavelet_table, 1),
    gain_db=gain.mean(1), gain_band=stats.confidence_interval(gain),
)  # fmt: skip

# %%
fig = plotting.new(4.8, 3.4)
ax = fig.subplots()
for key, mark, label, table in (
    ("network", "o-", "network", network_table),
    ("rival", "s:", "best wavelet thresholding", np.array(wavelet_table)),
):
    plotting.banded(ax, input_db, table, plotting.COLOURS[key], label, mark)
plotting.psnr_axes(ax, rf"$C^\alpha$ images, $\alpha$ = {alpha:g}")
ax.legend(fontsize=8)
run.save(fig, "fig04c_wavelets")

# %% [markdown]
# ## Figure 10: the contour alone becomes more regular
#
# The backgrounds are very smooth ($\alpha_2 = 8$), the contours of regularity $\alpha_1 = 1.5, 2, 4$. The more regular
# the contour, the less localized the harmonics along it, and the fewer are needed.

# %%
beta, contour_alphas = run.scale.background_alpha, run.scale.contour_alphas
mixed = {a: run.network(scales.c_alpha_recipe(run.scale, a, beta, run.seed)) for a in contour_alphas}
mixed_test = {a: run.to(datasets.c_alpha(run.scale.analysed, size, a, beta, run.seed + 1000)) for a in contour_alphas}
analyses = {a: [bases.analyse(mixed[a], x, 0.2, run.seed) for x in mixed_test[a]] for a in contour_alphas}

# %%
fig = plotting.new(12, 1.45 * len(contour_alphas))
for row, a in zip(fig.subfigures(len(contour_alphas), 1), contour_alphas, strict=True):
    left, right = row.subfigures(1, 2, width_ratios=[3, 10])
    at = analyses[a][0]
    plotting.image_row(left, at.images, [rf"$\alpha_1$ = {a:g}", r"$\sigma$ = 0.2", "denoised"])
    plotting.vector_grid(right, at.basis.vectors[:10].cpu(), plotting.shrinkage_titles(at.basis.shrinkage[:10]), 10)
fig.suptitle(rf"contours of rising regularity $\alpha_1$ on backgrounds of $\alpha_2$ = {beta:g}")
run.save(fig, "fig10_contour_regularity")


# %%
def spread_along_contour(at):
    image = at.clean[0, 0].cpu()
    return bases.participation_ratio(at.basis.vectors[:10].cpu(), bases.contour_mask(image))


run.claim(
    "4.4", alpha1=contour_alphas, sigma=0.2, images=run.scale.analysed,
    participation=[np.nanmean([spread_along_contour(at) for at in analyses[a]]) for a in contour_alphas],
    rank=[np.mean([bases.effective_rank(at.basis.shrinkage) for at in analyses[a]]) for a in contour_alphas],
)  # fmt: skip

# %% [markdown]
# ## Figure 11: one more example, $\alpha = 3$

# %%
alpha = 3.0 if 3.0 in alphas else alphas[-1]
at = bases.analyse(denoisers[alpha], test[alpha][1], 0.15, run.seed)
fig = plotting.new(plotting.WIDTH, 4.0)
left, right = fig.subfigures(1, 2, width_ratios=[1, 1.5])
top, bottom = left.subfigures(2, 1, height_ratios=[1, 1.6])
plotting.image_row(top, at.images, ["clean", r"noisy, $\sigma$ = 0.15", "denoised"])
plotting.decay(bottom.subplots(), at.basis.shrinkage.cpu(), at.coefficients.cpu())
plotting.vector_grid(right, at.basis.vectors[:15].cpu(), plotting.shrinkage_titles(at.basis.shrinkage[:15]))
right.suptitle(rf"top vectors, $\alpha$ = {alpha:g}")
run.save(fig, "fig11_c_alpha_example")
run.finish()

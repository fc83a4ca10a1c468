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
# images the best possible denoiser is known as the noise vanishes: its PSNR rises with slope $\alpha / (\alpha + 1)$.
# Bandlet bases, harmonics that follow the contour, attain it. Does a network?

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
# $(k_1^2 + k_2^2)^{-\alpha/2}$ (Algorithm 2). As in the authors' code, and not in the paper, each background is
# stretched to a random range, the mask is blurred by a 2x2 box, and contours that leave the frame are cut.

# %%
size, alphas, count = run.scale.class_size, run.scale.alphas, run.scale.analysed
sigmas, input_db = run.scale.sigmas, np.array(run.scale.input_db)
test = {a: run.to(datasets.c_alpha(run.scale.class_test, size, a, seed=run.seed + 1000)) for a in alphas}
train = {a: run.to(datasets.c_alpha(run.scale.class_N, size, a, seed=run.seed)) for a in alphas}
fig = plotting.new(plotting.WIDTH, 1.15 * len(alphas))
for row, alpha in zip(fig.subfigures(len(alphas), 1), alphas, strict=True):
    axes = plotting.image_row(row, test[alpha][:8].cpu(), [""] * 8)
    axes[0].set_ylabel(rf"$\alpha$ = {alpha:g}", rotation=0, ha="right", va="center")
run.save(
    fig, "fig04b_c_alpha_images", "Figure 4, images",
    "Examples of C-alpha images of each regularity.",
)  # fmt: skip

# %% [markdown]
# ## The network, and its rival
#
# The rival thresholds the coefficients of translation-invariant wavelets, one basis for all images. At each noise level
# it is the best of several wavelets and thresholds, hard and soft, chosen on training images.

# %%
networks = {a: run.network(scales.c_alpha_recipe(run.scale, a, seed=run.seed)) for a in alphas}
errors = {a: metrics.squared_errors(networks[a], test[a], sigmas, run.seed).numpy() for a in alphas}


def wavelet_errors(alpha):
    found = []
    for sigma in sigmas:
        option = rivals.best_wavelet(train[alpha][:16], sigma, run.seed + 1)
        denoiser = lambda y, sigma=sigma, option=option: rivals.wavelet_denoise(y, sigma, **option)  # noqa: E731
        found.append(metrics.squared_errors(denoiser, test[alpha], sigma, run.seed).numpy())
    return np.concatenate(found)


of_wavelets = {a: wavelet_errors(a) for a in alphas}

# %% [markdown]
# ## Slopes
#
# The theory is about images with detail at all scales; these have pixels. A slope is fitted over the smallest noise
# above which at most a third of the wavelet coefficients of the class stand out: below that a contour of
# $\alpha = 1$ is as rough as the pixels, and every denoiser approaches the identity, of slope 1.
#
# Algorithm 2 is rougher than $C^\alpha$: for fields of amplitudes $|k|^{-\alpha}$ in two dimensions, the slope of the
# best linear denoiser tends to $(\alpha - 1) / \alpha$, and random contours of $|k|^{-\alpha}$ have half an order less
# than $\alpha$. Over a finite range the slope of the whole lies between those of its parts, and pixels raise it.

# %%
low, high = run.scale.slope_db
resolved = {a: [db for db in input_db if rivals.fraction_above(test[a], 10 ** (-db / 20)) < 1 / 3] for a in alphas}
tops = {a: min(high, max(resolved[a])) for a in alphas}
ranges = {a: (max(0, tops[a] - (high - low)), tops[a]) for a in alphas}
slopes = {a: stats.fit_slope(input_db, errors[a], *ranges[a]) for a in alphas}
wavelet_slopes = {a: stats.fit_slope(input_db, of_wavelets[a], *ranges[a]) for a in alphas}
null = {"name": "cycle-spun wavelets", "slope": [wavelet_slopes[a].slope for a in alphas]}
too_small = {} if size >= 64 else {"not_tested": f"the rule is for images of 64x64 or more; these are {size}x{size}"}
measured = {"alpha": alphas, "slope": [slopes[a].slope for a in alphas]}
run.claim(
    "4.1", **measured, standard_error=[slopes[a].error for a in alphas], optimal=[a / (a + 1) for a in alphas],
    range_db=[ranges[a] for a in alphas], size=size, null=null, **too_small,
)  # fmt: skip
run.claim("4.2", **measured, null=null)
regular = [a for a in alphas if a >= 2]
difference = {a: stats.slope_difference(input_db, errors[a], of_wavelets[a], *ranges[a]) for a in regular}
run.claim(
    "4.5", alpha=regular, difference=[difference[a][0] for a in regular], null=null,
    interval=[difference[a][1] for a in regular], size=size, **too_small,
)  # fmt: skip

# %% [markdown]
# ## Figure 4

# %%
colours = plotting.ladder(alphas, "plasma")


def draw_curves(left, middle):
    for alpha in alphas:
        plotting.banded(left, input_db, errors[alpha], colours[alpha], rf"$\alpha$ = {alpha:g}")
        x, middle_db = np.array(ranges[alpha]), np.mean(ranges[alpha])
        optimum = slopes[alpha].at(middle_db) + alpha / (alpha + 1) * (x - middle_db)
        left.plot(x, optimum, **plotting.OPTIMAL | {"color": colours[alpha]})
        gain, interval = stats.psnr_gain(errors[alpha], of_wavelets[alpha])
        plotting.with_interval(middle, input_db, gain, interval, colours[alpha])
    left.set(xlabel=plotting.INPUT_PSNR, ylabel="output PSNR (dB)", title="network (dashed: optimal slope)")
    left.legend(fontsize=8)
    middle.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    middle.set(xlabel=plotting.INPUT_PSNR, ylabel="gain (dB)", title="network minus wavelets")


def draw_slopes(right):
    for table, key, label in ((slopes, "network", "network"), (wavelet_slopes, "rival", "wavelets")):
        values, spread = np.transpose([(table[a].slope, 2 * table[a].error) for a in alphas])
        right.errorbar(alphas, values, spread, fmt="o", ms=4, color=plotting.COLOURS[key], label=label)
    grid = np.linspace(min(alphas), max(alphas), 50)
    right.plot(grid, grid / (grid + 1), label=r"$\alpha / (\alpha + 1)$", **plotting.OPTIMAL)
    right.set(xlabel=r"regularity $\alpha$", title="slopes")
    right.legend(fontsize=8)


# %%
fig = plotting.new(plotting.WIDTH, 5.6)
top, bottom = fig.subfigures(2, 1, height_ratios=[1.3, 1])
left, middle, right = top.subplots(1, 3, width_ratios=[1.2, 1.2, 1])
draw_curves(left, middle)
draw_slopes(right)
shown = [a for a in (4.0, 2.0) if a in alphas]
for row, alpha in zip(bottom.subfigures(len(shown), 1), shown, strict=True):
    at = gahb.analyse(networks[alpha], test[alpha][0], 0.15, run.seed)
    images, vectors = row.subfigures(1, 2, width_ratios=[3, 8])
    titles = [rf"$\alpha$ = {alpha:g}", r"$\sigma$ = 0.15", "denoised"]
    plotting.image_row(images, at.images, titles)
    plotting.vector_grid(vectors, at.basis.vectors[:8].cpu(), plotting.shrinkage_titles(at.basis.shrinkage[:8]), 8)
run.save(
    fig, "fig04_c_alpha_optimality", "Figure 4",
    "PSNR of networks trained on C-alpha images, with lines of the optimal slope through each fit; their gain "
    "over the best translation-invariant wavelet thresholding; slopes with two standard errors; below, images "
    "and leading eigenvectors for two regularities.",
    claims=("4.1", "4.2", "4.3", "4.5"),
)  # fmt: skip

# %% [markdown]
# ## Claim 4.3: the network against fixed bases

# %%
gains = {a: stats.psnr_gain(errors[a], of_wavelets[a]) for a in alphas}
run.claim(
    "4.3", alpha=alphas, input_db=input_db, gain_db=[gains[a][0] for a in alphas],
    interval=[[gains[a][1][0].min(), gains[a][1][1].max()] for a in alphas],
    null={"name": "cycle-spun wavelets", "psnr": [stats.psnr(of_wavelets[a]) for a in alphas]},
)  # fmt: skip

# %% [markdown]
# ## Claim 4.7: is an image sparser in the adaptive basis than in a fixed one?
#
# As in notebook 03, the adaptive basis is computed from another noisy copy of the image.

# %%
oracle_levels, oracle_alphas = (0.05, 0.1, 0.15, 0.3, 0.5), [a for a in (2.0, 4.0) if a in alphas]
oracles = {
    a: {s: rivals.oracle_errors(networks[a], test[a][:count], s, train[a], run.seed) for s in oracle_levels}
    for a in oracle_alphas
}
advantage = {a: [rivals.adaptive_gain(oracles[a][s]) for s in oracle_levels] for a in oracle_alphas}
run.claim(
    "4.7", alpha=oracle_alphas, sigma=oracle_levels, images=count, size=size,
    gain_db=[[gain for gain, _ in advantage[a]] for a in oracle_alphas],
    interval=[interval for a in oracle_alphas for _, interval in advantage[a]],
    null={"name": "DCT, PCA, wavelets"}
    | {f"psnr_{key}": [[stats.psnr(oracles[a][s][key]) for s in oracle_levels] for a in oracle_alphas]
       for key in ("DCT", "PCA", "wavelets")},
)  # fmt: skip
fig = plotting.new(plotting.WIDTH, 3.2)
for ax, alpha in zip(np.atleast_1d(fig.subplots(1, len(oracle_alphas), sharey=True)), oracle_alphas, strict=True):
    plotting.oracle_gains(ax, oracles[alpha])
    ax.set_title(rf"{count} images of $\alpha$ = {alpha:g}: oracle PSNR minus the DCT's")
run.save(
    fig, "fig04c_oracle", "Equations 11 to 13, C-alpha images",
    "As for faces: oracle PSNR in several bases minus that in the DCT.",
    claims=("4.7",),
)  # fmt: skip

# %% [markdown]
# ## Figure 10: the contour alone becomes more regular
#
# The backgrounds are very smooth ($\alpha_2 = 8$), the contours of regularity $\alpha_1 = 1.5, 2, 4$. The i-th images
# of the three classes come from the same random numbers. Where contours are less regular, harmonics should be more
# local, and more of them be kept. The null: the lowest vectors of the DCT, measured along the same contours.

# %%
beta, contour_alphas = run.scale.background_alpha, run.scale.contour_alphas
mixed = {a: run.network(scales.c_alpha_recipe(run.scale, a, beta, run.seed)) for a in contour_alphas}
mixed_test = {a: run.to(datasets.c_alpha(count, size, a, beta, run.seed + 1000)) for a in contour_alphas}
analyses = {
    a: [gahb.analyse(mixed[a], x, 0.2, run.seed + i) for i, x in enumerate(mixed_test[a])] for a in contour_alphas
}

# %%
fig = plotting.new(plotting.WIDTH, 1.15 * len(contour_alphas))
for row, a in zip(fig.subfigures(len(contour_alphas), 1), contour_alphas, strict=True):
    left, right = row.subfigures(1, 2, width_ratios=[3, 7])
    at = analyses[a][0]
    plotting.image_row(left, at.images, [rf"$\alpha_1$ = {a:g}", r"$\sigma$ = 0.2", "denoised"])
    plotting.vector_grid(right, at.basis.vectors[:7].cpu(), plotting.shrinkage_titles(at.basis.shrinkage[:7]), 7)
run.save(
    fig, "fig10_contour_regularity", "Figure 10",
    "Images with contours of rising regularity on a smooth background, and their leading eigenvectors.",
    claims=("4.4",),
)  # fmt: skip


# %%
def spread(vectors, at):
    return bases.participation_ratio(vectors[:10], bases.contour_mask(at.clean[0, 0].cpu()))


dct = rivals.dct_basis(size, 10)
participation = np.array([[spread(at.basis.vectors.cpu(), at) for at in analyses[a]] for a in contour_alphas])
of_dct = np.array([[spread(dct, at) for at in analyses[a]] for a in contour_alphas])
ranks = np.array([[bases.effective_rank(at.basis.shrinkage) for at in analyses[a]] for a in contour_alphas])
whole = np.isfinite(participation).all(0)  # images in which some vector reaches the contour
steps = [np.diff(participation[:, whole], axis=0), -np.diff(ranks[:, whole], axis=0)]
run.claim(
    "4.4", alpha1=contour_alphas, sigma=0.2, images=int(whole.sum()), participation=np.nanmean(participation, 1),
    rank=ranks.mean(1), interval=stats.confidence_interval(np.concatenate(steps)).T,
    null={"name": "DCT along the same contours", "participation": np.nanmean(of_dct, 1)},
)  # fmt: skip

# %% [markdown]
# ## Figure 11: one more example, $\alpha = 3$

# %%
alpha = 3.0 if 3.0 in alphas else alphas[-1]
fig = plotting.new(plotting.WIDTH, 4.6)
plotting.basis_figure(fig, gahb.analyse(networks[alpha], test[alpha][1], 0.15, run.seed), 0.15)
run.save(
    fig, "fig11_c_alpha_example", "Figure 11",
    "One more C-alpha image, alpha = 3: its shrinkage factors, coefficients and eigenvectors.",
)  # fmt: skip
run.finish()

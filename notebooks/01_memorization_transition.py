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
# # 1. From memorization to generalization
#
# *Section 2.2, Figure 1, Equation 5.*
#
# A denoiser $f$ sees $y = x + z$ with $z \sim \mathcal{N}(0, \sigma^2 \mathrm{Id})$ and is trained to minimize
#
# $$\mathrm{MSE}(f, \sigma^2) = \mathbb{E}\left[\lVert x - f(y) \rVert^2\right] \tag{4}$$
#
# over a set of $N$ faces. With one face it can memorize it; with ten thousand it cannot. The paper trains one network
# for each $N$ and asks: how well does it denoise the images that it saw, and others?

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
from gahb import metrics, optimal, stats
from gahb.companion import notebook, plotting, scales

run = notebook.start(
    "01_memorization_transition",
    scale=scale, faces=faces, scenes=scenes, store=store, figures=figures, device=device, seed=seed,
)  # fmt: skip

# %% [markdown]
# ## Photographs and denoisers
#
# $S_1$ and $S_2$ are disjoint subsets of the faces, and the test images are in neither. The subsets are nested: the ten
# faces of $N = 10$ are among the hundred of $N = 100$. A denoiser that is already in the store is not trained again.

# %%
photographs = run.faces()
Ns = run.scale.face_N
denoisers = {
    N: run.network(scales.photograph_recipe(run.scale, photographs, "S1", N, run.seed), photographs) for N in Ns
}
S1, test = run.to(photographs.S1), run.to(photographs.test)

# %% [markdown]
# ## Denoising performance
#
# PSNR is $-10 \log_{10}$ of the mean squared error, averaged over images. Every network sees the same noise. A small
# training set is repeated until it has as many noisy images as the test set; the error of one of its images is then the
# mean over its noise.


# %%
def train_table(denoiser, N):
    noisy = metrics.psnr_table(denoiser, S1[torch.arange(len(test)) % N], sigmas, run.seed)
    errors = 10 ** (-noisy.numpy() / 10)
    count = min(N, len(test))
    return -10 * np.log10(np.stack([errors[:, i::count].mean(1) for i in range(count)], axis=1))


sigmas, input_db = run.scale.sigmas, np.array(run.scale.input_db)
train_psnr = {N: train_table(denoisers[N], N) for N in Ns}
test_psnr = {N: metrics.psnr_table(denoisers[N], test, sigmas, run.seed).numpy() for N in Ns}

# %% [markdown]
# The perfect memorizer is known in closed form. For the training set as prior, the optimal denoiser is the posterior
# mean $\sum_i w_i x_i$ with $w_i \propto \exp(-\lVert y - x_i \rVert^2 / 2\sigma^2)$. Its curves are drawn dotted,
# beside those of the networks: a network that had fitted its training set completely would follow them.


# %%
def memorizer_curve(N, images):
    curves = [gahb.psnr_curve(optimal.empirical(S1[:N], sigma), images, sigma, run.seed) for sigma in sigmas]
    return np.array([float(curve[0]) for curve in curves])


shown = test[:100]
memorizers = {N: (memorizer_curve(N, S1[: min(N, 100)]), memorizer_curve(N, shown)) for N in Ns}

# %% [markdown]
# ## Figure 1

# %%
d, colours = test[0].numel(), plotting.ladder(Ns)
top = input_db.max() + 10 * np.log10(d)  # a memorizer that makes no error at all is drawn at the top
fig = plotting.new(plotting.WIDTH, 4.2)
axes = fig.subplots(1, 2, sharey=True)
for side, (ax, tables) in enumerate(zip(axes, (train_psnr, test_psnr), strict=True)):
    plotting.psnr_axes(ax, ("train images", "test images")[side])
    for rank, N in enumerate(Ns):  # the larger N, the larger its dots, and behind: equal curves are both seen
        plotting.banded(ax, input_db, tables[N], colours[N], f"N = {N:,}", markersize=3 + rank, zorder=3 - 0.1 * rank)
        ax.plot(input_db, np.minimum(memorizers[N][side], top), ".:", ms=3, color=colours[N], linewidth=1)
axes[0].plot(input_db, input_db + 10 * np.log10(d), label="projection on the one image", **plotting.OPTIMAL)
axes[1].plot(input_db, input_db, "-", color="0.85", label="no denoising", zorder=0)
axes[0].set_ylim(0, 1.05 * top)
for ax in axes:
    ax.plot([], [], ".:", color="0.4", label="optimum for the training set")
    ax.legend(fontsize=8)
run.save(fig, "fig01_memorization_transition")

# %% [markdown]
# Solid: networks, with 95 % bootstrap bands over images. Dotted: the empirical optimal denoiser of the same training
# set: the images of its set are its answers, so that it does badly on others. Dashed: the best that can be done for
# one image of unknown brightness, a projection on it, $\sigma^2$ of error in all.

# %% [markdown]
# ## Claims 1.1 and 1.2: train falls, test rises

# %%
for id, tables, paired in (("1.1", train_psnr, False), ("1.2", test_psnr, True)):
    by_image = [tables[N].mean(0) for N in Ns]
    step, error = stats.steps(by_image, paired)
    flagged = [f"{a} to {b}" for a, b, s, e in zip(Ns, Ns[1:], step, error, strict=False) if abs(s) < 2 * e]
    run.claim(id, N=Ns, psnr=[v.mean() for v in by_image], steps=step, standard_errors=error, within_2_errors=flagged)

# %% [markdown]
# ## Claims 1.3 and 1.4: one training image
#
# The optimum, a projection on the image, has an error of $\sigma^2$ on average over the noise. It is computed under the
# same noise as the network's, so that the chance of the draw cancels.

# %%
N_one, N_most = Ns[0], Ns[-1]
slope = stats.fit_slope(input_db, train_psnr[N_one], 8, 24)
below = (train_table(optimal.subspace(S1[:1]), 1) - train_psnr[N_one]).mean(1)
run.claim("1.3", slope=slope.slope, slope_error=slope.error, low_db=8, high_db=24, below_optimum_db=below)
spread = {N: np.ptp(test_psnr[N].mean(1)) for N in (N_one, N_most)}
run.claim("1.4", range_db=spread[N_one], range_db_largest_N=spread[N_most])

# %% [markdown]
# ## Claims 1.5 and 1.6: the transition, and its end

# %%
few, more = Ns[1], Ns[2]
gain = (test_psnr[more] - test_psnr[few]).mean(1)
smallest, largest = int(np.argmax(input_db)), int(np.argmin(input_db))
run.claim("1.5", N=[few, more], gain_db_smallest_sigma=gain[smallest], gain_db_largest_sigma=gain[largest])
gap = train_psnr[N_most].mean(1) - test_psnr[N_most].mean(1)
run.claim(
    "1.6", N=N_most, largest_gap_db=gap.max(), largest_difference_db=np.abs(gap).max(), input_db=input_db, gap_db=gap
)

# %% [markdown]
# ## Equation 5: the gap as a bound on the KL divergence
#
# The density that a denoiser implies is as far from the truth as its error is from the least error, over all noise:
#
# $$D_\mathrm{KL}(p \,\|\, p_\theta) \leq
# \int_0^\infty \left(\mathrm{MSE}(f_\theta, \sigma^2) - \mathrm{MSE}(f^\star, \sigma^2)\right) \sigma^{-3}\, d\sigma.
# \tag{5}$$
#
# The least error is unknown. The error on the training set stands in for it, so that the integral measures the
# generalization gap alone, and is no bound where both errors are far from the least; over the grid of $\sigma$, divided
# by $d$.

# %%
bound, spread = {}, {}
for N in Ns:
    test_mse, train_mse = 10 ** (-test_psnr[N] / 10), 10 ** (-train_psnr[N] / 10)
    bound[N] = stats.kl_integral(sigmas, test_mse.mean(1) - train_mse.mean(1))
    resampled = stats.resampled_means(test_mse, 200) - stats.resampled_means(train_mse, 200, seed=1)
    spread[N] = np.quantile([stats.kl_integral(sigmas, gap) for gap in resampled.T], [0.025, 0.975])
run.claim(
    "1.7", N=Ns, nats_per_dimension=list(bound.values()), interval=[spread[N] for N in Ns],
    smallest_sigma=min(sigmas), largest_sigma=max(sigmas),
)  # fmt: skip

# %%
fig = plotting.new(4.8, 3.2)
ax = fig.subplots()
ax.plot(Ns, list(bound.values()), "o-", color=plotting.COLOURS["network"])
ax.fill_between(Ns, *np.transpose([spread[N] for N in Ns]), color=plotting.COLOURS["network"], alpha=0.2, linewidth=0)
ax.set(xscale="log", xlabel="training images N", ylabel="gap (nats per pixel)", title="generalization gap, as in Eq. 5")
ax.set_yscale("log" if min(bound.values()) > 0 else "linear")
run.save(fig, "fig01b_generalization_gap")
run.finish()

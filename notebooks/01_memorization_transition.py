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
# A denoiser $f$ receives $y = x + z$ with $z \sim \mathcal{N}(0, \sigma^2 \mathrm{Id})$ and is trained to minimize
#
# $$\mathrm{MSE}(f, \sigma^2) = \mathbb{E}\left[\lVert x - f(y) \rVert^2\right] \tag{4}$$
#
# over a set of $N$ faces. With one face it can memorize it; with ten thousand it cannot. The paper trains one network
# for each $N$ and asks: how well does it denoise the images that it was trained on, and others?

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

from gahb import metrics, optimal, stats
from gahb.companion import notebook, plotting, scales

run = notebook.start(
    "01_memorization_transition",
    scale=scale, faces=faces, scenes=scenes, store=store, figures=figures, device=device, seed=seed,
)  # fmt: skip

# %% [markdown]
# ## Photographs and networks
#
# $S_1$ and $S_2$ are disjoint subsets of the faces, and the test images are in neither. The subsets are nested: the ten
# faces of $N = 10$ are among the hundred of $N = 100$. A network that is already in the store is not trained again.

# %%
photographs, Ns = run.faces(), run.scale.face_N
networks = {
    N: run.network(scales.photograph_recipe(run.scale, photographs, "S1", N, run.seed), photographs) for N in Ns
}
S1, test = run.to(photographs.S1), run.to(photographs.test)
sigmas, input_db, d = run.scale.sigmas, np.array(run.scale.input_db), photographs.test[0].numel()

# %% [markdown]
# ## Denoising performance
#
# PSNR is $-10 \log_{10}$ of the squared error averaged over images and noise, as everywhere in this companion. (The
# authors average the PSNR of each image, which is infinite where one error is zero.) All denoisers see the same noise.
# A small training set is repeated, under new noise, until it has as many noisy images as the test set.
#
# **The null model.** Much of what follows would also hold for a *linear* denoiser: the Wiener filter, which knows only
# the mean and the covariance of the same $N$ faces. It is measured by the same code.


# %%
def errors_of(denoiser_at, images):
    """Squared errors (sigma, image) of a denoiser that may depend on sigma."""
    return np.concatenate([metrics.squared_errors(denoiser_at(s), images, s, run.seed).numpy() for s in sigmas])


def repeated(N):
    return S1[torch.arange(len(test)) % N]


def by_image(errors, N):
    """Mean over the noise of each of N training images."""
    return np.stack([errors[:, i::N].mean(1) for i in range(min(N, errors.shape[1]))], axis=1)


wiener = {N: optimal.wiener(S1[:N]) for N in Ns}
nets_at = {N: (lambda sigma, network=networks[N]: network) for N in Ns}
on_test = {N: errors_of(nets_at[N], test) for N in Ns}
on_train = {N: errors_of(nets_at[N], repeated(N)) for N in Ns}
wiener_on_test = {N: errors_of(wiener[N], test) for N in Ns}
wiener_on_train = {N: errors_of(wiener[N], repeated(N)) for N in Ns}

# %% [markdown]
# The perfect memorizer is known in closed form too. With the training set as the prior, the optimal denoiser is the
# posterior mean $\sum_i w_i x_i$ with $w_i \propto \exp(-\lVert y - x_i \rVert^2 / 2\sigma^2)$. Its curves are thin.

# %%
some = test[:100]
memorizer = {N: (lambda sigma, N=N: optimal.empirical(S1[:N], sigma)) for N in Ns}
memorizer_on_train = {N: errors_of(memorizer[N], repeated(N)[: len(some)]) for N in Ns}
memorizer_on_test = {N: errors_of(memorizer[N], some) for N in Ns}

# %% [markdown]
# ## Figure 1

# %%
N_one, N_most, colours = Ns[0], Ns[-1], plotting.ladder(Ns)
line = input_db + 10 * np.log10(d)  # projection on the one image: an error of sigma^2 in all
fig = plotting.new(plotting.WIDTH, 4.4)
axes = fig.subplots(1, 2, sharey=True)
for ax, title, tables, memorizers in (
    (axes[0], "train images", on_train, memorizer_on_train), (axes[1], "test images", on_test, memorizer_on_test)
):  # fmt: skip
    for rank, N in enumerate(Ns):  # the larger N, the larger its dots, behind: equal curves both stay visible
        ax.plot(input_db, stats.psnr(memorizers[N]), "-", color=colours[N], linewidth=0.6, alpha=0.7)
        plotting.banded(
            ax, input_db, tables[N], colours[N], f"N = {N:,}", markersize=3 + 1.2 * rank, zorder=3 - 0.1 * rank
        )
    ax.set(xlabel=plotting.INPUT_PSNR, ylabel="output PSNR (dB)", title=title)
axes[0].plot(input_db, line, ":", color=colours[N_one], linewidth=2, label="optimum for N = 1")
axes[0].plot([], [], "-", color="0.4", linewidth=0.6, label="optimum for its training set")
axes[0].set_ylim(0, 1.12 * line.max())
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=7, fontsize=8)
run.save(
    fig, "fig01_memorization_transition", "Figure 1",
    "Output against input PSNR of networks trained on N faces, on images that they saw (left) and on others "
    "(right), with 95 % bootstrap bands over images. Thin lines: the optimal denoiser of each training set, a "
    "mixture of its images. Dotted: the optimum for N = 1, a projection on the image.",
    claims=("1.1", "1.2", "1.3", "1.4", "1.5", "1.6"),
)  # fmt: skip

# %% [markdown]
# Lines with dots: networks, with 95 % bootstrap bands over images. Thin lines: the optimal denoiser of each training
# set, whose answers are mixtures of its images, so that it fails on others.
#
# ## More than a linear denoiser?
#
# The gain over the Wiener filter of the same training set, on test images.

# %%
gains = {N: stats.psnr_gain(on_test[N], wiener_on_test[N]) for N in Ns}
fig = plotting.new(plotting.WIDTH, 3.4)
left, right = fig.subplots(1, 2)
for N in Ns:
    gain, interval = gains[N]
    plotting.with_interval(left, input_db, gain, interval, colours[N], f"N = {N:,}")
    gap, interval = stats.psnr_gain(on_train[N], on_test[N], paired=False)
    plotting.with_interval(right, input_db, gap, interval, colours[N])
for ax, title in ((left, "network minus Wiener filter, test images"), (right, "network, train minus test images")):
    ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    ax.set(xlabel=plotting.INPUT_PSNR, ylabel="difference of PSNR (dB)", title=title)
right.set_yscale("symlog", linthresh=1)
fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=7, fontsize=8)
run.save(
    fig, "fig01c_gain", "Figure 1, differences",
    "Left: PSNR of each network minus that of the Wiener filter of the same training set, on test images. "
    "Right: PSNR of each network on its training images minus that on test images.",
    claims=("1.8", "1.6"),
)  # fmt: skip
at_largest, interval = gains[N_most]
run.claim(
    "1.8", sigma=sigmas, gain_db=at_largest, interval=interval.T, N=N_most,
    null={"name": "Wiener filter", "psnr": stats.psnr(wiener_on_test[N_most])},
)  # fmt: skip

# %% [markdown]
# ## Claims 1.1 and 1.2: train falls, test rises

# %%
for id, tables, null, paired in (
    ("1.1", on_train, wiener_on_train, False), ("1.2", on_test, wiener_on_test, True)
):  # fmt: skip
    images = {N: tables[N] if paired else by_image(tables[N], N) for N in Ns}
    step, error = stats.steps([stats.psnr_contributions(images[N]).mean(0) for N in Ns], paired)
    flagged = [f"{a} to {b}" for a, b, s, e in zip(Ns, Ns[1:], step, error, strict=False) if abs(s) < 2 * e]
    run.claim(
        id, N=Ns, psnr=[stats.psnr(tables[N]).mean() for N in Ns], steps=step, standard_errors=error,
        within_2_errors=flagged, null={"name": "Wiener filter", "psnr": [stats.psnr(null[N]).mean() for N in Ns]},
    )  # fmt: skip

# %% [markdown]
# ## Claims 1.3 and 1.4: one training image
#
# The optimum for one image of any brightness is a projection on it, whose error is $\sigma^2$ in all: the dotted line.
# The distance of the network from it is measured under the same noise, so that the chance of the draw cancels.

# %%
low, high = 8, 24
slope = stats.fit_slope(input_db, on_train[N_one], low, high)
projection = errors_of(lambda sigma: optimal.subspace(S1[:1]), repeated(N_one))
below = stats.psnr(projection) - stats.psnr(on_train[N_one])
middle = (input_db >= low) & (input_db <= high)
contributions = stats.psnr_contributions(projection) - stats.psnr_contributions(on_train[N_one])
run.claim(
    "1.3", slope=slope.slope, slope_error=slope.error, low_db=low, high_db=high, below_optimum_db=below,
    interval=stats.confidence_interval(contributions[middle].mean(0)),
    null={"name": "projection on the image", "slope": 1.0, "below_optimum_db": 0.0},
    chosen_after="sigma_max of 1.5: trained up to 1 alone, the network beat the optimum at 0 and 2 dB; the optimum "
    "under the network's noise: beside the line, 500 draws have an error of 0.3 dB (laptop)",
)  # fmt: skip
curves = {N: stats.psnr(on_test[N]) for N in Ns}
run.claim(
    "1.4", sigma=sigmas, range_db=np.ptp(curves[N_one]), worse_db=curves[N_most] - curves[N_one],
    null={"name": f"network of N = {N_most:,}", "range_db": np.ptp(curves[N_most])},
)  # fmt: skip

# %% [markdown]
# ## Claims 1.5 and 1.6: the transition, and its end

# %%
few, more = Ns[1], Ns[2]
smallest, largest = int(np.argmax(input_db)), int(np.argmin(input_db))
gain, null = curves[more] - curves[few], stats.psnr(wiener_on_test[more]) - stats.psnr(wiener_on_test[few])
run.claim(
    "1.5", N=[few, more], gain_db_smallest_sigma=gain[smallest], gain_db_largest_sigma=gain[largest],
    null={"name": "Wiener filter", "gain_db_smallest_sigma": null[smallest], "gain_db_largest_sigma": null[largest]},
)  # fmt: skip
gap = stats.psnr(on_train[N_most]) - curves[N_most]
wiener_gap = stats.psnr(wiener_on_train[N_most]) - stats.psnr(wiener_on_test[N_most])
run.claim(
    "1.6", N=N_most, largest_difference_db=np.abs(gap).max(), gap_db=gap, input_db=input_db,
    null={"name": "Wiener filter", "largest_difference_db": np.abs(wiener_gap).max()},
)  # fmt: skip

# %% [markdown]
# ## Equation 5: the gap as a bound on the KL divergence
#
# The density that a denoiser implies is as far from the truth as its error is from the least error, over all noise:
#
# $$D_\mathrm{KL}(p \,\|\, p_\theta) \leq
# \int_0^\infty \left(\mathrm{MSE}(f_\theta, \sigma^2) - \mathrm{MSE}(f^\star, \sigma^2)\right) \sigma^{-3}\, d\sigma.
# \tag{5}$$
#
# The least error is unknown. The error on the training set takes its place, so that the integral, over the measured
# range of $\sigma$ and divided by $d$, measures the generalization gap alone. It is no bound where both errors are far
# from the least.


# %%
def gap_integral(test_errors, train_errors):
    """The integral, and its 95 % bootstrap interval over images."""
    resampled = stats.resampled_means(test_errors, 400) - stats.resampled_means(train_errors, 400, seed=1)
    spread = [stats.kl_integral(sigmas, gap) for gap in resampled.T]
    return stats.kl_integral(sigmas, test_errors.mean(1) - train_errors.mean(1)), np.quantile(spread, [0.025, 0.975])


bound = {N: gap_integral(on_test[N], on_train[N]) for N in Ns}
linear = {N: gap_integral(wiener_on_test[N], wiener_on_train[N]) for N in Ns}
run.claim(
    "1.7", N=Ns, nats_per_dimension=[bound[N][0] for N in Ns], interval=[bound[N][1] for N in Ns],
    smallest_sigma=min(sigmas), largest_sigma=max(sigmas),
    null={"name": "Wiener filter", "nats_per_dimension": [linear[N][0] for N in Ns]},
)  # fmt: skip

# %%
fig = plotting.new(5.4, 3.4)
ax = fig.subplots()
for integrals, colour, label in ((bound, "network", "networks"), (linear, "rival", "Wiener filters")):
    middle = np.array([integrals[N][0] for N in Ns])
    ends = np.transpose([integrals[N][1] for N in Ns])
    ax.errorbar(Ns, middle, np.abs(ends - middle), fmt="o-", ms=4, color=plotting.COLOURS[colour], label=label)
ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
ax.set(xscale="log", xlabel="training images N", ylabel="gap (nats per pixel)", title="generalization gap, Eq. 5")
ax.set_yscale("symlog", linthresh=0.1)
ax.set_ylim(bottom=-0.2)
ax.legend(fontsize=8)
run.save(
    fig, "fig01b_generalization_gap", "Equation 5",
    "Test error minus train error, times sigma^-3, integrated over the measured noise levels, for networks "
    "and for Wiener filters of the same training sets. The train error takes the place of the least error, "
    "which is unknown; an error that both share is not seen.",
    claims=("1.7",),
)  # fmt: skip

# %% [markdown]
# ## Beyond the paper: how much of a network is locality?
#
# The Wiener filter and the optimum for the training set are two denoisers in closed form. A third sees only a patch of
# $y$ around each pixel, and is the best of that kind: the posterior mean of the pixel, given its patch, over the same
# patch of the $N$ faces (the local score machine of Kamb & Ganguli, 2024). For each $N$ and $\sigma$ the side of its
# patch is the one with the least error on faces of $S_2$; the network is not asked.
#
# How much of what the network removes, $f(y) - y$, does a denoiser $g$ not explain?
#
# $$1 - R^2 = \frac{\mathbb{E}\left[\lVert f(y) - g(y) \rVert^2\right]}
# {\mathbb{E}\left[\lVert f(y) - y \rVert^2\right]}$$
#
# At large $\sigma$ it is small for every $g$, as nearly all that is removed is noise. Hence the dashes, $g(y) = x$:
# a denoiser below it is nearer to the network than the clean image is.

# %%
sides, noise_levels = (1, 3, 5, 7, 9, 13), [sigmas[i] for i in np.linspace(0, len(sigmas) - 1, 6).round().astype(int)]
level_db, few_faces, other_faces = -20 * np.log10(noise_levels), test[:50], run.to(photographs.S2[:20])


def best_side(N, sigma):
    """Side of the patch with which the local machine of N faces has the least error on faces of S2."""

    def error(side):
        return metrics.squared_errors(optimal.local(S1[:N], sigma, side), other_faces, sigma, run.seed).mean()

    return min(sides, key=error)


def distances(N, denoiser_at):
    """Squared distances (sigma, image) between a denoiser and the network of N faces."""
    pairs = [(denoiser_at(s), s) for s in noise_levels]
    return np.concatenate([metrics.squared_differences(networks[N], g, few_faces, s, run.seed) for g, s in pairs])


best = {N: {s: best_side(N, s) for s in noise_levels} for N in Ns}

# %%
to_rivals = {
    N: {
        "Wiener filter": distances(N, wiener[N]),
        "optimum for its training set": distances(N, memorizer[N]),
        "local machine": distances(N, lambda s, N=N: optimal.local(S1[:N], s, best[N][s])),
        "clean image": metrics.squared_errors(networks[N], few_faces, noise_levels, run.seed).numpy(),
    }
    for N in Ns
}
removed = {N: distances(N, lambda s: lambda y: y) for N in Ns}
for N in Ns:
    R2 = {name: 1 - table.mean(1) / removed[N].mean(1) for name, table in to_rivals[N].items()}
    print(f"N = {N:,}, input PSNR {level_db.round()} dB; sides of the patch {list(best[N].values())}")
    print("\n".join(f"  R^2, {name}: {values.round(3)}" for name, values in R2.items()))

# %%
styles = {
    "Wiener filter": {"color": plotting.COLOURS["rival"]},
    "optimum for its training set": {"color": "0.4", "linewidth": 0.6, "marker": "none"},
    "local machine": {"color": plotting.COLOURS["local"]},
    "clean image": plotting.OPTIMAL | {"marker": "none"},
}
fig = plotting.new(plotting.WIDTH, 3.2)
axes = fig.subplots(1, len(Ns), sharey=True)
for ax, N in zip(axes, Ns, strict=True):
    for name, table in to_rivals[N].items():
        left_over, band = table.mean(1) / removed[N].mean(1), stats.ratio_interval(table, removed[N])
        plotting.with_interval(ax, level_db, left_over, band, label=name, **styles[name])
        if name == "local machine":
            for x, y, side in zip(level_db, left_over, best[N].values(), strict=True):
                ax.annotate(str(side), (x, y), (0, -10), textcoords="offset points", fontsize=6, ha="center")
    ax.set(yscale="log", xlabel="input PSNR (dB)", title=f"N = {N:,}")
axes[0].margins(y=0.12)
axes[0].set_ylabel(r"not explained, $1 - R^2$")
plotting.legend_below(fig, axes[0])

# %%
run.save(
    fig, "fig01d_locality", "Beyond the paper: locality",
    "Part of f(y) - y of the network of N faces, on test images, that another denoiser does not explain, with 95 % "
    "bootstrap bands: the Wiener filter, the optimal denoiser and the local score machine of the same faces. The last "
    "sees only a patch around each pixel; the numbers are its sides, of 1, 3, 5, 7, 9 and 13 the one with the least "
    "error on faces of S2. Dashed: the clean image in place of a denoiser; below it, a denoiser is nearer to the "
    "network than the truth is. For N = 1 the three coincide: each returns the one face. No claim is judged by it.",
    networks=networks.values(),
)  # fmt: skip

# %%
run.finish()

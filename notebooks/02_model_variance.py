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
# # 2. Two networks, one function
#
# *Section 2.2, Figures 2, 7, 8 and 9, Algorithm 1.*
#
# If a network has learned the density of faces rather than its training set, then a second network, trained on other
# faces, has learned the same. The paper trains networks on disjoint subsets $S_1$ and $S_2$, starts the deterministic
# reverse diffusion of both from the same noise, and compares the samples. Here the functions themselves are compared
# too, and all of it beside a *linear* denoiser: two Gaussian models, which know only the mean and the covariance of
# $S_1$ and of $S_2$, also agree.

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
from gahb import assess, metrics, optimal, stats
from gahb.companion import notebook, plotting, scales

run = notebook.start(
    "02_model_variance",
    scale=scale, faces=faces, scenes=scenes, store=store, figures=figures, device=device, seed=seed,
)  # fmt: skip

# %% [markdown]
# ## Networks
#
# The networks of $S_1$ and $S_2$ share a seed: initial weights, and the order and the noise of the images. One more
# network of $S_2$ is trained from another seed.

# %%
photographs, Ns = run.faces(), run.scale.face_N
N_most = Ns[-1]
train = {"S1": run.to(photographs.S1), "S2": run.to(photographs.S2)}
networks = {
    (part, N): run.network(scales.photograph_recipe(run.scale, photographs, part, N, run.seed), photographs)
    for part in ("S1", "S2")
    for N in Ns
}
other_seed = run.network(scales.other_seed_recipe(run.scale, photographs, run.seed), photographs)

# %% [markdown]
# ## One function?
#
# The model variance: how much the two networks differ on the same noisy test images, relative to the error,
#
# $$\mathbb{E} \lVert f_{S_1}(y) - f_{S_2}(y) \rVert^2 \,/\, \mathbb{E} \lVert x - f_{S_1}(y) \rVert^2.$$

# %%
test, sigmas = run.to(photographs.test), run.scale.sigmas
input_db = np.array(run.scale.input_db)
wiener = {(part, N): optimal.wiener(train[part][:N]) for part in ("S1", "S2") for N in Ns}


def variance_ratio(at, other_at):
    """Mean squared difference of two denoisers over the error of the first, for each sigma."""
    pairs = [(at(s), other_at(s), s) for s in sigmas]
    difference = [metrics.squared_differences(f, g, test, s, run.seed).mean() for f, g, s in pairs]
    error = [metrics.squared_errors(f, test, s, run.seed).mean() for f, _, s in pairs]
    return np.array(difference) / np.array(error)


def always(network):
    return lambda sigma: network


ratio = {N: variance_ratio(always(networks["S1", N]), always(networks["S2", N])) for N in Ns}
ratio_other_seed = variance_ratio(always(networks["S1", N_most]), always(other_seed))
ratio_linear = {N: variance_ratio(wiener["S1", N], wiener["S2", N]) for N in Ns}
run.claim(
    "2.7", N=Ns, sigma=sigmas, ratio=[ratio[N] for N in Ns], ratio_other_seed=ratio_other_seed,
    null={"name": "Wiener filters of S1 and S2", "ratio": [ratio_linear[N] for N in Ns]},
)  # fmt: skip

# %% [markdown]
# ## Algorithm 1
#
# The residual of a denoiser is proportional to the score, $f(y) - y = \sigma^2 \nabla \log p_\sigma(y)$ (Eq. 3). So
# a sample is drawn by small steps along it,
#
# $$x_t = x_{t-1} + h \left(f(x_{t-1}) - x_{t-1}\right),$$
#
# until the residual is below $\sigma_\infty$ per pixel. Once the noise is drawn, nothing is random. What is compared
# below are the denoised ends $f(x_T)$, from which the remaining noise is removed.


# %%
def draw(network, noise):
    """Samples, and their denoised ends."""
    samples = gahb.sample(network, noise, run.scale.step_size, run.scale.sigma_end)
    return samples, metrics.denoised(network, samples.images)


noise = run.scale.sigma_0 * run.to(gahb.gaussian_noise(run.scale.samples, test.shape[1:], run.seed))
samples = {key: draw(network, noise) for key, network in networks.items()}
ends = {key: end for key, (_, end) in samples.items()}
print("median number of steps:", {N: int(samples["S1", N][0].steps.median()) for N in Ns})

# %% [markdown]
# The network is blind: nobody tells it the noise level, and the algorithm reads it off the residual. Does that work?
# (Kadkhodaie et al., 2026, arXiv 2602.09639, prove that it does for images of low intrinsic dimension.)

# %%
true = np.geomspace(0.01, 1, 13)
inferred = np.array([metrics.inferred_sigmas(networks["S1", N_most], test[:64], s, run.seed)[0].numpy() for s in true])
fig = plotting.new(plotting.WIDTH, 3.2)
left, right = fig.subplots(1, 2)
left.plot(samples["S1", N_most][0].sigmas[:, :8].cpu(), color=plotting.COLOURS["network"], linewidth=0.8)
left.set(yscale="log", xlabel="step of Algorithm 1", ylabel=r"inferred noise level $\sigma_t$", title="eight samples")
plotting.with_interval(
    right, true, inferred.mean(1), np.quantile(inferred, [0.025, 0.975], axis=1),
    plotting.COLOURS["network"], "inferred, 95 % of the images",
)  # fmt: skip
right.plot(true, true, label="true", **plotting.OPTIMAL)
right.set(xscale="log", yscale="log", xlabel=r"true $\sigma$", title="noised test images")
right.legend(fontsize=8)
run.save(
    fig, "fig02c_noise_level", "Algorithm 1",
    "The noise level that the blind network infers, norm(f(y) - y) / sqrt(d): along eight samples, and on "
    "test images with noise of known level.",
)  # fmt: skip

# %% [markdown]
# ## How similar are the samples?
#
# Cosine similarity is the paper's measure. Where the mean brightness dominates it says little, so that everything is
# also measured with the mean of each image removed; a claim must hold for both. Three nulls:
#
# - the same network started from *another noise image*;
# - the nearest of as many *unseen* faces ($S_2$ for the network of $S_1$): the *excess* is what the similarity to the
#   nearest training image has beyond it;
# - samples of the two *Gaussian models* from one noise image.


# %%
gaussian = {key: optimal.gaussian_samples(train[key[0]][: key[1]], noise) for key in networks}
sets = {N: (train["S1"][:N], train["S2"][:N]) for N in Ns}  # seen and unseen by the networks of S1
similarity = {N: assess.similarities(ends["S1", N], *sets[N], ends["S2", N]) for N in Ns}
linear = {N: assess.similarities(gaussian["S1", N], *sets[N], gaussian["S2", N]) for N in Ns}
medians = {N: {key: float(np.median(values)) for key, values in similarity[N].items()} for N in Ns}
linear_medians = {N: {key: float(np.median(values)) for key, values in linear[N].items()} for N in Ns}
SUFFIXES = ("", "_centered")

# %% [markdown]
# ## Figure 2
#
# A bias-free network has no scale of its own, and samples from noise of mean 0 are dark. Cosine similarity does not
# count the scale, and each image is stretched to all grays.

# %%
rows = ("closest in S1", "sample, S1", "sample, S2", "closest in S2")
lowest = min(similarity[N][key].min() for N in Ns for key in ("pair", "nearest"))


def draw_column(column, N):
    """Two samples of each network, the closest training images, and the similarities."""
    top, bottom = column.subfigures(2, 1, height_ratios=[3, 1])
    axes = top.subplots(4, 2)
    for i in range(2):
        a, b = ends["S1", N][i], ends["S2", N][i]
        near = [train[part][gahb.nearest(x[None], train[part][:N]).index[0]] for part, x in (("S1", a), ("S2", b))]
        for ax, image in zip(axes[:, i], (near[0], a, b, near[1]), strict=True):
            plotting.show_image(ax, image.cpu(), **plotting.same_gray(image.cpu()))
    if Ns[0] == N:
        for ax, title in zip(axes[:, 0], rows, strict=True):
            ax.set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8)
    top.suptitle(f"N = {N:,}", fontsize=10)
    groups = {key: similarity[N][key] for key in ("pair", "nearest")}
    plotting.histograms(bottom.subplots(), groups, bins=np.linspace(lowest, 1, 31), xlabel="cosine")


# %%
fig = plotting.new(plotting.WIDTH, 5.4)
columns = fig.subfigures(1, len(Ns), width_ratios=[1.35] + [1] * (len(Ns) - 1))
for column, N in zip(columns, Ns, strict=True):
    draw_column(column, N)
fig.legend(
    *plotting.keys(pair="samples of S1 and S2", nearest="sample and training set"), loc="outside lower center", ncols=2
)
run.save(
    fig, "fig02_model_variance", "Figure 2",
    "Samples of two networks trained on disjoint sets S1 and S2, from the same noise, with the most similar "
    "training image above and below; each image is stretched to all grays. Bottom: similarity of the pairs "
    "(blue) and of a sample of the network of S1 to S1 (orange), with medians.",
    claims=("2.1", "2.2", "2.3"),
)  # fmt: skip

# %% [markdown]
# Blue: pairs of samples from one noise image. Orange: a sample of the network of $S_1$ and the most similar image of
# $S_1$. Lines mark the medians.

# %%
colours = plotting.ladder(Ns)
excess = {key: [assess.excess(similarity[N], key) for N in Ns] for key in SUFFIXES}


def draw_variance(left):
    for N in Ns:
        left.plot(sigmas, ratio[N], "o-", ms=3, color=colours[N], label=f"N = {N:,}")
    left.plot(sigmas, ratio_other_seed, "x", ms=5, color=colours[N_most], label="S2, other seed")
    left.plot(sigmas, ratio_linear[N_most], ":", color=plotting.COLOURS["rival"], label=f"Wiener, N = {N_most:,}")
    left.set(xscale="log", yscale="log", ylim=(1e-5, 3), xlabel=r"$\sigma$", title="model variance / error")
    left.invert_xaxis()


def draw_similarity(middle):
    for key, label in (("pair", "S1 and S2"), ("nearest", "training set"), ("unseen", "unseen faces")):
        ends_of = np.array([stats.confidence_interval(similarity[N][key + "_centered"], np.median) for N in Ns])
        values = np.array([medians[N][key + "_centered"] for N in Ns])
        plotting.error_bars(middle, Ns, values, ends_of.T, plotting.COLOURS[key], label)
    pairs = [linear_medians[N]["pair_centered"] for N in Ns]
    middle.plot(Ns, pairs, ":", color=plotting.COLOURS["rival"], label="Gaussian pairs")
    middle.set(xscale="log", xlabel="training images N", title="median similarity, centered")


# %%
def draw_excess(right):
    for key, label, mark in (("", "plain", "o-"), ("_centered", "centered", "s--")):
        ends_of = np.array([stats.confidence_interval(values, np.median) for values in excess[key]])
        values = np.array([np.median(values) for values in excess[key]])
        plotting.error_bars(right, Ns, values, ends_of.T, plotting.COLOURS["nearest"], label, mark)
    right.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    right.set(xscale="log", xlabel="training images N", title="training set minus unseen")


fig = plotting.new(plotting.WIDTH, 3.6)
left, middle, right = fig.subplots(1, 3)
draw_variance(left)
draw_similarity(middle)
draw_excess(right)
for ax in (left, middle, right):
    ax.legend(fontsize=7)
run.save(
    fig, "fig02b_similarity", "Figure 2, summary",
    "Left: the difference of the two networks on noisy test images, relative to their error. Middle: median "
    "similarities, means removed, with 95 % bootstrap intervals; dotted: pairs of samples of two Gaussian "
    "models. Right: the similarity to the nearest training image minus that to the nearest of as many unseen "
    "images.",
    claims=("2.4", "2.7"),
)  # fmt: skip

# %% [markdown]
# ## Claims 2.1 to 2.4
#
# A sample counts as memorized if its nearest training image is less than a third as far away as the second nearest, all
# images compared at equal brightness and contrast. `gahb assess` asks the same of any model's samples.

# %%
few, more = Ns[1], Ns[2]


def pick(N, name):
    return {f"nearest_N{name}{suffix}": medians[N]["nearest" + suffix] for suffix in SUFFIXES}


def nearest_to(images, N):
    return {
        suffix: float(gahb.nearest(images, train["S1"][:N], bool(suffix)).similarity.median()) for suffix in SUFFIXES
    }


general = {N: nearest_to(ends["S1", N_most], N) for N in (Ns[0], few)}
run.claim(
    "2.1", N=[Ns[0], few], **pick(Ns[0], 1), **pick(few, 10),
    null={"name": f"samples of N = {N_most:,}"}
    | {f"nearest_N{name}{suffix}": general[N][suffix] for name, N in ((1, Ns[0]), (10, few)) for suffix in SUFFIXES},
    chosen_after="sigma_end of 0.002: at 0.01 the samples kept noise beside their contrast (laptop)",
)  # fmt: skip


# %%
def memorized(part):
    found = gahb.nearest(ends["S1", more], train[part][:more], centered=True)
    return assess.memorized(found).cpu().numpy().astype(float)


copies, chance = memorized("S1"), memorized("S2")
run.claim(
    "2.2", N=[few, more], **pick(few, 10), **pick(more, 100), memorized_fraction=copies.mean(),
    interval=stats.confidence_interval(copies),
    null={"name": "unseen faces", "memorized_fraction": chance.mean()},
)  # fmt: skip


# %%
def null_of_pairs(table):
    percentile = {f"pair_95{suffix}": np.quantile(table["other_noise" + suffix], 0.95) for suffix in SUFFIXES}
    return {"name": "one network, two noise images"} | percentile


run.claim("2.3", N=N_most, **medians[N_most], null=null_of_pairs(similarity[N_most]))
run.claim(
    "2.4", N=Ns, **{key + s: [medians[N][key + s] for N in Ns] for key in ("pair", "nearest") for s in SUFFIXES},
    **{f"excess{s}": [np.median(values) for values in excess[s]] for s in SUFFIXES},
    null={"name": "unseen faces"} | {f"nearest{s}": [medians[N]["unseen" + s] for N in Ns] for s in SUFFIXES},
)  # fmt: skip

# %% [markdown]
# ## A density of faces, or a Gaussian?
#
# Two Gaussian models agree as well. What a Gaussian model cannot have is heavy tails: images are contrast-normalized
# and projected on principal components of the training set, each component standardized, and their excess kurtosis
# (0 for a Gaussian of fixed contrast, nearly) is compared. As many images of each kind are taken.

# %%
count = min(run.scale.samples, len(test))
kinds = {"test": test[:count], "network": ends["S1", N_most][:count], "rival": gaussian["S1", N_most][:count]}
kurtosis = {
    key: metrics.component_kurtosis(images, train["S1"], 20, 300).cpu().numpy() for key, images in kinds.items()
}
means = {key: values.mean() for key, values in kurtosis.items()}
run.claim(
    "2.8", N=N_most, kurtosis_samples=means["network"], kurtosis_test=means["test"], images=count,
    interval=stats.confidence_interval(kurtosis["network"].mean(1)),
    null={"name": "samples of the Gaussian model", "kurtosis": means["rival"]},
)  # fmt: skip

# %%
fig = plotting.new(5.4, 3.2)
ax = fig.subplots()
k = np.arange(20, 20 + kurtosis["test"].shape[1])
blocks = np.array_split(np.arange(len(k)), min(8, len(k)))
for key, label in (("test", "test faces"), ("network", "samples of the network"), ("rival", "Gaussian samples")):
    by_image = np.stack([kurtosis[key][:, block].mean(1) for block in blocks])
    middle = np.array([k[block].mean() for block in blocks])
    interval = stats.confidence_interval(by_image)
    plotting.with_interval(ax, middle, by_image.mean(1), interval, plotting.COLOURS[key], label)
ax.set(xlabel="principal component", ylabel="excess kurtosis", title="faces or a Gaussian?")
ax.legend(fontsize=8)
run.save(
    fig, "fig02d_kurtosis", "Section 2.2, beyond second moments",
    "Excess kurtosis of the principal components of contrast-normalized images: test faces, samples of the "
    "network, samples of the Gaussian model of its training set. Bands: 95 %, by bootstrap over images.",
    claims=("2.8",),
)  # fmt: skip

# %% [markdown]
# ## Figure 7: how similar are the training sets themselves?
#
# For each image of $S_1$, the most similar one of $S_2$.

# %%
closest = {s: gahb.nearest(train["S1"], train["S2"], bool(s)).similarity.cpu().numpy() for s in SUFFIXES}
fig = plotting.new(plotting.WIDTH, 2.8)
for ax, suffix, title in zip(fig.subplots(1, 2), SUFFIXES, ("plain", "centered"), strict=True):
    groups = {"closest": closest[suffix], "pair": similarity[N_most]["pair" + suffix]}
    low = min(np.quantile(values, 0.005) for values in groups.values())
    plotting.histograms(ax, groups, bins=np.linspace(low, 1, 31))
    ax.set_title(title)
fig.legend(
    *plotting.keys(closest="closest images of S1 and S2", pair=f"pairs of samples, N = {N_most:,}"),
    loc="outside lower center",
    ncols=2,
)
run.save(
    fig, "fig07_closest_pairs", "Figure 7",
    "Similarity of the closest pairs of images across S1 and S2, and of pairs of samples.",
    claims=("2.5",),
)  # fmt: skip
run.claim(
    "2.5", N=N_most, **{f"pair{s}": medians[N_most][f"pair{s}"] for s in SUFFIXES},
    **{f"closest{s}": np.median(closest[s]) for s in SUFFIXES},
    null={"name": "Gaussian models of S1 and S2"} | {f"pair{s}": linear_medians[N_most][f"pair{s}"] for s in SUFFIXES},
)  # fmt: skip

# %% [markdown]
# ## Figures 8 and 9: scenes
#
# The paper repeats this for bedrooms, with 20,000 photographs per network.

# %%
scene_photographs, N = run.scenes(), run.scale.scene_N
scene_train = {"S1": run.to(scene_photographs.S1), "S2": run.to(scene_photographs.S2)}
scene_noise = run.scale.sigma_0 * run.to(
    gahb.gaussian_noise(run.scale.samples, scene_train["S1"].shape[1:], run.seed + 1)
)
scene_networks = {
    part: run.network(scales.photograph_recipe(run.scale, scene_photographs, part, seed=run.seed), scene_photographs)
    for part in ("S1", "S2")
}
scene_ends = {part: draw(network, scene_noise)[1] for part, network in scene_networks.items()}
scene_similarity = assess.similarities(scene_ends["S1"], scene_train["S1"], scene_train["S2"], scene_ends["S2"])

# %%
count = min(8, run.scale.samples)
fig = plotting.new(plotting.WIDTH, 2.7)
for row, part in zip(fig.subfigures(2, 1), ("S1", "S2"), strict=True):
    axes = row.subplots(1, count)
    for ax, image in zip(axes, scene_ends[part], strict=False):
        plotting.show_image(ax, image.cpu(), **plotting.same_gray(image.cpu()))
    axes[0].set_ylabel(part, rotation=0, ha="right", va="center")
fig.suptitle(f"scenes: samples of networks trained on S1 and S2, N = {N:,}")
run.save(
    fig, "fig08_scenes", "Figure 8",
    "Scenes: samples of two networks trained on disjoint sets, from the same noise; each image is stretched "
    "to all grays.",
    claims=("2.6",),
)  # fmt: skip

# %%
fig = plotting.new(plotting.WIDTH, 2.8)
for ax, suffix, title in zip(fig.subplots(1, 2), SUFFIXES, ("plain", "centered"), strict=True):
    groups = {key: scene_similarity[key + suffix] for key in ("pair", "nearest")}
    low = min(np.quantile(values, 0.02) for values in groups.values())
    plotting.histograms(ax, groups, bins=np.linspace(low, 1, 31))
    ax.set_title(f"scenes, N = {N:,}, {title}")
fig.legend(
    *plotting.keys(pair="samples of S1 and S2", nearest="sample and training set"), loc="outside lower center", ncols=2
)
run.save(
    fig, "fig09_scenes_similarity", "Figure 9",
    "Scenes: similarity of the pairs of samples (blue) and of a sample to its training set (orange), with "
    "medians.",
    claims=("2.6",),
)  # fmt: skip
run.claim(
    "2.6", N=N, **{key: float(np.median(values)) for key, values in scene_similarity.items()},
    null=null_of_pairs(scene_similarity),
)  # fmt: skip
run.finish()

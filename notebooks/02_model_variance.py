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
# faces, has learned the same. The paper trains denoisers on disjoint subsets $S_1$ and $S_2$, starts the deterministic
# reverse diffusion of both from the same noise, and compares what comes out.

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
from gahb import stats
from gahb.companion import notebook, plotting, scales

run = notebook.start(
    "02_model_variance",
    scale=scale, faces=faces, scenes=scenes, store=store, figures=figures, device=device, seed=seed,
)  # fmt: skip

# %%
photographs = run.faces()
Ns = run.scale.face_N
train = {"S1": run.to(photographs.S1), "S2": run.to(photographs.S2)}
denoisers = {
    (part, N): run.network(scales.photograph_recipe(run.scale, photographs, part, N, run.seed), photographs)
    for part in ("S1", "S2")
    for N in Ns
}

# %% [markdown]
# ## Algorithm 1
#
# The residual of a denoiser is proportional to the score, $f(y) - y = \sigma^2 \nabla \log p_\sigma(y)$ (Eq. 3). So
# a sample is drawn by small steps along it,
#
# $$x_t = x_{t-1} + h \left(f(x_{t-1}) - x_{t-1}\right),$$
#
# until the residual is below $\sigma_\infty$ per pixel. Once the noise is drawn, nothing is random.


# %%
def draw(denoiser, noise):
    return gahb.sample(denoiser, noise, run.scale.step_size, run.scale.sigma_end)


noise = run.scale.sigma_0 * run.to(gahb.gaussian_noise(run.scale.samples, train["S1"].shape[1:], run.seed))
samples = {key: draw(denoiser, noise) for key, denoiser in denoisers.items()}
steps = {N: int(samples["S1", N].steps.median()) for N in Ns}
print("median number of steps:", steps)

# %% [markdown]
# ## How similar?
#
# Cosine similarity is the paper's measure. Where the mean brightness dominates it says little, so everything is also
# measured with the mean of each image removed; a claim must hold for both.


# %%
def compare(samples, train, N):
    a, b = samples["S1", N].images, samples["S2", N].images
    table = {}
    for centered, suffix in ((False, ""), (True, "_centered")):
        table["pair" + suffix] = gahb.cosine_similarity(a, b, centered).cpu().numpy()
        table["nearest" + suffix] = gahb.nearest(a, train["S1"][:N], centered).similarity.cpu().numpy()
    return table


similarity = {N: compare(samples, train, N) for N in Ns}
medians = {N: {key: float(np.median(values)) for key, values in similarity[N].items()} for N in Ns}

# %% [markdown]
# ## Figure 2
#
# A bias-free network has no scale of its own, and samples from noise of mean 0 are dark. Cosine similarity does not
# count the scale, and each image is stretched to all grays.

# %%
shown = sorted({Ns[0], Ns[1], Ns[min(2, len(Ns) - 1)], Ns[-1]})
titles = ("closest in S1", "sample, S1", "sample, S2", "closest in S2")
lowest = min(similarity[N][key].min() for N in shown for key in ("pair", "nearest"))
fig = plotting.new(plotting.WIDTH, 6.0)
for column, N in zip(fig.subfigures(1, len(shown)), shown, strict=True):
    top, bottom = column.subfigures(2, 1, height_ratios=[3, 1])
    axes = top.subplots(4, 2)
    for i in range(2):
        a, b = samples["S1", N].images[i], samples["S2", N].images[i]
        near = [train[part][gahb.nearest(x[None], train[part][:N]).index[0]] for part, x in (("S1", a), ("S2", b))]
        for ax, image, title in zip(axes[:, i], (near[0], a, b, near[1]), titles, strict=True):
            plotting.show_image(ax, image.cpu(), title, **plotting.same_gray(image.cpu()))
    top.suptitle(f"N = {N:,}")
    ax = bottom.subplots()
    groups = {key: similarity[N][key] for key in ("pair", "nearest")}
    plotting.histograms(ax, groups, bins=np.linspace(lowest, 1, 31))
fig.legend(
    *plotting.keys(pair="samples of S1 and S2", nearest="sample and training set"), loc="outside lower center", ncols=2
)
run.save(fig, "fig02_model_variance")

# %% [markdown]
# Blue: the pair of samples from one noise image. Orange: a sample of the network of S1 and the most similar image of
# S1. Lines mark the medians. As $N$ grows the blue ones move right and the orange ones left.

# %%
fig = plotting.new(plotting.WIDTH, 3.2)
for ax, suffix, title in zip(fig.subplots(1, 2), ("", "_centered"), ("plain", "mean removed"), strict=True):
    for key, label in (("pair", "samples of S1 and S2"), ("nearest", "sample and training set")):
        low, high = np.transpose([stats.confidence_interval(similarity[N][key + suffix], np.median) for N in Ns])
        middle = np.array([medians[N][key + suffix] for N in Ns])
        ax.errorbar(Ns, middle, [middle - low, high - middle], fmt="o-", color=plotting.COLOURS[key], label=label)
    ax.set(xscale="log", xlabel="training images N", ylabel="median cosine similarity", title=title)
ax.legend(fontsize=8)
run.save(fig, "fig02b_similarity")

# %% [markdown]
# ## Claims 2.1 to 2.4
#
# A sample counts as memorized if its nearest training image is less than a third as far away as the second nearest,
# both compared at equal brightness and contrast.

# %%
few, more = Ns[1], Ns[2]


def pick(N, name):
    return {f"nearest_N{name}{suffix}": medians[N]["nearest" + suffix] for suffix in ("", "_centered")}


run.claim("2.1", N=[Ns[0], few], **pick(Ns[0], 1), **pick(few, 10))
near = gahb.nearest(samples["S1", more].images, train["S1"][:more], centered=True)
memorized = (near.distance_ratio < 1 / 3).cpu().numpy().astype(float)
run.claim(
    "2.2", N=[few, more], **pick(few, 10), **pick(more, 100),
    nearest_interval=stats.confidence_interval(similarity[more]["nearest"], np.median),
    memorized_share=memorized.mean(), memorized_interval=stats.confidence_interval(memorized),
)  # fmt: skip
run.claim("2.3", N=Ns[-1], **medians[Ns[-1]])
run.claim("2.4", N=Ns, **{key: [medians[N][key] for N in Ns] for key in medians[Ns[0]]})

# %% [markdown]
# ## Figure 7: how similar are the training sets themselves?
#
# For each image of $S_1$, the most similar one of $S_2$. Two samples of one noise image are closer than that.

# %%
closest = {
    "": gahb.nearest(train["S1"], train["S2"]).similarity.cpu().numpy(),
    "_centered": gahb.nearest(train["S1"], train["S2"], centered=True).similarity.cpu().numpy(),
}
fig = plotting.new(plotting.WIDTH, 2.8)
for ax, suffix, title in zip(fig.subplots(1, 2), ("", "_centered"), ("plain", "mean removed"), strict=True):
    groups = {"closest": closest[suffix], "pair": similarity[Ns[-1]]["pair" + suffix]}
    plotting.histograms(ax, groups, bins=np.linspace(min(v.min() for v in groups.values()), 1, 31))
    ax.set_title(title)
fig.legend(
    *plotting.keys(closest="closest pairs of S1 and S2", pair=f"samples, N = {Ns[-1]:,}"),
    loc="outside lower center",
    ncols=2,
)
run.save(fig, "fig07_closest_pairs")
middle = {f"closest{s}": float(np.median(closest[s])) for s in closest}
run.claim("2.5", N=Ns[-1], pair=medians[Ns[-1]]["pair"], pair_centered=medians[Ns[-1]]["pair_centered"], **middle)

# %% [markdown]
# ## Figures 8 and 9: scenes
#
# The paper repeats this for bedrooms, with 20,000 photographs a network.

# %%
scene_photographs = run.scenes()
N = run.scale.scene_N
scene_train = {"S1": run.to(scene_photographs.S1), "S2": run.to(scene_photographs.S2)}
scene_noise = run.scale.sigma_0 * run.to(
    gahb.gaussian_noise(run.scale.samples, scene_train["S1"].shape[1:], run.seed + 1)
)
scene_samples = {
    (part, N): draw(
        run.network(scales.photograph_recipe(run.scale, scene_photographs, part, seed=run.seed), scene_photographs),
        scene_noise,
    )
    for part in ("S1", "S2")
}
scene_similarity = compare(scene_samples, scene_train, N)

# %%
count = min(8, run.scale.samples)
fig = plotting.new(plotting.WIDTH, 2.7)
for row, part in zip(fig.subfigures(2, 1), ("S1", "S2"), strict=True):
    axes = row.subplots(1, count)
    for ax, image, twin in zip(axes, scene_samples[part, N].images, scene_samples["S1", N].images, strict=False):
        plotting.show_image(ax, image.cpu(), **plotting.same_gray(twin.cpu()))
    axes[0].set_ylabel(part, rotation=0, ha="right", va="center")
fig.suptitle(f"scenes: samples of networks trained on S1 and S2, N = {N:,}")
run.save(fig, "fig08_scenes")

# %%
fig = plotting.new(plotting.WIDTH, 2.8)
for ax, suffix, title in zip(fig.subplots(1, 2), ("", "_centered"), ("plain", "mean removed"), strict=True):
    plotting.histograms(ax, {key: scene_similarity[key + suffix] for key in ("pair", "nearest")})
    ax.set_title(f"scenes, N = {N:,}, {title}")
fig.legend(
    *plotting.keys(pair="samples of S1 and S2", nearest="sample and training set"), loc="outside lower center", ncols=2
)
run.save(fig, "fig09_scenes_similarity")
run.claim("2.6", N=N, **{key: float(np.median(values)) for key, values in scene_similarity.items()})
run.finish()

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
# # 3. Denoising is shrinkage in a basis adapted to the image
#
# *Section 3.1, Figure 3, Equations 6 to 13.*
#
# A network without additive constants is piecewise linear: near $y$ it equals its own Jacobian,
#
# $$f(y) = \nabla f(y)\, y = \sum_k \lambda_k(y)\, \langle y, e_k(y) \rangle\, e_k(y). \tag{6}$$
#
# The first equality is exact. The second holds as far as the Jacobian is symmetric, with eigenvalues $\lambda_k$ and
# eigenvectors $e_k$: then the denoiser shrinks $y$ by $\lambda_k$ along $e_k$, and both depend on the image.

# %% tags=["parameters"]
scale = "smoke"  # smoke, laptop, paper-short or paper
faces = None  # folder or file of photographs
scenes = None  # folder or file of photographs
store = None  # folder of trained networks
figures = None  # folder of the figures
device = "auto"  # auto, cuda, mps or cpu
seed = 0
denoiser = None  # file of a released network, shown on a photograph

# %%
import hashlib
from pathlib import Path

import numpy as np
import scipy.stats
import torch
from skimage import data

import gahb
from gahb import bases, metrics, optimal, oracle, rivals, stats
from gahb.companion import explorers, notebook, plotting, scales
from gahb.training.store import has

run = notebook.start(
    "03_jacobian_basis",
    scale=scale, faces=faces, scenes=scenes, store=store, figures=figures, device=device, seed=seed,
)  # fmt: skip
released = None if denoiser is None else gahb.load_released(denoiser).to(run.device)

# %% [markdown]
# ## A network, and images that it has not seen
#
# The network trained on the most faces, and test faces. With `-p denoiser PATH`, a network that the authors released is
# analysed beside it, on patches of a photograph. If ours is not trained yet, the released network takes its place, so
# that nothing has to be trained.

# %%
photographs = run.faces()
size, count = photographs.test.shape[-1], run.scale.analysed
camera = torch.tensor(data.camera() / 255).float().view(128, 4, 128, 4).mean((1, 3))  # 128x128
patches = run.to(camera.unfold(0, size, 24).unfold(1, size, 24).reshape(-1, 1, size, size))
patches = patches[patches.flatten(1).std(1).argsort(descending=True)]  # those of highest contrast first
recipe = scales.photograph_recipe(run.scale, photographs, "S1", seed=run.seed)
ours = released is None or has(recipe, run.store)
network = run.network(recipe, photographs) if ours else released
test = run.to(photographs.test) if ours else patches
train = run.to(photographs.S1 if photographs.N else photographs.test)  # of the fixed bases and the linear null
about = {} if ours else {"not_tested": "measured on a released network, as none was trained here"}

# %% [markdown]
# Each of the analysed images has noise of its own.

# %%
levels, sigma = (0.04, 0.15, 0.39), 0.15  # to 100/255, where the released network was trained


def analyses(denoiser, images, level):
    return [gahb.analyse(denoiser, image, level, run.seed + i) for i, image in enumerate(images)]


found = {level: analyses(network, test[:count], level) for level in levels}
face = found[sigma][0]
shrinkage, d = face.basis.shrinkage.cpu().numpy(), test[0].numel()
rank = bases.effective_rank(shrinkage)
print(f"effective rank {rank:.1f} of {d}, asymmetry {face.basis.asymmetry:.2f}")

# %% [markdown]
# ## Figure 3
#
# The shrinkage factors fall fast, and so do the coefficients of the clean image: most of it lies in the few directions
# that are kept. The vectors shown are chosen on a log scale of $k$, up to twice the effective rank.

# %%
fig = plotting.new(plotting.WIDTH, 4.6)
plotting.basis_figure(fig, face, sigma)
run.save(
    fig, "fig03_adaptive_basis", "Figure 3",
    "A face, noisy and denoised; the shrinkage factors (red) and the coefficients of the clean image (blue); "
    "eigenvectors of the symmetric part of the Jacobian, chosen on a log scale of k up to twice the effective "
    "rank. How much of f these eigenvectors are is shown below (expansions).",
    claims=("3.5", "3.6", "3.7"),
)  # fmt: skip

# %% [markdown]
# ## Claim 3.1: homogeneity (Eq. 6, an identity)

# %%
errors = []
for level in (0.05, 0.15, 0.5):
    for i, image in enumerate(test[:count]):
        y = image[None] + level * run.to(gahb.gaussian_noise(1, image.shape, run.seed + i))
        output = metrics.denoised(network, y)
        errors.append(float((gahb.jacobian(network, y) @ y.flatten() - output.flatten()).norm() / output.norm()))
run.claim("3.1", relative_error=max(errors), images=count, **about)

# %% [markdown]
# ## Claim 3.2: symmetric and non-negative?
#
# The optimal denoiser's Jacobian is a covariance, $\nabla f^\star(y) = \sigma^{-2}\, \mathrm{Cov}[x \mid y]$ (Eq. 9).
# A network's is only close to symmetric, and its symmetric part has some negative eigenvalues. How close is measured
# beside the released network.


# %%
def asymmetry_and_negatives(analysed):
    values = [a.basis.shrinkage.double() for a in analysed]
    negative = [float(-v.clamp(max=0).sum() / v.clamp(min=0).sum()) for v in values]
    return {"asymmetry": np.array([a.basis.asymmetry for a in analysed]), "negative_fraction": np.array(negative)}


def per_level(table, function):
    return {f"{key}": [function(table[level][key]) for level in levels] for key in table[levels[0]]}


here = {level: asymmetry_and_negatives(found[level]) for level in levels}
intervals = {f"{key}_interval": value for key, value in per_level(here, stats.confidence_interval).items()}
measured = {"sigma": levels, "images": count} | per_level(here, np.mean) | intervals
null, theirs = None, None
if released is None:
    measured["not_tested"] = "no released network was given to compare with; run with -p denoiser PATH"
elif ours:
    theirs = {level: analyses(released, patches[:count], level) for level in levels}
    there = {level: asymmetry_and_negatives(theirs[level]) for level in levels}
    name = f"released network {hashlib.sha256(Path(denoiser).read_bytes()).hexdigest()[:12]}, on a photograph"
    null = {"name": name} | per_level(there, np.mean)
run.claim("3.2", **measured | about, null=null)

# %% [markdown]
# ## Claims 3.3 and 3.4: the error without the clean image
#
# Stein's estimate needs only $y$ (Eq. 7), and for the optimal denoiser the error is the trace alone (Eq. 10):
#
# $$\mathrm{MSE}(f, \sigma^2) = \mathbb{E}\left[\lVert y - f(y) \rVert^2 + 2 \sigma^2\, \mathrm{tr} \nabla f(y) -
# \sigma^2 d\right], \qquad
# \mathrm{MSE}(f^\star, \sigma^2) = \sigma^2\, \mathbb{E}\left[\mathrm{tr} \nabla f^\star(y)\right].$$

# %%
sigmas, input_db = run.scale.sigmas, np.array(run.scale.input_db)
wiener = optimal.wiener(train)


def risks(denoiser_at):
    """MSE, SURE and trace of each image (sigma, image)."""
    found = [gahb.stein_risk(denoiser_at(s), test, s, seed=run.seed) for s in sigmas]
    return {key: np.array([risk[key].cpu().numpy() for risk in found]) for key in ("mse", "sure", "trace")}


risk, linear_risk = risks(lambda s: network), risks(wiener)
mean = {key: values.mean(1) for key, values in risk.items()}
spread = (risk["sure"] - risk["mse"]).std(1, ddof=1) / len(test) ** 0.5
run.claim("3.3", sigma=sigmas, mse=mean["mse"], sure=mean["sure"], standard_error=spread, **about)
band = stats.ratio_interval(risk["trace"], risk["mse"])
run.claim(
    "3.4", sigma=sigmas, ratio=mean["trace"] / mean["mse"], interval=band.T, **about,
    null={"name": "Wiener filter", "ratio": linear_risk["trace"].mean(1) / linear_risk["mse"].mean(1)},
    chosen_after="sigma_max of 1.5: trained up to 1 alone, the ratio was 16 % off at sigma = 1 (laptop)",
)  # fmt: skip

# %%
fig = plotting.new(plotting.WIDTH, 3.2)
left, right = fig.subplots(1, 2)
left.plot(input_db, stats.psnr(risk["mse"]), "o-", ms=4, color=plotting.COLOURS["test"], label="error")
sure_db = -10 * np.log10(mean["sure"].clip(1e-12))
left.plot(input_db, sure_db, "s", mfc="none", color=plotting.COLOURS["network"], label="SURE")
left.plot(input_db, -10 * np.log10(mean["trace"]), "^:", ms=4, color=plotting.COLOURS["shrinkage"], label="trace")
left.set(xlabel=plotting.INPUT_PSNR, ylabel="output PSNR (dB)", title="Eq. 7 and 10")
left.legend(fontsize=8)
right.fill_between([0.1, 1], 0.85, 1.15, color="0.93", linewidth=0)  # the rule of 3.4
ratio = mean["trace"] / mean["mse"]
plotting.with_interval(right, sigmas, ratio, band, plotting.COLOURS["shrinkage"], "network")
linear_ratio = linear_risk["trace"].mean(1) / linear_risk["mse"].mean(1)
right.plot(sigmas, linear_ratio, ":", color=plotting.COLOURS["rival"], label="Wiener filter")
right.axhline(1, **plotting.OPTIMAL)
right.set(xscale="log", xlabel=r"$\sigma$", title=r"$\sigma^2$ tr $\nabla f$ / error")
right.invert_xaxis()  # small noise on the right, as beside it
right.legend(fontsize=8)
run.save(
    fig, "fig03b_stein", "Equations 7 and 10",
    "Left: the error on test images, Stein's estimate of it, and sigma^2 times the trace of the Jacobian, as "
    "PSNR. Right: the ratio of the trace to the error with its 95 % bootstrap band, and that of the Wiener "
    "filter; gray: where claim 3.4 holds.",
    claims=("3.3", "3.4"),
)  # fmt: skip

# %% [markdown]
# ## Claims 3.5 to 3.7: few directions, rising frequency, adapted to the contours
#
# The nulls: as many vectors of the DCT and of PCA (of the training set), eigenvectors of the Wiener filter, contours of
# another face.

# %%
dct, pca = rivals.dct_basis(size, d), rivals.pca_basis(train, d)


def measures(at, other):
    """Of one face: fractions of its energy, frequencies, and anisotropies."""
    vectors, kept = at.basis.vectors.cpu().numpy(), max(2, round(bases.effective_rank(at.basis.shrinkage)))
    image, stranger = at.clean[0, 0].cpu().numpy(), other.clean[0, 0].cpu().numpy()
    fractions = [bases.preserved_fraction(image - image.mean(), basis, kept) for basis in (vectors, dct, pca)]
    frequency = scipy.stats.spearmanr(np.arange(len(vectors)), bases.mean_frequency(vectors)).statistic
    along = [bases.contour_anisotropy(basis[:kept], contours) for basis, contours in
             ((vectors, image), (vectors, stranger), (dct, image))]  # fmt: skip
    return [kept, *fractions, frequency, *along]


at_level = found[sigma]
table = np.array([measures(a, b) for a, b in zip(at_level, at_level[1:] + at_level[:1], strict=True)]).T
kept, adaptive, of_dct, of_pca, spearman, own, other, fixed = table

# %%
run.claim(
    "3.5", rank=kept.mean(), d=d, fraction=adaptive.mean(), sigma=sigma, images=count, **about,
    interval=stats.confidence_interval(np.stack([adaptive - of_dct, adaptive - of_pca])).T,
    null={"name": "DCT, PCA", "fraction": [of_dct.mean(), of_pca.mean()]},
)  # fmt: skip
linear_spearman = scipy.stats.spearmanr(np.arange(len(pca)), bases.mean_frequency(pca)).statistic
run.claim(
    "3.6", spearman=spearman.mean(), images=count, interval=stats.confidence_interval(spearman), **about,
    null={"name": "eigenvectors of the Wiener filter", "spearman": linear_spearman},
)  # fmt: skip
run.claim(
    "3.7", anisotropy=own.mean(), rank=kept.mean(), images=count, **about,
    interval=stats.confidence_interval(np.stack([own - other, own - fixed])).T,
    null={"name": "another face's contours, DCT", "anisotropy": [other.mean(), fixed.mean()]},
)  # fmt: skip

# %% [markdown]
# ## Claim 3.8: how much of $f$ is the shrinkage in eigenvectors?
#
# The eigenvectors are those of the symmetric part of the Jacobian. What the antisymmetric part does to $y$ they leave
# out. The singular expansion $f(y) = \sum_k s_k \langle y, v_k \rangle u_k$ leaves nothing out, but has two bases: they
# agree where $\langle u_k, v_k \rangle$ is near 1.


# %%
def expansions(denoiser, analysed):
    """Squared errors (image, number of terms) of both expansions, and alignment of the singular vectors."""
    rows = []
    for a in analysed:
        singular = gahb.adaptive_basis(denoiser, a.noisy, kind="singular")
        partial = [basis.partial_sums(a.noisy) - a.clean.flatten() for basis in (a.basis, singular)]
        errors = [p.square().mean(1).cpu().numpy() for p in partial]
        rows.append([*errors, singular.alignment.cpu().numpy(), float((a.denoised - a.clean).square().mean())])
    symmetric, singular, alignment, whole = zip(*rows, strict=True)
    return {"symmetric": np.stack(symmetric), "singular": np.stack(singular), "alignment": np.stack(alignment),
            "whole": np.array(whole)}  # fmt: skip


def loss_db(expanded):
    return float(stats.psnr(expanded["whole"]) - stats.psnr(expanded["symmetric"][:, -1]))


expanded = {level: expansions(network, found[level]) for level in levels}
terms, at = np.arange(1, d + 1), expanded[sigma]
losses = [loss_db(expanded[level]) for level in levels]
of_released = None if theirs is None else [loss_db(expansions(released, theirs[level])) for level in levels]

# %%
half_rank = max(1, int(kept.mean() / 2))
aligned = [float(np.median(expanded[level]["alignment"][:, :half_rank])) for level in levels]


def terms_within(level, loss=0.1):
    """Number of terms of the singular expansion that come within a loss (dB) of f(y)."""
    near = stats.psnr(expanded[level]["singular"], 0) > stats.psnr(expanded[level]["whole"]) - loss
    return int(near.argmax()) + 1


run.claim(
    "3.8", sigma=levels, loss_db=losses, images=count, alignment=aligned,
    singular_terms_within_tenth_db=[terms_within(level) for level in levels], **about,
    null={"name": "singular expansion; eigenvectors of the released network", "loss_db": 0.0,
          "released_loss_db": of_released},
)  # fmt: skip

# %%
fig = plotting.new(plotting.WIDTH, 3.2)
left, middle, right = fig.subplots(1, 3)
for key, colour, label in (("symmetric", "shrinkage", "eigenvectors"), ("singular", "singular", "singular vectors")):
    left.plot(terms, stats.psnr(at[key], 0), color=plotting.COLOURS[colour], label=label)
left.axhline(stats.psnr(at["whole"]), **plotting.OPTIMAL | {"label": "f(y)"})
left.set(xscale="log", xlabel="number of terms", ylabel="PSNR (dB)", title=rf"expansions, $\sigma$ = {sigma}")
middle.plot(levels, losses, "o-", color=plotting.COLOURS["network"], label="network")
if of_released is not None:
    middle.plot(levels, of_released, "s:", color=plotting.COLOURS["rival"], label="released network")
middle.axhline(0.5, **plotting.OPTIMAL | {"label": "rule of claim 3.8"})
middle.set(xscale="log", xlabel=r"$\sigma$", ylabel="loss (dB)", title="f(y) minus eigenvectors", ylim=(0, None))
middle.set_xticks(levels, [f"{level:g}" for level in levels])
middle.minorticks_off()
right.plot(terms, np.median(at["alignment"], 0), color=plotting.COLOURS["singular"])
right.axvline(kept.mean(), color="0.7", linewidth=0.8)
right.set(xscale="log", xlabel="k", title=r"$\langle u_k, v_k \rangle$ (line: effective rank)")
for ax in (left, middle):
    ax.legend(fontsize=7)
run.save(
    fig, "fig03e_expansions", "Equation 6, expansions",
    "Left: PSNR of the first terms of the expansion of f(y) in eigenvectors of the symmetric part of the "
    "Jacobian and in singular vectors. Middle: what the eigenvectors lose. Right: cosine of the left and "
    "right singular vectors, median over images.",
    claims=("3.8",),
)  # fmt: skip

# %% [markdown]
# ## Claim 3.9: is a face sparser in the adaptive basis than in a fixed one?
#
# In any orthonormal basis, an oracle that knows $x$ would shrink by $\lambda_k = c_k^2 / (c_k^2 + \sigma^2)$ with
# $c_k = \langle x, e_k \rangle$, and its error is $\sum_k \sigma^2 c_k^2 / (c_k^2 + \sigma^2)$ (Eq. 12): small if the
# coefficients are sparse. The formula is for a basis that does not depend on the noise. So the adaptive basis is
# computed from *another* noisy copy of the same image.

# %%
oracle_levels = (0.05, 0.1, 0.15, 0.3, 0.5)
fixed = oracle.fixed_transforms(train)
oracles = {s: oracle.oracle_errors(network, test[:count], s, fixed, run.seed + 1000) for s in oracle_levels}
advantage = [oracle.adaptive_gain(oracles[s]) for s in oracle_levels]
run.claim(
    "3.9", sigma=oracle_levels, images=count, gain_db=[gain for gain, _ in advantage],
    interval=[interval for _, interval in advantage],
    psnr_adaptive=[stats.psnr(oracles[s]["adaptive"]) for s in oracle_levels], **about,
    null={"name": "DCT, PCA, wavelets"}
    | {f"psnr_{key}": [stats.psnr(oracles[s][key]) for s in oracle_levels] for key in ("DCT", "PCA", "wavelets")},
)  # fmt: skip

# %%
fig = plotting.new(5.4, 3.4)
ax = fig.subplots()
plotting.oracle_gains(ax, oracles)
ax.set_title(f"{count} faces: oracle PSNR minus the DCT's")
run.save(
    fig, "fig03c_oracle", "Equations 11 to 13",
    "PSNR of the oracle of Eq. 12 in several bases minus that in the DCT. The adaptive basis comes from "
    "another noisy copy of the same image. Bands: 95 %, by bootstrap over images.",
    claims=("3.9",),
)  # fmt: skip

# %% [markdown]
# ## Beyond the paper: is this basis more than locality?
#
# The local score machine (notebook 01) is the best denoiser that sees only a patch of $y$ around each pixel. It knows
# the patches of faces, and nothing that is farther apart than they are wide. Its Jacobian,
# $\mathrm{Cov}[x_p, x_q \mid y_P] / \sigma^2$ for $q$ in the patch $P$ of $p$, adapts to the image too. Are its
# eigenvectors those of the network? The energy of the network's, up to its effective rank, is measured in the span of
# as many others: those of the machine, of the machine at another face, and of PCA.

# %%
side, few_faces = 5, min(count, 8)  # pixels: the least error of 10,000 faces of 20x20 at this noise level


def local_analysis(i):
    """Of the local machine of faces that do not hold the i-th test image."""
    known = train if photographs.N else train[torch.arange(len(train)) != i]
    return gahb.analyse(optimal.local(known, sigma, side), test[i], sigma, run.seed + i)


machine = [local_analysis(i) for i in range(few_faces)]
strangers = machine[1:] + machine[:1]


def shared(i):
    """Energy of the network's leading eigenvectors in the span of as many of the machine, a stranger's, PCA."""
    r = max(2, round(bases.effective_rank(found[sigma][i].basis.shrinkage)))
    spans = machine[i].basis.vectors[:r].cpu(), strangers[i].basis.vectors[:r].cpu(), pca[:r]
    return [bases.energy_in_span(found[sigma][i].basis.vectors[:r].cpu(), span) for span in spans] + [r / d]


of_machine, of_stranger, of_pca, chance = 100 * np.mean([shared(i) for i in range(few_faces)], 0)

# %%
linear_face = gahb.analyse(wiener(sigma), test[0], sigma, run.seed)
rows = {"network": face, f"local machine, {side}x{side}": machine[0], "Wiener filter": linear_face}
for name, at in rows.items():
    print(f"{name}: effective rank {bases.effective_rank(at.basis.shrinkage):.1f}, asymmetry {at.basis.asymmetry:.2f}")
chosen = np.unique(np.geomspace(1, max(8, rank), 8).round().astype(int) - 1)
fig = plotting.new(plotting.WIDTH, 4.6)
for part, (name, at) in zip(fig.subfigures(3, 1), rows.items(), strict=True):
    titles = plotting.shrinkage_titles(at.basis.shrinkage.cpu(), chosen)
    plotting.vector_grid(part, at.basis.vectors.cpu()[chosen], titles, columns=len(chosen))
    part.suptitle(name, fontsize=9)
run.save(
    fig, "fig03f_locality", "Beyond the paper: the basis of the local machine",
    "Eigenvectors of the symmetric part of three Jacobians at one noisy face: of the network, of the local score "
    f"machine, which sees only patches of {side}x{side}, and of the Wiener filter. Over {few_faces} faces, the "
    f"network's vectors up to its effective rank have {of_machine:.0f} % of their energy in the span of as many of the "
    f"machine's, {of_stranger:.0f} % of the machine's at another face, {of_pca:.0f} % of PCA; in random ones, "
    f"{chance:.0f} %. No claim of the paper is judged by it.",
)  # fmt: skip

# %% [markdown]
# ## A released network on a photograph
#
# The same analysis of a network that the authors trained on larger photographs; no training is needed. Factors above 1
# amplify a change of the noisy image; those of an optimal denoiser can too, where the posterior spreads wider than
# $\sigma$ (Eq. 9).

# %%
if released is not None:
    photo = gahb.analyse(released, run.to(camera[None, 20:60, 36:76]), sigma, run.seed)
    fig = plotting.new(plotting.WIDTH, 4.6)
    plotting.basis_figure(fig, photo, sigma)
    run.save(
        fig, "fig03d_released", "Figure 3, released network",
        "The analysis of Figure 3 for a network that the authors published, on a photograph.",
        claims=("3.2",),
    )  # fmt: skip

# %% [markdown]
# ## Explore
#
# Choose a network, an image and a noise level, and step through the vectors. Networks trained on few images shrink in a
# basis of their training images; those of other classes bring their own geometry to a face. (The sliders need
# JupyterLab and a running kernel; elsewhere the first picture is shown.)

# %%
explorers.adaptive_basis(network, test, run.store, sigma, run.seed)

# %%
run.finish()

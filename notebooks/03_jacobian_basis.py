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
# A network without additive constants is piecewise linear: near $y$ it is its own Jacobian,
#
# $$f(y) = \nabla f(y)\, y = \sum_k \lambda_k(y)\, \langle y, e_k(y) \rangle\, e_k(y), \tag{6}$$
#
# where $\lambda_k$ and $e_k$ are eigenvalues and eigenvectors of the Jacobian, as far as it is symmetric. The
# denoiser shrinks $y$ by the factor $\lambda_k$ along $e_k$, and both depend on the image.

# %% tags=["parameters"]
scale = "smoke"  # smoke, laptop, paper-short or paper
faces = None  # folder or file of photographs
scenes = None  # folder or file of photographs
store = None  # folder of trained denoisers
figures = None  # folder of the figures
device = "auto"  # auto, cuda, mps or cpu
seed = 0
denoiser = None  # file of a released denoiser, shown on a photograph

# %%
import hashlib
from pathlib import Path

import numpy as np
import pywt
import scipy.stats
import torch
from skimage import data

import gahb
from gahb import bases, metrics, rivals, stats
from gahb.companion import notebook, plotting, scales
from gahb.denoisers import evaluating
from gahb.training.store import has

run = notebook.start(
    "03_jacobian_basis",
    scale=scale, faces=faces, scenes=scenes, store=store, figures=figures, device=device, seed=seed,
)  # fmt: skip
released = None if denoiser is None else gahb.load_released(denoiser).to(run.device)

# %% [markdown]
# ## A denoiser, and images that it has not seen
#
# The network trained on the most faces, and test faces. With `-p denoiser PATH`, a network that the paper's authors
# released stands beside it, on patches of a photograph; and if ours is not trained yet, it stands in for it, so that
# nothing has to be trained at all.

# %%
photographs = run.faces()
size = photographs.test.shape[-1]
camera = torch.tensor(data.camera() / 255).float().view(128, 4, 128, 4).mean((1, 3))  # 128x128
patches = run.to(camera.unfold(0, size, 24).unfold(1, size, 24).reshape(-1, 1, size, size))
patches = patches[patches.flatten(1).std(1).argsort(descending=True)]  # those with something to see first
recipe = scales.photograph_recipe(run.scale, photographs, "S1", seed=run.seed)
ours = released is None or has(recipe, run.store)
net = run.network(recipe, photographs) if ours else released
test = run.to(photographs.test) if ours else patches
about = {} if ours else {"not_tested": "measured on a released network, as none was trained here"}

# %%
sigma = 0.15
face = bases.analyse(net, test[0], sigma, run.seed)
shrinkage = face.basis.shrinkage.cpu().numpy()
rank, d = bases.effective_rank(shrinkage), len(shrinkage)
print(f"effective rank {rank:.1f} of {d}, asymmetry {face.basis.asymmetry:.2f}")

# %% [markdown]
# ## Figure 3
#
# The shrinkage factors fall fast, and so do the coefficients of the clean image: most of it lies in the few directions
# that are kept. The vectors follow the contours and oscillate faster as $\lambda_k$ falls.

# %%
fig = plotting.new(plotting.WIDTH, 4.6)
left, right = fig.subfigures(1, 2, width_ratios=[1, 1.25])
top, bottom = left.subfigures(2, 1, height_ratios=[1, 1.6])
plotting.image_row(top, face.images, ["clean", rf"noisy, $\sigma$ = {sigma}", "denoised"])
plotting.decay(bottom.subplots(), shrinkage, face.coefficients.cpu())
chosen = np.unique(np.round(np.geomspace(1, min(2 * rank, d), 60)).astype(int) - 1)
chosen = chosen[np.unique(np.linspace(0, len(chosen) - 1, 20).round().astype(int))]
plotting.vector_grid(right, face.basis.vectors.cpu()[chosen], plotting.shrinkage_titles(shrinkage, chosen))
right.suptitle(r"vectors $e_k(y)$ of the adaptive basis")
run.save(fig, "fig03_adaptive_basis")

# %% [markdown]
# ## Claim 3.1: homogeneity (Eq. 6)

# %%
errors = []
for level in (0.05, 0.15, 0.5):
    for image in test[: run.scale.analysed]:
        y = image[None] + level * run.to(gahb.gaussian_noise(1, image.shape, run.seed))
        with evaluating(net) as f:  # without TF32, which a GPU would round its products to
            output = f(y)
        errors.append(float((gahb.jacobian(net, y) @ y.flatten() - output.flatten()).norm() / output.norm()))
run.claim("3.1", relative_error=max(errors), images=run.scale.analysed, **about)

# %% [markdown]
# ## Claim 3.2: symmetric and non-negative?
#
# The optimal denoiser's Jacobian is a covariance, $\nabla f^\star(y) = \sigma^{-2}\, \mathrm{Cov}[x \mid y]$ (Eq. 9).
# A network's is only close to symmetric, and its symmetric part has some negative eigenvalues. How close is measured
# here; with `-p denoiser PATH` a network that the authors released stands beside it, on a photograph.


# %%
def asymmetry_and_negative_share(denoiser, images, sigma):
    found = []
    for image in images:
        basis = bases.analyse(denoiser, image, sigma, run.seed).basis
        values = basis.shrinkage.double()
        found.append([basis.asymmetry, float(-values.clamp(max=0).sum() / values.clamp(min=0).sum())])
    return np.array(found).T


levels = (0.04, 0.15, 0.39)  # to 100/255, where the released network was trained
here = [asymmetry_and_negative_share(net, test[: run.scale.analysed], level) for level in levels]
measured = {"sigma": levels, "asymmetry": [v[0].mean() for v in here], "negative_share": [v[1].mean() for v in here]}
for row, key in enumerate(("asymmetry", "negative_share")):
    measured[f"{key}_band"] = np.transpose([stats.confidence_interval(v[row]) for v in here])

# %%
if not ours:
    pass  # the released network itself, with nothing to compare it with
elif released is None:
    measured["not_tested"] = "no released network was given to compare with; run with -p denoiser PATH"
else:
    theirs = [asymmetry_and_negative_share(released, patches[: run.scale.analysed], level) for level in levels]
    for row, key in enumerate(("asymmetry", "negative_share")):
        measured[f"released_{key}"] = [v[row].mean() for v in theirs]
    measured["released_sha256"] = hashlib.sha256(Path(denoiser).read_bytes()).hexdigest()[:12]
run.claim("3.2", **measured | about)

# %% [markdown]
# ## Claims 3.3 and 3.4: the error without the clean image
#
# Stein's estimate needs only $y$ (Eq. 7), and for the optimal denoiser the error is the trace alone (Eq. 10):
#
# $$\mathrm{MSE}(f, \sigma^2) = \mathbb{E}\left[\lVert y - f(y) \rVert^2 + 2 \sigma^2\, \mathrm{tr} \nabla f(y) -
# \sigma^2 d\right], \qquad
# \mathrm{MSE}(f^\star, \sigma^2) = \sigma^2\, \mathbb{E}\left[\mathrm{tr} \nabla f^\star(y)\right].$$

# %%
risks = [metrics.stein_risk(net, test, level, seed=run.seed) for level in run.scale.sigmas]
mean = {key: np.array([float(risk[key].mean()) for risk in risks]) for key in ("mse", "sure", "trace")}
spread = np.array([float((r["sure"] - r["mse"]).std() / len(test) ** 0.5) for r in risks])
run.claim("3.3", sigma=run.scale.sigmas, mse=mean["mse"], sure=mean["sure"], standard_error=spread, **about)
trace, mse = (stats.resampled_means([risk[key].cpu().numpy() for risk in risks]) for key in ("trace", "mse"))
band = np.quantile(trace / mse, [0.025, 0.975], axis=-1)  # the same images are drawn for both
run.claim("3.4", sigma=run.scale.sigmas, ratio=mean["trace"] / mean["mse"], band=band, **about)

# %%
fig = plotting.new(plotting.WIDTH, 3.2)
left, right = fig.subplots(1, 2)
left.plot(run.scale.input_db, mean["mse"], "o-", color=plotting.COLOURS["test"], label="MSE (test images)")
left.errorbar(
    run.scale.input_db, mean["sure"], 3 * spread, fmt="s", mfc="none", color=plotting.COLOURS["network"], label="SURE"
)
left.plot(
    run.scale.input_db, mean["trace"], "^:", color=plotting.COLOURS["shrinkage"], label=r"$\sigma^2$ tr $\nabla f$"
)
left.set(yscale="log", xlabel="input PSNR (dB)", ylabel="error per pixel", title="Eq. 7 and 10")
left.legend(fontsize=8)
right.fill_between([0.1, 1], 0.85, 1.15, color="0.93", linewidth=0)  # the rule of 3.4
right.plot(run.scale.sigmas, mean["trace"] / mean["mse"], "^-", color=plotting.COLOURS["shrinkage"])
right.fill_between(run.scale.sigmas, *band, color=plotting.COLOURS["shrinkage"], alpha=0.2, linewidth=0)
right.axhline(1, **plotting.OPTIMAL)
right.set(
    xscale="log", xlabel=r"$\sigma$", ylabel=r"$\sigma^2$ tr $\nabla f$ / MSE", title="Eq. 10: ratio to the error"
)
right.invert_xaxis()  # small noise on the right, as beside it
run.save(fig, "fig03b_stein")

# %% [markdown]
# ## Claims 3.5 to 3.7: few directions, rising frequency, adapted to the contours

# %%
fraction = bases.preserved_fraction(face.clean[0].cpu(), face.basis.vectors.cpu(), rank)
run.claim("3.5", rank=rank, d=d, share=fraction, sigma=sigma, **about)
frequency = bases.mean_frequency(face.basis.vectors.cpu())
spearman = scipy.stats.spearmanr(np.arange(d), frequency).statistic
run.claim("3.6", spearman=spearman, **about)
kept = max(2, round(rank))
image = face.clean[0, 0].cpu()
run.claim(
    "3.7", rank=kept,
    anisotropy=bases.contour_anisotropy(face.basis.vectors[:kept].cpu(), image),
    anisotropy_dct=bases.contour_anisotropy(rivals.dct_basis(len(image), kept), image), **about,
)  # fmt: skip

# %% [markdown]
# ## Equations 11 to 13: how good is this basis?
#
# In any orthonormal basis, an oracle that knows $x$ would shrink by $\lambda_k = c_k^2 / (c_k^2 + \sigma^2)$ with
# $c_k = \langle x, e_k \rangle$, and its error is $\sum_k \sigma^2 c_k^2 / (c_k^2 + \sigma^2)$ (Eq. 12): small if the
# coefficients are sparse. The adaptive basis is compared with a fixed one, the DCT, by this oracle and by soft
# thresholding, which needs no oracle.
#
# The formulas are of a basis that does not depend on the noise. The adaptive one was chosen by the network from the
# same noisy image, so that the noise along its vectors is not like the noise elsewhere: its oracle may be beaten, and
# thresholding, which counts on noise of one size in all directions, does badly in it. The DCT is without such a fault.

# %%
rows, dct = [], torch.tensor(rivals.dct_basis(test.shape[-1], d)).flatten(1)
for level in run.scale.sigmas:
    at = bases.analyse(net, test[0], level, run.seed)
    row = {"network": float((at.denoised - at.clean).square().sum())}
    for name, vectors in (("adaptive", at.basis.vectors.flatten(1).double().cpu()), ("DCT", dct)):
        clean, noisy = (vectors @ x.flatten().double().cpu() for x in (at.clean, at.noisy))
        row[f"oracle, {name} basis"] = rivals.oracle_error(clean, level)
        shrunk = [pywt.threshold(noisy.numpy(), t * level, "soft") for t in (0.5, 1, 2, 3)]
        thresholds = [np.square(values - clean.numpy()).sum() for values in shrunk]
        row[f"soft thresholding, {name} basis"] = min(thresholds)
    rows.append(row)

# %%
fig = plotting.new(6.2, 3.8)
ax = fig.subplots()
styles = {"network": "o-", "oracle": "--", "soft thresholding": ":"}
for key in rows[0]:
    colour = plotting.COLOURS["network" if key == "network" else "shrinkage" if "adaptive" in key else "rival"]
    psnr = [-10 * np.log10(row[key] / d) for row in rows]
    ax.plot(run.scale.input_db, psnr, styles[key.split(",")[0]], ms=4, color=colour, label=key)
plotting.psnr_axes(ax, "one test face: oracle and thresholding")
ax.legend(fontsize=8)
run.save(fig, "fig03c_oracle")

# %% [markdown]
# ## A released denoiser on a photograph
#
# The same analysis of a network that was trained by the paper's authors on larger photographs; no training is needed.
# The leading vectors come from products with the Jacobian, not from the whole matrix. Factors above 1 amplify a change
# of the noisy image; those of an optimal denoiser can too, where the posterior spreads wider than $\sigma$ (Eq. 9).

# %%
if released is not None:
    photo = bases.analyse(released, run.to(camera[None, 20:60, 36:76]), sigma, run.seed, k=12)
    fig = plotting.new(plotting.WIDTH, 4.0)
    left, right = fig.subfigures(1, 2, width_ratios=[1, 2.2])
    for ax, picture, title in zip(
        left.subplots(3, 1), photo.images, ("clean", rf"$\sigma$ = {sigma}", "denoised"), strict=True
    ):
        plotting.show_image(ax, picture, title)
    plotting.vector_grid(right, photo.basis.vectors.cpu(), plotting.shrinkage_titles(photo.basis.shrinkage), 4)
    right.suptitle(r"leading vectors $e_k(y)$")
    run.save(fig, "fig03d_released")

# %% [markdown]
# ## Explore
#
# Choose a denoiser, an image and a noise level, and step through the vectors. Those trained on few images shrink in a
# basis of their training images; those of other classes bring their own geometry to a face. (The sliders live in
# JupyterLab, with a running kernel; elsewhere the first picture stands here.)

# %%
from gahb.companion import explorers

explorers.adaptive_basis(net, test, run.store, sigma, run.seed)

# %%
run.finish()

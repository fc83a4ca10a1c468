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
# # 6. Where the basis is not harmonic: shuffled faces
#
# *Section 3.3, Figure 6.*
#
# One random permutation moves the pixels of all faces. Nothing is lost: the optimal denoiser is the shuffled optimal
# denoiser of faces, and its error is the same. But neighbours are no longer neighbours, and the best basis is no longer
# harmonic. A convolutional network does much worse.

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
from gahb import bases, datasets, metrics, optimal, stats
from gahb.companion import notebook, plotting, scales
from gahb.denoisers import evaluating

run = notebook.start(
    "06_shuffled_faces",
    scale=scale, faces=faces, scenes=scenes, store=store, figures=figures, device=device, seed=seed,
)  # fmt: skip

# %%
photographs = run.faces()
net = run.network(scales.photograph_recipe(run.scale, photographs, "S1", seed=run.seed), photographs)
shuffled_net = run.network(scales.shuffled_recipe(run.scale, photographs, run.seed), photographs)
test = run.to(photographs.test)
shuffled_test = datasets.shuffled(test)
sigmas, input_db = run.scale.sigmas, np.array(run.scale.input_db)

# %% [markdown]
# ## The same faces, the same noise
#
# Both networks have seen the same training images, one of them shuffled.

# %%
table = metrics.psnr_table(net, test, sigmas, run.seed).numpy()
shuffled_table = metrics.psnr_table(shuffled_net, shuffled_test, sigmas, run.seed).numpy()
low, high = run.scale.face_slope_db
slope = stats.fit_slope(input_db, table, low, high)
shuffled_slope = stats.fit_slope(input_db, shuffled_table, low, high)

# %% [markdown]
# For the analysis at one image, the noise is shuffled with it, so that the two networks see the same picture.

# %%
sigma = 0.3
face = bases.analyse(net, test[0], sigma, run.seed)
noisy = datasets.shuffled(face.noisy)
basis = gahb.adaptive_basis(shuffled_net, noisy)
with evaluating(shuffled_net) as f:
    denoised = datasets.unshuffled(f(noisy))
vectors = basis.vectors[:, None]
unshuffled = datasets.unshuffled(vectors)[:, 0]
coefficients = vectors.flatten(1) @ datasets.shuffled(face.clean).flatten()

# %% [markdown]
# ## Figure 6

# %%
fig = plotting.new(plotting.WIDTH, 6.0)
top, bottom = fig.subfigures(2, 1, height_ratios=[1, 1.1])
a, b, c = top.subfigures(1, 3, width_ratios=[0.9, 1, 1])
above, below = a.subfigures(2, 1)
plotting.image_row(above, [*face.images[:2], denoised[0].cpu()], ["clean", rf"noisy, $\sigma$ = {sigma}", "denoised"])
pictures = [datasets.shuffled(face.clean)[0].cpu(), noisy[0].cpu(), face.images[2]]
plotting.image_row(below, pictures, ["shuffled", "noisy", "faces' network"])
ax = b.subplots()
plotting.decay(ax, basis.shrinkage.cpu(), None, "shuffled faces", plotting.COLOURS["shuffled"])
plotting.decay(ax, face.basis.shrinkage.cpu(), None, "faces", plotting.COLOURS["network"])
ax.legend(fontsize=8)
ax = c.subplots()
plotting.banded(ax, input_db, table, plotting.COLOURS["network"], f"faces, slope {slope.slope:.2f}")
plotting.banded(
    ax, input_db, shuffled_table, plotting.COLOURS["shuffled"], f"shuffled, slope {shuffled_slope.slope:.2f}"
)
plotting.psnr_axes(ax)
ax.legend(fontsize=8)
titles = plotting.shrinkage_titles(basis.shrinkage[:8])
plotting.vector_grid(bottom, [*vectors[:8, 0].cpu(), *unshuffled[:8].cpu()], titles + ["unshuffled"] * 8, 8)
run.save(fig, "fig06_shuffled_faces")

# %% [markdown]
# ## Claims 6.1 to 6.3

# %%
loss = (table - shuffled_table).mean(1)
run.claim("6.1", sigma=sigmas, difference_db=loss, images=len(test))
run.claim(
    "6.2", slope=slope.slope, slope_shuffled=shuffled_slope.slope, low_db=low, high_db=high,
    standard_error=slope.error, standard_error_shuffled=shuffled_slope.error,
)  # fmt: skip
# The effective rank is the trace of the Jacobian, which random signs estimate without its matrix (as in Eq. 7).
pairs = ((net, test), (shuffled_net, shuffled_test))
risks = [metrics.stein_risk(f, x[: run.scale.analysed], sigma, probes=64, seed=run.seed) for f, x in pairs]
rank, shuffled_rank = (risk["trace"].cpu().numpy() * test[0].numel() / sigma**2 for risk in risks)
run.claim("6.3", rank=rank.mean(), rank_shuffled=shuffled_rank.mean(), sigma=sigma, images=len(rank))

# %% [markdown]
# ## Claim 6.4: the optimum is the same
#
# The empirical optimal denoiser of the training set knows nothing of neighbours: it compares whole images. Shuffling
# changes nothing for it.

# %%
train = run.to(photographs.S1)
images, level = test[:100], 0.2
y = images + level * run.to(gahb.gaussian_noise(len(images), images.shape[1:], run.seed))
memorizer = optimal.empirical(train, level)
shuffled_memorizer = optimal.empirical(datasets.shuffled(train), level)
mse = float((memorizer(y) - images).square().mean())
mse_shuffled = float((shuffled_memorizer(datasets.shuffled(y)) - datasets.shuffled(images)).square().mean())
about = {"not_tested": "of one training face nothing is left to compare; give faces"} if len(train) == 1 else {}
run.claim("6.4", mse=mse, mse_shuffled=mse_shuffled, sigma=level, **about)
run.finish()

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
# # 7. Any denoiser: in which basis does it shrink, and does it copy?
#
# *Section 4: "the framework we introduced to assess memorization versus generalization may be applied to any generative
# model".*
#
# Here to a model of the [diffusers](https://huggingface.co/docs/diffusers) library: a UNet with attention, biases and
# group normalization, which is told the noise level. It is trained here, or read from a folder: `-p model PATH` takes
# any pretrained pipeline that works on pixels, and `-p faces FOLDER` then the images that it was trained on.

# %% tags=["parameters"]
scale = "smoke"  # smoke, laptop, paper-short or paper
faces = None  # folder or file of photographs
scenes = None  # folder or file of photographs
store = None  # folder of trained networks
figures = None  # folder of the figures
device = "auto"  # auto, cuda, mps or cpu
seed = 0
model = None  # folder of a pretrained pipeline of diffusers

# %%
import hashlib

import numpy as np
import torch

try:
    import diffusers
except ImportError:
    raise ImportError("this notebook needs diffusers: run `pip install -e '.[diffusers]'` in the project") from None

import gahb
from gahb import adapt, assess, bases, optimal, stats
from gahb.companion import notebook, plotting, scales
from gahb.datasets.image_sets import read_images
from gahb.datasets.photographs import as_float

run = notebook.start(
    "07_any_denoiser",
    scale=scale, faces=faces, scenes=scenes, store=store, figures=figures, device=device, seed=seed,
)  # fmt: skip

# %% [markdown]
# ## A model
#
# The usual training of a denoising diffusion model (Ho, Jain and Abbeel, 2020): noise of a random step is added to an
# image of [-1, 1], and the network predicts it. It is trained on the faces of $S_1$, as the network of notebook 3 is.

# %%
steps = {"smoke": 200, "laptop": 20_000}.get(run.scale.name, 100_000)
photographs = run.faces()
test = run.to(photographs.test)
train, test = (run.to(photographs.S1), test) if photographs.N else (test[::2], test[1::2])  # those inside scikit-image
settings = {
    "block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip


# %%
def trained(images, batch=16):
    """A small UNet with attention and its schedule, trained to predict the noise."""
    torch.manual_seed(run.seed)  # diffusers draws the weights from torch's global state
    epsilon = diffusers.UNet2DModel(images.shape[-1], images.shape[1], images.shape[1], **settings).to(images.device)
    scheduler = diffusers.DDPMScheduler()
    optimizer = torch.optim.Adam(epsilon.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
    for _ in range(steps):
        x = 2 * images[torch.randint(len(images), (batch,))] - 1
        noise, t = torch.randn_like(x), torch.randint(1000, (batch,), device=x.device)
        loss = (epsilon(scheduler.add_noise(x, noise, t), t).sample - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return diffusers.DDPMPipeline(epsilon, scheduler)


# %% [markdown]
# It is kept in the store as a folder of diffusers, and read from there the next time. `adapt.from_diffusers` makes a
# denoiser of intensities in [0, 1] of it: it reads the schedule and what the network predicts, finds the time of a
# noise level $\sigma$ (between two steps if need be), and scales $y$. For a model of images in [0, 1], or of classes,
# there are `span=` and `label=`.


# %%
def kept(images):
    """The pipeline trained on these images: read from the store, or trained and written there."""
    name = hashlib.sha256(images.cpu().numpy().tobytes() + f"{settings} {steps} {run.seed}".encode()).hexdigest()[:10]
    folder = run.store / "diffusers" / f"{run.scale.name}-{name}"
    if not folder.is_dir():
        trained(images).save_pretrained(folder.with_suffix(".new"))
        folder.with_suffix(".new").rename(folder)  # so that it is whole, or not there
    return diffusers.DDPMPipeline.from_pretrained(folder, low_cpu_mem_usage=False)


diffusers.utils.logging.disable_progress_bar()
pipeline = kept(train) if model is None else diffusers.DiffusionPipeline.from_pretrained(model, low_cpu_mem_usage=False)
if hasattr(pipeline, "vae") or not hasattr(pipeline, "unet"):
    raise ValueError(f"{type(pipeline).__name__} does not denoise pixels by a UNet; see the end of this notebook")
unet = pipeline.unet.to(run.device)
denoiser = adapt.from_diffusers(unet, pipeline.scheduler)
shape = (unet.config.in_channels, *np.broadcast_to(unet.config.sample_size, 2).tolist())
print(f"{unet.num_parameters():,} parameters, images of {shape}, sigma {denoiser.lowest:.3g} to {denoiser.highest:.3g}")

# %% [markdown]
# ## Samples
#
# Algorithm 1 finds the noise level by itself, and so needs a denoiser that does. This one is told it along a schedule:
# 24 steps of the deterministic sampler of Karras et al. (2022), from noise in which an image is lost to
# $\sigma$ = 0.01.

# %%
noise = run.to(gahb.gaussian_noise(run.scale.samples, shape, run.seed))
# From 20, samples of the smoke scale diverged: there a network of few steps errs by more than an image.
levels = gahb.karras_sigmas(min(5, denoiser.highest), max(0.01, denoiser.lowest), 24)
samples = gahb.probability_flow(denoiser, noise, levels).clamp(0, 1)
its_train, unseen, its_test = train, test, test
if model is not None:  # without its training images, its own samples are analysed
    its_train, unseen, its_test = None, None, samples
    if faces is not None:
        images = read_images(faces, "faces", shape[1:], resized=True, color=shape[0] == 3, progress=False)
        its_test = its_train = run.to(as_float(images.pixels).expand(-1, shape[0], -1, -1))

# %% [markdown]
# ## Figure 3 of this model
#
# Its Jacobian is analysed as that of any other denoiser: attention, biases and normalization only mean that $f(y)$ is
# no longer $\nabla f(y)\, y$. Of images of more than 1,000 pixels the leading 40 eigenvectors are found, from products
# with the Jacobian alone. Below it is the network of notebook 3, which has none of these and is not told $\sigma$.

# %%
sigma, count, k = 0.15, run.scale.analysed, None
if np.prod(shape) > 1_000:
    count, k = 1, 40
network = run.network(scales.photograph_recipe(run.scale, photographs, "S1", seed=run.seed), photographs)
found = {
    "diffusers": [gahb.analyse(denoiser, image, sigma, run.seed + i, k) for i, image in enumerate(its_test[:count])],
    "gahb": [gahb.analyse(network, image, sigma, run.seed + i) for i, image in enumerate(test[:count])],
}
for name, analysed in found.items():
    asymmetry = np.mean([a.basis.asymmetry for a in analysed])
    rank = np.mean([bases.effective_rank(a.basis.shrinkage.cpu()) for a in analysed])
    print(
        f"{name}: asymmetry {asymmetry:.2f}, sum of the {len(analysed[0].basis.shrinkage)} shrinkage factors {rank:.1f}"
    )

# %%
fig = plotting.new(plotting.WIDTH, 9.2)
for row, (name, analysed) in zip(fig.subfigures(2, 1), found.items(), strict=True):
    row.suptitle({"diffusers": "the model of diffusers", "gahb": "the network of notebook 3"}[name])
    plotting.basis_figure(row, analysed[0], sigma)
run.save(
    fig, "fig14_any_denoiser", "Section 4: Figure 3 of any denoiser",
    "A model of the diffusers library, told the noise level, and the bias-free network of Figure 3, which is not: an "
    "image, noisy and denoised; the shrinkage factors (red) and the coefficients of the clean image (blue); "
    "eigenvectors of the symmetric part of the Jacobian.",
)  # fmt: skip

# %% [markdown]
# ## How well does it denoise, and does it know how well?
#
# The error, and the trace of the Jacobian by which an optimal denoiser knows it (Eq. 10), beside those of a linear
# denoiser, the Wiener filter of the faces of $S_1$, which is told $\sigma$ too.

# %%
sigmas = [s for s in run.scale.sigmas if denoiser.lowest <= s <= denoiser.highest]
wiener = optimal.wiener(train)
compared = {"diffusers": (denoiser, its_test), "gahb": (network, test), "Wiener filter": (wiener, test)}
risk = {
    name: [gahb.stein_risk(f, images[: 64 if k is None else 4], s, seed=run.seed) for s in sigmas]
    for name, (f, images) in compared.items()
}

# %%
colours = dict(zip(risk, (plotting.COLOURS[key] for key in ("singular", "network", "rival")), strict=True))
fig = plotting.new(plotting.WIDTH, 3.2)
left, right = fig.subplots(1, 2)
input_db = -20 * np.log10(sigmas)
for name, found_risk in risk.items():
    mse, trace = (np.stack([each[key].cpu().numpy() for each in found_risk]) for key in ("mse", "trace"))
    plotting.banded(left, input_db, mse, colours[name], name, minus_input=True)
    plotting.with_interval(right, sigmas, trace.mean(1) / mse.mean(1), stats.ratio_interval(trace, mse), colours[name])
plotting.psnr_axes(left, "denoising")
left.set_ylabel("output PSNR - input PSNR (dB)")
left.legend(fontsize=8)
right.axhline(1, **plotting.OPTIMAL)
right.set(xscale="log", xlabel=r"$\sigma$", title=r"$\sigma^2$ tr $\nabla f$ / error")
right.invert_xaxis()
run.save(
    fig, "fig14b_denoising", "Section 4: error and trace of any denoiser",
    "Left: what is gained by denoising, with 95 % bootstrap bands over images. Right: sigma^2 times the trace of the "
    "Jacobian over the error, which is 1 for an optimal denoiser (Eq. 10).",
)  # fmt: skip

# %% [markdown]
# ## Does it copy?
#
# A sample is a copy if its nearest training image is less than a third as far away as the second nearest, at equal
# brightness and contrast. Its null are images that the model has not seen: how many of them would be called copies, and
# how much nearer the samples are to the training set than to as many of them. `gahb assess` writes a page of the same
# from folders, and takes samples of a twin too, trained on other images.

# %%
fig = plotting.new(plotting.WIDTH, 1.6 if its_train is None else 3.6)
if its_train is None:
    plotting.image_row(fig, samples[:8].cpu(), [""] * len(samples[:8]))
    print("whether it copies is not known without its training images: give them by -p faces FOLDER")
else:
    assessment = assess.assess(samples, its_train, unseen, progress=False)
    summary, first = assessment.summary(), assessment.closest(8)
    near = [its_train[assessment.found.index[i]].flip(-1) if assessment.mirrored[i] else
            its_train[assessment.found.index[i]] for i in first]  # fmt: skip
    top, bottom = fig.subfigures(2, 1)
    titles = [f"{assessment.found.similarity[i]:.2f}" + " (copy)" * bool(assessment.copied[i]) for i in first]
    plotting.image_row(top, samples[first].cpu(), titles)
    plotting.image_row(bottom, torch.stack(near).cpu(), [""] * len(near))
    for key in ("copies", "false_alarms", "suspects", "near_duplicates"):
        print(f"{key}: {summary[key]}")
    print("similarity:", {key: round(row["median"], 3) for key, row in summary["similarity"].items()})
run.save(
    fig, "fig14c_copies", "Section 4: does any model copy its training set?",
    "The samples that are most similar to a training image (with their similarity, means removed), and below each that "
    "image, mirrored if its mirror image is the more similar one.",
)  # fmt: skip

# %% [markdown]
# ## Other models
#
# **A network of another library.** `adapt.variance_preserving(network, alphas_cumprod, prediction)` takes any
# `network(x, t)` of such a schedule, `adapt.edm(net)` any `net(x, sigma)` that returns the clean image, and
# `adapt.rescaled(f, (-1, 1))` a denoiser that need not be told the noise level, of another range.
#
# **A score network** is one line more: `adapt.edm(lambda x, sigma: x + sigma**2 * score(x, sigma))`.
#
# **Flow matching.** The network sees $z = (1 - t)\, x + t\, n$ and predicts the velocity $n - x$. So it denoises at
# $t = \sigma / (1 + \sigma)$, if $\sigma$ is in the units of its images:
#
# ```python
# def clean(x, sigma):
#     t = sigma / (1 + sigma)
#     z = (1 - t) * x
#     return z - t * velocity(z, t)  # or 1000 * t, as the network was trained
#
# denoiser = adapt.edm(clean)
# ```
#
# **A latent model** denoises the latents of an autoencoder, which are no images. With `span=(0, 1)` they keep their own
# units; then basis and curves are those of latents, and PSNR and frequencies do not mean what they do above. Decoded
# samples are images, so that the question whether it copies can be asked as above. A model of texts is conditioned on
# one: fix it in a function `network(x, t)`.

# %%
run.finish()

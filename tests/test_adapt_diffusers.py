"""Conversions and analyses of models of the real diffusers library, against its own schedulers."""

import re

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler, UNet2DModel

import gahb
from gahb import adapt, bases, metrics
from gahb.training.store import project

SMALL = {
    "sample_size": 8,
    "layers_per_block": 1,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 4,
}

# diffusers' own Heun and LMS schedulers, in their __init__
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def unet(channels=1, **changes):
    """A small network with attention, of random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet2DModel(in_channels=channels, out_channels=channels, **SMALL | changes).eval()


def random(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("channels", [1, 3])
@torch.no_grad()
def test_the_denoised_image_is_that_of_diffusers_at_each_step(prediction, channels):
    """``pred_original_sample`` of a step of DDIM, from an image that ``add_noise`` made noisy."""
    model = unet(channels).double()
    scheduler = DDIMScheduler(prediction_type=prediction, clip_sample=False, set_alpha_to_one=False)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.set_timesteps(1000)
    at, clean, noise = (
        adapt.from_diffusers(model, scheduler),
        random(2, channels, 8, 8),
        random(2, channels, 8, 8, seed=2),
    )
    clean, noise = clean.double() / 3, noise.double()
    for step in (1, 60, 700):
        alpha = float(scheduler.alphas_cumprod[step])
        x = scheduler.add_noise(clean, noise, torch.tensor([step]))
        theirs = scheduler.step(model(x, step).sample, step, x).pred_original_sample
        sigma = ((1 - alpha) / alpha) ** 0.5 / 2
        ours = metrics.denoised(at(sigma), (x / alpha**0.5 + 1) / 2)
        assert float((2 * ours - 1 - theirs).abs().max() / theirs.abs().max()) < 1e-6


def test_time_between_two_steps_is_that_of_diffusers():
    seen, scheduler = [], EulerDiscreteScheduler()
    sigmas = [0.01, 0.0701, 0.5, 3.3, 40]
    for sigma in sigmas:
        adapt.from_diffusers(lambda x, t: seen.append(float(t[0])) or x, scheduler)(sigma)(random(1, 1, 8, 8))
    logs = np.log(((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).sqrt().numpy())
    theirs = [float(scheduler._sigma_to_t(np.array(2 * sigma), logs)) for sigma in sigmas]
    assert seen == pytest.approx(theirs, abs=1e-2)  # float32 of a step whose log sigma differs by 0.005 from the next


@torch.no_grad()
def test_samples_are_those_of_diffusers():
    """Its Heun sampler on the noise levels of Karras et al., from the same noise."""
    model, scheduler = unet(3), HeunDiscreteScheduler(use_karras_sigmas=True, beta_schedule="linear", beta_start=1e-4)
    scheduler.set_timesteps(8)
    noise = random(2, 3, 8, 8)
    x = noise * scheduler.sigmas[0]
    for t in scheduler.timesteps:
        x = scheduler.step(model(scheduler.scale_model_input(x, t), t).sample, t, x).prev_sample
    levels = [float(s) / 2 for s in scheduler.sigmas[:-1][::2]]
    first, *_, last = levels
    assert gahb.karras_sigmas(first, last, 8) == pytest.approx(levels, rel=1e-4)
    ours = 2 * gahb.probability_flow(adapt.from_diffusers(model, scheduler), noise, levels) - 1
    assert float((ours - x).norm() / x.norm()) < 1e-3


@pytest.mark.parametrize("kind", ["symmetric", "singular"])
def test_leading_vectors_of_a_network_with_attention(kind):
    """Those of the whole matrix, which dropout does not enter; modes and kernels are left as they were."""
    model = unet(dropout=0.5).double().train()
    f = adapt.from_diffusers(model, DDPMScheduler())(0.5)
    y = random(1, 8, 8).double() / 3 + 0.5
    fused = torch.backends.cuda.flash_sdp_enabled()
    whole, leading = (gahb.adaptive_basis(f, y, k, kind=kind) for k in (None, 8))
    torch.testing.assert_close(leading.shrinkage, whole.shrinkage[:8], rtol=1e-4, atol=1e-5)
    assert model.training and torch.backends.cuda.flash_sdp_enabled() == fused
    assert any(
        module.p == 0.5 and module.training for module in model.modules() if isinstance(module, torch.nn.Dropout)
    )


def test_a_model_from_a_folder_has_its_curves_risk_and_variance(tmp_path):
    diffusers.DDPMPipeline(unet(), DDPMScheduler()).save_pretrained(tmp_path)
    pipeline = diffusers.DDPMPipeline.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    at = adapt.from_diffusers(pipeline.unet, pipeline.scheduler)
    other = adapt.from_diffusers(unet().requires_grad_(False), DDIMScheduler())
    images, sigmas = (0.5 + random(3, 1, 8, 8) / 8).clamp(0, 1), [0.5, 0.1]
    one_by_one = torch.stack([gahb.psnr_curve(at(s), images, s)[0] for s in sigmas])
    torch.testing.assert_close(gahb.psnr_curve(at, images, sigmas), one_by_one)
    risk, of_f = metrics.stein_risk(at, images, 0.1), metrics.stein_risk(at(0.1), images, 0.1)
    torch.testing.assert_close(risk["sure"], of_f["sure"])
    assert float(metrics.squared_differences(at, other, images, sigmas).abs().max()) < 1e-10  # the same weights


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    model, y = unet().to(dtype), random(2, 1, 8, 8)
    rounded = unet()
    rounded.load_state_dict(model.state_dict())
    half, whole = (adapt.from_diffusers(each, DDPMScheduler())(0.2) for each in (model, rounded))
    torch.testing.assert_close(metrics.denoised(half, y), metrics.denoised(whole, y), rtol=0, atol=1e-6)
    assert model.dtype == dtype


def test_class_conditional_models_take_a_label():
    model = unet(num_class_embeds=5)
    with pytest.raises(ValueError, match="network is conditioned on a class: give the class as label="):
        adapt.from_diffusers(model, DDPMScheduler())
    with pytest.raises(ValueError, match="label must be below 5, the number of classes, got 5"):
        adapt.from_diffusers(model, DDPMScheduler(), label=5)
    with pytest.raises(ValueError, match="network has no classes, so that label must be left out, got 3"):
        adapt.from_diffusers(unet(), DDPMScheduler(), label=3)
    y, sigma = random(2, 1, 8, 8), 0.5
    f = adapt.from_diffusers(model, DDPMScheduler(prediction_type="sample"), time="nearest", label=3)(sigma)
    alphas = DDPMScheduler().alphas_cumprod
    step = int((((1 - alphas) / alphas).sqrt() - 2 * sigma).abs().argmin())
    x = (2 * y - 1) / (1 + (2 * sigma) ** 2) ** 0.5
    theirs = model(x, step, class_labels=torch.tensor([3, 3])).sample
    torch.testing.assert_close(2 * metrics.denoised(f, y) - 1, theirs.detach(), rtol=0, atol=1e-5)


def test_a_learned_variance_is_left_out():
    model, y = UNet2DModel(in_channels=1, out_channels=2, **SMALL).eval(), random(1, 1, 8, 8)
    f = adapt.from_diffusers(model, DDPMScheduler(variance_type="learned_range", prediction_type="sample"))(0.5)
    assert metrics.denoised(f, y).shape == y.shape
    with pytest.raises(ValueError, match=r"network must return images of shape \(1, 1, 8, 8\), got \(1, 2, 8, 8\)"):
        metrics.denoised(adapt.from_diffusers(model, DDPMScheduler())(0.5), y)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (diffusers.FlowMatchEulerDiscreteScheduler, "FlowMatchEulerDiscreteScheduler has no alphas_cumprod"),
        (diffusers.EDMEulerScheduler, "EDMEulerScheduler has no alphas_cumprod"),
        (diffusers.ScoreSdeVeScheduler, "ScoreSdeVeScheduler has no alphas_cumprod"),
        (
            lambda: diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
            "DPMSolverMultistepScheduler has prediction_type flow_prediction",
        ),
        (lambda: diffusers.DPMSolverMultistepScheduler(use_flow_sigmas=True), "has use_flow_sigmas=True"),
        (lambda: EulerDiscreteScheduler(timestep_type="continuous"), "has timestep_type='continuous'"),
        (diffusers.LCMScheduler, "LCMScheduler has timestep_scaling, of consistency models"),
        (diffusers.RePaintScheduler, "RePaintScheduler has prediction_type None"),
    ],
)
def test_other_parameterizations_are_refused_by_name(scheduler, message):
    with pytest.raises(ValueError, match=f"{message}.*gahb.adapt.from_diffusers reads variance-preserving schedulers"):
        adapt.from_diffusers(unet(), scheduler())


@pytest.mark.parametrize(
    "scheduler",
    ["DDPM", "DDIM", "PNDM", "EulerDiscrete", "HeunDiscrete", "LMSDiscrete", "DPMSolverMultistep", "UniPCMultistep"],
)
def test_any_scheduler_of_a_model_gives_the_same_denoiser(scheduler):
    y, model = random(1, 1, 8, 8), unet()
    its_own = DDPMScheduler(
        beta_start=2e-4, beta_end=0.01
    )  # from_config leaves out what was a default: Heun has others
    made = getattr(diffusers, f"{scheduler}Scheduler").from_config(its_own.config, beta_schedule="linear")
    one, other = (metrics.denoised(adapt.from_diffusers(model, each)(0.3), y) for each in (its_own, made))
    torch.testing.assert_close(one, other)


def test_models_of_texts_and_learned_times_are_refused():
    text = diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=(8,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
        norm_num_groups=4, layers_per_block=1, cross_attention_dim=8,
    )  # fmt: skip
    with pytest.raises(
        ValueError, match="UNet2DConditionModel is conditioned on a text or an image: fix that condition"
    ):
        adapt.from_diffusers(text, DDPMScheduler())
    learned = unet(time_embedding_type="learned", num_train_timesteps=1000)
    with pytest.raises(ValueError, match="give time='nearest'"):
        adapt.from_diffusers(learned, DDPMScheduler())
    f = adapt.from_diffusers(learned, DDPMScheduler(), time="nearest")(0.2)
    assert metrics.denoised(f, random(2, 1, 8, 8)).isfinite().all()


@pytest.mark.parametrize(
    ("shape", "message"), [((1, 3, 8, 8), "to have 1 channels"), ((1, 1, 7, 8), "Sizes of tensors")]
)
def test_images_that_a_model_cannot_take_are_named(shape, message):
    f = adapt.from_diffusers(unet(), DDPMScheduler())(0.2)
    with pytest.raises(RuntimeError, match=rf"network failed on torch.float32 images of shape .* halvings .*{message}"):
        metrics.denoised(f, random(*shape))


def test_the_lines_of_the_readme_run(tmp_path, monkeypatch, capsys):
    scheduler = DDPMScheduler(prediction_type="sample")  # random weights that predict noise have no sample in [0, 1]
    diffusers.DDPMPipeline(unet(3, sample_size=32), scheduler).save_pretrained(tmp_path / "my_model")
    lines = next(block for block in re.findall(r"```python\n(.*?)```", (project() / "README.md").read_text(), re.DOTALL)
                 if "import diffusers" in block)  # fmt: skip
    assert len([line for line in lines.splitlines() if line]) <= 10
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gahb, "analyse", lambda f, x, sigma, k: bases.analyse(f, x[:, :4, :4], sigma, k=k))
    exec(compile(lines, "README.md", "exec"), {})
    assert "torch.Size([20, 3, 4, 4])" in capsys.readouterr().out

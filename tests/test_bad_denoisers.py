"""Every function that takes a denoiser raises for one that returns no images, rather than a wrong number."""

import pytest
import torch

import gahb
from gahb import adapt, bases, metrics
from gahb.jacobians import divergence

IMAGES = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
USES = {  # of a denoiser f
    "psnr_curve": lambda f: gahb.psnr_curve(f, IMAGES, [0.1]),
    "sample": lambda f: gahb.sample(f, IMAGES[:1], max_steps=3),
    "probability_flow": lambda f: gahb.probability_flow(adapt.NoiseConditional(lambda sigma: f), IMAGES, [1, 0.1]),
    "jacobian": lambda f: gahb.jacobian(f, IMAGES[0]),
    "adaptive_basis": lambda f: gahb.adaptive_basis(f, IMAGES[0]),
    "leading vectors": lambda f: gahb.adaptive_basis(f, IMAGES[0], k=2),
    "divergence": lambda f: divergence(f, IMAGES),
    "analyse": lambda f: bases.analyse(f, IMAGES[0], 0.1),
    "stein_risk": lambda f: metrics.stein_risk(f, IMAGES, 0.1),
}


class Cropping(torch.nn.Module):
    def forward(self, y):
        return y[:, :, :1, :1]


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    ("denoiser", "error", "message"),
    [
        (lambda y: y[:, 0], ValueError, r"must return images of the shape of its input, .*, got \(\d+, 6, 6\)"),
        (lambda y: y.mean((2, 3), keepdim=True), ValueError, r"got \(\d+, 1, 1, 1\)"),
        (Cropping(), ValueError, r"got \(\d+, 1, 1, 1\)"),
        (lambda y: (y,), TypeError, "denoiser must return a torch.Tensor, got tuple"),
    ],
)
def test_a_denoiser_must_return_images(use, denoiser, error, message):
    """Otherwise torch would broadcast its output against the images, and give a wrong number."""
    with pytest.raises(error, match=message):
        USES[use](denoiser)


@pytest.mark.parametrize("use", ["jacobian", "adaptive_basis", "leading vectors", "divergence", "stein_risk"])
def test_a_denoiser_without_a_gradient_is_an_error(use):
    with pytest.raises(ValueError, match="denoiser must be differentiable"):
        USES[use](torch.no_grad()(lambda y: y / 2))


@pytest.mark.parametrize("use", ["adaptive_basis", "leading vectors"])
def test_a_jacobian_of_nan_is_an_error(use):
    with pytest.raises(ValueError, match="the Jacobian of denoiser holds NaN or infinity"):
        USES[use](lambda y: y * torch.nan)

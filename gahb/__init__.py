"""gahb: geometry-adaptive harmonic bases in denoisers and diffusion models.

A reproducible companion to Kadkhodaie, Guth, Simoncelli & Mallat, "Generalization in diffusion
models arises from geometry-adaptive harmonic representation" (ICLR 2024). A denoiser is any
function f(y) of a batch of noisy images, (B, C, H, W) -> (B, C, H, W). Intensities are in [0, 1],
noise levels sigma in the same units, PSNR in dB with peak 1. A wrong argument raises a ValueError
or TypeError that names the argument, what was given and what is expected.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

from gahb import adapt, datasets, optimal
from gahb.denoisers import BFCNN, ResUNet, UNet
from gahb.jacobians import Basis, adaptive_basis, jacobian
from gahb.metrics import cosine_similarity, nearest, psnr, psnr_curve, stein_risk
from gahb.released import load_released
from gahb.sampling import Samples, gaussian_noise, karras_sigmas, probability_flow, sample
from gahb.training import Recipe, load_or_train, train

if TYPE_CHECKING:
    from gahb import bandlets, oracle, rivals
    from gahb.bases import Analysis, analyse

__all__ = [
    "BFCNN",
    "Analysis",
    "Basis",
    "Recipe",
    "ResUNet",
    "Samples",
    "UNet",
    "adapt",
    "adaptive_basis",
    "analyse",
    "bandlets",
    "cosine_similarity",
    "datasets",
    "gaussian_noise",
    "jacobian",
    "karras_sigmas",
    "load_or_train",
    "load_released",
    "nearest",
    "optimal",
    "oracle",
    "probability_flow",
    "psnr",
    "psnr_curve",
    "rivals",
    "sample",
    "stein_risk",
    "train",
]


def __getattr__(name: str) -> object:
    """Import on first use what needs SciPy and scikit-image: training and sampling work without them."""
    if name in ("Analysis", "analyse"):
        from gahb import bases

        return getattr(bases, name)
    if name in ("bandlets", "rivals", "oracle"):
        return import_module(f"gahb.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

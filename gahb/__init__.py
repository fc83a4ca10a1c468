"""gahb: geometry-adaptive harmonic bases in denoisers and diffusion models.

A reproducible companion to Kadkhodaie, Guth, Simoncelli & Mallat, "Generalization in diffusion
models arises from geometry-adaptive harmonic representation" (ICLR 2024). Intensities are in
[0, 1], noise levels sigma in the same units, PSNR in dB with peak 1.
"""

__version__ = "0.1.0"

from gahb import datasets, optimal
from gahb.denoisers import BFCNN, ResUNet, UNet
from gahb.jacobians import Basis, adaptive_basis, jacobian
from gahb.metrics import cosine_similarity, nearest, psnr, psnr_curve
from gahb.released import load_released
from gahb.sampling import Samples, gaussian_noise, sample
from gahb.training import Recipe, load_or_train, train

__all__ = [
    "BFCNN",
    "Basis",
    "Recipe",
    "ResUNet",
    "Samples",
    "UNet",
    "adaptive_basis",
    "cosine_similarity",
    "datasets",
    "gaussian_noise",
    "jacobian",
    "load_or_train",
    "load_released",
    "nearest",
    "optimal",
    "psnr",
    "psnr_curve",
    "sample",
    "train",
]

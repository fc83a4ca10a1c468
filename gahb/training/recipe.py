"""What decides the weights of a network."""

import copy
import json
from dataclasses import dataclass, field
from typing import Any

from gahb._util import checks
from gahb.denoisers import NETWORKS

NOISE_DISTRIBUTIONS = ("uniform", "sqrt-uniform", "log-uniform")
LR_SCHEDULES = ("halving", "one-cycle")
OPTIMIZERS = ("adam", "muon")
PRECISIONS = ("float32", "bfloat16", "auto")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights of a network, apart from the training images themselves.

    The paper states sigma from [0, 1], batches of 512 and the squared error. Adam, its rate and its halving are the
    authors' code; ``images_seen`` is a choice of this project.

    Attributes
    ----------
    name : str
        A label for people, such as ``faces-S1-N100``.
    data : dict
        The training images: ``{"class": "c_alpha", "n": ..., "size": ..., "alpha": ..., "seed": ...}`` for a
        generator of :mod:`gahb.datasets`; for photographs the part, the number and a checksum.
    network : str
        ``"BFCNN"``, ``"UNet"`` or ``"ResUNet"``; see :mod:`gahb.denoisers`.
    network_kwargs : dict
        Arguments of the network, such as ``{"depth": 20, "channels": 64}``; those left out have their defaults.
    sigma_max : float
        Largest noise level in training, intensities.
    noise_distribution : str
        ``"uniform"``: sigma is uniform on [0, sigma_max]. ``"sqrt-uniform"``: its square root is, as in the authors'
        code, which favors small noise. ``"log-uniform"``: its logarithm is, from sigma_max / 200 up.
    loss_weighting : float or "balanced"
        p of the loss norm(x - f(y))^2 / sigma^p; the paper's is 0. ``"balanced"`` divides by the running mean of the
        errors at that noise level, so that each level contributes equally (a running mean in place of the learned
        weight of Karras et al., 2024, EDM2). The best denoiser of each noise level is the same for all weightings.
    batch_size, images_seen : int
        Images per step, and in the whole training, which is rounded up to whole steps.
    optimizer : str
        ``"adam"`` or ``"muon"``; see :func:`gahb.training.optimizers.optimizers`.
    learning_rate : float
        For ``"one-cycle"``, the peak rate.
    lr_schedule : str
        ``"halving"``: halved after every ``lr_halving_images`` (100 epochs of 10^6 images in the authors' code).
        ``"one-cycle"``: a linear rise over the first tenth, then a cosine fall to 0.
    lr_halving_images : int
    precision : str
        ``"float32"``; ``"bfloat16"`` for the products of the forward and backward pass, with weights, optimizer and
        statistics in float32; ``"auto"``: bfloat16 where the device has units for it.
    compile : bool or "auto"
        Whether torch.compile fuses the network; ``"auto"``: where the training has enough steps to repay it.
    seed : int
        Of the initial weights, the batches and the noise.
    """

    name: str
    data: dict[str, Any]
    network: str = "BFCNN"
    network_kwargs: dict[str, Any] = field(default_factory=dict)
    sigma_max: float = 1.0
    noise_distribution: str = "uniform"
    loss_weighting: float | str = 0.0
    batch_size: int = 512
    images_seen: int = 10_000_000
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    lr_schedule: str = "halving"
    lr_halving_images: int = 100_000_000
    precision: str = "float32"
    compile: bool | str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check all settings."""
        if not isinstance(self.name, str):
            raise TypeError(f"name must be text, got {self.name!r}")
        checks.choice(self.network, "network", tuple(NETWORKS))
        checks.choice(self.noise_distribution, "noise_distribution", NOISE_DISTRIBUTIONS)
        checks.choice(self.optimizer, "optimizer", OPTIMIZERS)
        checks.choice(self.lr_schedule, "lr_schedule", LR_SCHEDULES)
        checks.choice(self.precision, "precision", PRECISIONS)
        checks.choice(self.compile, "compile", (True, False, "auto"))
        if self.compile != "auto":
            self._set("compile", bool(self.compile))
        for name in ("batch_size", "images_seen", "lr_halving_images"):
            self._set(name, checks.count(getattr(self, name), name))
        for name in ("sigma_max", "learning_rate"):
            self._set(name, float(checks.positive(getattr(self, name), name)))
        if self.loss_weighting != "balanced":
            self._set("loss_weighting", checks.number(self.loss_weighting, "loss_weighting"))
        self._set("seed", checks.count(self.seed, "seed", 0))
        for name in ("data", "network_kwargs"):
            self._set(name, _plain_dict(getattr(self, name), name))

    def _set(self, name: str, value: Any) -> None:
        """Store a setting in the form that JSON returns: 1 and 1.0, a list and a tuple are the same setting."""
        object.__setattr__(self, name, value)

    def settings(self) -> dict[str, Any]:
        """Return all fields as a dict that JSON can hold."""
        return copy.deepcopy(self.__dict__)


def _plain_dict(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{name} must be a dict, got {value!r}")
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        raise TypeError(f"{name} must hold only numbers, text, lists and dicts, got {value!r}") from None
